"""What has to be known of a host's conversation to take it up again with a device that was away. No I/O.

Frames pass as the bytes that came. What is decoded is the envelope; the params only of the few messages whose effect has to
be brought about again.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import msgspec

from edge_mcp.client import bridge_words as words
from edge_mcp.client.bridge_questions import Questions
from edge_mcp.client.bridge_words import CHANGED, STATEFUL, SUBSCRIPTION, Params, parameters
from edge_mcp.errors import ConfigError
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.jsonrpc import MAX_BATCH, Envelope, Malformed, RequestId
from edge_mcp.protocol.versions import BATCHES
from edge_mcp.transports.base import Frame, Oversized

MAX_OPEN = 1024
"""Requests of a host that wait for their answers."""
MAX_KEPT = 64 * 1024 * 1024
"""Bytes of requests that are kept to be sent again."""
MAX_SUBSCRIBED = 256
_MAX_PARAMS = 8192  # longer ones are not brought about again
_TRIES = 3
_MAX_LISTS = 64


@dataclass(frozen=True, slots=True)
class ToHost:
    """A frame for the host; `about` and `last` as in Connection.send."""

    frame: bytes
    about: RequestId | None = None
    last: bool = False


@dataclass(frozen=True, slots=True)
class ToDevice:
    """A frame for the device."""

    frame: bytes


@dataclass(slots=True)
class Open:
    """A request that waits for its answer. `frame` is empty where there was no room to keep it."""

    frame: bytes
    method: str
    ids: tuple[RequestId, ...]
    tries: int = 0
    sent: bool = False
    """On the connection that there is."""
    acknowledged: bool = False
    token: RequestId | msgspec.UnsetType | None = msgspec.UNSET
    reached: float = -math.inf
    """The progress that was told last."""


class Record:
    """One host's conversation. What comes from either end goes through it, and it says what to do with it."""

    def __init__(self) -> None:
        self.answered = 0
        self.hello: bytes = b""
        """The params of `initialize`, once the device has agreed."""
        self.version = ""
        self.silence_s: float | None = None
        """After so long without a word the device is gone, as it said."""
        self._open: dict[RequestId, Open] = {}
        self._kept = 0
        self._initialized = False
        self._level = b""
        self._subscribed: dict[str, bytes] = {}
        self._lists: dict[tuple[str, str | None], bytes] = {}
        self._questions = Questions()

    # From the host

    def from_host(self, frame: Frame, up: bool) -> ToHost | ToDevice | None:
        """What to do with a frame of the host's; while the device is away (not `up`) a request is kept. Never raises."""
        try:
            if isinstance(frame, Oversized):
                known = jsonrpc.find_id(frame.head, frame.tail)
                said = f"message of {frame.size} bytes is larger than the {frame.limit} allowed"
                raise Malformed(jsonrpc.INVALID_REQUEST, said, known)
            if self.version == BATCHES and frame.lstrip()[:1] == b"[":
                return self._batch(frame, up)
            return self._message(frame, up)
        except Malformed as error:
            return ToHost(jsonrpc.error(error.request_id, error.code, error.message, error.data), error.request_id, True)

    def _message(self, frame: bytes, up: bool) -> ToHost | ToDevice | None:
        envelope = jsonrpc.decode(frame)
        words.check_text(frame)
        if not isinstance(envelope.method, str):
            return self._reply(frame, envelope)
        if not jsonrpc.present(envelope.id):
            return self._notice(frame, envelope, up)
        return self._request(frame, envelope.method, (jsonrpc.request_id(envelope.id),), up)

    def _batch(self, frame: bytes, up: bool) -> ToHost | ToDevice | None:
        """A batch is passed on and answered as a whole, and never repeated."""
        words.check_text(frame)
        found = [jsonrpc.decode(part) for part in jsonrpc.parts(frame, MAX_BATCH)]
        asked = [part for part in found if isinstance(part.method, str) and jsonrpc.present(part.id)]
        ids = tuple(jsonrpc.request_id(part.id) for part in asked)
        if ids:
            return self._request(frame, "", ids, up)
        return ToDevice(frame) if up else None

    def _request(self, frame: bytes, method: str, ids: tuple[RequestId, ...], up: bool) -> ToHost | ToDevice | None:
        for known in ids:
            if known in self._open:
                raise Malformed(jsonrpc.INVALID_REQUEST, f"id {known!r} is still in use by an earlier request", known)
        if len(self._open) + len(ids) > MAX_OPEN:
            raise Malformed(jsonrpc.INTERNAL_ERROR, f"{MAX_OPEN} requests wait for their answers already", ids[0])
        fits = self._kept + len(frame) <= MAX_KEPT
        entry = Open(frame if fits or not up else b"", method, ids, int(up), up)
        self._kept += len(entry.frame)
        self._open.update(dict.fromkeys(ids, entry))
        return ToDevice(frame) if up else None

    def _notice(self, frame: bytes, envelope: Envelope, up: bool) -> ToDevice | None:
        if envelope.method == "notifications/initialized":
            self._initialized = True
        elif envelope.method == "notifications/cancelled":
            entry = self._open.get(parameters(envelope.params).requestId or "")
            if entry is not None and len(entry.ids) == 1:  # of a batch the answers come together all the same
                self._close(entry)
                if not entry.tries:
                    return None  # the device never saw it
        return ToDevice(frame) if up else None

    def _reply(self, frame: bytes, envelope: Envelope) -> ToDevice | None:
        answer = self._questions.answer(frame, envelope)
        return None if answer is None else ToDevice(answer)

    @property
    def full(self) -> bool:
        """Whether no more may be kept."""
        return self._kept > MAX_KEPT

    @property
    def busy(self) -> bool:
        """Whether the host waits for an answer that should come soon."""
        return any(entry.method != "subscriptions/listen" for entry in self._open.values())

    @property
    def idle(self) -> bool:
        """Whether the host waits for nothing."""
        return not self._open

    # From the device

    def from_device(self, frame: bytes) -> ToHost | ToDevice | Envelope | None:
        """What to do with a frame of the device's; an answer to what the host did not ask is given back. Raises: Malformed."""
        if self.version == BATCHES and frame.lstrip()[:1] == b"[":
            return self._batch_answer(frame)
        envelope = jsonrpc.decode(frame)
        known = jsonrpc.request_id(envelope.id) if jsonrpc.present(envelope.id) else None
        if isinstance(envelope.method, str):
            if known is None:
                return self._told(frame, envelope.method, envelope)
            return self._question(frame, known, envelope)
        entry = self._open.get(known) if known is not None else None
        if entry is None:
            return envelope
        self._answer(entry, envelope)
        return ToHost(frame, known, True)

    def _batch_answer(self, frame: bytes) -> ToHost | None:
        for part in jsonrpc.parts(frame, MAX_BATCH):
            envelope = jsonrpc.decode(part)
            known = jsonrpc.request_id(envelope.id) if jsonrpc.present(envelope.id) else None
            entry = self._open.get(known) if known is not None else None
            if entry is not None:
                self._close(entry)
                self.answered += 1
                return ToHost(frame, known, True)
        return None

    def _answer(self, entry: Open, envelope: Envelope) -> None:
        self._close(entry)
        self.answered += 1
        if entry.method in ("initialize", "server/discover"):
            self.silence_s = words.opened_silence(envelope.result)
        if not jsonrpc.present(envelope.result) or entry.method not in STATEFUL or not entry.frame:
            return
        raw = jsonrpc.decode(entry.frame).params
        match entry.method:
            case "initialize":
                self.hello, self.version = bytes(raw), words.agreed_version(envelope.result)
            case "logging/setLevel" if len(bytes(raw)) <= _MAX_PARAMS:
                self._level = bytes(raw)
            case "resources/subscribe" if len(bytes(raw)) <= _MAX_PARAMS and len(self._subscribed) < MAX_SUBSCRIBED:
                self._subscribed[parameters(raw).uri] = bytes(raw)
            case "resources/unsubscribe":
                self._subscribed.pop(parameters(raw).uri, None)
            case method if method in CHANGED and (len(self._lists) < _MAX_LISTS or (method, None) in self._lists):
                self._note_list(method, parameters(raw), envelope.result)

    def _note_list(self, method: str, params: Params, result: msgspec.Raw) -> None:
        if params.cursor is None:  # a new walk: what the pages of the one before were is of no interest
            self._lists = {key: digest for key, digest in self._lists.items() if key[0] != method}
        if len(params.cursor or "") <= _MAX_PARAMS:
            self._lists[method, params.cursor] = words.digest(result)

    def _told(self, frame: bytes, method: str, envelope: Envelope) -> ToHost | None:
        """A notification of the device's, on the stream of what it is about."""
        if method == f"notifications/{words.KEEPALIVE}":  # is about this very connection
            self.silence_s = words.silence(envelope.params)
            return None
        if method == "notifications/progress":
            return self._progressed(frame, parameters(envelope.params))
        if method == "notifications/cancelled":
            return self._withdrawn(frame, parameters(envelope.params).requestId)
        subscription = parameters(envelope.params).meta.subscription
        if subscription is not None:
            entry = self._open.get(subscription)
            if entry is None:
                return None  # the host ended it
            if method == "notifications/subscriptions/acknowledged":
                if entry.acknowledged:
                    return None  # the host knows
                entry.acknowledged = True
            return ToHost(frame, subscription)
        return ToHost(frame, self._latest() if method == "notifications/message" else None)

    def _progressed(self, frame: bytes, params: Params) -> ToHost | None:
        """Progress only grows, as MCP has it, also that of a request that was made again."""
        entry = self._with_token(params.progressToken)
        if entry is None:
            return ToHost(frame, self._latest() if len(self._open) == 1 else None)
        if entry.tries > 1 and params.progress <= entry.reached:
            return None
        entry.reached = params.progress
        return ToHost(frame, entry.ids[0])

    def _question(self, frame: bytes, known: RequestId, envelope: Envelope) -> ToHost | ToDevice:
        """A request of the device's."""
        question = self._questions.ask(frame, known, envelope)
        if question is None:
            return ToDevice(jsonrpc.error(known, jsonrpc.INTERNAL_ERROR, "too many questions to the host are open already"))
        return ToHost(question, self._latest())

    def _withdrawn(self, frame: bytes, request_id: RequestId | None) -> ToHost:
        """The device takes a question back, or ends a subscription."""
        question = self._questions.withdraw(frame, request_id)
        if question is not None:
            return ToHost(question, self._latest())
        entry = self._open.get(request_id) if request_id is not None else None
        if entry is not None and len(entry.ids) == 1:
            self._close(entry)
        return ToHost(frame, request_id)

    # A device that was away

    def lost(self) -> Iterator[ToHost]:
        """The connection is lost: what the host has to be told at once."""
        self.silence_s = None
        for entry in self._open.values():
            entry.sent = False
        for frame in self._questions.lost():
            yield ToHost(frame)

    def refuse(self, said: str) -> Iterator[ToHost]:
        """Answer all that is open with an error."""
        for entry in self._entries():
            yield self._refused(entry, said)

    def refuse_unsafe(self, tools: Collection[str], why: str) -> Iterator[ToHost]:
        """Answer with an error what was sent and must not be sent again; `tools` are those that may be called again."""
        for entry in self._entries():
            if entry.tries >= _TRIES and entry.method != "subscriptions/listen":
                said = f"the connection to the device was lost {entry.tries} times while this was on its way ({why})"
                yield self._refused(entry, said)
            elif entry.tries and not (entry.frame and words.may_repeat(entry.method, entry.frame, tools)):
                said = (
                    f"the connection to the device was lost while this was on its way ({why}), and it may have been done. "
                    "Ask again if doing it twice does no harm"
                )
                yield self._refused(entry, said)

    def next_waiting(self) -> bytes | None:
        """What is to be sent next on a new connection, subscriptions first; None when nothing waits."""
        waiting = [entry for entry in self._entries() if not entry.sent]
        entry = next((entry for entry in waiting if entry.method == "subscriptions/listen"), None) or next(iter(waiting), None)
        if entry is None:
            return None
        entry.sent = True
        entry.tries += 1
        return entry.frame

    def settings(self) -> Iterator[tuple[str, bytes]]:
        """The requests that bring an older session's state about again, after `initialize`: method and params."""
        if self._level:
            yield "logging/setLevel", self._level
        for params in self._subscribed.values():
            yield "resources/subscribe", params

    def agree(self, result: msgspec.Raw) -> list[bytes]:
        """The device answered `initialize` anew; the notifications to send then.

        Raises: ConfigError when it is another revision, which the host cannot be told.
        """
        version = words.agreed_version(result)
        self.silence_s = words.opened_silence(result)
        if version != self.version:
            raise ConfigError(f"the device now speaks MCP {version[:20]!r} instead of {self.version!r}", "Start the host anew")
        return [jsonrpc.notification("notifications/initialized", {})] if self._initialized else []

    @property
    def lists(self) -> dict[tuple[str, str | None], bytes]:
        """The lists that the host has seen, by method and cursor: the digests of the results."""
        return dict(self._lists)

    def has_calls(self) -> bool:
        """Whether calls of tools were on their way when the connection was lost."""
        return any(entry.method == "tools/call" and entry.tries for entry in self._open.values())

    def changed(self, methods: Collection[str]) -> Iterator[ToHost]:
        """Tell the host that lists (by the methods that ask for them) are others now, and what else may have changed."""
        for method in methods:
            for key in [key for key in self._lists if key[0] == method]:
                del self._lists[key]
        if self.hello:
            for name in dict.fromkeys(CHANGED[method][0] for method in methods):
                yield ToHost(jsonrpc.notification(name, {}))
            for uri in self._subscribed:
                yield ToHost(jsonrpc.notification("notifications/resources/updated", {"uri": uri}))
            return
        for entry in self._entries():
            if entry.method == "subscriptions/listen" and entry.acknowledged and entry.frame:
                for frame in words.updates(words.frame_params(entry.frame).notifications, methods, entry.ids[0]):
                    yield ToHost(frame, entry.ids[0])

    # The end

    def end_listening(self) -> Iterator[ToHost | ToDevice]:
        """The host sends no more: its subscriptions end in good order."""
        for entry in self._entries():
            if entry.method == "subscriptions/listen":
                self._close(entry)
                known = entry.ids[0]
                yield ToHost(jsonrpc.result(known, {"resultType": "complete", "_meta": {SUBSCRIPTION: known}}), known, True)
                yield self._cancel(known)

    def leave(self) -> Iterator[ToDevice]:
        """The host is gone: nobody waits for its answers."""
        for entry in self._entries():
            self._close(entry)
            if entry.tries:
                yield from (self._cancel(known) for known in entry.ids)

    def _cancel(self, known: RequestId) -> ToDevice:
        return ToDevice(jsonrpc.notification("notifications/cancelled", {"requestId": known}))

    def _entries(self) -> list[Open]:
        return list({id(entry): entry for entry in self._open.values()}.values())

    def _refused(self, entry: Open, said: str) -> ToHost:
        self._close(entry)
        errors = [jsonrpc.error(known, jsonrpc.INTERNAL_ERROR, said) for known in entry.ids]
        return ToHost(errors[0] if entry.method else words.batch(errors), entry.ids[0], True)

    def _close(self, entry: Open) -> None:
        self._kept -= len(entry.frame)
        for known in entry.ids:
            self._open.pop(known, None)

    def _with_token(self, token: RequestId | None) -> Open | None:
        for entry in self._open.values():
            if entry.token is msgspec.UNSET:  # a batch has no method
                entry.token = words.frame_params(entry.frame).meta.progressToken if entry.frame and entry.method else None
            if token is not None and entry.token == token:
                return entry
        return None

    def _latest(self) -> RequestId | None:
        return next(reversed(self._open), None)
