"""What a device says of itself in the network: the TXT record of its service (RFC 6763, 6). Pure.

It is an address and a few words to choose by, never trust: anybody in the network may say anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

SERVICE = "_edge-mcp._tcp.local."
ALIAS = "_mcp._tcp.local."

MAX_TOOLS = 10_000
_ID = re.compile(r"[0-9a-f]{16}")
_DIGITS = re.compile(r"(?:[0-9a-f]{32})?")
_HASH = re.compile(r"(?:[0-9a-f]{8})?")
_PATH = re.compile(r"/[A-Za-z0-9._~/-]{0,100}")
_WORD = re.compile(r"[A-Za-z0-9.+-]{0,32}")


@dataclass(frozen=True, slots=True)
class Advert:
    """What is told. `id`: 16 hexadecimal digits, of the hardware; `revisions` of MCP, newest first; `transports`: ws, http;
    `fingerprint`: how that of the certificate begins (32 digits), empty without TLS; `auth`: none or token; `pairing`: whether
    edge-mcp pair is offered; `catalogue`: 8 digits, other ones when the list of tools is another; `load`: 0 NOMINAL to 3
    CRITICAL; `kinds`: what its models take, such as image or audio, each a subtype of the service too."""

    id: str
    version: str = ""
    revisions: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    path: str = "/mcp"
    tls: bool = False
    fingerprint: str = ""
    auth: str = "none"
    pairing: bool = False
    tools: int = 0
    catalogue: str = ""
    load: int = 0
    kinds: tuple[str, ...] = ()

    def encoded(self) -> dict[str, str]:
        """The keys and values for SERVICE, each at most 9 characters and 255 bytes; what is empty is left out."""
        told = {
            "txtvers": "1",
            "id": self.id,
            "v": self.version,
            "proto": ",".join(self.revisions),
            "tr": ",".join(self.transports),
            "path": self.path,
            "sec": "tls" if self.tls else "none",
            "fp": self.fingerprint,
            "auth": self.auth,
            "pair": "1" if self.pairing else "0",
            "n": str(self.tools),
            "cat": self.catalogue,
            "load": str(self.load),
            "in": ",".join(self.kinds),
        }
        return {key: value for key, value in told.items() if value}

    def alias(self, name: str) -> dict[str, str]:
        """Those for ALIAS: what programs look for that know other servers under it. Long keys are theirs."""
        return {
            "name": name,
            "version": self.version,
            "protocol": self.revisions[0] if self.revisions else "",
            "kind": "mcp",
            "type": "http",
            "transport": "http",
            "proto": "http",
            "path": self.path,
            "auth": "bearer" if self.auth == "token" else "none",
            "tls": "1" if self.tls else "0",
            "id": self.id,
            "node": self.id,
            "v": self.version,
        }


def advert_of(properties: Mapping[bytes, bytes | None]) -> Advert | None:
    """What a peer said, as far as it makes sense; None when it is none of ours. Never raises."""
    told = {
        key.decode("ascii", "replace").lower(): (value or b"").decode("utf-8", "replace")
        for key, value in reversed(list(properties.items()))  # of a key that comes twice the first counts (RFC 6763, 6.4)
        if len(key) <= 16
    }
    id_ = told.get("id", "")
    if not _ID.fullmatch(id_):
        return None
    return Advert(
        id_,
        _fitting(_WORD, told.get("v", "")),
        _words(told.get("proto", "")),
        _words(told.get("tr", "")),
        _fitting(_PATH, told.get("path", "")) or "/mcp",
        told.get("sec") == "tls",
        _fitting(_DIGITS, told.get("fp", "")),
        "none" if told.get("auth") == "none" else "token",
        told.get("pair") == "1",
        _number(told.get("n", ""), MAX_TOOLS),
        _fitting(_HASH, told.get("cat", "")),
        _number(told.get("load", ""), 3),
        _words(told.get("in", "")),
    )


def _fitting(pattern: re.Pattern[str], text: str) -> str:
    return text if pattern.fullmatch(text) else ""


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text[:255].split(",")[:8] if word and _WORD.fullmatch(word))


def _number(text: str, most: int) -> int:
    return min(int(text), most) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
