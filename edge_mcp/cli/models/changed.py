"""Takes in what the owner changed, for a command whose server ends before it has looked at that."""

from edge_mcp.cli.models.kept import take_in, tell
from edge_mcp.config import Config
from edge_mcp.errors import EdgeError, ManifestError, ModelError
from edge_mcp.repository.sources import Dropped
from edge_mcp.repository.staging import SourceChanged
from edge_mcp.repository.versions import Versions
from edge_mcp.repository.writers import files_of, is_written


def take_in_changed(config: Config, debug: bool) -> None:
    """Prove every model that was changed since it was taken in, and make it active; what is new is left to the server.

    What cannot be served is remembered, and the server says why; other troubles are told here. The old version stays then.
    Raises: ConfigError when the folders of models cannot be looked at.
    """
    for folder in config.model_folders():
        versions = Versions.of(folder)
        if versions is None or not versions.folder.is_dir():
            continue
        state = versions.state()
        for source in versions.candidates():
            if state.model(source.name).active and not is_written(files_of(source.path)):
                _take_in(config, versions, source, debug)


def _take_in(config: Config, versions: Versions, source: Dropped, debug: bool) -> None:
    place = ""
    try:
        staged = versions.stage(source)
        place = str(staged.folder)
        take_in(config, versions, staged, False, debug)
    except SourceChanged as error:
        tell(str(error))
    except (ManifestError, ModelError) as error:
        reason = str(error).replace(place, str(source.path)) if place else str(error)
        versions.refuse(source, reason if str(source.path) in reason else f"{source.path}: {reason}")
    except EdgeError as error:
        tell(f"{source.path}: {error}")
