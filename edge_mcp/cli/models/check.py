"""`edge-mcp models check`: each model's digest, load and warm-up, then the calls that its manifest checks it with."""

import argparse
import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from edge_mcp.cli.models.engine import do, own_engine, spec_of
from edge_mcp.cli.models.named import named, print_json
from edge_mcp.cli.models.samples import check_arguments
from edge_mcp.cli.options import Parser
from edge_mcp.cli.render import printable
from edge_mcp.config import load
from edge_mcp.engine.client import EngineClient
from edge_mcp.engine.messages import Item, ModelSpec
from edge_mcp.errors import EdgeError, ModelError
from edge_mcp.repository.sections import Check
from edge_mcp.repository.store import Entry, lying

_MAX_SHOWN = 120


class Checked(msgspec.Struct):
    """What became of one model; `problem` is empty where all is well."""

    model: str
    version: str
    problem: str = ""
    digest: str = "none in the manifest"
    load_ms: float | None = None
    checks: int = 0


def parser(action: str) -> Parser:
    """The action's options."""
    parser = Parser(
        "models check",
        "Check models: the file's digest, whether it loads and runs, and whether the calls in its [[check]] sections are\n"
        "answered as they say. The exit status is 1 if anything is wrong.",
        "edge-mcp models check object-detector",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", default=[], help="a model, or its tool; by default all")
    parser.add_models()
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Check. Raises: EdgeError."""
    config = load(options.config, {"models": options.models})
    store = lying(config.model_folders())
    entries = [named(name, store) for name in options.names] or list(store.entries)
    problems = [] if options.names else list(store.problems)
    results = do(_checked(entries, quiet=options.json), options.debug)
    if options.json:
        print_json({"models": results, "problems": problems})
    else:
        for problem in problems:
            print(f"{printable(problem)}")
        if not results and not problems:
            print(f"there are no models in {', '.join(map(str, store.folders))}")
    return 1 if problems or any(result.problem for result in results) else 0


async def _checked(entries: list[Entry], quiet: bool) -> list[Checked]:
    """One after the other, each with an engine of its own: what one does to it is no other's trouble."""
    results = []
    for entry in entries:
        model = entry.manifest.model
        result = Checked(model.name, model.version)
        try:
            async with own_engine() as engine:
                await _check(engine, entry, result)
        except EdgeError as error:
            result.problem = str(error)
        results.append(result)
        if not quiet:
            print(_line(result), flush=True)
    return results


async def _check(engine: EngineClient, entry: Entry, result: Checked) -> None:
    """Raises: EdgeError, with what is wrong."""
    result.digest = _digest(entry) or result.digest
    spec = await spec_of(engine, entry)
    began = time.perf_counter()
    await engine.load(spec)
    result.load_ms = round((time.perf_counter() - began) * 1000, 1)
    for number, check in enumerate(entry.manifest.check, 1):
        await _call(engine, spec, entry, check, number)
        result.checks = number


def _digest(entry: Entry) -> str:
    expected = [part.model.sha256 for part in entry.manifest.parts]
    for path, wanted in zip(entry.files, expected, strict=True):
        _check_digest(path, wanted)
    return "ok" if all(expected) else ""


def _check_digest(path: Path, expected: str) -> None:
    if not expected:
        return
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from error
    if digest != expected:
        raise ModelError(f"{path.name} has the SHA-256 {digest}, but model.toml says {expected}")


async def _call(engine: EngineClient, spec: ModelSpec, entry: Entry, check: Check, number: int) -> None:
    """Raises: ModelError, ManifestError, ArgumentError, EngineError."""
    arguments = check_arguments(check, entry.folder, spec.schema, entry.manifest.tool.name)
    ran = await engine.run(spec, [Item(msgspec.json.encode(arguments))])
    outcome = ran.outcomes[0]
    if outcome.error:
        raise ModelError(f"check {number} was answered with an error: {outcome.error}")
    answer = msgspec.json.decode(outcome.structured)
    if different := difference(check.expect, answer, check.tolerance):
        raise ModelError(f"check {number}: {different}")


def difference(expected: Any, got: Any, tolerance: float, place: str = "") -> str:
    """Where `got` has not what is expected; empty where it has. A table may have more keys, a list has to be as long."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        parts = ((key, f"{place}.{key}" if place else str(key)) for key in expected)
        missing = object()
        return next((d for key, path in parts if (d := difference(expected[key], got.get(key, missing), tolerance, path))), "")
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        pairs = enumerate(zip(expected, got, strict=True))
        return next((d for index, (e, g) in pairs if (d := difference(e, g, tolerance, f"{place}[{index}]"))), "")
    if _is_number(expected) and _is_number(got):
        same = math.isclose(expected, got, rel_tol=0, abs_tol=tolerance)
    else:
        same = type(expected) is type(got) and expected == got
    return "" if same else f"{place or 'the answer'} should be {_shown(expected)}, but is {_shown(got)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if type(value) is object:
        return "missing"
    if isinstance(value, list) and len(value) > 4:
        return f"a list of {len(value)}"
    text = printable(msgspec.json.encode(value, enc_hook=str).decode())
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _line(result: Checked) -> str:
    name = f"{result.model} {result.version}"
    if result.problem:
        return f"{name}: FAILED: {printable(result.problem)}"
    calls = f"{result.checks} call{'s' * (result.checks != 1)} as expected" if result.checks else "no call to check it with"
    digest = "digest ok" if result.digest == "ok" else "no digest to check it with"
    return f"{name}: ok ({digest}, loaded in {result.load_ms:.0f} ms, {calls})"
