"""What the device asks the host (until 2025-11-25), under ids that stay apart when the device was away."""

from edge_mcp.client import bridge_words as words
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.jsonrpc import Envelope, RequestId

MAX_QUESTIONS = 64


class Questions:
    """The questions that are open. Frames pass as they are until a connection was lost: a device that starts anew counts its
    questions from 1 again, and an answer to one of before must not be taken for that to another."""

    def __init__(self) -> None:
        self._asked: dict[RequestId, RequestId] = {}
        self._losses = 0
        self._count = 0

    def ask(self, frame: bytes, known: RequestId, envelope: Envelope) -> bytes | None:
        """What the host gets; None when too many are open."""
        if len(self._asked) >= MAX_QUESTIONS:
            return None
        if not self._losses:
            self._asked[known] = known
            return frame
        self._count += 1
        own = f"edge-mcp-{self._losses}-{self._count}"
        self._asked[own] = known
        params = {"params": envelope.params} if jsonrpc.present(envelope.params) else {}
        return words.encoded({"id": own, "method": envelope.method, **params})

    def answer(self, frame: bytes, envelope: Envelope) -> bytes | None:
        """What the device gets; None when nobody waits for it, or who asked is gone."""
        known = jsonrpc.request_id(envelope.id) if jsonrpc.present(envelope.id) else None
        if known is None or known not in self._asked:
            return None
        asked = self._asked.pop(known)
        if asked == known:
            return frame
        name = "result" if jsonrpc.present(envelope.result) else "error"
        return words.encoded({"id": asked, name: getattr(envelope, name)})

    def withdraw(self, frame: bytes, request_id: RequestId | None) -> bytes | None:
        """The device takes a question back: what the host gets; None when it is no question."""
        for own, asked in self._asked.items():
            if asked == request_id:
                del self._asked[own]
                return frame if own == asked else _cancelled(own)
        return None

    def lost(self) -> list[bytes]:
        """The device is away: all are void, as the host has to be told."""
        self._losses += 1
        asked, self._asked = self._asked, {}
        return [_cancelled(own) for own in asked]


def _cancelled(own: RequestId) -> bytes:
    params = {"requestId": own, "reason": "the device does not ask any more"}
    return jsonrpc.notification("notifications/cancelled", params)
