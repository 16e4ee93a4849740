"""A server that has one of everything, beside the models that ship: everything.py (--stdio | --listen HOST:PORT)."""

import argparse
import asyncio
from typing import Any

from edge_mcp import Audio, Context, EmbeddedResource, Image, ResourceLink, Server

NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)


def everything() -> Server:
    server = Server("everything", "1.0", title="Everything", instructions="Try it all.")
    for part in (_talkative, _asking, _working, _resources, _prompts):
        part(server)
    return server


def _talkative(server: Server) -> None:
    @server.tool()
    async def report(context: Context) -> str:
        """Tells what it does while it does it."""
        for step in range(3):
            await context.progress(step, 2, f"step {step}")
            await context.log("info", {"step": step})
        return "done"

    @server.tool()
    def show() -> list[Any]:
        """Shows all kinds of content."""
        return [
            "text",
            Image(PIXEL, "image/png"),
            Audio(b"RIFF", "audio/wav"),
            EmbeddedResource("test://text", "a text", "text/plain"),
            ResourceLink("test://text", "text"),
        ]

    @server.tool()
    def fail() -> str:
        """Fails."""
        raise ValueError("as it should")

    @server.tool()
    def change() -> str:
        """Changes everything that can change."""
        server.updated("test://text")
        for what in ("tools", "prompts", "resources"):
            server.changed(what)
        return "changed"


def _asking(server: Server) -> None:
    @server.tool()
    async def greet(context: Context) -> str:
        """Asks for a name."""
        answer = await context.elicit("What is your name?", NAME)
        return f"Hello, {answer['content']['name']}!"

    @server.tool()
    async def think(context: Context) -> str:
        """Asks a language model."""
        answer = await context.sample([{"role": "user", "content": {"type": "text", "text": "Think."}}], 100)
        return str(answer["content"]["text"])

    @server.tool()
    async def look_around(context: Context) -> str:
        """Asks for the client's roots."""
        return ", ".join(root["uri"] for root in await context.roots())


def _working(server: Server) -> None:
    @server.tool(task="optional")
    async def work(seconds: float, context: Context) -> str:
        """Takes its time."""
        await asyncio.sleep(seconds)
        return "worked"

    @server.tool(task="required")
    async def work_with(context: Context) -> str:
        """Takes its time, and asks in the middle of it."""
        await asyncio.sleep(0.01)
        answer = await context.elicit("With whom?", NAME)
        return f"worked with {answer['content']['name']}"


def _resources(server: Server) -> None:
    @server.resource("test://text", mime_type="text/plain")
    def text() -> str:
        """A text."""
        return "a text"

    @server.resource("test://bytes", mime_type="image/png")
    def data() -> bytes:
        """A picture."""
        return PIXEL

    @server.resource("test://{name}/greeting")
    def greeting(name: str) -> str:
        """A greeting."""
        return f"Hello, {name}!"

    @server.completion("test://{name}/greeting", "name")
    def names(typed: str, _known: Any) -> list[str]:
        return [name for name in ("Ada", "Alan") if name.startswith(typed)]


def _prompts(server: Server) -> None:
    @server.prompt()
    async def introduce(style: str, context: Context) -> str:
        """Introduces somebody, after asking who it is."""
        answer = await context.elicit("Who are you?", NAME)
        return f"Introduce {answer['content']['name']}, {style}."

    @server.prompt()
    def summarize(style: str = "briefly") -> str:
        """Summarizes."""
        return f"Summarize this {style}."

    @server.completion("summarize", "style")
    def styles(typed: str, _known: Any) -> list[str]:
        return [style for style in ("briefly", "at length") if style.startswith(typed)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--listen")
    arguments = parser.parse_args()
    everything().run(arguments.stdio, arguments.listen)
