"""Tells whoever listens what has changed: the lists of tools, prompts and resources, a resource, a task."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """`method` is the MCP notification that tells of it; `uri` the resource or `task` the task's state, where it has one."""

    method: str
    uri: str = ""
    task: dict[str, Any] | None = None


TOOLS = Change("notifications/tools/list_changed")
PROMPTS = Change("notifications/prompts/list_changed")
RESOURCES = Change("notifications/resources/list_changed")


def updated(uri: str) -> Change:
    """The resource's content changed."""
    return Change("notifications/resources/updated", uri)


class Changes:
    """Who wants to hear of changes."""

    def __init__(self) -> None:
        self.wanted: Callable[[str, bool], None] = lambda uri, on: None
        """Called when the first listener wants to hear of a resource, and when the last one does not any more."""
        self._listeners: set[Callable[[Change], None]] = set()
        self._wanting: Counter[str] = Counter()

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` with each change from now on, until the returned function is called."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def tell(self, change: Change) -> None:
        """Something changed."""
        for listener in list(self._listeners):
            listener(change)

    def want(self, uris: Iterable[str]) -> None:
        """A listener wants to hear of these resources; each is given back with `leave`."""
        for uri in uris:
            self._wanting[uri] += 1
            if self._wanting[uri] == 1:
                self.wanted(uri, True)

    def leave(self, uris: Iterable[str]) -> None:
        """It does not any more."""
        for uri in uris:
            self._wanting[uri] -= 1
            if not self._wanting[uri]:
                del self._wanting[uri]
                self.wanted(uri, False)
