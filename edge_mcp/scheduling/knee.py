"""What a batch costs: a curve measured on the device, one factor that follows the device's pace, and the knee. Pure."""

from bisect import bisect_left
from collections.abc import Mapping

SIZES = (1, 2, 4, 8, 16, 32)
"""Batch sizes that are measured."""
HOP_S = 60e-6
"""What a batch costs besides the run itself: the message to the engine and back."""
ENOUGH = 0.9
"""The knee is the smallest batch with this share of the best throughput: more buys nothing, and makes the first wait."""
ALPHA = 0.4


class Curve:
    """Seconds of a run for batches of some sizes; between them it is a straight line, beyond them it goes on as at the end."""

    def __init__(self, seconds: Mapping[int, float]) -> None:
        """`seconds` has at least a batch of 1. Raises: ValueError."""
        self._sizes = sorted(seconds)
        self._seconds = [seconds[size] for size in self._sizes]
        if not self._sizes or self._sizes[0] != 1 or min(self._seconds) <= 0:
            raise ValueError("a curve begins with the time of a batch of 1")

    def seconds(self, size: int) -> float:
        """The time of a batch of `size`."""
        at = bisect_left(self._sizes, size)
        if at < len(self._sizes) and self._sizes[at] == size:
            return self._seconds[at]
        if len(self._sizes) == 1:
            return self._seconds[0] * size
        at = min(at, len(self._sizes) - 1)
        (low, high), (before, after) = self._sizes[at - 1 : at + 1], self._seconds[at - 1 : at + 1]
        return max(self._seconds[0], before + (after - before) * (size - low) / (high - low))

    def knee(self, each_s: float = 0.0) -> int:
        """The batch size past which more buys nothing, of those measured. `each_s`: what a call costs besides its run."""
        rates = [size / (HOP_S + seconds + size * each_s) for size, seconds in zip(self._sizes, self._seconds, strict=True)]
        return next(size for size, rate in zip(self._sizes, rates, strict=True) if rate >= ENOUGH * max(rates))

    def points(self) -> dict[int, float]:
        """What was measured."""
        return dict(zip(self._sizes, self._seconds, strict=True))


class Service:
    """What a model's runs cost now: its curve times one factor, an EWMA of what runs really took, and what each call costs
    besides (its picture is decoded, its answer encoded).

    A device that throttles is followed within a few runs. Before anything was measured a run costs `guess_s`.
    """

    def __init__(self, curve: Curve | None = None, most: int = 1, guess_s: float = 0.05) -> None:
        """`most` is the largest batch that the model takes."""
        self._curve = curve or Curve({1: guess_s})
        self._known = curve is not None
        self._most = most
        self._each_s = 0.0
        self.factor = 1.0
        self.knee = self._knee()

    def seconds(self, size: int) -> float:
        """What a batch of `size` will take."""
        return self._curve.seconds(size) * self.factor + self._each_s * size

    def each(self, waiting: int) -> float:
        """What one call costs when `waiting` of them run in batches."""
        size = max(1, min(waiting, self.knee))
        return (HOP_S + self.seconds(size)) / size

    def measured(self, curve: Curve, most: int) -> None:
        """The curve has been measured (anew), for batches of up to `most`."""
        self._curve, self._known, self._most, self.factor = curve, True, most, 1.0
        self.knee = self._knee()

    def observe(self, size: int, seconds: float, besides_s: float = 0.0) -> None:
        """A batch of `size` took `seconds` to run, and `besides_s` for all else."""
        if seconds <= 0:
            return
        if not self._known:
            self._curve, self._known, self._each_s = Curve({1: seconds / size}), True, besides_s / size
        else:
            self.factor += ALPHA * (seconds / self._curve.seconds(size) - self.factor)
            self._each_s += ALPHA * (besides_s / size - self._each_s)
        self.knee = self._knee()

    def _knee(self) -> int:
        """The most calls that are worth running as one."""
        return min(self._most, self._curve.knee(self._each_s / self.factor))
