"""`edge-mcp models init`: a first `model.toml` for a model file."""

import argparse
import os
import re
import shutil
import tempfile
from pathlib import Path

import msgspec

from edge_mcp.cli.models.draft import LABELS_NAME, Draft, class_count, folder_name, guess, write
from edge_mcp.cli.models.engine import do, own_engine, spec_of
from edge_mcp.cli.models.samples import encoded, picture
from edge_mcp.cli.options import Parser
from edge_mcp.cli.render import printable
from edge_mcp.engine.client import EngineClient
from edge_mcp.engine.messages import Item
from edge_mcp.errors import ConfigError, EdgeError, ModelError
from edge_mcp.repository.manifest import MANIFEST_NAME, SUFFIXES, parse
from edge_mcp.repository.metadata import NOTHING, About, clean_labels, of_onnx
from edge_mcp.repository.store import Entry
from edge_mcp.repository.tflite_metadata import of_tflite

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_MAX_LABELS = 1024 * 1024


def parser(action: str) -> Parser:
    """The action's options."""
    parser = Parser(
        "models init",
        "Write a model.toml for a model file, ready to edit: a folder with it, the model, and its labels where there are some.",
        "edge-mcp models init birds.onnx --labels birds.txt",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the model, .onnx or .tflite")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="the folder to make, by default NAME here")
    parser.add_argument("--name", metavar="NAME", help="what the model is called, by default as its folder or its file")
    parser.add_argument("--labels", metavar="LABELS", type=Path, help="a file of labels, one a line")
    parser.add_argument("--force", action="store_true", help="overwrite the files that are there")
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Write the folder. Raises: EdgeError."""
    file: Path = options.file.absolute()
    if file.suffix not in SUFFIXES:
        raise ConfigError(f"{file} is no model", f"Name a file that ends in {' or '.join(SUFFIXES)}")
    if not file.is_file():
        raise ConfigError(f"{file} is not there, or is no file", "Name a model file")
    name, folder = _place(options)
    names = [MANIFEST_NAME, LABELS_NAME, file.name]
    _check_free(folder, file, names, options.force)
    draft = do(_drafted(file, name, _given_labels(options.labels)), options.debug)
    text = write(draft)
    parse(text, str(folder / MANIFEST_NAME))  # an error here is one of ours, and nothing is written
    _write(folder, file, text, draft.about.labels)
    print(f"{folder / MANIFEST_NAME}: {_kind(draft)}. Read it, and change what was guessed.")
    if draft.about.labels:
        print(f"{folder / LABELS_NAME}: {len(draft.about.labels)} labels")
    for remark in draft.about.remarks:
        print(f"note: {printable(remark)}")
    if file.parent == folder.absolute().parent:
        print(f"note: {printable(file.name)} lies beside the folder, which has a copy: remove it where models are served from")
    print(f"Then: edge-mcp models check {draft.name} --models {printable(folder.absolute().parent)}")
    return 0


def _place(options: argparse.Namespace) -> tuple[str, Path]:
    """The model's name and its folder, whose name it is too. Raises: ConfigError."""
    name = options.name or (folder_name(options.out) if options.out else folder_name(options.file))
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a model cannot be called {name!r}", "Use lower-case letters, digits and single hyphens")
    folder = options.out or Path(name)
    if folder.absolute().name != name:
        raise ConfigError(f"the folder {folder} cannot be of a model that is called {name!r}", f"Write --out {folder / name}")
    return name, folder


def _check_free(folder: Path, file: Path, names: list[str], force: bool) -> None:
    """Raises: ConfigError where something would be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is no folder", "Name another with --out")
    there = [name for name in names if os.path.lexists(folder / name) and not _same(folder / name, file)]
    if there and not force:
        raise ConfigError(f"{', '.join(str(folder / name) for name in there)} is there already", "Overwrite with --force")


def _same(one: Path, other: Path) -> bool:
    return one.exists() and one.samefile(other)


def _given_labels(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_LABELS + 1)
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "they are not UTF-8"
        raise ConfigError(f"the labels {file} cannot be read: {reason}", "Write one label a line, in UTF-8") from error
    labels = clean_labels(lines) if len(content) <= _MAX_LABELS else ()
    if not labels or all(label == NOTHING for label in labels):
        raise ConfigError(f"{file} has no labels, or too many", "Write one label a line, in UTF-8")
    return labels


async def _drafted(file: Path, name: str, labels: tuple[str, ...]) -> Draft:
    """Raises: ModelError, EngineError, ConfigError."""
    async with own_engine() as engine:
        described = await engine.describe(str(file))
        about = of_onnx(described.metadata) if file.suffix == ".onnx" else _of_tflite(file)
        about = msgspec.structs.replace(about, labels=labels) if labels else about
        draft = guess(name, file.name, described, about)
        if labels and class_count(described.signature) not in (0, len(labels)):
            count = class_count(described.signature)
            raise ConfigError(f"there are {len(labels)} labels, but the model has {count} classes", "Write one line for each")
        return await _tried(engine, file, draft) if draft.is_classifier else draft


def _of_tflite(file: Path) -> About:
    try:
        return of_tflite(file)
    except OSError as error:
        raise ModelError(f"{file.name} cannot be read: {error.strerror}") from error


async def _tried(engine: EngineClient, file: Path, draft: Draft) -> Draft:
    """Whether the guess works at all; and whether the scores add up to 1 as they are."""
    plain = msgspec.structs.replace(draft, activation="none")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(file, Path(folder) / file.name)
        _write_labels(Path(folder), draft.about.labels)
        arguments = {"image": encoded(picture(320, 240)), "threshold": 0, "max_results": 1000}
        try:
            spec = await spec_of(engine, Entry(Path(folder), parse(write(plain))))
            ran = await engine.run(spec, [Item(msgspec.json.encode(arguments))])
        except EdgeError as error:
            return msgspec.structs.replace(draft, refused=str(error))
    outcome = ran.outcomes[0]
    if outcome.error:
        return msgspec.structs.replace(draft, refused=outcome.error)
    scores = [label["score"] for label in msgspec.json.decode(outcome.structured)["labels"]]
    shares = all(0 <= score <= 1 for score in scores) and abs(sum(scores) - 1) < 0.05
    return plain if shares and sum(scores) > 0 else draft


def _write(folder: Path, file: Path, text: str, labels: tuple[str, ...]) -> None:
    """Raises: ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _same(folder / file.name, file):
            (folder / file.name).unlink(missing_ok=True)
            shutil.copyfile(file, folder / file.name)
        if labels:
            _write_labels(folder, labels)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        (folder / MANIFEST_NAME).write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}", "Name another folder with --out") from error


def _write_labels(folder: Path, labels: tuple[str, ...]) -> None:
    (folder / LABELS_NAME).unlink(missing_ok=True)
    (folder / LABELS_NAME).write_text("\n".join(labels) + "\n", "utf-8")


def _kind(draft: Draft) -> str:
    if draft.is_classifier:
        return f"a tool that takes a picture and answers the best of {len(draft.about.labels)} labels"
    return "a tool that takes and answers tensors"
