"""The resources of all devices, each under a URI that tells whose it is, and beside them how the devices are."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from edge_mcp.changes import Changes, updated
from edge_mcp.context import Context
from edge_mcp.errors import CallError, ConnectionClosed, EdgeError
from edge_mcp.gateway.asking import asked
from edge_mcp.gateway.upstream import Upstream
from edge_mcp.resources.base import Contents, ResourceDefinition, TemplateDefinition

logger = logging.getLogger(__name__)

SCHEME = "edge://"
DEVICES = "gateway://devices"
MAX_FOLLOWED = 200
"""Resources of one device that are followed for hosts."""
_PLAIN = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)


def public(prefix: str, uri: str) -> str:
    """`device://status` of the kitchen is `edge://kitchen/device/status`; what has no `//` is kept behind a `?`."""
    if plain := _PLAIN.fullmatch(uri):
        return f"{SCHEME}{prefix}/{plain[1]}/{plain[2]}"
    return f"{SCHEME}{prefix}/?{uri}"


def private(uri: str) -> tuple[str, str] | None:
    """The prefix and the URI on the device; None for what `public` does not make."""
    prefix, slash, rest = uri.removeprefix(SCHEME).partition("/")
    if not uri.startswith(SCHEME) or not prefix or not slash:
        return None
    if rest.startswith("?"):
        return prefix, rest[1:]
    scheme, slash, rest = rest.partition("/")
    return (prefix, f"{scheme}://{rest}") if slash and scheme else None


class GatewayResources:
    """See resources.base.Resources. `devices` are by prefix, those whose lists count now; `told` is what `DEVICES` holds."""

    def __init__(self, devices: Callable[[], Mapping[str, Upstream]], told: Callable[[], dict[str, Any]]) -> None:
        self._devices = devices
        self._told = told

    async def resources(self) -> Sequence[ResourceDefinition]:
        """See Resources."""
        return self.listed()

    def listed(self) -> list[ResourceDefinition]:
        """All, the gateway's own first."""
        about = "All devices, how they are, what they offer, and what is held back"
        own = ResourceDefinition(DEVICES, "devices", "Devices", about, "application/json")
        return [
            own,
            *(
                msgspec.structs.replace(one, uri=public(prefix, one.uri), title=f"{one.title or one.name} ({prefix})")
                for prefix, upstream in self._devices().items()
                for one in upstream.resources
            ),
        ]

    async def templates(self) -> Sequence[TemplateDefinition]:
        """See Resources."""
        return [
            msgspec.structs.replace(
                one, uriTemplate=public(prefix, one.uriTemplate), title=f"{one.title or one.name} ({prefix})"
            )
            for prefix, upstream in self._devices().items()
            for one in upstream.templates
        ]

    async def read(self, uri: str, context: Context) -> Sequence[Contents] | None:
        """See Resources."""
        if uri == DEVICES:
            return [Contents(DEVICES, "application/json", msgspec.json.encode(self._told()).decode())]
        prefix, upstream, known = self._at(uri)
        if upstream is None:
            return None
        answer = await asked(upstream, "resources/read", {"uri": known}, context)
        try:
            return [_contents(prefix, part) for part in answer["contents"]]
        except (KeyError, TypeError, ValueError) as error:
            raise EdgeError(f"what {upstream.name} answers is not what MCP says: {error}") from error

    async def complete(self, template: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """See Resources."""
        _prefix, upstream, uri = self._at(template)
        reference = {"type": "ref/resource", "uri": uri}
        return await completed(upstream, reference, argument, value, known) if upstream else []

    def _at(self, uri: str) -> tuple[str, Upstream | None, str]:
        prefix, known = private(uri) or ("", "")
        return prefix, self._devices().get(prefix), known


async def completed(
    upstream: Upstream, reference: dict[str, str], argument: str, value: str, known: Mapping[str, str]
) -> Sequence[str]:
    """What a device offers for an argument of a prompt or template. Raises: as asked."""
    params = {"ref": reference, "argument": {"name": argument, "value": value}, "context": {"arguments": dict(known)}}
    answer = await asked(upstream, "completion/complete", params)
    values = answer.get("completion", {}).get("values", [])
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _contents(prefix: str, part: dict[str, Any]) -> Contents:
    """Raises: KeyError, TypeError."""
    texts = {name: part[name] for name in ("text", "blob") if isinstance(part.get(name), str)}
    return Contents(public(prefix, part["uri"]), str(part.get("mimeType", "")), **texts)


class Followed:
    """The resources that hosts want to hear of, followed on their devices as long as somebody wants it."""

    def __init__(self, changes: Changes, devices: Callable[[], Mapping[str, Upstream]]) -> None:
        self._changes = changes
        self._devices = devices
        self._wanted: set[str] = set()
        self._following: dict[str, tuple[Upstream, asyncio.Task[None]]] = {}

    def want(self, uri: str, on: bool) -> None:
        """See Changes.wanted."""
        if on:
            self._wanted.add(uri)
        else:
            self._wanted.discard(uri)
        self.look()

    def look(self) -> None:
        """The devices may be others: follow what is wanted, where it is now."""
        devices = self._devices()
        for uri, (upstream, task) in list(self._following.items()):
            known = private(uri)
            if uri not in self._wanted or known is None or devices.get(known[0]) is not upstream:
                task.cancel()
                del self._following[uri]
        for uri in sorted(self._wanted - self._following.keys()):
            known = private(uri)
            if known is None or (home := devices.get(known[0])) is None:
                continue
            if sum(other is home for other, _ in self._following.values()) >= MAX_FOLLOWED:
                logger.warning("%s is not followed: %d resources of %s are", uri, MAX_FOLLOWED, home.name)
                continue
            self._following[uri] = (home, asyncio.create_task(self._follow(uri, home, known[1])))

    async def close(self) -> None:
        """Follow nothing any more."""
        tasks = [task for _, task in self._following.values()]
        self._following.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, uri: str, upstream: Upstream, known: str) -> None:
        try:
            async with upstream.subscription(known) as changes:
                async for _ in changes:
                    self._changes.tell(updated(uri))
        except (CallError, ConnectionClosed) as error:
            logger.info("%s is not followed: %s", uri, error)
