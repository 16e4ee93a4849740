"""A lane: a blocking loop that takes one request, does it, and answers."""

import logging
import time
from functools import partial
from pathlib import Path

from edge_mcp.engine.channel import Channel
from edge_mcp.engine.host.residency import NotLoadedError, Residency
from edge_mcp.engine.host.served import describe
from edge_mcp.engine.messages import (
    Describe,
    Failed,
    Load,
    Loaded,
    Measure,
    Measured,
    NotLoaded,
    Progress,
    Ran,
    Reply,
    Request,
    Run,
    Unload,
    Unloaded,
)
from edge_mcp.engine.stages import Stages
from edge_mcp.errors import EdgeError

logger = logging.getLogger(__name__)

REPORT_S = 0.2


def serve_lane(channel: Channel[Request], residency: Residency, stages: Stages, index: int) -> None:
    """Answer requests until the server closes the lane. Raises: ChannelError, OSError."""
    while (request := channel.receive()) is not None:
        reply = _answer(request, residency, stages, index, _Reporter(channel))
        del request  # a large argument must not stay in memory until the next request
        channel.send(reply)


class _Reporter:
    """Tells the server how far a run is, at most every `REPORT_S`."""

    def __init__(self, channel: Channel[Request]) -> None:
        self._channel = channel
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last >= REPORT_S:
            self._channel.send(Progress(done, total))
            self._last = time.monotonic()


def _answer(request: Request, residency: Residency, stages: Stages, index: int, report: _Reporter) -> Reply:
    try:
        match request:
            case Run(sequence=sequence, key=key, items=items):
                stages.enter(index, sequence, "decoding")
                with residency.using(key) as model:
                    outcomes, seconds = model.run(items, partial(stages.enter, index, sequence), report)
                stages.enter(index, sequence, "idle")
                return Ran(outcomes, seconds)
            case Load(model=spec):
                began = time.perf_counter()
                grown = residency.load(spec)
                return Loaded(time.perf_counter() - began, grown.memory_mb, grown.imported_mb, grown.start_mb)
            case Unload(key=key):
                residency.unload(key)
                return Unloaded()
            case Measure(key=key, most=most):
                with residency.using(key) as model:
                    return Measured(model.measure(most))
            case Describe(path=path, signature=signature):
                return describe(Path(path), signature)
    except NotLoadedError:
        return NotLoaded()
    except EdgeError as error:
        return Failed(error.message, error.hint)
    except MemoryError:
        return Failed("the device has not enough free memory for this", "Try a smaller input, or again later")
    except Exception:
        logger.exception("a request failed unexpectedly")
        return Failed("internal error in the engine", "The server's log has the details")
