"""`edge-mcp models bench`: how fast a model is on this device, by batch size and threads, through the engine that serves it."""

import argparse
import os
import platform
import sys
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edge_mcp.cli.arguments import seconds
from edge_mcp.cli.models.chart import shapes, svg
from edge_mcp.cli.models.engine import do, own_engine, spec_of
from edge_mcp.cli.models.named import named, print_json
from edge_mcp.cli.models.samples import FREE_SIZES, arguments_for
from edge_mcp.cli.models.workshop import painted
from edge_mcp.cli.options import Parser
from edge_mcp.cli.render import printable, table
from edge_mcp.config import load
from edge_mcp.engine.client import EngineClient
from edge_mcp.engine.curve import Point, measure
from edge_mcp.engine.messages import Item, ModelSpec, Signature
from edge_mcp.errors import ConfigError, ModelError
from edge_mcp.repository.inputs import TensorInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.store import Entry, lying
from edge_mcp.scheduling.knee import ENOUGH, Curve

_ONE_BY_ONE = (
    "Not every input and output of the file begins with a batch of any size: calls run one after the other, "
    "and no batch size but 1 is measured."
)


class Benched(msgspec.Struct):
    """What was measured, by threads; `notes` say what was not, and why. `knees`: the batch past which more buys little."""

    model: str
    version: str
    sample: str
    device: str
    curves: dict[int, list[Point]]
    notes: list[str]
    knees: dict[int, int] = {}


def parser(action: str) -> Parser:
    """The action's options."""
    parser = Parser(
        "models bench",
        "Measure a model on this device: how long a batch takes, and how many items that makes in a second.\n"
        "A call's own work (decoding the picture, encoding the answer) is in the times; model_ms is the network alone.",
        "edge-mcp models bench object-detector --threads 1,2 --out speed.svg",
    )
    parser.add_argument("name", metavar="NAME", help="a model, or its tool")
    parser.add_argument("--threads", metavar="N,N", type=_threads, help="threads of a run, by default the model's own")
    parser.add_argument("--batch", metavar="N,N", type=_batches, default=[1, 2, 4, 8], help="batch sizes, by default 1,2,4,8")
    parser.add_argument("--seconds", metavar="S", type=seconds, default=1.0, help="how long each is measured, by default 1")
    parser.add_argument("--out", metavar="FILE", type=Path, help="draw it: FILE.svg or FILE.png")
    parser.add_models()
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_debug()
    return parser


def _threads(word: str) -> list[int]:
    return _numbers(word, 64)


def _batches(word: str) -> list[int]:
    return _numbers(word, 256)


def _numbers(word: str, most: int) -> list[int]:
    """Whole numbers between commas. Raises: ArgumentTypeError (for argparse)."""
    parts = word.split(",")
    if not all(part.isdecimal() and 1 <= int(part) <= most for part in parts):
        raise ArgumentTypeError(f"{word!r} is no list of numbers from 1 to {most}, such as 1,2,4")
    return list(dict.fromkeys(map(int, parts)))


def run(options: argparse.Namespace) -> int:
    """Measure, and show it. Raises: EdgeError."""
    out: Path | None = options.out
    if out is not None and out.suffix not in (".svg", ".png"):
        raise ConfigError(f"a plot cannot be written to {out}", "Name a file that ends in .svg or .png")
    if out is not None and not out.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {out.parent} to write {out.name} into", "Make it first")
    entry = named(options.name, lying(load(options.config, {"models": options.models}).model_folders()))
    result = do(_bench(entry, options), options.debug)
    if out is not None:
        _draw(result, out)
    if options.json:
        print_json(result)
        return 0
    rows = [_row(threads, point, result.knees) for threads, points in result.curves.items() for point in points]
    print(table(rows))
    for note in [f"measured with {result.sample}, on {result.device}", *result.notes]:
        print(printable(note))
    return 0


def _row(threads: int, point: Point, knees: Mapping[int, int]) -> dict[str, Any]:
    row = {"threads": threads, **msgspec.structs.asdict(point), "": "knee" if knees.get(threads) == point.batch else ""}
    return {name.replace("_per_s", "/s"): value for name, value in row.items()}


async def _bench(entry: Entry, options: argparse.Namespace) -> Benched:
    manifest = entry.manifest
    result = Benched(manifest.model.name, manifest.model.version, "", _device(), {}, [])
    async with own_engine() as engine:
        signature = (await engine.describe(str(entry.file), manifest.model.signature)).signature
        sizes = _sizes(options.batch, signature, manifest, result.notes)
        for threads in options.threads or [manifest.resources.threads]:
            spec = await spec_of(engine, entry, threads)
            arguments, result.sample = await _sample(engine, entry, spec, signature)
            result.curves[threads] = await measure(partial(_run, engine, spec, arguments), sizes, options.seconds)
            if (knee := knee_of(result.curves[threads])) is not None:
                result.knees[threads] = knee
            if sys.stderr.isatty() and not options.json:
                print(f"measured with {threads} threads", file=sys.stderr)
    result.notes.append(_about(result.knees))
    if max(result.curves) > len(os.sched_getaffinity(0)):
        result.notes.append("There are fewer processors than threads.")
    return result


def knee_of(points: Sequence[Point]) -> int | None:
    """The batch past which more buys little, as the server's batcher finds it; None where no batch of one was measured."""
    seconds = {point.batch: point.model_ms / 1000 for point in points if point.model_ms > 0}
    if 1 not in seconds:
        return None
    largest = max(points, key=lambda point: point.batch)
    each_s = max(0.0, largest.p50_ms - largest.model_ms) / 1000 / largest.batch
    return Curve(seconds).knee(each_s)


def _about(knees: Mapping[int, int]) -> str:
    if not knees:
        return "The knee is not known: no batch of 1 was measured."
    return f"The knee is the smallest batch with {ENOUGH:.0%} of the best throughput, of those measured: more buys little."


async def _sample(engine: EngineClient, entry: Entry, spec: ModelSpec, signature: Signature) -> tuple[bytes, str]:
    """Arguments that the model can be run with, and what they are. Raises: ModelError, EngineError."""
    await engine.load(spec)
    is_open = isinstance(entry.manifest.input, TensorInput) and any(-1 in one.shape[1:] for one in signature.inputs)
    for free in FREE_SIZES[:-1] if is_open and not entry.manifest.check else ():
        arguments, about = arguments_for(entry, spec.schema, signature, free)
        ran = await engine.run(spec, [Item(arguments)])
        if not ran.outcomes[0].error:
            return arguments, about
    return arguments_for(entry, spec.schema, signature, FREE_SIZES[-1])


def _sizes(wanted: list[int], signature: Signature, manifest: Manifest, notes: list[str]) -> list[int]:
    """The batch sizes that this model has. A file with a fixed first dimension runs its calls one by one."""
    most = manifest.scheduling.max_batch_size
    if manifest.steps:
        notes.append("A pipeline's calls run one after the other, and no batch size but 1 is measured.")
        return [1]
    if not all(spec.any_rank or spec.shape[:1] == (-1,) for spec in [*signature.inputs, *signature.outputs]):
        notes.append(_ONE_BY_ONE)
        return [1]
    kept = [size for size in wanted if not most or size <= most]
    if len(kept) < len(wanted):
        notes.append(f"The manifest allows batches of at most {most}.")
    return kept or [1]


async def _run(engine: EngineClient, spec: ModelSpec, arguments: bytes, size: int) -> float:
    """The runtime's seconds of a batch. Raises: ModelError, EngineError."""
    ran = await engine.run(spec, [Item(arguments)] * size)
    if failed := next((outcome.error for outcome in ran.outcomes if outcome.error), ""):
        raise ModelError(f"{spec.manifest.model.name} cannot be measured: {failed}", "Give its manifest a [[check]]")
    return ran.seconds


def _device() -> str:
    """The processor's name, and how many of it there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        board = Path("/proc/device-tree/model")
        named = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
        name = board.read_text("utf-8", "replace").strip("\0") if board.is_file() else named.get("model name", "")
    except OSError:
        name = ""
    return f"{name or platform.machine()} ({len(os.sched_getaffinity(0))} processors)"


def _draw(result: Benched, out: Path) -> None:
    """Write the plot. Raises: ConfigError, EngineError."""
    subtitle = f"{result.device}, measured with {result.sample}"
    drawn = shapes(f"{result.model} {result.version}", subtitle, result.curves, result.knees)
    try:
        out.write_bytes(svg(drawn).encode() if out.suffix == ".svg" else painted(drawn))
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}", "Write it elsewhere") from error
