"""A device's tools and resources, called from Python.

async with connect("ws://pi.local:8765/mcp", token=TOKEN) as device:
    result = await device.call("detect_objects", image=Path("photo.jpg"))
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypedDict, Unpack
from weakref import WeakKeyDictionary

from edge_mcp.client.client import Client, Progress
from edge_mcp.client.dial import dialling
from edge_mcp.client.link import Link
from edge_mcp.client.messages import Contents, ListedTool
from edge_mcp.client.result import STOPPING, Result
from edge_mcp.client.subscription import Subscription
from edge_mcp.client.values import sendable
from edge_mcp.errors import BusyError, DeadlineError, EdgeError, EngineError

logger = logging.getLogger(__name__)

ENCODINGS = ("msgpack", "json")
"""How messages may be written, best first."""
MAX_STOPPING = 30
"""How often in a row a call may meet servers that are about to stop."""
_MOST_S = 86_400.0

_links: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Any, ...], Link]]" = WeakKeyDictionary()


class Options(TypedDict, total=False):
    """How calls are made, see Device.using."""

    timeout: float | None
    retries: int
    background: bool
    progress: Progress | None


class Device:
    """What a device offers, to one of its users; see `connect`, which makes it. Many calls may be made at once."""

    def __init__(self, link: Link, options: Options) -> None:
        self._link = link
        self._options = options

    def using(self, **options: Unpack[Options]) -> "Device":
        """The same device with other options:

        `timeout`: seconds that a call may take, with all its waiting; the server hears of it, and may refuse at once.
        `retries`: how often a call is made again that was refused (BusyError, EngineError), when the server says, if that is
        within the timeout. `background`: others go first. `progress(done, total, message)` is told how far a call is.
        """
        return Device(self._link, {**self._options, **options})

    async def call(self, tool: str, /, **arguments: Any) -> Result:
        """Call a tool. A Path stands for the content of its file; bytes and numpy arrays are sent as such.

        A call that was under way when the connection was lost is made again if it was not sent yet or the tool says that it
        may be (`readOnlyHint`, `idempotentHint`), and it does not go on a `stream`. Cancelling this withdraws the call.

        Raises: ToolError when the tool failed; BusyError or EngineError, with `retry_after_ms`, when it may be called again;
        CallError for what the server refused; DeadlineError; AwayError when the device could not be reached, UncertainError
        when it is not known whether the call was made; ArgumentError and OSError for what cannot be sent.
        """
        async with self._within(tool) as limit:
            given = await sendable(arguments)

            async def request(client: Client) -> Result:
                answer = await client.call_tool(tool, given, self._options.get("progress"), limit.meta)
                return Result(answer, client.codec)

            for refusals in count():
                result = await self._link.ask(request, lambda: "stream" not in arguments and self._link.may_repeat(tool))
                error = result.refusal(tool)
                if error is None:
                    break
                wait_s = pause_s(error, refusals, self._options.get("retries", 0), limit.left_s())
                if wait_s is None:
                    raise error
                await asyncio.sleep(wait_s)
        return result

    async def tools(self) -> list[ListedTool]:
        """What can be called. Raises: as call."""
        async with self._within("tools/list"):
            return await self._link.ask(lambda client: client.list_tools())

    async def read(self, uri: str) -> Contents:
        """A resource: its `text`, or its bytes as `blob`. Raises: as call."""
        async with self._within(uri):
            return await self._link.ask(lambda client: client.read(uri))

    def subscribe(self, *wanted: str) -> Subscription:
        """What changes from now on: of resources by their URIs, and of lists by the words tools, prompts and resources.

        async with device.subscribe("tools", "device://status") as changes:
            async for what in changes:
        """
        return Subscription(self._link, wanted)

    @asynccontextmanager
    async def _within(self, what: str) -> "AsyncIterator[_Limit]":
        """Raises: DeadlineError."""
        seconds = self._options.get("timeout")
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                yield _Limit(limit, self._options.get("background", False))
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineError(f"{what}: no answer from {self._link.name} within {seconds:g} s") from error
            raise


class _Limit:
    """A call's time."""

    def __init__(self, timeout: asyncio.Timeout, background: bool) -> None:
        self._timeout = timeout
        self._background = background

    def left_s(self) -> float:
        """How much there is left."""
        when = self._timeout.when()
        return math.inf if when is None else when - asyncio.get_running_loop().time()

    def meta(self) -> dict[str, Any]:
        """What the server is told of it."""
        left_s = self.left_s()
        deadline = {"io.edge-mcp/deadlineMs": max(1, round(left_s * 1000))} if left_s <= _MOST_S else {}
        return deadline | ({"io.edge-mcp/background": True} if self._background else {})


def pause_s(
    error: EdgeError, refusals: int, retries: int, left_s: float, chance: Callable[[], float] = random.random
) -> float | None:
    """How many seconds to wait before a call is made again that was refused `refusals` times before; None when it is not.

    A server that is about to stop does not count: the next one will do. Up to a quarter more than the server said, at
    random: whom it refused at once should not come back at once.
    """
    if not isinstance(error, BusyError | EngineError) or error.retry_after_ms is None:
        return None
    if refusals >= (MAX_STOPPING if isinstance(error, BusyError) and error.reason == STOPPING else retries):
        return None
    wait_s = error.retry_after_ms / 1000 * (1 + chance() / 4)
    return wait_s if wait_s < left_s else None


@asynccontextmanager
async def connect(
    url: str, *, token: str = "", fingerprint: str = "", encodings: Sequence[str] = ENCODINGS, **options: Unpack[Options]
) -> AsyncIterator[Device]:
    """The device at `url` (`ws://` or `wss://`), for `token` if it asks for one; `options` as of Device.using.

    All that connect to the same device in one event loop share one connection, which ends with the last of them. When it is
    lost, calls wait up to 30 s for the next one. `fingerprint`: the SHA-256 of a `wss://` device's certificate; without, it is
    the same that it was the first time, or signed by one who is trusted.

    Raises: ConfigError when there is no such device, CallError or ConnectionClosed when it is no MCP server.
    """
    key = (url, token, fingerprint, *encodings)
    links = _links.setdefault(asyncio.get_running_loop(), {})
    link = links.get(key)
    if link is None:
        link = links[key] = Link(url.partition("#")[0], dialling(url, token, fingerprint, logger.warning, encodings))
    link.users += 1
    try:
        await link.opened()
        yield Device(link, options)
    finally:
        link.users -= 1
        if not link.users:
            if links.get(key) is link:
                del links[key]
            await link.close()
