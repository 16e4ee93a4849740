"""permessage-deflate (RFC 7692): what is agreed on with a peer, and which messages it pays for. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

NAME = "permessage-deflate"
WINDOW_BITS = 12
"""Of both directions, where the peer lets us choose: with zlib's 15 a message of 4 kB gets 0 to 3 % smaller, for 256 kB."""
LEAST = 512
"""A smaller message goes as it is: what would be saved is less than a packet."""
PAYS = 0.8
"""A message should shrink to this share of its size."""
MOST_SKIPPED = 64
_WINDOWS = range(9, 16)  # zlib cannot make raw deflate data of window 8
_LARGEST = 15

FULL, TEXT_ONLY, NO_TAKEOVER, OFF = "full", "text", "text, no takeover", "off"
"""What the device's load allows: `deflate` of load.governor.Budget."""

_SAMPLE = 96
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_"
_MANY_VALUES = 56
"""Random bytes have some 80 different ones in a sample, text 20 to 45."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed on. `ours` and `theirs` are the windows' bits; `*_fresh`: each message stands for itself."""

    ours: int = WINDOW_BITS
    theirs: int = _LARGEST
    ours_fresh: bool = False
    theirs_fresh: bool = False
    bounded: bool = True
    """Whether the client said that its window may be chosen."""

    def header(self) -> str:
        """The server's answer, for `Sec-WebSocket-Extensions`."""
        fields = [NAME, f"server_max_window_bits={self.ours}"]
        fields += [f"client_max_window_bits={self.theirs}"] if self.bounded else []
        fields += ["server_no_context_takeover"] if self.ours_fresh else []
        fields += ["client_no_context_takeover"] if self.theirs_fresh else []
        return "; ".join(fields)


def agree(offers: str) -> Agreement | None:
    """The server's choice of what a client offers in `Sec-WebSocket-Extensions`: the first that is possible; None: there is
    none. A client whose window cannot be chosen is asked to keep none from message to message (7.1.1.2)."""
    for name, fields in _offers(offers):
        if name != NAME:
            continue
        if (found := _accepted(fields)) is not None:
            return found
    return None


def _accepted(fields: list[tuple[str, str]]) -> Agreement | None:
    known = dict(fields)
    flags = {"server_no_context_takeover", "client_no_context_takeover"}
    windows = {"server_max_window_bits", "client_max_window_bits"}
    if len(known) < len(fields) or not known.keys() <= flags | windows or any(known[name] for name in flags & known.keys()):
        return None
    ours = _bits(known.get("server_max_window_bits", str(_LARGEST)))
    theirs = _bits(known.get("client_max_window_bits") or str(_LARGEST))
    if ours is None or theirs is None:
        return None
    bounded = "client_max_window_bits" in known
    return Agreement(
        ours=min(ours, WINDOW_BITS),
        theirs=min(theirs, WINDOW_BITS) if bounded else _LARGEST,
        ours_fresh="server_no_context_takeover" in known,
        theirs_fresh="client_no_context_takeover" in known or not bounded,
        bounded=bounded,
    )


def _bits(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 2 and int(text) in _WINDOWS else None


def _offers(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each extension offered: its name and its parameters (RFC 6455, 9.1)."""
    for offer in text.split(","):
        name, *fields = (part.strip() for part in offer.split(";"))
        pairs = (field.partition("=") for field in fields)
        yield name, [(key.strip(), value.strip().strip('"')) for key, _, value in pairs]


class Choice:
    """Which messages of one connection are worth compressing, from what became of the last ones.

    A kind of message that did not shrink goes as it is for a while, and is tried again after 1, 2, 4, … `MOST_SKIPPED` of them.
    """

    __slots__ = ("_penalty", "_skip")

    def __init__(self) -> None:
        self._skip = [0, 0]
        self._penalty = [0, 0]

    def wants(self, message: bytes, allowed: str) -> bool:
        """Whether to try; `allowed` is what the device's load allows."""
        if len(message) < LEAST or allowed == OFF:
            return False
        kind = is_packed(message)
        if kind and allowed != FULL:
            return False
        if self._skip[kind]:
            self._skip[kind] -= 1
            return False
        return True

    def came(self, message: bytes, size: int) -> bool:
        """It became `size` bytes; whether it is worth sending so."""
        kind = is_packed(message)
        if size < PAYS * len(message):
            self._penalty[kind] = 0
        else:
            self._penalty[kind] = min(MOST_SKIPPED, max(1, 2 * self._penalty[kind]))
            self._skip[kind] = self._penalty[kind]
        return size < len(message)


def is_packed(message: bytes) -> bool:
    """Whether most of it looks like what does not shrink much: base64 in JSON, or the bytes of a picture, sound or tensor."""
    size = len(message)
    if size < 4 * _SAMPLE:
        return False
    samples = [message[at : at + _SAMPLE] for at in (size // 4, size // 2, size - size // 4)]
    return sum(not sample.translate(None, _BASE64) or len(set(sample)) > _MANY_VALUES for sample in samples) >= 2
