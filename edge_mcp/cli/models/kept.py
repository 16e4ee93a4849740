"""What the actions that change a folder of models have in common: which folder, which model, and whether it works."""

import sys
from pathlib import Path

from edge_mcp.cli.arguments import nearest
from edge_mcp.cli.models.engine import do, own_engine, spec_of
from edge_mcp.cli.render import printable
from edge_mcp.config import Config, data_folder
from edge_mcp.errors import ConfigError, EngineError, ModelError
from edge_mcp.repository.entry import Entry
from edge_mcp.repository.store import look
from edge_mcp.repository.versions import DowngradeError, Staged, Versions


def target(config: Config) -> Versions:
    """The first of the configured folders that can be written; without any setting the user's own, which is made.

    Raises: ConfigError.
    """
    if not config.models:
        own = data_folder() / "models"
        try:
            own.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{own} cannot be made: {error.strerror}", "Name a folder of models with --models") from error
    for folder in config.model_folders():
        if versions := Versions.of(folder):
            return versions
    raise ConfigError("none of the folders of models can be written", "Name one with --models")


def kept(config: Config, name: str, change: str) -> tuple[Versions, str]:
    """Where versions of a model are kept, and its own name; `name` may be its tool's. Raises: ConfigError."""
    found = [versions for folder in config.model_folders() if (versions := Versions.of(folder))]
    store = look(config.model_folders())
    for entry in store.entries:
        if name == entry.manifest.tool.name:
            name = entry.manifest.model.name
            break
    for versions in found:
        model = versions.state().model(name)
        if model.versions or model.source or model.refused:
            return versions, name
    for entry in store.entries:
        if name == entry.manifest.model.name:
            raise ConfigError(
                f"{name} is served from where it lies, {entry.folder}, which is not to be written: {change} is not possible",
                "A model of the same name in your own folder takes its place",
            )
    known = [entry.manifest.model.name for entry in store.entries]
    raise ConfigError(f"there is no model {name!r}", nearest(name, known, "There are"))


def prove(entry: Entry, debug: bool) -> None:
    """Load the model and run it once, in an engine of its own. Raises: ModelError, with what is wrong."""
    do(_prove(entry), debug)


def check_tool(config: Config, staged: Staged) -> None:
    """Raises: ConfigError when another model has this tool's name."""
    manifest = staged.entry.manifest
    for entry in look(config.model_folders()).entries:
        if entry.manifest.tool.name == manifest.tool.name and entry.manifest.model.name != manifest.model.name:
            hint = "Give it another tool.name"
            raise ConfigError(f"{entry.manifest.model.name} has the tool {manifest.tool.name} already", hint)


def take_in(config: Config, versions: Versions, staged: Staged, allow_downgrade: bool, debug: bool) -> Entry:
    """Prove a staged copy and make it active; it is deleted when that fails. Raises: EdgeError."""
    try:
        check_tool(config, staged)
        versions.check_downgrade(staged, allow_downgrade)
        prove(staged.entry, debug)
        return versions.commit(staged, allow_downgrade)
    finally:
        staged.discard()


def bring_in(config: Config, versions: Versions, staged: Staged, allow_downgrade: bool, debug: bool) -> Entry:
    """As `take_in`, of what comes from elsewhere: `models use` would not find it. Raises: EdgeError."""
    try:
        return take_in(config, versions, staged, allow_downgrade, debug)
    except DowngradeError as error:
        raise ModelError(error.message, "If you mean it, say so with --allow-downgrade") from error


def say(entry: Entry, what: str, folder: Path) -> None:
    """One line about what was done."""
    model, tool = entry.manifest.model, entry.manifest.tool
    print(printable(f"{what} {model.name} {model.version} in {folder}: the tool {tool.name}"))


def tell(problem: str) -> None:
    """One line about what is wrong."""
    print(f"edge-mcp: {printable(problem)}", file=sys.stderr)


async def _prove(entry: Entry) -> None:
    try:
        async with own_engine() as engine:
            await engine.load(await spec_of(engine, entry))
    except EngineError as error:
        raise ModelError(f"{entry.manifest.model.name} does not run: {error.message}", error.hint) from error
