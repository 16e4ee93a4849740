"""The Python API: a server for tools, resources and prompts written in Python, beside the device's models."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from os import PathLike, fspath
from typing import Any, Literal, TypeVar

import edge_mcp
from edge_mcp import app
from edge_mcp.changes import PROMPTS, RESOURCES, TOOLS, Change, updated
from edge_mcp.config import load
from edge_mcp.context import Context
from edge_mcp.errors import ConfigError
from edge_mcp.prompts.base import PromptMessage
from edge_mcp.prompts.functions import FunctionPrompt
from edge_mcp.protocol.content import Audio, EmbeddedResource, Image, ResourceLink
from edge_mcp.protocol.messages import Implementation
from edge_mcp.resources.functions import FunctionResource
from edge_mcp.systemd import signalled
from edge_mcp.tools.base import TaskUse
from edge_mcp.tools.functions import FunctionTool
from edge_mcp.transports.base import Connection

__all__ = ["Audio", "Context", "EmbeddedResource", "Image", "PromptMessage", "ResourceLink", "Server"]

F = TypeVar("F", bound=Callable[..., Any])
Paths = str | PathLike[str] | Iterable[str | PathLike[str]]
_LISTS = {"tools": TOOLS, "prompts": PROMPTS, "resources": RESOURCES}


class Server:
    """An MCP server. `models`: serve them too (True: those of the settings; or folders of them). `settings` are the keys of
    `edge-mcp.toml`, and go over that file and the environment.

    The decorators return the function unchanged. What is added or removed while it serves is told to the clients.
    Raises: ConfigError, here and in the decorators, for what cannot be served; ManifestError for a folder of models.
    """

    def __init__(
        self,
        name: str = "edge-mcp",
        version: str = edge_mcp.__version__,
        models: bool | Paths = True,
        instructions: str = "",
        title: str = "",
        **settings: Any,
    ) -> None:
        if not isinstance(models, bool):
            folders = [models] if isinstance(models, str | PathLike) else models
            settings["models"] = tuple(fspath(folder) for folder in folders)
        self._config = load(flags=settings)
        repository = app.found(self._config) if models is not False else None
        self._own = app.Own.beside(repository)
        self._app = app.App(
            self._config,
            repository,
            self._own,
            Implementation(name, version, title),
            instructions or (app.INSTRUCTIONS if models is not False else ""),
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def tool(
        self,
        name: str | None = None,
        *,
        title: str = "",
        description: str | None = None,
        input_schema: dict[str, Any] | None = None,
        annotations: dict[str, Any] | None = None,
        task: TaskUse = "never",
        before: Callable[[Context], Awaitable[Any]] | None = None,
    ) -> Callable[[F], F]:
        """Make a function a tool; see tools.functions.FunctionTool. `annotations` are MCP's `ToolAnnotations`.

        `task`: whether a call runs as a task for a client that can follow one; `required`: for no other client of 2026-07-28.
        `before` asks what has to be known before the task begins; the function gets the same answers under the same keys.
        """
        _called("tool", name)

        def add(function: F) -> F:
            self._own.tools.add(FunctionTool(function, name, title, description, input_schema, annotations, task, before))
            self.changed("tools")
            return function

        return add

    def resource(
        self, uri: str, *, name: str = "", title: str = "", description: str = "", mime_type: str = ""
    ) -> Callable[[F], F]:
        """Make a function a resource, or with `{variables}` in the URI a template; see resources.functions.FunctionResource."""
        _called("resource", uri)

        def add(function: F) -> F:
            self._own.resources.add(FunctionResource(function, uri, name, title, description, mime_type))
            self.changed("resources")
            return function

        return add

    def prompt(self, name: str | None = None, *, title: str = "", description: str = "") -> Callable[[F], F]:
        """Make a function a prompt; see prompts.functions.FunctionPrompt."""
        _called("prompt", name)

        def add(function: F) -> F:
            self._own.prompts.add(FunctionPrompt(function, name, title, description))
            self.changed("prompts")
            return function

        return add

    def completion(self, ref: str, argument: str) -> Callable[[F], F]:
        """Let a function complete an argument of a prompt (`ref` is its name) or a variable of a template (its URI).

        It gets what is typed so far and the arguments that are there already, and returns the values that fit; it may be async.
        """

        def add(function: F) -> F:
            room = self._own.resources if "://" in ref else self._own.prompts
            room.completes(ref, argument, function)
            return function

        return add

    def remove_tool(self, name: str) -> None:
        """Raises: ConfigError when there is none of this name."""
        self._own.tools.remove(name)
        self.changed("tools")

    def remove_resource(self, uri: str) -> None:
        """Raises: ConfigError when there is none of this URI or template."""
        self._own.resources.remove(uri)
        self.changed("resources")

    def remove_prompt(self, name: str) -> None:
        """Raises: ConfigError when there is none of this name."""
        self._own.prompts.remove(name)
        self.changed("prompts")

    def changed(self, what: Literal["tools", "prompts", "resources"]) -> None:
        """Tell the clients that a list has changed; from any thread."""
        self._tell(_LISTS[what])

    def updated(self, uri: str) -> None:
        """Tell the clients that a resource has other contents now; from any thread."""
        self._tell(updated(uri))

    def run(self, stdio: bool = False, listen: str | None = None) -> None:
        """Serve until SIGTERM or Ctrl-C, or until the stdio host is done. See `serve`."""

        async def until_signalled() -> None:
            await self.serve(stdio, listen, signalled())

        asyncio.run(until_signalled())

    async def serve(self, stdio: bool = False, listen: str | None = None, stop: Awaitable[object] | None = None) -> None:
        """Serve the host that started this process (`stdio`), or peers at `listen` (HOST:PORT; by default that of the
        settings), until `stop` is done or this is cancelled. Raises: EdgeError."""
        if listen is not None:
            self._config = replace(self._config, listen=listen)
        self._loop = asyncio.get_running_loop()
        network = listen is not None or not stdio
        await self._app.serve(self._config, stdio, network, _say, stop or asyncio.get_running_loop().create_future())

    async def connect(self, connection: Connection) -> None:
        """Serve one connection until its peer ends it: for tests, and for transports of your own."""
        self._loop = asyncio.get_running_loop()
        await self._app.server.serve(connection)

    async def close(self) -> None:
        """End every connection, task and model that `connect` began; `serve` does so by itself."""
        await self._app.close()

    def _tell(self, change: Change) -> None:
        changes = self._app.server.changes
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if self._loop is None or self._loop is here:
            changes.tell(change)
        else:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(changes.tell, change)


def _called(decorator: str, name: object) -> None:
    if callable(name):
        raise ConfigError(f"@server.{decorator} needs parentheses", f"Write @server.{decorator}(…)")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
