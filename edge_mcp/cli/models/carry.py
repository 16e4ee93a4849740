"""`edge-mcp models export` and `import`: models in one file, for a device without internet."""

import argparse
import os
import tempfile
from pathlib import Path

from edge_mcp.cli.models.kept import bring_in, say, target, tell
from edge_mcp.cli.models.named import named
from edge_mcp.cli.options import Parser
from edge_mcp.cli.render import printable
from edge_mcp.config import Config, load
from edge_mcp.errors import ConfigError, EdgeError
from edge_mcp.repository.archive import Index, pack, unpack
from edge_mcp.repository.sources import Dropped
from edge_mcp.repository.store import look
from edge_mcp.repository.versions import Versions


def parser(action: str) -> Parser:
    """The action's options."""
    if action == "export":
        parser = Parser(
            "models export",
            "Write models into one file: manifests, model files, labels, and the SHA-256 of each.",
            "edge-mcp models export bird-detector detect_faces birds.zip",
        )
        parser.add_argument(
            "words", metavar="NAME … FILE", nargs="+", help="the models, or their tools, then the file to write"
        )
        parser.add_argument("--all", action="store_true", help="all models: only the FILE is named")
        parser.add_argument("--force", action="store_true", help="overwrite the file")
    else:
        parser = Parser(
            "models import",
            "Add the models in a file that `edge-mcp models export` wrote. Each is verified, loaded and run once before.",
            "edge-mcp models import birds.zip",
        )
        parser.add_argument("file", metavar="FILE", type=Path, help="the file")
        parser.add_argument("--allow-downgrade", action="store_true", help="also below the highest version that was active")
    parser.add_models()
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Export or import. Raises: EdgeError."""
    config = load(options.config, {"models": options.models})
    return _export(options, config) if options.action == "export" else _import(options, config)


def _export(options: argparse.Namespace, config: Config) -> int:
    *names, last = options.words
    file = Path(last)
    if bool(names) == options.all:
        raise ConfigError(f"no models are named that go into {file}", "Write their names before it, or --all and only the file")
    if file.is_dir() or (file.exists() and not options.force):
        raise ConfigError(f"{file} is there already", "Overwrite it with --force, or name another")
    store = look(config.model_folders())
    entries = {entry.manifest.model.name: entry for entry in ([named(name, store) for name in names] or store.entries)}
    if not entries:
        raise ConfigError("there are no models to export")
    try:
        with tempfile.NamedTemporaryFile(dir=file.absolute().parent, prefix=f".{file.name[:100]}.", delete=False) as draft:
            try:
                index = pack(entries.values(), draft)
                draft.flush()
                os.fsync(draft.fileno())
                os.fchmod(draft.fileno(), 0o644)
                Path(draft.name).replace(file)
            except BaseException:
                Path(draft.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}", "Name another file") from error
    packed = ", ".join(f"{name} {model.version}" for name, model in index.models.items())
    print(printable(f"{file}: {packed} ({file.stat().st_size / 1e6:.1f} MB)"))
    return 0


def _import(options: argparse.Namespace, config: Config) -> int:
    versions = target(config)
    file = options.file.absolute()
    if not file.exists():
        raise ConfigError(f"{file} is not there", "Name a file that edge-mcp models export wrote")
    with versions.workspace() as work:
        index = unpack(file.resolve(), work)
        failed = 0
        for name in index.models:
            try:
                _import_one(name, index, work, versions, config, options)
            except EdgeError as error:
                if len(index.models) == 1:
                    raise
                tell(f"{name}: {error}")
                failed += 1
    return 1 if failed else 0


def _import_one(name: str, index: Index, work: Path, versions: Versions, config: Config, options: argparse.Namespace) -> None:
    """Raises: EdgeError."""
    bare_file = index.models[name].bare_file
    path = work / name / bare_file if bare_file else work / name
    staged = versions.stage(Dropped(name, path, "", bool(bare_file)))
    say(bring_in(config, versions, staged, options.allow_downgrade, options.debug), "added", versions.repository)
