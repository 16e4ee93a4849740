"""Boxes, their suppression, and the anchors that they are told against."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mcp.engine.host.decoders import blazeface, ssd
from edge_mcp.engine.host.decoders.boxes import iou, keep_best, sigmoid
from edge_mcp.repository.outputs import SsdOutput

CORNER = st.floats(-10, 10, width=32)
BOXES = st.lists(st.tuples(CORNER, CORNER, CORNER, CORNER), min_size=1, max_size=12).map(
    lambda rows: np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in rows], np.float32)
)


def test_iou() -> None:
    others = np.array([(0, 0, 2, 2), (1, 1, 3, 3), (5, 5, 6, 6), (0, 0, 2, 1), (1, 1, 1, 1)], np.float32)
    assert iou(others[0], others) == pytest.approx([1, 1 / 7, 0, 0.5, 0])
    assert iou(others[4], others[4:]).tolist() == [0]


@given(BOXES, st.floats(0, 1), st.integers(1, 12))
def test_suppression_agrees_with_its_definition(
    boxes: np.ndarray[tuple[int, int], np.dtype[np.float32]], most: float, limit: int
) -> None:
    scores = np.linspace(0.1, 1, len(boxes), dtype=np.float32)[::-1]
    expected: list[int] = []
    for index in range(len(boxes)):
        if all(iou(boxes[index], boxes[[other]])[0] <= most for other in expected):
            expected.append(index)
    assert keep_best(boxes, scores, most, limit) == expected[:limit]


def test_nothing_to_suppress() -> None:
    assert keep_best(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5, 5) == []


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1e9, 0, 1e9], np.float32)) == pytest.approx([0, 0.5, 1])


def test_ssd_anchors() -> None:
    config = SsdOutput("boxes", "scores", "labels.txt", strides=(16, 32, 64, 128, 256, 512))
    anchors = ssd.anchors(config, (300, 300))
    assert anchors.shape == (1917, 4)
    assert anchors[0] == pytest.approx([0.5 / 19, 0.5 / 19, 0.1, 0.1])
    assert anchors[1] == pytest.approx([0.5 / 19, 0.5 / 19, 0.2 / 2**0.5, 0.2 * 2**0.5])
    assert anchors[-1] == pytest.approx([0.5, 0.5, 0.95**0.5, 0.95**0.5])


def test_blazeface_anchors() -> None:
    anchors = blazeface.anchors((8, 16, 16, 16), (128, 128))
    assert anchors.shape == (896, 2)
    assert anchors[:3].tolist() == [[4, 4], [4, 4], [12, 4]]
    assert anchors[512:519].tolist() == [[8, 8]] * 6 + [[24, 8]]
    assert blazeface.anchors((4,), (192, 192)).shape == (2304, 2)
