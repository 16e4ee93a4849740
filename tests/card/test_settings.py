"""What the owner of a card wishes: checked, and written so that the first boot reads what was said."""

import hashlib
import sys
import tomllib
from argparse import ArgumentParser
from pathlib import Path

import pytest

from tests.processes import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from card.settings import Trouble, Wishes, add_options, of

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBtixYkNXmima08a0eACUQlWQW5D6LJP3hV7IEVmNr50 me@home"


def wished(*flags: str) -> Wishes:
    parser = ArgumentParser()
    add_options(parser)
    return of(parser.parse_args(flags))


def file(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_all_wishes_reach_the_first_boot(tmp_path: Path) -> None:
    wishes = wished(
        *("--name", "kitchen", "--user", "me", "--ssh-key", file(tmp_path, "key", f"{KEY}\n"), "--timezone", "Europe/Berlin"),
        *("--wifi", 'Frida\'s "net" \\ ☂', "--wifi-password-file", file(tmp_path, "password", "correct horse\n")),
        *("--country", "DE", "--token-file", file(tmp_path, "token", "0123456789abcdef\n")),
    )
    read = tomllib.loads(wishes.toml())
    assert read == {
        "name": "kitchen",
        "user": "me",
        "ssh_key": KEY,
        "wifi": 'Frida\'s "net" \\ ☂',
        "wifi_key": hashlib.pbkdf2_hmac("sha1", b"correct horse", 'Frida\'s "net" \\ ☂'.encode(), 4096, 32).hex(),
        "country": "DE",
        "timezone": "Europe/Berlin",
        "token": "0123456789abcdef",
    }
    assert "correct horse" not in wishes.toml()


def test_the_hash_of_a_password_is_that_of_the_standard(tmp_path: Path) -> None:
    password = file(tmp_path, "password", "password")
    wishes = wished("--wifi", "IEEE", "--wifi-password-file", password, "--country", "US")
    # IEEE 802.11, J.4.2, test vector 1.
    assert wishes.wifi_key == "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"


def test_nothing_has_to_be_wished() -> None:
    assert wished() == Wishes()
    assert tomllib.loads(Wishes().toml()) == {"user": "edge"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--name", "Küche"), "--name: 'Küche' is none"),
        (("--name", "kitchen-"), "lower-case letters, digits and -"),
        (("--user", "root"), "root does not log in"),
        (("--name", "localhost"), "every device calls itself localhost"),
        (("--user", "daemon"), "the system has a user or group daemon of its own"),
        (("--user", "edge-mcp"), "the system has a user or group edge-mcp of its own"),
        (("--user", "video"), "the system has a user or group video of its own"),
        (("--user", "a b"), "--user: 'a b' is none"),
        (("--timezone", "../etc/passwd"), "a name such as Europe/Berlin"),
        (("--country", "germany"), "two capital letters"),
        (("--wifi", "home"), "--wifi needs --country"),
        (("--wifi", "x" * 33, "--country", "DE"), "at most 32 bytes"),
        (("--ssh-key", "FILE:-----BEGIN OPENSSH PRIVATE KEY-----"), "is a private key"),
        (("--ssh-key", "FILE:hello"), "a line such as ssh-ed25519"),
        (("--ssh-key", f"FILE:{KEY}\n{KEY}"), "a line such as ssh-ed25519"),
        (("--ssh-key", "/there/is/none"), "/there/is/none cannot be read: No such file"),
        (("--token-file", "FILE:short"), "16 to 512 characters"),
        (("--wifi", "home", "--country", "DE", "--wifi-password-file", "FILE:short"), "8 to 63 characters"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(flags: tuple[str, ...], words: str, tmp_path: Path) -> None:
    made = [file(tmp_path, "given", flag.removeprefix("FILE:")) if flag.startswith("FILE:") else flag for flag in flags]
    with pytest.raises(Trouble, match=words) as told:
        wished(*made)
    assert "\n" not in str(told.value)


def test_a_time_zone_is_one_where_there_is_a_list_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("card.settings.available_timezones", lambda: {"Europe/Berlin", "Asia/Tokyo"})
    with pytest.raises(Trouble, match=r"there is no Europe/Berln\. Did you mean Europe/Berlin\?"):
        wished("--timezone", "Europe/Berln")
    monkeypatch.setattr("card.settings.available_timezones", set)
    assert wished("--timezone", "Europe/Berln").timezone == "Europe/Berln"
