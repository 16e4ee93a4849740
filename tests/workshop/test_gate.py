"""What the gate says of originals and candidates, on answers and tensors made up for it."""

from typing import Any

import numpy as np
import pytest

from edge_mcp.errors import ModelError
from edge_mcp.workshop.gate import Verdict, compare
from edge_mcp.workshop.subject import Seen


def heard(*scores: float, name: str = "clip") -> Seen:
    """A detector's probabilities, one run after the other."""
    runs: list[Any] = [({}, {"p": np.array([[score]], np.float32), "state": np.ones((1, 4), np.float32)}) for score in scores]
    return Seen(name, {}, runs)


def answered(*rows: Any, name: str = "sample") -> Seen:
    return Seen(name, {}, [({}, {"y": np.array([row], np.float32)}) for row in rows])


def said(label: str, score: float, *others: tuple[str, float]) -> Seen:
    labels = [(label, score), *others]
    return Seen("photo", {"labels": [{"label": one, "score": number} for one, number in labels]}, [])


def box(label: str, x: float, score: float = 0.9) -> dict[str, Any]:
    return {"label": label, "score": score, "box": {"x_min": x, "y_min": 0.0, "x_max": x + 10, "y_max": 10.0}}


def found(*boxes: dict[str, Any]) -> Seen:
    return Seen("photo", {"detections": list(boxes), "image": {"width": 1}}, [])


def verdict(olds: list[Seen], news: list[Seen]) -> Verdict:
    return compare(olds, news, 0.5, ["state"], has_boxes="detections" in olds[0].answer)


def test_a_detector_that_has_gone_deaf_is_not_excused_by_the_silence() -> None:
    old = heard(0.9, 0.8, *[0.01] * 998)
    deaf = heard(0.1, 0.2, *[0.01] * 998)
    assert verdict([old], [deaf]).agreement == 0.0
    assert verdict([old], [old]).agreement == 1.0


def test_a_detector_that_hears_ghosts_is_caught_too() -> None:
    assert verdict([heard(*[0.9] * 99, 0.1)], [heard(*[0.9] * 99, 0.7)]).agreement == 0.0


def test_silence_alone_cannot_tell() -> None:
    with pytest.raises(ModelError, match=r"in no sample does the original's 'p' reach 0\.5.*Give samples with"):
        verdict([heard(0.1, 0.2)], [heard(0.1, 0.2)])


def test_the_worst_clip_is_named() -> None:
    olds = [heard(0.9, 0.1, name="good"), heard(0.9, 0.9, 0.1, name="bad")]
    assert verdict(olds, [olds[0], heard(0.9, 0.2, 0.1)]).worst == "bad: 66.6% of 3 decisions are the same".replace(
        "66.6", "66.7"
    )


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_no_number_agrees_with_nothing(broken: float) -> None:
    assert verdict([heard(0.9, 0.1)], [heard(broken, 0.1)]).agreement == 0.0
    assert verdict([answered([1.0, 2.0])], [answered([broken, 2.0])]).agreement == 0.0
    assert verdict([answered([[1.0], [2.0]])], [answered([[broken], [2.0]])]).agreement == 0.0


def test_of_scores_the_highest_counts() -> None:
    olds = [answered([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])]
    assert verdict(olds, [answered([1.9, 2.0, 2.1], [9.0, 8.0, 7.0])]).agreement == 1.0
    half = verdict(olds, [answered([1.0, 2.0, 3.0], [1.0, 2.0, 1.0])])
    assert (half.agreement, half.worst) == (0.5, "sample: class 0 became class 1")


def test_plain_values_may_be_a_tenth_off_and_nearly_nothing_more() -> None:
    olds = [answered([[10.0]], [[10.0]], [[0.001]])]
    assert verdict(olds, [answered([[10.9]], [[9.1]], [[0.01]])]).agreement == 1.0
    assert verdict(olds, [answered([[11.5]], [[10.0]], [[0.001]])]).agreement == pytest.approx(2 / 3)


def test_state_is_not_compared() -> None:
    old = heard(0.9, 0.1)
    new = heard(0.9, 0.1)
    new.runs[0][1]["state"][:] = 99
    assert verdict([old], [new]).agreement == 1.0


def test_outputs_of_another_shape_agree_with_nothing() -> None:
    assert verdict([answered([1.0, 2.0])], [answered([1.0, 2.0, 3.0])]).agreement == 0.0
    assert verdict([answered([[1.0]])], [answered([[1.0], [2.0]])]).agreement == 0.0


def test_labels_are_compared_by_the_best() -> None:
    olds = [said("cat", 0.8, ("dog", 0.1)), said("cup", 0.6)]
    seen = verdict(olds, [said("cat", 0.5, ("dog", 0.4)), said("mug", 0.5, ("cup", 0.4))])
    assert (seen.agreement, seen.worst) == (0.5, "photo: cup became mug")
    assert "moved by 0.250 in the mean, by 0.300 at most" in seen.figures[1]


def test_boxes_that_are_lost_and_boxes_that_are_made_up_both_count() -> None:
    old = found(box("cat", 0), box("dog", 50))
    assert verdict([old], [old]).agreement == 1.0
    assert verdict([old], [found(box("cat", 1))]).agreement == 0.5
    assert verdict([old], [found(box("cat", 0), box("dog", 50), box("dog", 90), box("cow", 0))]).agreement == 0.5
    assert verdict([old], [found(box("dog", 0), box("cat", 50))]).agreement == 0.0
    assert verdict([old], [found(box("cat", 8), box("dog", 50))]).agreement == 0.5
    assert verdict([old], [found()]).agreement == 0.0


def test_photos_without_anything_cannot_tell() -> None:
    with pytest.raises(ModelError, match="finds nothing in any sample"):
        verdict([found(), found()], [found(box("cat", 0)), found()])


def test_few_samples_are_told_of() -> None:
    assert any("only 2 of these" in line for line in verdict([heard(0.9, 0.8)], [heard(0.9, 0.8)]).figures)
