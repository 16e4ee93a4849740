"""The models of `throughput` and `lone`, calls of their tools, and the servers that answer them.

Calls come in variants, because edge-mcp computes calls that are the same and in flight at once only once.
"""

import base64
import json
import random
import shutil
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from child import META, MODERN, Child, Conversation, Http, WebSocket
from load import FIRST_ID, Lane, Pipe, Post, WebSocketMessages
from report import ROOT

VARIANTS = 256
QUIET_S = 0.8
"""A model's curve is measured when nothing has been run for half a second."""
FOLDER = "bench-models"
_FILES = {
    "mlp": ROOT / "tests/fixtures/models/mlp_int8.onnx",
    "silero": ROOT / "models/speech-detector/silero_vad_16k_fp16w.onnx",
    "lite0": ROOT / "models/image-classifier",
    "ssd": ROOT / "models/object-detector",
}
TOOLS = {"mlp": "mlp", "silero": "silero", "silero8": "silero", "lite0": "classify_image", "ssd": "detect_objects"}
"""The tool of each model, on every server."""
TITLES = {
    "mlp": "int8 MLP",
    "silero": "Silero VAD",
    "silero8": "Silero VAD, 8 rows in each call",
    "lite0": "EfficientNet-Lite0 int8",
    "ssd": "SSD detector int8",
}
ROWS = {"silero8": 8}
"""Rows of a call, where it has more than one."""


def lay_out(folder: Path, one_by_one: bool = False) -> Path:
    """A repository with all models; `one_by_one`: with manifests that allow no batches."""
    models = folder / ("one-by-one" if one_by_one else FOLDER)
    models.mkdir()
    for name, source in _FILES.items():
        own = models / name
        if source.is_dir():
            shutil.copytree(source, models / source.name)
            own = models / source.name
        else:
            own.mkdir()
            shutil.copy(source, own / source.name)
            text = f'[model]\nname = "{name}"\nversion = "1.0.0"\nfile = "{source.name}"\n[tool]\nname = "{TOOLS[name]}"\n'
            (own / "model.toml").write_text(text)
        if one_by_one:
            with (own / "model.toml").open("a") as manifest:
                manifest.write("\n[scheduling]\nmax_batch_size = 1\n")
    return models


def arguments(name: str, variant: int, rows: int = 0) -> dict[str, Any]:
    """What a call of a model's tool says, of so many rows if that is said; the same for the same variant."""
    rng = random.Random(variant)
    if name == "mlp":
        return {"input": _tensor([1, 490], rng, 1.0)}
    if TOOLS[name] == "silero":
        rows = rows or ROWS.get(name, 1)
        return {"input": _tensor([rows, 576], rng, 0.1), "state": _tensor([2, rows, 128], rng, 0.5), "sr": 16000}
    picture = (_FILES[name] / "sample.jpg").read_bytes()
    comment = b"\xff\xfe\x00\x06" + struct.pack(">I", variant)  # a JPEG segment that says nothing of the picture
    return {"image": base64.b64encode(picture[:2] + comment + picture[2:]).decode()}


def _tensor(shape: list[int], rng: random.Random, most: float) -> dict[str, Any]:
    count = 1
    for size in shape:
        count *= size
    values = struct.pack(f"<{count}f", *(rng.uniform(-most, most) for _ in range(count)))
    return {"dtype": "FP32", "shape": shape, "data": base64.b64encode(values).decode()}


def calls(tool: str, said: Sequence[dict[str, Any]]) -> list[bytes]:
    """The messages, one for each of the arguments."""
    return [
        json.dumps(
            {
                "jsonrpc": "2.0",
                "id": FIRST_ID,
                "method": "tools/call",
                "params": {"name": tool, "arguments": one, "_meta": META},
            }
        ).encode()
        for one in said
    ]


@dataclass(frozen=True)
class Way:
    """A server, and how it is spoken to."""

    server: str
    transport: str

    def argv(self, models: Path, port: int, lanes: int) -> list[str]:
        """How it is started."""
        if self.server == "FastMCP":
            argv = [".venv-bench/bin/python", "scripts/bench/peer_models.py", str(models)]
            return argv if self.transport == "stdio" else [*argv, str(port)]
        how = ["--stdio"] if self.transport == "stdio" else ["--listen", f"127.0.0.1:{port}"]
        return [".venv/bin/edge-mcp", "serve", *how, "--models", str(models), "--lanes", str(lanes)]


def warm(server: "Server", names: Sequence[str]) -> None:
    """Have all models loaded, measured and answering well. Raises: BenchError."""
    for name in names:
        server.ask(TOOLS[name], arguments(name, 0))
        time.sleep(QUIET_S)
        for variant in range(1, 10):
            server.ask(TOOLS[name], arguments(name, variant))


class Server:
    """One server, running."""

    def __init__(self, way: Way, models: Path, port: int, lanes: int, stack: ExitStack) -> None:
        self._transport = way.transport
        self._port = port
        cache = str(models.parent / f"cache-{models.name}")
        self._child = stack.enter_context(Child(way.argv(models, port, lanes), ROOT, XDG_CACHE_HOME=cache))
        self._talk: Conversation | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    def open(self) -> None:
        """Wait until it answers. Raises: BenchError."""
        if self._transport == "stdio":
            self._talk = self._child.stdio(MODERN)
        else:
            self._child.listens(self._port)
            way = Http(self._port, MODERN) if self._transport == "HTTP" else WebSocket(self._port)
            self._talk = Conversation(way.exchange, MODERN)
        self._talk.open()

    def ask(self, tool: str, said: dict[str, Any]) -> dict[str, Any]:
        """The result of one call. Raises: BenchError."""
        assert self._talk is not None, "it is open"  # noqa: S101
        return self._talk.request("tools/call", name=tool, arguments=said)

    def lanes(self, messages: Sequence[bytes], callers: int, stack: ExitStack) -> list[Lane]:
        """The one pipe for all callers; or a connection for each."""
        if self._transport == "stdio":
            return [Pipe(*self._child.descriptors, [message + b"\n" for message in messages], callers)]
        found: list[Lane] = []
        for number in range(callers):
            way = Http(self._port, MODERN) if self._transport == "HTTP" else WebSocket(self._port)
            stack.callback(way.close)
            kind = Post if isinstance(way, Http) else WebSocketMessages
            turn = number * len(messages) // callers
            own = [*messages[turn:], *messages[:turn]]
            found.append(kind(way.socket, [way.head(message) + message for message in own]))
        return found
