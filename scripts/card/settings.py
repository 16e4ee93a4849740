"""What the owner of a card wishes the device to be, checked before anything is written."""

import getpass
import hashlib
import re
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from zoneinfo import available_timezones

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_KEY = re.compile(r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,3}( [^\n]*)?")
_TOKEN = re.compile(r"[\x21-\x7e]{16,512}")
_ZONE = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_COUNTRY = re.compile(r"[A-Z]{2}")
_SYSTEM = re.compile(
    r"daemon|bin|sys|sync|games|man|lp|mail|news|uucp|proxy|www-data|backup|list|irc|_.*|nobody|systemd-.*|messagebus|sshd|avahi"
    r"|dhcpcd|polkitd|tss|ntp|pulse|rtkit|saned|colord|lightdm|dnsmasq|usbmux|edge-mcp.*"
    r"|adm|tty|disk|kmem|dialout|fax|voice|cdrom|floppy|tape|sudo|audio|dip|operator|src|shadow|utmp|video|sasl|plugdev|staff"
    r"|users|nogroup|crontab|input|sgx|clock|kvm|render|netdev|bluetooth|ssh|lpadmin|gpio|i2c|spi"
)
"""Whom Debian, Raspberry Pi OS (base-passwd and packages) and edge-mcp have as users or groups already."""


class Trouble(Exception):
    """What the user is told in one line."""


@dataclass(frozen=True)
class Wishes:
    """Each is empty where the device chooses for itself. `wifi_key` is the network's password as WPA hashes it (IEEE 802.11,
    J.4): 64 hexadecimal digits, of which the password cannot be told."""

    name: str = ""
    user: str = "edge"
    ssh_key: str = ""
    wifi: str = ""
    wifi_key: str = ""
    country: str = ""
    timezone: str = ""
    token: str = ""

    def toml(self) -> str:
        """As the first boot reads it."""
        return "".join(f"{name} = {_quoted(value)}\n" for name, value in asdict(self).items() if value)


def add_options(parser: ArgumentParser) -> None:
    """The flags of what `of` makes Wishes of."""
    parser.add_argument(
        "--name", metavar="HOSTNAME", default="", help="what the device is called (default: edge- and four digits)"
    )
    parser.add_argument("--ssh-key", metavar="FILE", type=Path, help="the public key of who may log in (default: nobody)")
    parser.add_argument("--user", metavar="NAME", default="edge", help="as whom (default: edge)")
    parser.add_argument("--wifi", metavar="SSID", default="", help="the wireless network; its password is asked for")
    parser.add_argument("--wifi-password-file", metavar="FILE", type=Path, help="where that stands; an empty file: it has none")
    parser.add_argument("--country", metavar="CC", default="", help="where the wireless network is, such as DE: it needs that")
    parser.add_argument("--timezone", metavar="ZONE", default="", help="such as Europe/Berlin (default: UTC)")
    parser.add_argument("--token-file", metavar="FILE", type=Path, help="the token for hosts (default: the device makes one)")


def of(options: Namespace) -> Wishes:
    """What the flags say. Raises: Trouble."""
    key = _line(options.ssh_key) if options.ssh_key else ""
    if key.startswith("-----") or "PRIVATE" in key:
        raise Trouble(f"{options.ssh_key} is a private key. Name the public one, which ends with .pub")
    _check("--name", options.name, _NAME, "lower-case letters, digits and -, at most 63")
    _check("--user", options.user, _USER, "lower-case letters, digits, _ and -, at most 32")
    if options.name == "localhost":
        raise Trouble("--name: every device calls itself localhost. Choose another name")
    if options.user == "root":
        raise Trouble("root does not log in. Choose another --user, who may become root by sudo")
    if _SYSTEM.fullmatch(options.user):
        raise Trouble(f"--user: the system has a user or group {options.user} of its own. Choose another name")
    _check("--ssh-key", key, _KEY, "a line such as ssh-ed25519 AAAA… me@home")
    _check("--timezone", options.timezone, _ZONE, "a name such as Europe/Berlin")
    zones = available_timezones()  # none where this machine has no list of them
    if options.timezone and zones and options.timezone not in zones:
        near = "".join(f". Did you mean {zone}?" for zone in get_close_matches(options.timezone, zones, n=1))
        raise Trouble(f"--timezone: there is no {options.timezone}{near}")
    _check("--country", options.country, _COUNTRY, "two capital letters such as DE")
    token = _line(options.token_file) if options.token_file else ""
    _check("--token-file", token, _TOKEN, "a line of 16 to 512 characters without spaces")
    if options.wifi and not options.country:
        raise Trouble("--wifi needs --country: what a transmitter may do depends on where it is")
    return Wishes(options.name, options.user, key, options.wifi, _wifi_key(options), options.country, options.timezone, token)


def _wifi_key(options: Namespace) -> str:
    if not options.wifi:
        return ""
    network = options.wifi.encode()
    if len(network) > 32:
        raise Trouble("--wifi: the name of a network has at most 32 bytes")
    if options.wifi_password_file:
        password = _line(options.wifi_password_file)
    else:
        password = getpass.getpass(f"Password of {options.wifi} (empty: it has none): ")
    if not password:
        return ""
    if not (8 <= len(password) <= 63 and password.isascii() and password.isprintable()):
        raise Trouble("the password of a wireless network has 8 to 63 characters of ASCII")
    return hashlib.pbkdf2_hmac("sha1", password.encode(), network, 4096, 32).hex()


def _line(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None


def _check(flag: str, value: str, form: re.Pattern[str], words: str) -> None:
    if value and not form.fullmatch(value):
        raise Trouble(f"{flag}: {value[:60]!r} is none. Write {words}")


def _quoted(value: str) -> str:
    """A basic string of TOML."""
    escaped = "".join(
        f"\\{letter}" if letter in '"\\' else letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in value
    )
    return f'"{escaped}"'
