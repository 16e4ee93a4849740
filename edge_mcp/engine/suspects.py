"""Which requests an engine has ended on: under suspicion after the first time, refused after the second. Pure."""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

from edge_mcp.engine.messages import Describe, Item, Load, Measure, Request, Run, Unload
from edge_mcp.errors import RefusedError

REMEMBERED = 256


class Suspects:
    """The last `REMEMBERED` requests that engines have ended on, by their fingerprints."""

    def __init__(self) -> None:
        self._suspects: OrderedDict[bytes, str] = OrderedDict()  # fingerprint -> how the engine ended
        self._refused: OrderedDict[bytes, str] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether any request has to be compared at all."""
        return bool(self._suspects or self._refused)

    def __contains__(self, fingerprint: bytes | None) -> bool:
        """Whether the request has to run alone, so that its next crash is its own."""
        return fingerprint in self._suspects

    def is_refused(self, fingerprint: bytes) -> bool:
        """Whether it has ended the engine twice."""
        return fingerprint in self._refused

    def blame(self, fingerprint: bytes, reason: str) -> None:
        """The engine ended on this request: the first time it may have been another's fault, the second time it ran alone."""
        book = self._refused if self._suspects.pop(fingerprint, None) else self._suspects
        book[fingerprint] = reason
        while len(book) > REMEMBERED:
            book.popitem(last=False)

    def clear(self, fingerprint: bytes | None) -> None:
        """It was answered: it was another's fault."""
        if fingerprint is not None:
            self._suspects.pop(fingerprint, None)

    def check(self, fingerprint: bytes | None, what: str) -> None:
        """Raises: RefusedError for a request that has ended the engine twice."""
        if fingerprint is not None and (reason := self._refused.get(fingerprint)):
            raise RefusedError(
                f"{what} with this very input is refused, because it ended the engine twice: {reason}",
                "Send another input; restarting edge-mcp clears this",
            )


def fingerprint(key: str, items: Sequence[Item] = ()) -> bytes:
    """What makes two requests the same; of a load or describe the key alone."""
    digest = blake2b(key.encode(), digest_size=16)
    for item in items:
        for part in (item.arguments, *item.attached.values()):
            digest.update(len(part).to_bytes(8))
            digest.update(part)
    return digest.digest()


def fingerprint_of(message: Request) -> bytes:
    """The same of a message."""
    match message:
        case Describe(path=path):
            return fingerprint(path)
        case Load(model=model):
            return fingerprint(model.key)
        case Unload(key=key) | Measure(key=key):
            return fingerprint(key)
        case Run(key=key, items=items):
            return fingerprint(key, items)
