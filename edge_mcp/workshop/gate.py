"""Whether a quantized model still says what its original says, on samples: by its labels, its boxes, or its tensors.

What is compared is the decision that somebody would act on. Yes and no count apart, and the worse of both counts, so that a
detector that has gone deaf is not excused by all the silence in the samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from edge_mcp.engine.host.decoders.boxes import iou
from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.errors import ModelError
from edge_mcp.workshop.subject import Seen

_SAME_BOX = 0.5  # intersection over union
_SAME_TENSOR = 0.1  # length of the difference by that of the original
_FEW = 10


class Tally(msgspec.Struct):
    """How many decisions of one sort there were, how many stayed the same, and by how much scores or values moved."""

    total: int = 0
    same: int = 0

    def add(self, same: bool) -> None:
        """One decision more."""
        self.total += 1
        self.same += bool(same)

    @property
    def share(self) -> float:
        """Of 1; nothing decided is nothing changed."""
        return self.same / self.total if self.total else 1.0


class Verdict(msgspec.Struct):
    """`agreement` is what is held against the least that is asked for; `figures` say what it is made of, one a line."""

    agreement: float
    measure: str
    figures: list[str]
    worst: str


def compare(
    originals: Sequence[Seen], candidates: Sequence[Seen], threshold: float, state: Sequence[str], has_boxes: bool = False
) -> Verdict:
    """`state` names outputs that are not looked at. Raises: ModelError where the samples cannot tell."""
    answer = originals[0].answer
    if isinstance(answer.get("labels"), list):
        return _labels(originals, candidates)
    lists = [name for name, value in answer.items() if isinstance(value, list)]
    if has_boxes and lists:
        return _boxes(originals, candidates, lists[0])
    return _tensors(originals, candidates, threshold, state)


def _labels(originals: Sequence[Seen], candidates: Sequence[Seen]) -> Verdict:
    """The best label of each sample."""
    tally = Tally()
    moved: list[float] = []
    changed: list[str] = []
    for old, new in zip(originals, candidates, strict=True):
        best, scores = _best(old.answer), {entry["label"]: entry["score"] for entry in new.answer["labels"]}
        same = best["label"] == _best(new.answer)["label"]
        tally.add(same)
        moved.append(abs(best["score"] - scores.get(best["label"], 0.0)))
        if not same:
            changed.append(f"{old.name}: {best['label']} became {_best(new.answer)['label']}")
    figures = [f"best label the same: {tally.same} of {tally.total}", _moved("its score", moved)]
    if len({_best(seen.answer)["label"] for seen in originals}) == 1:
        figures.append("all samples have one label: samples of several say more")
    return Verdict(tally.share, "best labels", [*figures, *_few(tally)], changed[0] if changed else "")


def _best(answer: Mapping[str, Any]) -> dict[str, Any]:
    labels = answer["labels"]
    return labels[0] if labels else {"label": "", "score": 0.0}


def _boxes(originals: Sequence[Seen], candidates: Sequence[Seen], name: str) -> Verdict:
    """The originals' boxes that are found again, and the candidates' that were there: the worse share counts."""
    lost, made_up = Tally(), Tally()
    moved: list[float] = []
    overlap: list[float] = []
    worst = ""
    for old, new in zip(originals, candidates, strict=True):
        pairs = _pairs(old.answer[name], new.answer[name])
        for kept, count, tally in ((pairs, len(old.answer[name]), lost), (pairs, len(new.answer[name]), made_up)):
            tally.total += count
            tally.same += len(kept)
        moved += [abs(one["score"] - other["score"]) for one, other, _ in pairs]
        overlap += [shared for _, _, shared in pairs]
        if not worst and not len(pairs) == len(old.answer[name]) == len(new.answer[name]):
            worst = f"{old.name}: {len(old.answer[name])} before, {len(new.answer[name])} now, {len(pairs)} the same"
    if not lost.total:
        raise ModelError(
            "the original finds nothing in any sample, so they cannot tell", "Give samples with what it is to find"
        )
    figures = [
        f"{name} found again: {lost.same} of {lost.total}; of those found now, there before: {made_up.same} of {made_up.total}",
        _moved("their scores", moved),
        f"their boxes overlap by {min(overlap, default=0.0):.2f} at least (intersection over union)",
    ]
    return Verdict(min(lost.share, made_up.share), f"{name} in the same place", [*figures, *_few(lost)], worst)


def _pairs(olds: Sequence[Mapping[str, Any]], news: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any, float]]:
    """Each of the original's with the free one of its label that overlaps it most, where that is by half or more."""
    free = list(news)
    pairs = []
    for old in olds:
        overlaps = [_overlap(old, new) for new in free]
        if overlaps and max(overlaps) >= _SAME_BOX:
            index = overlaps.index(max(overlaps))
            pairs.append((old, free.pop(index), overlaps[index]))
    return pairs


def _overlap(old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    if old.get("label") != new.get("label"):
        return 0.0
    return float(iou(_corners(old), _corners(new)[np.newaxis])[0])


def _corners(found: Mapping[str, Any]) -> Array:
    box = found["box"]
    return np.array([box["x_min"], box["y_min"], box["x_max"], box["y_max"]], np.float64)


def _tensors(originals: Sequence[Seen], candidates: Sequence[Seen], threshold: float, state: Sequence[str]) -> Verdict:
    """Every output of every run, as what it looks like: a probability, scores of classes, or plain values."""
    pairs = [
        (old.name, before[1], after[1])
        for old, new in zip(originals, candidates, strict=True)
        for before, after in zip(old.runs, new.runs, strict=True)
    ]
    names = [name for name, value in pairs[0][1].items() if name not in state and _is_real(value)] if pairs else []
    if not names:
        raise ModelError("there is no output that can be compared", "Only outputs of real numbers are")
    verdicts = [_output(name, [(sample, old[name], new[name]) for sample, old, new in pairs], threshold) for name in names]
    worst = min(verdicts, key=lambda verdict: verdict.agreement)
    return Verdict(worst.agreement, worst.measure, [line for verdict in verdicts for line in verdict.figures], worst.worst)


def _is_real(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


Pair = tuple[str, Array, Array]


def _output(name: str, pairs: Sequence[Pair], threshold: float) -> Verdict:
    shown = repr(name[:60])
    if all(old.size == 1 and 0 <= old.item() <= 1 for _, old, _ in pairs) and len(pairs) > 1:
        return _decisions(shown, pairs, threshold)
    if all(old.ndim == 2 and old.shape[1] > 1 for _, old, _ in pairs):
        return _classes(shown, pairs)
    return _values(shown, pairs)


def _decisions(shown: str, pairs: Sequence[Pair], threshold: float) -> Verdict:
    """A probability: above the threshold or not."""
    yes, no = Tally(), Tally()
    moved: list[float] = []
    by_sample: dict[str, Tally] = {}
    for sample, old, new in pairs:
        decided = bool(old.item() >= threshold)
        same = decided == bool(new.item() >= threshold) and bool(np.isfinite(new).all())
        (yes if decided else no).add(same)
        by_sample.setdefault(sample, Tally()).add(same)
        moved.append(abs(float(old.item()) - float(new.item())))
    if not yes.total:
        hint = "Give samples with what it is to detect"
        raise ModelError(f"in no sample does the original's {shown} reach {threshold:g}, so they cannot tell", hint)
    sample, least = min(by_sample.items(), key=lambda item: item[1].share)
    figures = [
        f"{shown}: at or above {threshold:g} {yes.total} times, still {yes.same}; below {no.total} times, still {no.same}",
        _moved(shown, moved),
    ]
    worst = f"{sample}: {least.share:.1%} of {least.total} decisions are the same" if least.share < 1 else ""
    return Verdict(min(yes.share, no.share), f"decisions at {threshold:g}", [*figures, *_few(yes)], worst)


def _classes(shown: str, pairs: Sequence[Pair]) -> Verdict:
    """One score for each class: which is the highest."""
    tally = Tally()
    worst = ""
    for sample, old, new in pairs:
        for before, after in zip(old, new, strict=True) if old.shape == new.shape else [(old[0], old[0] * np.nan)]:
            same = bool(np.isfinite(after).all()) and int(before.argmax()) == int(after.argmax())
            tally.add(same)
            if not same and not worst:
                worst = f"{sample}: class {int(before.argmax())} became class {int(after.argmax())}"
    figures = [f"{shown}: highest class the same: {tally.same} of {tally.total}", _errors(pairs)]
    return Verdict(tally.share, "highest classes", [*figures, *_few(tally)], worst)


def _values(shown: str, pairs: Sequence[Pair]) -> Verdict:
    """Plain values: within a tenth."""
    tally = Tally()
    least = _typical(pairs)
    errors = [(_relative(old, new, least), sample) for sample, old, new in pairs]
    for error, _ in errors:
        tally.add(error <= _SAME_TENSOR)
    error, sample = max(errors)
    figures = [f"{shown}: within {_SAME_TENSOR:.0%} of the original: {tally.same} of {tally.total}", _errors(pairs)]
    return Verdict(
        tally.share, "outputs", [*figures, *_few(tally)], f"{sample}: off by {error:.1%}" if error > _SAME_TENSOR else ""
    )


def _typical(pairs: Sequence[Pair]) -> float:
    """A tenth of the originals' mean length: what is shorter is nearly nothing, and is not divided by."""
    return 0.1 * float(np.mean([np.linalg.norm(old.astype(np.float64)) for _, old, _ in pairs]))


def _relative(old: Array, new: Array, least: float) -> float:
    """The length of the difference by that of the original; infinite where they cannot be compared."""
    if old.shape != new.shape or not np.isfinite(new).all():
        return float("inf")
    before, after = old.astype(np.float64), new.astype(np.float64)
    return float(np.linalg.norm(before - after) / max(float(np.linalg.norm(before)), least, 1e-9))


def _errors(pairs: Sequence[Pair]) -> str:
    least = _typical(pairs)
    errors = [_relative(old, new, least) for _, old, new in pairs]
    return f"relative error: mean {float(np.mean(errors)):.2%}, largest {max(errors):.2%}"


def _moved(what: str, moved: Sequence[float]) -> str:
    return (
        f"{what} moved by {float(np.mean(moved)) if moved else 0.0:.3f} in the mean, by {max(moved, default=0.0):.3f} at most"
    )


def _few(tally: Tally) -> list[str]:
    return [f"only {tally.total} of these were compared: more and other samples say more"] if tally.total < _FEW else []
