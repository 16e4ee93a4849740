"""One call on its way through a run."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.runtimes.base import Value
from edge_mcp.engine.messages import Item, Outcome
from edge_mcp.errors import EdgeError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """One item of a run: what came, what it became, and its outcome; an `error` there ends it."""

    item: Item
    arguments: dict[str, Any] = field(default_factory=dict)
    prepared: Prepared = field(default_factory=lambda: Prepared({}))
    outputs: Mapping[str, Value] = field(default_factory=dict)
    seconds: float = 0.0
    outcome: Outcome = field(default_factory=Outcome)

    def attempt(self, step: Callable[["Job"], None]) -> None:
        """Do `step` unless an earlier one failed; its failure becomes this item's outcome."""
        if self.outcome.error:
            return
        try:
            step(self)
        except EdgeError as error:
            self.outcome = Outcome(error=str(error))
        except MemoryError:
            self.outcome = Outcome(error="the device has not enough free memory for this. Try a smaller input, or again later")
        except Exception:
            logger.exception("a call failed unexpectedly")
            self.outcome = Outcome(error="internal error in the engine. The server's log has the details")
