"""One device behind the gateway: the connections to it, what it offers, and how it is."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from edge_mcp.client.bridge_device import is_away
from edge_mcp.client.client import LISTS, Client
from edge_mcp.client.dial import dialling
from edge_mcp.client.link import Dial, Link
from edge_mcp.client.messages import ListedTool
from edge_mcp.client.subscription import Subscription
from edge_mcp.errors import CallError, ConfigError, ConnectionClosed
from edge_mcp.gateway.choice import Seen
from edge_mcp.gateway.circuit import Circuits
from edge_mcp.prompts.base import PromptDefinition
from edge_mcp.protocol.jsonrpc import UNDECODABLE
from edge_mcp.resources.base import ResourceDefinition, TemplateDefinition
from edge_mcp.transports.base import Connection

logger = logging.getLogger(__name__)

MAX_LISTED = 500
"""Tools of a device, and as many of its resources, templates and prompts; more are left out."""
MAX_BYTES = 2 * 1024 * 1024
"""Of each of these lists, as it is sent."""
PATIENCE_S = 5.0
"""How long a request waits for a connection to a device."""
REFUSED_S = 30.0
"""How long a device is left alone that wants another token or is none, unless it is announced anew."""
DOUBT_S = 1.5
"""How long a device has to answer that is said to have gone."""
DAMP_S = 0.1
"""After a device said that something changed it is heard again after so long; twice as long each time that it goes on."""
MOST_DAMP_S = 10.0
MAX_TOLD = 16
"""Reasons why a device is away that are said in the log until it is there again: each of its addresses has its own."""
LOAD = "device://load"
_MAX_PAGES = 50
_STATES = ("NOMINAL", "WARM", "HOT", "CRITICAL")

State = Literal["up", "away", "refused"]
T = TypeVar("T")


class Target(Protocol):
    """Where a device is, and what it has to prove; see client/resolve.py."""

    @property
    def name(self) -> str:
        """As shown and typed."""
        ...

    @property
    def id(self) -> str:
        """Of the hardware."""
        ...

    @property
    def url(self) -> str:
        """`ws://` or `wss://`."""
        ...

    @property
    def token(self) -> str:
        """What to show, if anything."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the certificate."""
        ...


Dialling = Callable[[Target, Sequence[str]], Dial]
"""How to connect to a device, in one of these encodings, best first. Raises: ConfigError."""


def to_target(target: Target, encodings: Sequence[str]) -> Dial:
    return dialling(target.url, target.token, target.fingerprint, logger.warning, encodings)


class Upstream:
    """A device that is connected to from `start` to `close`, and again whenever it was lost. `target` is where.

    `changed` are called with "state", "load", or the word of client.LISTS whose list is another one. The lists stay as they
    were while the device is away. `load` is 0 (NOMINAL) to 3, as an advert says (`advertised`), or else the device itself.
    """

    def __init__(
        self,
        target: Target,
        load: int | None = None,
        dial: Dialling = to_target,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.state: State = "away"
        self.why = "it was not there yet"
        self.away_since = clock()
        self.version = ""
        self.tools: Sequence[ListedTool] = ()
        self.names: frozenset[str] = frozenset()
        self.resources: Sequence[ResourceDefinition] = ()
        self.templates: Sequence[TemplateDefinition] = ()
        self.prompts: Sequence[PromptDefinition] = ()
        self.load = load or 0
        self.rtt_s = 0.0
        self.seen = Seen()
        self.circuits = Circuits()
        self.changed: list[Callable[[str], None]] = []
        self._targets: Sequence[Target] = (target,)
        self._advertised = load is not None
        self._dialling = dial
        self._clock = clock
        self._links: dict[str, Link] = {}
        self._hurried = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: set[tuple[State, str]] = set()

    @property
    def name(self) -> str:
        """As shown and typed."""
        return self.target.name

    @property
    def id(self) -> str:
        """Of the hardware; of a device that was named by hand its address."""
        return self.target.id or self.target.url

    def start(self) -> None:
        """Begin to connect."""
        self._task(self._follow(self._link("json")))

    async def close(self) -> None:
        """End the connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in self._links.values()))

    # Requests

    async def ask(self, request: Callable[[Client], Awaitable[T]]) -> T:
        """The answer to what may be asked twice: it is, if the connection ends meanwhile.

        Raises: CallError; AwayError, UncertainError, ConnectionClosed.
        """
        return await self._link("json").ask(request)

    async def once(self, request: Callable[[Client], Awaitable[T]], encoding: str = "json") -> T:
        """The answer to what is asked once; in `encoding`, a name of protocol.codec, if the device speaks it.

        Raises: NotSent when the device has not heard of it; CallError, ConnectionClosed.
        """
        patience_s = PATIENCE_S if self.state == "up" and encoding != "json" else 0.0  # the other one is made when it is needed
        return await self._link(encoding).ask_once(request, patience_s)

    def subscription(self, uri: str) -> Subscription:
        """What tells, within an `async with`, when this resource changes."""
        return Subscription(self._link("json"), [uri])

    # What is heard of the device elsewhere

    def announce(self, targets: Sequence[Target], load: int) -> None:
        """It advertises `load`, and is at the first of `targets`, or at another one if somebody else poses as it: connect at
        once, if it is not connected."""
        moved = [target.url for target in targets] != [target.url for target in self._targets]
        self._targets, self._advertised = tuple(targets), True
        self._loaded(load)
        if self.state != "up":
            self.target = targets[0]
            self._hurried.set()
            for link in self._links.values():
                link.hurry()
        elif moved:
            self.doubt()

    def doubt(self) -> None:
        """It is said to be gone, or elsewhere: it has to answer at once."""
        self._task(self._doubted())

    async def _doubted(self) -> None:
        try:
            async with asyncio.timeout(DOUBT_S):
                with suppress(CallError):  # an answer, even so
                    await self._link("json").ask_once(_nothing, DOUBT_S)
        except (TimeoutError, ConnectionClosed) as error:
            self._gone(str(error) or "it was said to be gone, and did not answer")

    # How it is

    def _link(self, encoding: str) -> Link:
        link = self._links.get(encoding)
        if link is None:
            encodings = ("json",) if encoding == "json" else (encoding, "json")
            link = self._links[encoding] = Link(self.name, lambda: self._connect(encodings), lasting=True)
        return link

    async def _connect(self, encodings: Sequence[str]) -> Connection:
        """Raises: ConfigError."""
        if self.state == "refused":
            with suppress(TimeoutError):
                async with asyncio.timeout(REFUSED_S):
                    await self._hurried.wait()
        self._hurried.clear()
        try:
            return await self._dialling(self.target, encodings)()
        except ConfigError as error:
            if self.state != "up":
                others = [target for target in self._targets if target.url != self.target.url]
                self._targets = (*others, self.target)
                self.target = self._targets[0]
                self._is("away" if is_away(error) else "refused", error.message)
            raise

    async def _follow(self, link: Link) -> None:
        while True:
            client = await link.connected(None)
            listening = asyncio.create_task(self._learn(client))
            try:
                why = await client.wait()
            finally:
                listening.cancel()
                await asyncio.wait([listening])
            link.lost(client, why)
            self._gone(why)

    def _gone(self, why: str) -> None:
        self._is("away", why)
        for link in self._links.values():
            link.drop(why)

    async def _learn(self, client: Client) -> None:
        """What it offers now, and whenever that changes."""
        try:
            self.version = client.version
            for word in LISTS:
                await self._list(client, word)
            if not self._advertised:
                await self._changed(client, LOAD)
            self._is("up", "")
            await self._listen(client)
        except ConnectionClosed:
            return  # which the one who waits for the end hears too
        except CallError as error:
            self._is("refused", f"it does not say what it can do: {error}")

    async def _listen(self, client: Client) -> None:
        """Raises: ConnectionClosed."""
        news: dict[str, None] = {}
        came = asyncio.Event()

        def note(word: str) -> None:
            if word:
                news[word] = None
                came.set()

        for wanted in ([*LISTS, LOAD], [*LISTS]):
            if LOAD in wanted and self._advertised:
                continue
            listening = asyncio.create_task(client.listen(wanted, note))
            listening.add_done_callback(lambda _: came.set())
            try:
                pause_s = DAMP_S
                while not listening.done():
                    await came.wait()
                    came.clear()
                    while news:
                        await self._changed(client, news.popitem()[0])
                    await asyncio.wait([listening], timeout=pause_s)
                    pause_s = min(pause_s * 2, MOST_DAMP_S) if news else DAMP_S
            finally:
                listening.cancel()
                await asyncio.wait([listening])
            if not isinstance(listening.exception(), CallError):
                return  # the connection has ended
        logger.info("%s does not tell what changes", self.name)

    async def _changed(self, client: Client, word: str) -> None:
        try:
            if word in LISTS:
                await self._list(client, word)
            elif not self._advertised:
                told = msgspec.json.decode((await client.read(LOAD)).text, type=_Load)
                self._loaded(_STATES.index(told.state))
        except (CallError, msgspec.DecodeError, ValueError) as error:
            logger.info("%s: %s is not what it was: %s", self.name, word, error)

    async def _list(self, client: Client, word: str) -> None:
        """Raises: CallError, ConnectionClosed."""
        began = self._clock()
        match word:
            case "tools":
                self.tools = await _listed(client, "tools/list", "tools", ListedTool)
                self.names = frozenset(tool.name for tool in self.tools)
            case "prompts":
                self.prompts = await _offered(client, "prompts/list", "prompts", PromptDefinition)
            case "resources":
                self.resources = await _offered(client, "resources/list", "resources", ResourceDefinition)
                rtt_s = self._clock() - began
                self.rtt_s = rtt_s if not self.rtt_s else min(rtt_s, self.rtt_s * 1.5)
                self.templates = await _offered(client, "resources/templates/list", "resourceTemplates", TemplateDefinition)
        self._tell(word)

    def _loaded(self, load: int) -> None:
        load = min(max(load, 0), len(_STATES) - 1)
        if load != self.load:
            self.load = load
            self._tell("load")

    def _is(self, state: State, why: str) -> None:
        if state != "up" and self.state == "up":
            self.away_since = self._clock()
        if state == "up":
            self._told.clear()
        if (state, why) not in self._told and len(self._told) < MAX_TOLD:
            self._told.add((state, why))
            logger.info("%s is %s%s", self.name, state, f": {why}" if why else "")
        self.state, was, self.why = state, self.state, why
        if state != was:
            self._tell("state")

    def _tell(self, word: str) -> None:
        for tell in list(self.changed):
            tell(word)

    def _task(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Load(msgspec.Struct):
    state: str


async def _nothing(client: Client) -> None:
    await client.request("ping", {}, dict)


async def _offered(client: Client, method: str, field: str, kind: type[T]) -> list[T]:
    """What there is; nothing from a server that knows no such method. Raises: ConnectionClosed."""
    try:
        return await _listed(client, method, field, kind)
    except CallError:
        return []


async def _listed(client: Client, method: str, field: str, kind: type[T]) -> list[T]:
    """At most MAX_LISTED in MAX_BYTES, those left out that are not what MCP says. Raises: CallError, ConnectionClosed."""
    found: list[T] = []
    cursor: str | None = None
    size = 0
    for _ in range(_MAX_PAGES):
        raw = await client.request(method, {} if cursor is None else {"cursor": cursor}, msgspec.Raw)
        size += len(bytes(raw))
        if size > MAX_BYTES:
            logger.info("what follows in a list of %s is left out: it has more than %d bytes", field, MAX_BYTES)
            break
        try:
            page = client.codec.decode(raw, dict[str, Any])
            entries = msgspec.convert(page.get(field, []), list[Any])
        except (msgspec.ValidationError, *UNDECODABLE) as error:
            raise CallError(f"its answer to {method} is not what MCP says: {error}") from None
        for entry in entries[: MAX_LISTED - len(found)]:
            try:
                found.append(msgspec.convert(entry, kind))
            except msgspec.ValidationError as error:
                logger.info("%s lists what is none: %s", field, error)
        cursor = page.get("nextCursor")
        if not isinstance(cursor, str) or not cursor or len(found) >= MAX_LISTED:
            break
    return found
