"""What the server says of itself without being asked in MCP: whether it is well, and its server card (SEP-2127)."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

import edge_mcp
from edge_mcp.protocol.headers import not_allowed
from edge_mcp.protocol.versions import LEGACY, MODERN
from edge_mcp.transports.streamable import refused

SCHEMA = "https://static.modelcontextprotocol.io/schemas/v1/server-card.schema.json"
_MAX_DESCRIPTION = 100


@dataclass(frozen=True, slots=True)
class Card:
    """`name` is in reverse-DNS form with one slash, `more` has further fields of the card."""

    name: str
    title: str
    description: str
    more: dict[str, Any] = field(default_factory=dict)

    def respond(self, request: web.BaseRequest, path: str) -> web.Response:
        """Answer a GET with the card; `path` is that of the MCP endpoint, on the host that the client found it at."""
        if request.method not in ("GET", "HEAD"):
            return refused(not_allowed("GET, HEAD"))
        body = msgspec.json.encode(self._fields(f"{request.scheme}://{request.host}{path}"))
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        fields = {"ETag": tag, "Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"}
        if tag in [part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")]:
            return web.Response(status=304, headers=fields)
        return web.Response(body=body, headers=fields | {"Content-Type": "application/mcp-server-card+json"})

    def _fields(self, url: str) -> dict[str, Any]:
        remote = {"type": "streamable-http", "url": url, "supportedProtocolVersions": [*LEGACY, *MODERN]}
        return {
            "$schema": SCHEMA,
            "name": self.name,
            "version": edge_mcp.__version__,
            "title": self.title,
            "description": self.description[:_MAX_DESCRIPTION],
            "remotes": [remote],
            **self.more,
        }


def metrics(text: str) -> web.Response:
    """What was measured, in Prometheus' text format; asking wakes nothing."""
    fields = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8", "Cache-Control": "no-store"}
    return web.Response(body=text.encode(), headers=fields)


def health(request: web.BaseRequest, ready: bool) -> web.Response:
    """Whether the server lives and can take calls; asking wakes nothing."""
    if request.method not in ("GET", "HEAD"):
        return refused(not_allowed("GET, HEAD"))
    body = msgspec.json.encode({"live": True, "ready": ready, "version": edge_mcp.__version__})
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})
