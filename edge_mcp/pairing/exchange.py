"""What a host and a device say to pair: SPAKE2 over six digits, without I/O.

    host    ask                            ->  device   open: its id and name
    host    hello: SPAKE2 A, a nonce       ->  device   answer: SPAKE2 B, a nonce
    host    confirm: a MAC                 ->  device   done: a sealed token, a MAC

Who only listens learns nothing, and who guesses has one guess for each exchange. The host proves itself first: a device that
did would give everybody who asks something to try digits on. Both MACs are over all that was said and the certificate that the
host saw, so that somebody between the two, who has to show another one, is found.

The token is sealed by the stdlib alone: it is as long as the key that HKDF makes for it, which is used once, and the device's
MAC is over the sealed one. An AEAD would say the same, and have every server carry `cryptography`.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated

import msgspec

MAX_MESSAGE = 4096
PIN_DIGITS = 6
_CONTEXT = b"edge-mcp pair 1"

Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Element = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{66}\Z")]
Id = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
# Without control characters and line ends: names are logged and shown.
Name = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,63}\Z")]


class Ask(msgspec.Struct, tag="ask", tag_field="step", frozen=True, forbid_unknown_fields=True):
    """Whether the device is open for pairing."""


class Hello(msgspec.Struct, tag="hello", tag_field="step", frozen=True, forbid_unknown_fields=True):
    """The host, its half of SPAKE2, and a nonce."""

    id: Id
    name: Name
    nonce: Hex32
    element: Element


class Confirm(msgspec.Struct, tag="confirm", tag_field="step", frozen=True, forbid_unknown_fields=True):
    """Which exchange this is (the device's nonce), the fingerprint of the certificate that the host saw (64 hexadecimal digits,
    empty without TLS), and the MAC over all."""

    nonce: Hex32
    fingerprint: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
    mac: Hex32


class Open(msgspec.Struct, frozen=True):
    """The device is open for pairing."""

    id: Id
    name: Name


class Answer(msgspec.Struct, frozen=True):
    """The device, its half of SPAKE2, and a nonce."""

    id: Id
    name: Name
    nonce: Hex32
    element: Element


class Done(msgspec.Struct, frozen=True):
    """The token under the key, and the MAC over all and it."""

    sealed: Hex32
    mac: Hex32


class Failure(msgspec.Struct, frozen=True):
    """Why not."""

    error: Annotated[str, msgspec.Meta(max_length=300)]


Request = Ask | Hello | Confirm


@dataclass(frozen=True, slots=True)
class Secret:
    """What both sides know after SPAKE2: the same if the digits were. `key` is that of SPAKE2, 32 bytes."""

    key: bytes
    hello: Hello
    answer: Answer

    def host_mac(self, fingerprint: str) -> str:
        """What the host shows to prove that it knows the digits, and saw this certificate."""
        return self._mac(b"host", fingerprint)

    def device_mac(self, fingerprint: str, sealed: str) -> str:
        """What the device shows with the sealed token."""
        return self._mac(b"device", fingerprint, sealed)

    def sealed(self, token: bytes) -> str:
        """A token of 32 bytes as it travels."""
        return bytes(a ^ b for a, b in zip(token, self._derived(b"token"), strict=True)).hex()

    def opened(self, sealed: str) -> bytes:
        """The token; what `device_mac` is right for."""
        return bytes.fromhex(self.sealed(bytes.fromhex(sealed)))

    def _mac(self, who: bytes, *more: str) -> str:
        said = _joined(msgspec.json.encode(self.hello), msgspec.json.encode(self.answer), *(text.encode() for text in more))
        return hmac.new(self._derived(who), said, hashlib.sha256).hexdigest()

    def _derived(self, purpose: bytes) -> bytes:
        """32 bytes for one purpose: HKDF with SHA-256 (RFC 5869), one block."""
        extracted = hmac.new(_CONTEXT, self.key, hashlib.sha256).digest()
        return hmac.new(extracted, purpose + b"\x01", hashlib.sha256).digest()


def is_same(given: str, right: str) -> bool:
    """Whether a MAC is right, in constant time."""
    return hmac.compare_digest(given, right)


def written(token: bytes) -> str:
    """A token as it is shown in a request."""
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def _joined(*parts: bytes) -> bytes:
    """Parts as one, which no other parts make."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
