"""`edge-mcp models quantize`: a smaller model, if it still answers as its original does."""

import argparse
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from edge_mcp.cli.models.engine import do, own_engine, spec_of
from edge_mcp.cli.models.named import named
from edge_mcp.cli.models.workshop import asked
from edge_mcp.cli.options import Parser
from edge_mcp.cli.render import printable
from edge_mcp.config import load
from edge_mcp.engine.messages import ModelSpec
from edge_mcp.errors import ConfigError, ModelError
from edge_mcp.repository import toml
from edge_mcp.repository.manifest import MANIFEST_NAME, SUFFIXES, Manifest, parse
from edge_mcp.repository.store import Entry, derived, lying

METHODS = {"weight-only": "w8", "dynamic": "dynamic_int8", "static": "static_int8"}
_DEFAULT_AGREEMENT = 0.95
_MAX_BESIDE = 64 * 1024 * 1024


def parser(action: str) -> Parser:
    """The action's options."""
    parser = Parser(
        "models quantize",
        "Make a model smaller, with weights of 8 bits, and compare it with its original on samples of yours. What differs\n"
        "too much is refused, and nothing is written; the figures are shown in either case.\n"
        "Needs pip install 'edge-mcp[quantize]'.",
        "edge-mcp models quantize birds.onnx --method static --samples photos/",
    )
    parser.add_argument("model", metavar="NAME|FILE", help="a model by its name or its tool's, or a model file")
    parser.add_argument(
        "--method",
        choices=METHODS,
        required=True,
        help="weight-only: smaller, as fast; dynamic and static: "
        "computed in integers, with ranges found at each run, or once on the samples",
    )
    parser.add_argument(
        "--samples",
        metavar="FOLDER",
        type=Path,
        help="what to compare on: pictures, sounds, texts, files, or "
        ".npz and .npy with tensors (one step more for each row; an input left out is state)",
    )
    parser.add_argument(
        "--min-agreement",
        metavar="SHARE",
        type=_share,
        default=_DEFAULT_AGREEMENT,
        help=f"how much has to stay the same, by default {_DEFAULT_AGREEMENT}",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="the model's folder to make, by default NAME here")
    parser.add_models()
    parser.add_debug()
    return parser


def _share(word: str) -> float:
    """Above 0, up to 1. Raises: ArgumentTypeError (for argparse)."""
    try:
        share = float(word)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no share above 0 and up to 1, such as 0.95")
    return share


def run(options: argparse.Namespace) -> int:
    """Quantize, compare, and write or refuse. Raises: EdgeError."""
    if options.samples is None:
        raise ConfigError(
            "without samples nobody knows what quantization does to a model",
            "Give --samples FOLDER with inputs like those that it will get, some dozens of them",
        )
    entry = _entry(options)
    if entry.manifest.steps:
        raise ConfigError(f"{entry.manifest.model.name} is a pipeline", "Quantize the file of each of its steps")
    name = entry.manifest.model.name
    folder: Path = options.out or Path(name)
    if folder.absolute().name != name:
        raise ConfigError(f"the folder {folder} cannot be of {name}", f"Write --out {folder / name}")
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"{folder} is there already", "Name another folder with --out, or remove it")
    # What is not written leaves no folder behind: the work is done beside the first that is there.
    beside = next(parent for parent in folder.absolute().parents if parent.is_dir())
    if not os.access(beside, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be made: {beside} is not to be written", "Name another folder with --out")
    spec = do(_spec(entry), options.debug)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=beside) as work:
        staged = Path(work) / name
        candidate = _staged(entry, staged, options.method)
        report = asked(
            "quantize",
            original=spec,
            candidate=msgspec.structs.replace(spec, folder=str(staged), manifest=candidate),
            method=options.method,
            samples=str(options.samples.absolute()),
        )
        _show(report, options)
        if report["agreement"] < options.min_agreement:
            hint = "Try another --method, or more samples; if that is good enough, lower --min-agreement"
            raise ModelError(f"refused: only {_percent(report['agreement'])} of the {report['measure']} stay the same", hint)
        (staged / MANIFEST_NAME).write_text(_manifest(entry, candidate, staged, options.method, report), "utf-8")
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(folder)
    print(f"{folder}: {name} {_bumped(entry.manifest.model.version)}. Use it with: edge-mcp models add {folder}")
    return 0


def _entry(options: argparse.Namespace) -> Entry:
    file = Path(options.model)
    if file.suffix in SUFFIXES and file.is_file():
        file = file.absolute()
        return Entry(file.parent, derived(file), bare=True)
    return named(options.model, lying(load(options.config, {"models": options.models}).model_folders()))


async def _spec(entry: Entry) -> ModelSpec:
    """Loads it too: what does not load need not be made smaller. Raises: ModelError, EngineError."""
    async with own_engine() as engine:
        spec = await spec_of(engine, entry)
        await engine.load(spec)
        return spec


def _staged(entry: Entry, staged: Path, method: str) -> Manifest:
    """A folder with all that belongs to the model but the file itself, and the manifest for it."""
    staged.mkdir()
    for path in [] if entry.bare else sorted(entry.folder.iterdir()):
        is_own = path.name in (MANIFEST_NAME, entry.file.name) or path.name.startswith(".")
        if not is_own and path.is_file() and not path.is_symlink() and path.stat().st_size <= _MAX_BESIDE:
            shutil.copyfile(path, staged / path.name)
    stem = re.sub(r"_(?:fp32|float32|fp16)$", "", entry.file.stem)
    model = msgspec.structs.replace(entry.manifest.model, file=f"{stem}_{METHODS[method]}{entry.file.suffix}", sha256="")
    return msgspec.structs.replace(entry.manifest, model=model)


def _show(report: dict[str, Any], options: argparse.Namespace) -> None:
    before, after = report["bytes_before"], report["bytes_after"]
    larger = ", which is no gain" if after >= before else ""
    print(f"size: {before:,} -> {after:,} bytes ({after / before:.0%}){larger}")
    for figure in report["figures"]:
        print(printable(figure))
    if report["worst"]:
        print(f"worst: {printable(report['worst'])}")
    print(
        f"agreement: {_percent(report['agreement'])} of the {report['measure']}, on {report['samples']} samples "
        f"(at least {options.min_agreement:.1%} is asked for)"
    )


def _percent(share: float) -> str:
    """Never rounded up to what it is not."""
    return f"{int(share * 1000) / 10:.1f}%"


def _manifest(entry: Entry, candidate: Manifest, staged: Path, method: str, report: dict[str, Any]) -> str:
    """The text of the new `model.toml`, which says where the file comes from."""
    old = entry.manifest.model
    with (staged / candidate.model.file).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with entry.file.open("rb") as file:
        origin = hashlib.file_digest(file, "sha256").hexdigest()
    came = f"{old.name} {old.version} ({old.file}, sha256 {origin}), {method} int8 by edge-mcp models quantize"
    source = f"{came}; its source: {old.source}" if old.source else came
    model = msgspec.structs.replace(candidate.model, version=_bumped(old.version), sha256=digest, source=source)
    agreement = (
        f"# {_percent(report['agreement'])} of the {report['measure']} are the original's, on {report['samples']} samples."
    )
    text = f"{agreement}\n{dumped(msgspec.structs.replace(candidate, model=model))}"
    parse(text)  # an error here is one of ours
    return text


def dumped(manifest: Manifest) -> str:
    """A manifest as TOML: every section, and every key that is not as by default."""
    sections = []
    for name in ("model", "tool", "input", "output", "scheduling", "resources"):
        section: msgspec.Struct = getattr(manifest, name)
        entries = {key: value for key, value in msgspec.to_builtins(section).items() if not _is_default(section, key, value)}
        if entries:
            sections.append(toml.table(name, entries))
    sections += [toml.table("check", msgspec.to_builtins(check), array=True) for check in manifest.check]
    return "\n\n".join(sections) + "\n"


def _is_default(section: msgspec.Struct, key: str, value: Any) -> bool:
    for field in msgspec.structs.fields(section):
        if field.encode_name == key:
            made = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
            return bool(msgspec.to_builtins(made) == value) if made is not msgspec.NODEFAULT else False
    return False  # the tag


def _bumped(version: str) -> str:
    """The next minor version: the same network, other numbers."""
    parts = re.match(r"(\d+)\.(\d+)", version)
    return f"{parts[1]}.{int(parts[2]) + 1}.0" if parts else "1.0.0"
