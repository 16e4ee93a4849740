"""What an intake of models and the repository that it works for know of each other."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from edge_mcp.repository.entry import Entry


class Prover(Protocol):
    """Who has an engine."""

    async def prove(self, entry: Entry) -> None:
        """Load and warm up a model where it harms nobody.

        Raises: ModelError, ManifestError, RefusedError (it can never be served), EdgeError (not now).
        """
        ...

    async def ready(self, entry: Entry) -> None:
        """Have all that is needed to serve a model that was proven: next it takes the place of the one of its name."""
        ...


class Part(msgspec.Struct):
    """What is served of one folder, by the models' names, and what is wrong with the rest."""

    entries: dict[str, Entry] = {}
    problems: tuple[str, ...] = ()


class Whole(Protocol):
    """All folders together; times are seconds of `clock`."""

    clock: Callable[[], float]

    def part(self, folder: Path) -> Part:
        """What is served of a folder: to be changed, and then to be published."""
        ...

    def publish(self) -> None:
        """What is served has changed."""
        ...

    def touch(self, folder: Path, name: str, after_s: float) -> None:
        """Look at it when it has been quiet for so long."""
        ...

    def again(self, folder: Path, after_s: float) -> None:
        """Look at the folder by then, whatever happens."""
        ...

    def restless(self, folder: Path) -> set[Path]:
        """What in a folder is not to be touched yet."""
        ...

    def is_absent(self, folder: Path) -> bool:
        """Whether a folder is not there, and need not be."""
        ...

    def is_hidden(self, folder: Path, name: str) -> bool:
        """Whether an earlier folder has a model of this name, which counts."""
        ...
