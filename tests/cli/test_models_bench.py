"""`edge-mcp models bench`: figures, a table, and a plot that can be read."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from edge_mcp.cli.models.bench import knee_of
from edge_mcp.cli.models.chart import shapes, svg, tick
from edge_mcp.cli.models.workshop import painted
from edge_mcp.engine.curve import Point
from tests.cli.command import FIXTURES, ROOT, edge_mcp

SHIPPED = str(ROOT / "models")
CURVES = {
    1: [Point(1, 9, 4.0, 5.0, 3.0, 250.0), Point(8, 9, 20.0, 30.0, 18.0, 400.0)],
    2: [Point(1, 9, 3.0, 4.0, 2.0, 333.0), Point(8, 9, 15.0, 22.0, 12.0, 533.0)],
}
SVG = "{http://www.w3.org/2000/svg}"


def test_each_size_and_each_number_of_threads_is_measured() -> None:
    words = ("--threads", "1,2", "--batch", "1,4", "--seconds", "0.05", "--json", "--models", SHIPPED)
    ran = edge_mcp("models", "bench", "detect_language", *words)
    assert ran.status == 0, ran
    found = json.loads(ran.out)
    assert [(threads, point["batch"]) for threads, points in found["curves"].items() for point in points] == [
        ("1", 1),
        ("1", 4),
        ("2", 1),
        ("2", 4),
    ]
    for point in (point for points in found["curves"].values() for point in points):
        assert 0 < point["model_ms"] < point["p50_ms"] <= point["p95_ms"]
        assert point["items_per_s"] > 0
    assert found["sample"] == "the sample in its manifest"
    assert set(found["knees"]) == {"1", "2"}
    assert set(found["knees"].values()) <= {1, 4}


def test_a_file_of_a_fixed_batch_is_measured_with_one() -> None:
    ran = edge_mcp("models", "bench", "face-detector", "--seconds", "0.05", "--batch", "1,8", "--models", SHIPPED)
    header, row, *notes = ran.out.splitlines()
    assert header.split() == ["threads", "batch", "runs", "p50_ms", "p95_ms", "model_ms", "items/s"]
    assert row.split()[:2] == ["1", "1"]
    assert row.endswith("  knee")
    assert any("one after the other" in note for note in notes)


@pytest.mark.parametrize("name", ["mlp_int8.onnx", "hey_mycroft_int8.tflite", "sine_float.tflite"])
def test_a_bare_model_is_measured_on_random_tensors(tmp_path: Path, name: str) -> None:
    shutil.copy(FIXTURES / "models" / name, tmp_path)
    ran = edge_mcp("models", "bench", Path(name).stem, "--seconds", "0.05", "--batch", "1", "--models", str(tmp_path))
    assert ran.status == 0, ran
    assert "measured with random tensors, on " in ran.out


def test_a_pipeline_is_measured_too() -> None:
    ran = edge_mcp("models", "bench", "text-reader", "--seconds", "0.05", "--batch", "1,2", "--models", SHIPPED)
    assert ran.status == 0, ran
    assert "pipeline" in ran.out


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_plot_is_written(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"speed.{suffix}"
    ran = edge_mcp("models", "bench", "detect_language", "--seconds", "0.02", "--out", str(out), "--models", SHIPPED)
    assert ran.status == 0, ran
    assert out.stat().st_size > 2000


def test_the_svg_has_its_axes_units_and_a_line_for_each_curve() -> None:
    root = ET.fromstring(svg(shapes("a <b> & c", "here", CURVES)))  # noqa: S314 - our own
    texts = [element.text for element in root.iter(f"{SVG}text")]
    for text in ("a <b> & c", "latency of a batch (ms)", "throughput (items/s)", "1 thread", "2 threads", "95th percentile"):
        assert text in texts
    assert texts.count("batch size (items)") == 2
    assert len(list(root.iter(f"{SVG}circle"))) == 12
    inside = [float(element.get("cx", "-1")) for element in root.iter(f"{SVG}circle")]
    assert all(0 < x < 960 for x in inside)


def test_the_png_shows_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(painted(shapes("a", "b", CURVES)))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (960, 480)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    assert {(255, 255, 255), (0, 0x72, 0xB2), (0xD5, 0x5E, 0)} <= colours


def test_the_knee_is_where_more_buys_little() -> None:
    points = [Point(1, 9, 1.0, 1, 1.0, 1000), Point(4, 9, 1.6, 2, 1.6, 2500), Point(8, 9, 3.1, 4, 3.1, 2580)]
    assert knee_of(points) == 4
    assert knee_of(points[1:]) is None
    slow_to_decode = [Point(1, 9, 10.0, 10, 1.0, 100), Point(8, 9, 73.0, 80, 1.0, 109)]
    assert knee_of(slow_to_decode) == 1


def test_the_knee_is_marked_in_the_throughput_only() -> None:
    drawn = shapes("a", "b", CURVES, {1: 8})
    (word,) = [shape for shape in drawn if shape.get("text") == "knee"]
    assert word["x"] > 480
    assert [shape for shape in shapes("a", "b", CURVES) if shape.get("text") == "knee"] == []


@pytest.mark.parametrize(("highest", "step"), [(0.0, 2e-7), (0.9, 0.2), (1, 0.2), (12, 5), (99, 20), (530, 200)])
def test_ticks_are_round(highest: float, step: float) -> None:
    assert tick(highest) == pytest.approx(step)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing",), "there is no model 'nothing'"),
        (("face-detector", "--out", "a.gif"), "Name a file that ends in .svg or .png"),
        (("face-detector", "--out", "/no/such/a.svg"), "Make it first"),
    ],
)
def test_what_cannot_be_is_one_line(words: tuple[str, ...], said: str) -> None:
    assert said in edge_mcp("models", "bench", *words, "--models", SHIPPED).failed()


@pytest.mark.parametrize("words", [("--threads", "0"), ("--threads", "1,x"), ("--batch", "1000"), ("--seconds", "-1")])
def test_what_is_no_number_is_wrong_usage(words: tuple[str, ...]) -> None:
    assert "See edge-mcp models bench --help" in edge_mcp("models", "bench", "face-detector", *words).failed(2)
