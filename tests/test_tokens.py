"""The bearer token: found in the right order, refused when others could read it, made whole."""

import os
import stat
from pathlib import Path

import pytest

from edge_mcp import tokens
from edge_mcp.errors import ConfigError

LONG = "sixteen-or-more-letters"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return tmp_path


def kept(file: Path, text: str, mode: int = 0o600) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def test_the_first_of_the_places_counts(home: Path) -> None:
    assert tokens.find("", {}) == ""
    tokens.make(tokens.own_file())
    own = tokens.own_file().read_text().strip()
    assert tokens.find("", {}) == own
    kept(home / "credentials" / "token", f"{LONG}-of-systemd\n", 0o440)
    environment = {"CREDENTIALS_DIRECTORY": str(home / "credentials")}
    assert tokens.find("", environment) == f"{LONG}-of-systemd"
    assert tokens.find("", {"CREDENTIALS_DIRECTORY": str(home)}) == own
    environment[tokens.VARIABLE] = f"{LONG}-of-the-environment"
    assert tokens.find("", environment) == f"{LONG}-of-the-environment"
    assert tokens.find(kept(home / "mine", f" {LONG}\n"), environment) == LONG
    other = kept(home / "credentials" / "other", f"{LONG}-another", 0o440)
    assert tokens.find(other, environment) == f"{LONG}-another"  # systemd sees to who may read its credentials
    with pytest.raises(ConfigError, match="others may read"):
        tokens.find(other, {})


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o660, 0o666, 0o601])
def test_a_file_that_others_may_touch_is_refused(home: Path, mode: int) -> None:
    file = kept(home / "mine", LONG, mode)
    with pytest.raises(ConfigError, match=rf"others may read the token file .* chmod 600 {file}"):
        tokens.find(file, {})


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 15, "with a space in the middle", "snowman-\N{SNOWMAN}-snowman", "a\x00" * 20]
)
def test_what_is_no_token_is_refused(home: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="has no token"):
        tokens.find(kept(home / "mine", text), {})
    with pytest.raises(ConfigError, match="EDGE_MCP_TOKEN has no token"):
        tokens.find("", {tokens.VARIABLE: text})


def test_a_file_that_is_not_there_or_is_none_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        tokens.find(str(home / "missing"), {})
    with pytest.raises(ConfigError, match="is no file"):
        tokens.find(str(home), {})


def test_a_token_is_made_whole_and_for_its_owner_only() -> None:
    before = os.umask(0)
    try:
        first = tokens.make(tokens.own_file())
    finally:
        os.umask(before)
    assert stat.S_IMODE(tokens.own_file().stat().st_mode) == 0o600
    assert stat.S_IMODE(tokens.own_file().parent.stat().st_mode) == 0o700
    assert len(first) >= 43
    second = tokens.make(tokens.own_file())
    assert tokens.find("", {}) == second != first
    assert [file.name for file in tokens.own_file().parent.iterdir()] == ["token"]


def test_the_owner_of_a_service_makes_it_where_systemd_takes_its_copy_from(home: Path) -> None:
    environment = {"CREDENTIALS_DIRECTORY": str(home)}
    made = tokens.make(tokens.own_file(environment))
    assert (home / "token").read_text().strip() == made == tokens.find("", environment)
    environment = {"CREDENTIALS_DIRECTORY": "/proc/self"}  # which nobody can write, as the copy that a service has
    assert tokens.own_file(environment) == tokens.own_file({}) == home / "home/edge-mcp/token"


def test_a_token_that_cannot_be_kept_is_an_error(home: Path) -> None:
    kept(home / "home", "a file where a folder should be")
    with pytest.raises(ConfigError, match="cannot be written"):
        tokens.make(tokens.own_file())
