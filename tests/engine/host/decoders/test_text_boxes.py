"""Boxes of lines of text, of maps that are made up."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mcp.engine.host.decoders.reading import in_reading_order
from edge_mcp.engine.host.decoders.text_boxes import TextBoxesDecoder
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.modalities.placement import ImageSource, Placement
from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import SoftmaxOutput, TextBoxesOutput
from edge_mcp.repository.sections import ModelSection, ToolSection

MAP = TensorSpec("map", "FP32", (-1, 1, -1, -1))


def manifest(output: Any) -> Manifest:
    picture = ImageInput((0, 0), "proportional", layout="NCHW")
    return Manifest(ModelSection("m", "1.0.0", "m.onnx"), ToolSection("t"), picture, output)


def decoder(**keys: Any) -> TextBoxesDecoder:
    return TextBoxesDecoder(manifest(TextBoxesOutput(**keys)), [MAP], Path())


def decode(likely: Array, factor: int = 1, threshold: float = 0.5, max_results: int = 100, **keys: Any) -> list[dict[str, Any]]:
    """Of a picture twice as large as the input, which is `factor` times as large as the map."""
    height, width = likely.shape
    size = (2 * factor * width, 2 * factor * height)
    placement = Placement(size, (0, 0, *size), (factor * width, factor * height), (0, 0))
    prepared = Prepared({"x": np.zeros((1, 3, factor * height, factor * width), np.float32)}, ImageSource(placement))
    outputs = {"map": likely[np.newaxis, np.newaxis].astype(np.float32)}
    result = decoder(**keys).decode(outputs, prepared, {"threshold": threshold, "max_results": max_results}).structured
    assert result["image"] == {"width": size[0], "height": size[1]}
    regions: list[dict[str, Any]] = result["regions"]
    return regions


def line(value: float = 0.8) -> Array:
    """A line of 40 x 8 pixels at (20, 10), in a map of 100 x 60."""
    likely = np.zeros((60, 100), np.float32)
    likely[10:18, 20:60] = value
    return likely


def test_a_line_grows_by_its_area_over_its_perimeter() -> None:
    (region,) = decode(line(), unclip=1.5)
    # Thickened by a pixel to the right and below: 41 x 9 pixels, of which 40 x 8 are at 0.8.
    grown = 41 * 9 * 1.5 / (2 * (41 + 9))
    corners = [20 - grown, 10 - grown, 61 + grown, 19 + grown]
    assert list(region["box"].values()) == pytest.approx([2 * corner for corner in corners], abs=0.06)
    assert region["score"] == pytest.approx(0.8 * 320 / 369, abs=1e-4)


def test_a_map_may_be_smaller_than_the_input() -> None:
    (one,), (other,) = decode(line(), unclip=0), decode(line(), factor=4, unclip=0)
    assert list(other["box"].values()) == [4 * value for value in one["box"].values()]


def test_logits_are_put_through_a_sigmoid() -> None:
    likely = np.where(line() > 0, 3.0, -20.0)
    (region,) = decode(likely, activation="sigmoid")
    assert region["score"] == pytest.approx(0.9526 * 320 / 369, abs=1e-3)


def test_a_gap_of_a_pixel_parts_nothing_and_one_of_two_does() -> None:
    likely = line()
    likely[:, 40] = 0
    assert len(decode(likely)) == 1
    likely[:, 40:43] = 0
    assert len(decode(likely)) == 2


@pytest.mark.parametrize("likely", [np.zeros((60, 100)), np.full((60, 100), np.nan), np.full((1, 1), 0.9), line(0.4)])
def test_there_may_be_nothing(likely: Array) -> None:
    assert decode(likely) == []


def test_a_line_of_one_pixel_is_left_out_unless_it_is_wanted() -> None:
    likely = np.zeros((60, 100))
    likely[30, 10:90] = 1
    assert decode(likely, threshold=0.1) == []
    assert len(decode(likely, threshold=0.1, min_side=1)) == 1


def test_what_is_no_number_is_taken_for_a_bound() -> None:
    likely = line()
    likely[12, 30] = np.inf
    likely[40:50, 20:60] = np.nan
    (region,) = decode(likely)
    assert 0 < region["score"] <= 1


def test_of_very_many_only_the_best_are_answered() -> None:
    likely = np.zeros((960, 960), np.float32)
    for row in range(3):
        for column in range(3):
            likely[row::6, column::6] = 0.6  # 25,600 lines
    likely[300:303, 300:303] = 0.9
    regions = decode(likely, threshold=0.1, max_results=7)
    assert len(regions) == 7
    assert max(region["score"] for region in regions) == pytest.approx(0.9 * 9 / 16, abs=1e-4)


def test_a_whole_map_of_text_stays_in_the_picture() -> None:
    (region,) = decode(np.ones((60, 100)))
    assert list(region["box"].values()) == [0, 0, 200, 120]


def test_regions_come_in_reading_order() -> None:
    likely = np.zeros((60, 100))
    places = [(5, 60), (7, 10), (30, 40), (31, 5)]  # top, left: two rows, none of them quite even
    for top, left in places:
        likely[top : top + 8, left : left + 20] = 1
    found = [(region["box"]["y_min"], region["box"]["x_min"]) for region in decode(likely, unclip=0)]
    assert found == [(2 * places[index][0], 2 * places[index][1]) for index in (1, 0, 3, 2)]


def test_rows_are_told_apart_by_half_of_the_lower_line() -> None:
    def region(y_min: float, y_max: float, x_min: float) -> dict[str, Any]:
        return {"box": {"x_min": x_min, "x_max": x_min + 10, "y_min": y_min, "y_max": y_max}}

    high, beside, below = region(0, 40, 50), region(10, 20, 0), region(35, 45, 0)
    assert in_reading_order([below, high, beside]) == [[beside, high], [below]]
    assert in_reading_order([]) == []


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([MAP, MAP], "one output; this one has 2"),
        ([TensorSpec("map", "FP32", (1, 100))], "has shape"),
        ([TensorSpec("map", "FP32", (-1, 3, -1, -1))], "has shape"),
        ([TensorSpec("map", "INT64", (-1, 1, -1, -1))], "is INT64"),
    ],
)
def test_a_model_that_makes_no_map_is_refused(outputs: list[TensorSpec], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        TextBoxesDecoder(manifest(TextBoxesOutput()), outputs, Path())


def test_another_decoder_is_refused() -> None:
    with pytest.raises(ModelError, match="text_boxes"):
        TextBoxesDecoder(manifest(SoftmaxOutput("labels")), [MAP], Path())
