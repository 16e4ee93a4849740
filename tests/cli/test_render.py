"""Results for people."""

from typing import Any

import pytest

from edge_mcp.cli.render import rendered, table


def box(*values: float) -> dict[str, float]:
    return dict(zip(("x_min", "y_min", "x_max", "y_max"), values, strict=True))


def test_detections_become_a_table_with_percentages_and_boxes() -> None:
    result = {
        "detections": [
            {"label": "Cat", "score": 0.8547, "box": box(118.0, 6.25, 446, 298)},
            {"label": "Coffee cup", "score": 0.05, "box": box(0, 0, 1000, 9)},
        ],
        "image": {"width": 451, "height": 300},
        "inference_ms": 35.248,
    }
    assert rendered(result).splitlines() == [
        "label       score  box (x_min y_min x_max y_max)",
        "Cat         85.5%  118 6.25  446 298",
        "Coffee cup   5.0%    0    0 1000   9",
        "",
        "image: width 451, height 300",
        "inference_ms: 35.25",
    ]


def test_nothing_found_is_said() -> None:
    assert rendered({"faces": [], "inference_ms": 3.0}) == "faces: nothing found\ninference_ms: 3"
    assert rendered({"text": ""}) == "text: nothing found"


def test_what_is_nested_deeper_is_counted() -> None:
    assert rendered({"faces": [{"keypoints": {"nose": {"x": 1, "y": 2}, "mouth": {"x": 1, "y": 2}}}]}) == "keypoints\n2"


def test_tensors_become_a_table_with_the_first_of_their_data() -> None:
    outputs = {"probs": {"dtype": "FP32", "shape": [1, 10], "data": [[n / 10 for n in range(10)]]}}
    assert rendered({"outputs": outputs}).splitlines() == [
        "outputs  dtype  shape  data",
        "probs    FP32   1 10   [0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 … (10)]",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "yes"),
        (False, "no"),
        (None, ""),
        (12, "12"),
        (1234.5678, "1234.57"),
        (0.00012345, "0.0001234"),
        (1e300, "1e+300"),
        ("x" * 100, "x" * 59 + "…"),
        ("a\tb\x1b[31m", "a b\N{REPLACEMENT CHARACTER}[31m"),
        ([1, 2.5, "x"], "1 2.5 x"),
    ],
)
def test_a_value_becomes_one_short_line(value: Any, shown: str) -> None:
    assert rendered({"it": value}) == f"it: {shown}"


def test_objects_in_a_cell_have_their_labels_or_keys() -> None:
    classes = [{"label": "Egyptian cat", "score": 0.7818}, {"label": "tiger cat", "score": 0.0882}]
    assert rendered({"regions": [{"label": "Cat", "classes": classes}]}) == (
        "label  classes\nCat    Egyptian cat 78.2%, tiger cat 8.8%"
    )
    maps = {"dtype": "seq(map(int64,tensor(float)))", "shape": [2], "data": [{"0": 1.0, "1": 0.25}, {"0": 0.5, "1": 0.125}]}
    assert rendered({"outputs": {"p": maps}}).endswith("2      [0 1, 1 0.25], [0 0.5, 1 0.125]")
    long = [{"label": "x" * 40, "score": 0.5}] * 9
    assert rendered({"a": [{"classes": long}]}).splitlines()[1].endswith("x…")


def test_a_text_of_several_lines_is_shown_whole_below_the_tables() -> None:
    long = "x" * 100
    result = {"text": f"one\n{long}\x1b[31m", "lines": [{"text": "one", "score": 0.5}], "inference_ms": 2.0}
    assert rendered(result).splitlines() == [
        "text  score",
        "one   50.0%",
        "",
        "text:",
        "  one",
        f"  {long}\N{REPLACEMENT CHARACTER}[31m",
        "",
        "inference_ms: 2",
    ]


def test_rows_need_not_have_the_same_keys() -> None:
    assert table([{"a": "x"}, {"b": 2}]).splitlines() == ["a  b", "x", "   2"]
