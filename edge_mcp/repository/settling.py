"""When what changed is looked at: once it has been quiet for a moment. Pure; times are seconds of any steady clock."""

from collections.abc import Iterator
from pathlib import Path

Place = tuple[Path, str]
"""A folder of models, and the name in it; an empty name: the folder as a whole."""


class Settling:
    """Places that will be looked at, each at its time."""

    def __init__(self) -> None:
        self._due: dict[Place, float] = {}

    def touch(self, place: Place, due: float) -> None:
        """It has changed (again): look at it then."""
        self._due[place] = due

    def again(self, place: Place, due: float) -> None:
        """Look at it then, if not earlier."""
        self._due[place] = min(due, self._due.get(place, due))

    def next(self) -> float | None:
        """When the next look is due; None: nothing has changed."""
        return min(self._due.values(), default=None)

    def take(self, now: float) -> list[Path]:
        """The folders that are due, each once; their places have settled."""
        due = [place for place, when in self._due.items() if when <= now]
        for place in due:
            del self._due[place]
        return list(dict.fromkeys(folder for folder, _ in due))

    def restless(self, folder: Path) -> Iterator[str]:
        """The names in a folder that have not settled."""
        return (name for (where, name) in self._due if where == folder and name)
