"""Tools of two models: the text reader that ships, and others that a manifest makes of models that ship."""

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageDraw, ImageFont

from edge_mcp.engine.host import pipeline
from edge_mcp.engine.host.modalities.image import ImageModality, read_picture
from edge_mcp.engine.host.modalities.placement import place
from edge_mcp.engine.host.pipeline import Pipeline
from edge_mcp.engine.host.residency import Residency
from edge_mcp.engine.messages import Item, ModelSpec, Outcome
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.manifest import read
from edge_mcp.tools.arguments import input_schema
from edge_mcp.tools.results import output_schema

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "tests" / "fixtures"
READER = ROOT / "models" / "text-reader"
LINES = [
    "Raspberry Pi 5",
    "Total: $1,284.50",
    "Order #A7-00319 shipped 2026-11-22",
    "edge inference works",
    "Temperature 23.5 C / 74 F",
]
SSD = """
[[steps]]
file = "ssd_oidv4_int8_qdq.onnx"
[steps.input]
kind = "image"
size = [300, 300]
scale = [127.5, 127.5]
[steps.output]
decoder = "ssd"
boxes = "raw_outputs/box_encodings"
scores = "raw_outputs/class_predictions"
labels = "ssd_labels.txt"
strides = [16, 32, 64, 128, 256, 512]
"""
FACES = """
[[steps]]
file = "face_short_range_fp16.tflite"
[steps.input]
kind = "image"
size = [128, 128]
fit = "letterbox"
scale = [127.5, 127.5]
[steps.output]
decoder = "blazeface"
boxes = "regressors"
scores = "classificators"
strides = [8, 16, 16, 16]
"""
NAMER = """
[[steps]]
file = "efficientnet_lite0_int8_qdq.onnx"
margin = 0.1
[steps.input]
kind = "image"
size = [224, 224]
fit = "letterbox"
resample = "bicubic"
layout = "NCHW"
scale = [127.0, 128.0]
[steps.output]
decoder = "softmax"
labels = "imagenet_labels.txt"
threshold = 0.01
max_results = 3
"""
RAW = NAMER.partition("[steps.output]")[0] + '[steps.output]\ndecoder = "raw"\n'
READ_LINE = "[[steps]]" + (READER / "model.toml").read_text("utf-8").split("[[steps]]")[2].split("# Two")[0].replace(
    "[[check]]", ""
)


def spec(folder: Path) -> ModelSpec:
    manifest = read(folder)
    return ModelSpec(folder.name, str(folder), manifest, input_schema(manifest, None))


def made(folder: Path, *steps: str) -> ModelSpec:
    """A pipeline of `steps`, in a folder of its own with the files that the shipped models have."""
    home = folder / "made"
    home.mkdir()
    for name in ("object-detector", "image-classifier", "face-detector", "text-reader"):
        for file in (ROOT / "models" / name).iterdir():
            if file.suffix not in (".toml", ".jpg", ".png"):
                (home / file.name).symlink_to(file)
    head = '[model]\nname = "made"\nversion = "1.0.0"\n[tool]\nname = "look"\n'
    (home / "model.toml").write_text(head + "".join(steps))
    return spec(home)


def item(picture: Image.Image | str, **arguments: Any) -> Item:
    if isinstance(picture, str):
        content = (FIXTURES / picture).read_bytes()
    else:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        content = buffer.getvalue()
    return Item(json.dumps({"image": base64.b64encode(content).decode(), **arguments}).encode())


def ran(served: Pipeline, *items: Item, **keys: Any) -> list[Outcome]:
    outcomes, _ = served.run(items, lambda stage: None, **keys)
    return outcomes


def answer(served: Pipeline, model: ModelSpec, picture: Image.Image | str, **arguments: Any) -> dict[str, Any]:
    (outcome,) = ran(served, item(picture, **arguments))
    assert not outcome.error, outcome.error
    structured: dict[str, Any] = json.loads(outcome.structured)
    jsonschema.validate(structured, output_schema(model.manifest))
    return structured


@pytest.fixture(scope="module")
def reader() -> Pipeline:
    return Pipeline.load(spec(READER))


Reading = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def reading(reader: Pipeline) -> Reading:
    return lambda picture, **arguments: answer(reader, spec(READER), picture, **arguments)


def blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), "white")


def written(*lines: str, size: int = 28) -> Image.Image:
    picture = blank(640, 30 + 2 * size * len(lines))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    for index, text in enumerate(lines):
        draw.text((20, 20 + 2 * size * index), text, "black", font)
    return picture


def test_five_lines_are_read_without_an_error(reading: Reading) -> None:
    found = reading("rendered_text.png")
    assert found["text"].split("\n") == LINES
    assert [line["text"] for line in found["lines"]] == LINES
    assert all(line["score"] > 0.9 for line in found["lines"])
    assert found["image"] == {"width": 800, "height": 420}
    for index, line in enumerate(found["lines"]):
        # Each was drawn at (30, 30 + 75 * index), about 35 pixels high.
        assert (line["box"]["x_min"], line["box"]["y_min"]) == pytest.approx((31, 35 + 75 * index), abs=6)
        assert line["box"]["y_max"] - line["box"]["y_min"] == pytest.approx(38, abs=8)


def test_a_small_scan_of_a_page_can_be_read(reading: Reading) -> None:
    found = reading("page.png")
    assert found["text"].startswith("Region-based segmentation\n")
    read_words = set(found["text"].replace(".", " ").replace(",", " ").split())
    assert {"Let", "us", "first", "determine", "coins", "background", "unambiguously", "object", "histogram"} <= read_words
    assert len(found["lines"]) == 7


@pytest.mark.parametrize("file", ["brick.png", "coffee.png", "astronaut.png"])
def test_where_there_is_no_text_none_is_read(reading: Reading, file: str) -> None:
    found = reading(file)
    assert (found["text"], found["lines"]) == ("", [])


@pytest.mark.parametrize("size", [(1, 1), (640, 480), (8000, 4), (3, 9000), (4000, 3000)])
def test_pictures_of_any_size_are_taken(reading: Reading, size: tuple[int, int]) -> None:
    assert reading(blank(*size))["lines"] == []


def test_a_line_of_a_pixel_is_no_text(reading: Reading) -> None:
    picture = blank(600, 300)
    ImageDraw.Draw(picture).line((0, 150, 600, 150), "black", 1)
    assert reading(picture)["lines"] == []


def test_what_stands_beside_each_other_is_one_line_of_the_text(reading: Reading) -> None:
    picture = written("Coffee", "Water")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(28)
    for index, price in enumerate(("3.20", "1.00")):
        draw.text((500, 20 + 56 * index), price, "black", font)
    found = reading(picture)
    assert found["text"] == "Coffee 3.20\nWater 1.00"
    assert [line["text"] for line in found["lines"]] == ["Coffee", "3.20", "Water", "1.00"]


def test_a_very_long_line_is_squeezed_into_what_the_model_takes(reading: Reading) -> None:
    picture = blank(6000, 60)
    draw = ImageDraw.Draw(picture)
    draw.text((10, 10), "all work and no play " * 14, "black", ImageFont.load_default(36))
    reading(picture, threshold=0)


def test_threshold_and_max_results_bound_what_is_answered(reading: Reading) -> None:
    assert len(reading("rendered_text.png", max_results=2)["lines"]) == 2
    scores = sorted(line["score"] for line in reading("page.png")["lines"])
    assert len(reading("page.png", threshold=(scores[2] + scores[3]) / 2)["lines"]) == 4


def test_the_picture_is_drawn_on_request_alone(reader: Pipeline) -> None:
    plain, drawn = ran(reader, item("rendered_text.png"), item("rendered_text.png", annotate=True))
    assert [block["type"] for block in json.loads(plain.content)] == ["text"]
    text, block = json.loads(drawn.content)
    assert json.loads(text["text"]) == json.loads(drawn.structured)
    with Image.open(io.BytesIO(base64.b64decode(block["data"]))) as picture:
        assert picture.size == (800, 420)


def test_one_calls_failure_is_its_own(reader: Pipeline) -> None:
    good = item(written("Good"))
    bad = Item(b'{"image": "bm90IGEgcGljdHVyZQ=="}')
    wrong = Item(b'{"picture": ""}')
    outcomes = ran(reader, good, bad, wrong, good)
    assert ["not a picture" in outcomes[1].error, "argument image is missing" in outcomes[2].error] == [True, True]
    assert [json.loads(outcomes[index].structured)["text"] for index in (0, 3)] == ["Good", "Good"]


def test_a_run_tells_how_far_it_is(reader: Pipeline) -> None:
    told: list[tuple[int, int]] = []
    ran(reader, item("rendered_text.png"), report=lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def session(file: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(READER / file), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("file", ["rendered_text.png", "page.png"])
def test_each_step_answers_what_the_raw_runtime_does(reader: Pipeline, file: str) -> None:
    finder, recogniser = session("ppocr4_det_w8.onnx"), session("ppocr4_rec_latin_w8.onnx")
    picture = read_picture(str(FIXTURES / file), [FIXTURES])
    prepared = reader._finder.prepare_part(picture)
    ours = reader._first.model.infer(prepared.tensors)
    (theirs,) = finder.run(None, dict(prepared.tensors))
    assert np.abs(next(iter(ours.values())) - theirs).max() <= 1e-6
    found = reader._first.decoder.decode(ours, prepared, {"threshold": 0.5, "max_results": 100}).structured["regions"]
    boxes = [reader._grown(region["box"], picture.size) for region in found]
    assert len(boxes) >= 5
    for box in boxes:
        crop = reader._reader.prepare_part(picture, box)
        (line,) = recogniser.run(None, dict(crop.tensors))
        assert np.abs(next(iter(reader._second.model.infer(crop.tensors).values())) - line).max() <= 1e-6


def test_parts_that_run_together_are_answered_as_each_alone(
    reader: Pipeline, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = written(*(f"{number} beans" for number in range(100, 112)), size=20)
    together = reading(picture)
    assert [line["text"] for line in together["lines"]] == [f"{number} beans" for number in range(100, 112)]
    sizes: list[int] = []
    chunks = pipeline._chunks

    def counted(all_sizes: Any) -> Any:
        for chunk in chunks(all_sizes):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(pipeline, "_chunks", counted)
    reading(picture)
    assert max(sizes) > 1, "nothing ran together"
    monkeypatch.setattr(pipeline, "_chunks", lambda sizes: ([index] for index in range(len(sizes))))
    alone = reading(picture)
    assert [line["text"] for line in alone["lines"]] == [line["text"] for line in together["lines"]]
    scores = [(one["score"], other["score"]) for one, other in zip(alone["lines"], together["lines"], strict=True)]
    assert all(one == pytest.approx(other, abs=1e-4) for one, other in scores)
    assert [line["box"] for line in alone["lines"]] == [line["box"] for line in together["lines"]]


def test_chunks_have_one_size_and_are_not_too_large() -> None:
    sizes = [(320, 48)] * 5 + [(64, 48)] * 200 + [(2048, 48)] * 2
    chunks = list(pipeline._chunks(sizes))
    assert sorted(index for chunk in chunks for index in chunk) == list(range(len(sizes)))
    assert all(len({sizes[index] for index in chunk}) == 1 for chunk in chunks)
    values = [len(chunk) * 3 * 48 * sizes[chunk[0]][0] for chunk in chunks if len(chunk) > 1]
    assert max(values) <= 128 * 1024
    assert list(pipeline._chunks([])) == []


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (3.0, 7.5, (3.0, 7.5)),
        (-4.0, 30.0, (0.0, 20.0)),
        (25.0, 30.0, (19.0, 20.0)),
        (5.0, 5.0, (5.0, 6.0)),
        (float("nan"), float("nan"), (0.0, 20.0)),
    ],
)
def test_a_part_lies_in_the_picture_and_has_a_pixel(low: float, high: float, expected: tuple[float, float]) -> None:
    assert pipeline._clipped(low, high, 20) == expected


def test_detected_things_are_named(tmp_path: Path) -> None:
    model = made(tmp_path, SSD, NAMER)
    served = Pipeline.load(model)
    (region, *_) = answer(served, model, "chelsea.png", threshold=0.6)["regions"]
    assert (region["label"], set(region["box"])) == ("Cat", {"x_min", "y_min", "x_max", "y_max"})
    assert "cat" in region["class"].lower() or "tabby" in region["class"].lower()
    assert region["classes"][0]["label"] == region["class"]
    assert len(region["classes"]) <= 3
    assert answer(served, model, "brick.png")["regions"] == []
    for picture in ("chelsea.png", "brick.png"):
        (outcome,) = ran(served, item(picture, annotate=True))
        assert [block["type"] for block in json.loads(outcome.content)] == ["text", "image"]
    served.close()


def test_faces_are_looked_at_by_a_second_model_of_the_other_runtime(tmp_path: Path) -> None:
    model = made(tmp_path, FACES, RAW)
    (face,) = answer(Pipeline.load(model), model, "astronaut.png")["regions"]
    assert set(face) == {"score", "box", "keypoints", "outputs"}
    (logits,) = face["outputs"].values()
    assert (logits["dtype"], logits["shape"]) == ("FP32", [1, 1000])
    # The same by hand: the box with its margin, cut out and classified by the raw runtime.
    picture = read_picture(str(FIXTURES / "astronaut.png"), [FIXTURES])
    corners = [face["box"][name] for name in ("x_min", "y_min", "x_max", "y_max")]
    margin = 0.1 * min(corners[2] - corners[0], corners[3] - corners[1])
    box = (corners[0] - margin, corners[1] - margin, corners[2] + margin, corners[3] + margin)
    file = ROOT / "models/image-classifier/efficientnet_lite0_int8_qdq.onnx"
    raw = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    config = model.manifest.parts[1].input
    assert isinstance(config, ImageInput)
    spec_of_input = Pipeline.load(model)._second.model.inputs
    tensors = ImageModality(config, spec_of_input, tmp_path).prepare_part(picture, box).tensors
    assert place(config, picture.size, box).resized[1] == 224
    expected = raw.run(None, dict(tensors))[0]
    ours = np.frombuffer(base64.b64decode(logits["data"]), np.float32)
    assert np.abs(ours - expected[0]).max() <= 1e-6


def test_text_is_read_of_what_a_detector_finds(tmp_path: Path) -> None:
    model = made(tmp_path, SSD.replace("strides", "threshold = 0.9\nstrides"), READ_LINE)
    found = answer(Pipeline.load(model), model, "chelsea.png", threshold=0)
    assert (found["text"], found["lines"]) == ("", [])


def test_arguments_and_answers_are_described() -> None:
    model = spec(READER)
    properties = model.schema["properties"]
    assert set(properties) == {"image", "threshold", "max_results", "annotate"}
    assert (properties["threshold"]["default"], properties["max_results"]["default"]) == (0.6, 100)
    assert model.schema["required"] == ["image"]
    schema = output_schema(model.manifest)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["text", "lines", "image", "inference_ms"]


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(READER, tmp_path / "text-reader"))


def test_a_step_whose_file_is_missing_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "ppocr4_rec_latin_w8.onnx").unlink()
    with pytest.raises(ModelError, match=r"ppocr4_rec_latin_w8\.onnx cannot be read: No such file"):
        Pipeline.load(spec(folder))


@pytest.mark.parametrize("file", ["ppocr4_det_w8.onnx", "ppocr4_rec_latin_w8.onnx"])
def test_the_digest_of_every_step_is_checked_before_it_is_loaded(tmp_path: Path, file: str) -> None:
    folder = copied(tmp_path)
    content = bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    (folder / file).unlink()
    (folder / file).write_bytes(content)
    with pytest.raises(ModelError, match=f"{file} has the SHA-256"):
        Pipeline.load(spec(folder))


@pytest.mark.parametrize(
    ("step", "old", "new", "said"),
    [
        (1, 'layout = "NCHW"', 'layout = "NHWC"', "or correct input.layout"),
        (2, 'layout = "NCHW"', 'layout = "NHWC"', "input.layout in model.toml"),
        (2, "latin_characters.json", "model.toml", "has shape"),
        (2, "latin_characters.json", "nothing.json", "nothing.json cannot be read"),
    ],
)
def test_models_that_do_not_fit_their_steps_are_refused(tmp_path: Path, step: int, old: str, new: str, said: str) -> None:
    folder = copied(tmp_path)
    parts = (folder / "model.toml").read_text("utf-8").split("[[steps]]")
    assert old in parts[step]
    parts[step] = parts[step].replace(old, new)
    (folder / "model.toml").write_text("[[steps]]".join(parts))
    with pytest.raises(ModelError, match=said):
        Pipeline.load(spec(folder))


def test_the_engine_keeps_a_pipeline_as_one_model() -> None:
    residency = Residency()
    growth = residency.load(spec(READER))
    assert growth.memory_mb > 10
    assert residency.load(spec(READER)) is growth
    with residency.using("text-reader") as served:
        (outcome,), seconds = served.run([item(written("Hello"))], lambda stage: None)
        residency.unload("text-reader")
    assert json.loads(outcome.structured)["text"] == "Hello"
    assert seconds > 0
