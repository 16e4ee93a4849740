"""What an engine's end did no harm to is done once more."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from edge_mcp.errors import EngineError

logger = logging.getLogger(__name__)

ATTEMPTS = 8
"""How many times in a row a request may not be taken up until it fails: when engines end, with the back-off, in some 15 s."""

T = TypeVar("T")


class NotStarted(EngineError):
    """The request was not taken up, and can be done once more: its engine ended, or its model was unloaded."""


async def until_taken_up(work: Callable[[], Awaitable[T]], retry_after_ms: Callable[[], int]) -> T:
    """Do `work` again as long as it raises NotStarted, `ATTEMPTS` times. Raises: EngineError."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await work()
        except NotStarted as error:
            logger.debug("once more: %s", error)
    try:
        return await work()
    except NotStarted as error:
        raise EngineError(str(error), "Call again: a new engine is started", retry_after_ms()) from error
