"""The seam between the scores of a model that listens and what is told of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from edge_mcp.engine.host.decoders.base import Decoder


class Step(NamedTuple):
    """One step: its score, and from when to when it is, in samples since the sound or stream began."""

    score: float
    start: int
    end: int


class Tracker(Protocol):
    """Follows the steps of one sound or stream, over several calls; what it tells is the same however they are parted."""

    def follow(self, step: Step, threshold: float) -> None:
        """Take the next step."""
        ...

    def finish(self, end: int) -> None:
        """The sound ends, after so many samples."""
        ...

    def told(self) -> dict[str, Any]:
        """The part of a result that is about what was followed since the last time."""
        ...


class TrackingDecoder(Decoder, Protocol):
    """A decoder of a model that listens; its `decode` gets a `Heard`."""

    scores: str
    """The name of the output with the score; empty: the only one that is no state."""

    def tracker(self) -> Tracker:
        """For a new sound or stream."""
        ...


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of the sound of one call. Times are in seconds; `stream` is what the answer says of the stream, if any."""

    told: Mapping[str, Any]
    duration_s: float
    step_s: float
    scores: Sequence[float] = ()
    stream: Mapping[str, Any] = field(default_factory=dict)


def answered(heard: Heard, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The structured result."""
    result: dict[str, Any] = {**heard.told, "duration_s": round(heard.duration_s, 4)}
    if arguments.get("scores"):
        result |= {"step_s": heard.step_s, "scores": list(heard.scores)}
    if heard.stream:
        result["stream"] = dict(heard.stream)
    return result
