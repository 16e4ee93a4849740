"""Tells whoever listens what has changed: the lists of tools, prompts and resources, a resource, a task."""

from collections.abc import Callable
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
        self._listeners: set[Callable[[Change], None]] = set()

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` with each change from now on, until the returned function is called."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def tell(self, change: Change) -> None:
        """Something changed."""
        for listener in list(self._listeners):
            listener(change)
