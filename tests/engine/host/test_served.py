"""Served models give right answers, alone and in batches, and say clearly what is wrong."""

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from edge_mcp.engine.host.served import ServedModel, describe
from edge_mcp.engine.messages import Item, ModelSpec, Outcome
from edge_mcp.errors import ModelError
from edge_mcp.repository import manifest
from edge_mcp.repository.inputs import TextInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import SoftmaxOutput, SsdOutput
from edge_mcp.repository.sections import ModelSection, ToolSection
from edge_mcp.tools.arguments import input_schema
from edge_mcp.tools.results import output_schema

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "models"
FIXTURES = ROOT / "tests" / "fixtures"
Call = Callable[..., dict[str, Any]]
Load = Callable[[str], ServedModel]
Encoded = Callable[[str], str]
Refused = Callable[..., str]

SENTENCES = {
    "en": "The quick brown fox jumps over the lazy dog.",
    "de": "Der Server läuft auf einem kleinen Rechner und erkennt die Sprache.",
    "fr": "Le serveur fonctionne sur un petit ordinateur.",
    "es": "El servidor funciona en un ordenador pequeño.",
    "ru": "Сервер работает на небольшом компьютере.",
    "ja": "サーバーは小さなコンピューターで動作します。",
    "ar": "يعمل الخادم على جهاز كمبيوتر صغير.",
    "tr": "Sunucu küçük bir bilgisayarda çalışır ve dili tanır.",  # noqa: RUF001 - Turkish
}


def run(model: ServedModel, *arguments: Any) -> list[Outcome]:
    items = [Item(one if isinstance(one, bytes) else json.dumps(one).encode()) for one in arguments]
    return model.run(items, lambda stage: None)[0]


def answers(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    assert not any(outcome.error for outcome in outcomes)
    return [json.loads(outcome.structured) for outcome in outcomes]


def without_time(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "inference_ms"}


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("chelsea.png", "Cat"),
        ("coffee.png", "Coffee cup"),
        ("astronaut.png", "Person"),
        ("camera.png", "Person"),
        ("page.png", "Book"),
        ("brick.png", None),
        ("china.jpg", None),
        ("flower.jpg", None),
    ],
)
def test_detect_objects(call: Call, fixture: Encoded, file: str, label: str | None) -> None:
    found = call("object-detector", image=fixture(file))["detections"]
    assert (found[0]["label"] if found else None) == label


def test_boxes_are_pixels_of_the_original(call: Call, fixture: Encoded) -> None:
    answer = call("object-detector", image=fixture("coffee.png"))
    assert answer["image"] == {"width": 600, "height": 400}
    assert answer["detections"][0]["box"] == pytest.approx({"x_min": 171, "y_min": 27, "x_max": 429, "y_max": 324}, abs=8)


@pytest.mark.parametrize(
    ("file", "labels"),
    [
        ("chelsea.png", {"tiger cat", "Egyptian cat", "tabby"}),
        ("coffee.png", {"espresso"}),
        ("camera.png", {"tripod"}),
        ("china.jpg", {"palace"}),
        ("flower.jpg", {"daisy"}),
    ],
)
def test_classify_image(call: Call, fixture: Encoded, file: str, labels: set[str]) -> None:
    answer = call("image-classifier", image=fixture(file))
    assert answer["label"] in labels
    assert answer["labels"][0]["label"] == answer["label"]


@pytest.mark.parametrize(
    ("file", "count"),
    [("astronaut.png", 1), ("camera.png", 1), ("chelsea.png", 0), ("coffee.png", 0), ("china.jpg", 0), ("flower.jpg", 0)],
)
def test_detect_faces(call: Call, fixture: Encoded, file: str, count: int) -> None:
    assert len(call("face-detector", image=fixture(file))["faces"]) == count


def test_a_face_has_its_parts_where_they_are(call: Call, fixture: Encoded) -> None:
    face = call("face-detector", image=fixture("astronaut.png"))["faces"][0]
    assert face["box"] == pytest.approx({"x_min": 179, "y_min": 82, "x_max": 274, "y_max": 177}, abs=4)
    points = face["keypoints"]
    assert points["right_eye"] == pytest.approx({"x": 204, "y": 103}, abs=4)
    assert points["right_eye"]["x"] < points["nose_tip"]["x"] < points["left_eye"]["x"]
    assert points["left_eye"]["y"] < points["nose_tip"]["y"] < points["mouth_center"]["y"]


@pytest.mark.parametrize(("code", "text"), SENTENCES.items())
def test_detect_language(call: Call, code: str, text: str) -> None:
    assert call("language-detector", text=text)["label"] == code


@pytest.mark.parametrize(
    ("path", "label"),
    [
        (Path(__file__), "python"),
        (MODELS / "face-detector" / "model.toml", "toml"),
        (FIXTURES / "chelsea.png", "png"),
        (FIXTURES / "china.jpg", "jpeg"),
        (Path("/bin/ls"), "elf"),
        (MODELS / "object-detector" / "ssd_oidv4_int8_qdq.onnx", "onnx"),
    ],
)
def test_identify_file(call: Call, path: Path, label: str) -> None:
    assert call("file-identifier", data=base64.b64encode(path.read_bytes()).decode())["label"] == label


@pytest.mark.parametrize(
    ("data", "label"), [(b"", "empty"), (b"hi there"[:7], "txt"), (b"\xff\xfe\x00", "unknown"), (b"   \n" * 9, "txt")]
)
def test_too_little_to_tell(call: Call, data: bytes, label: str) -> None:
    answer = call("file-identifier", data=base64.b64encode(data).decode())
    assert answer == {"label": label, "labels": [{"label": label, "score": 1.0}], "inference_ms": 0.0}


@pytest.mark.parametrize(
    "name", ["object-detector", "image-classifier", "face-detector", "language-detector", "file-identifier"]
)
def test_answers_match_their_schema(served: Load, fixture: Encoded, name: str) -> None:
    described = manifest.read(MODELS / name)
    argument = next(iter(input_schema(described, None)["properties"]))
    value = SENTENCES["de"] if argument == "text" else fixture("astronaut.png")
    outcome = run(served(name), {argument: value})[0]
    structured = json.loads(outcome.structured)
    jsonschema.Draft202012Validator(output_schema(described)).validate(structured)
    assert json.loads(outcome.content) == [{"type": "text", "text": outcome.structured.decode()}]
    assert structured["inference_ms"] > 0


def test_arguments_override_the_manifest(call: Call, fixture: Encoded) -> None:
    picture = fixture("chelsea.png")
    assert call("object-detector", image=picture, threshold=0.99)["detections"] == []
    assert len(call("object-detector", image=picture, threshold=0.01, max_results=3)["detections"]) == 3
    assert len(call("image-classifier", image=picture, threshold=0, max_results=1000)["labels"]) == 1000


def test_a_label_that_is_not_trusted_becomes_the_fallback(call: Call) -> None:
    assert call("file-identifier", data=base64.b64encode(b"lorem ipsum dolor " * 3).decode(), threshold=1)["label"] == "unknown"


@pytest.mark.parametrize("name", ["image-classifier", "object-detector"])
def test_a_batch_answers_as_its_items_alone(served: Load, fixture: Encoded, name: str) -> None:
    """Of the classifier's file the batch is dynamic, the detector's runs in a loop: nobody can tell."""
    arguments = [{"image": fixture(file)} for file in ("chelsea.png", "coffee.png", "camera.png")]
    together = answers(run(served(name), *arguments))
    alone = [answers(run(served(name), one))[0] for one in arguments]
    assert [without_time(one) for one in together] == [without_time(one) for one in alone]


def test_one_failure_leaves_the_rest_of_the_batch(served: Load, fixture: Encoded) -> None:
    good = {"image": fixture("coffee.png")}
    outcomes = run(served("image-classifier"), good, {"image": "!"}, b"{", {"picture": 1}, good)
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, True, True, False]
    assert json.loads(outcomes[4].structured)["label"] == "espresso"


def test_items_of_different_shapes_run_apart(served: Load) -> None:
    row = [0.0] * 490
    outcomes = run(served("mlp_int8.onnx"), {"input": [row]}, {"input": [row, row]}, {"input": []}, {"input": [row[:3]]})
    assert [json.loads(one.structured)["outputs"]["output"]["shape"] for one in outcomes[:2]] == [[1, 12], [2, 12]]
    assert all(one.error for one in outcomes[2:])


def test_stages_and_seconds_are_told(served: Load, fixture: Encoded) -> None:
    stages: list[str] = []
    item = Item(json.dumps({"image": fixture("coffee.png")}).encode())
    outcomes, seconds = served("image-classifier").run([item, item], stages.append)
    assert stages == ["decoding", "running", "encoding"]
    times = [json.loads(outcome.structured)["inference_ms"] for outcome in outcomes]
    assert times[0] == times[1] == pytest.approx(seconds * 1000 / 2, abs=0.001)


def test_lanes_run_one_model_at_once(served: Load, fixture: Encoded) -> None:
    """LiteRT's interpreters are not thread-safe: each concurrent run must get its own."""
    files = ["astronaut.png", "coffee.png", "camera.png", "china.jpg"]
    model = served("face-detector")
    expected = [without_time(answers(run(model, {"image": fixture(file)}))[0]) for file in files]
    wrong: list[str] = []

    def lane(file: str, answer: dict[str, Any]) -> None:
        repeated = [without_time(answers(run(model, {"image": fixture(file)}))[0]) for _ in range(10)]
        wrong.extend(file for one in repeated if one != answer)

    threads = [threading.Thread(target=lane, args=pair) for pair in zip(files, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (b"", "argument image is missing"),
        (b"[]", "must be an object"),
        (b"null", "must be an object"),
        (b"{", "not valid JSON"),
        (b'{"image": "\xff"}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"image": 5}', "argument image must be a string, not 5"),
    ],
)
def test_arguments_that_are_no_object(served: Load, arguments: bytes, said: str) -> None:
    assert said in run(served("object-detector"), arguments)[0].error


def test_a_bug_is_logged_and_stays_inside_its_item(
    served: Load, fixture: Encoded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: object, *rest: object) -> None:
        raise KeyError("secret of the house")

    monkeypatch.setattr("edge_mcp.engine.host.decoders.ssd.SsdDecoder.decode", broken)
    outcome = run(served("object-detector"), {"image": fixture("coffee.png")})[0]
    assert "internal error" in outcome.error
    assert "secret" not in outcome.error
    assert "secret of the house" in caplog.text


def spec_of(folder: Path, **changes: Any) -> ModelSpec:
    described = msgspec.structs.replace(manifest.read(MODELS / folder.name), **changes)
    return ModelSpec(folder.name, str(folder), described, input_schema(described, None))


def copy_of(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODELS / name, tmp_path / name))


def test_a_changed_file_is_not_loaded(tmp_path: Path) -> None:
    folder = copy_of("file-identifier", tmp_path)
    file = folder / "magika_w8.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ModelError) as caught:
        ServedModel.load(spec_of(folder))
    said = str(caught.value)
    assert hashlib.sha256(file.read_bytes()).hexdigest() in said
    assert manifest.read(folder).model.sha256 in said
    assert "model.toml" in said


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = copy_of("language-detector", tmp_path)
    (folder / "langid_labels.json").unlink()
    with pytest.raises(ModelError, match=r"langid_labels\.json cannot be read.*langid_ngrams\.bin"):
        ServedModel.load(spec_of(folder))
    (folder / "langid97_w8.onnx").unlink()
    with pytest.raises(ModelError, match=r"langid97_w8\.onnx"):
        ServedModel.load(spec_of(folder))


def test_labels_must_fit_the_model(tmp_path: Path) -> None:
    folder = copy_of("object-detector", tmp_path)
    (folder / "ssd_labels.txt").write_text("???\nBicycle\n")
    with pytest.raises(ModelError, match=r"\[1, 1917, 24\].*\[1, 1917, 2\]"):
        ServedModel.load(spec_of(folder))
    (folder / "ssd_labels.txt").write_bytes(b"\xff")
    with pytest.raises(ModelError, match=r"ssd_labels\.txt is not a list of labels"):
        ServedModel.load(spec_of(folder))


def test_what_the_manifest_names_must_be_there(tmp_path: Path) -> None:
    folder = copy_of("object-detector", tmp_path)
    output = manifest.read(folder).output
    assert isinstance(output, SsdOutput)
    with pytest.raises(ModelError, match=r"no output 'boxes'.*raw_outputs/box_encodings FP32 \[1, 1917, 4\]"):
        ServedModel.load(spec_of(folder, output=msgspec.structs.replace(output, boxes="boxes")))
    with pytest.raises(ModelError, match="not the name of a file"):
        ServedModel.load(spec_of(folder, output=msgspec.structs.replace(output, labels="../labels.txt")))
    with pytest.raises(ModelError, match="needs a model with one output; this one has 2"):
        ServedModel.load(spec_of(folder, output=SoftmaxOutput("ssd_labels.txt")))
    picture = msgspec.structs.replace(manifest.read(folder).input, size=(320, 320))
    with pytest.raises(ModelError, match=r"\[1, 300, 300, 3\].*\[1, 320, 320, 3\]"):
        ServedModel.load(spec_of(folder, input=picture))


@pytest.mark.parametrize("content", [b"\x04abc", b"\x01a\x01a", b"\x00", b"\x01a"])
def test_a_vocabulary_must_be_whole_and_fit(tmp_path: Path, content: bytes) -> None:
    folder = copy_of("language-detector", tmp_path)
    (folder / "grams.bin").write_bytes(content)
    with pytest.raises(ModelError, match=r"grams\.bin"):
        ServedModel.load(spec_of(folder, input=TextInput("grams.bin")))


def test_describe() -> None:
    path = FIXTURES / "models" / "sine_float.tflite"
    described = describe(path)
    assert described.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [(spec.name, spec.datatype, spec.shape) for spec in described.signature.inputs] == [("dense_input", "FP32", (-1, 1))]
    assert [(spec.name, spec.datatype, spec.shape) for spec in described.signature.outputs] == [("dense_2", "FP32", (-1, 1))]


def test_describe_says_why_not(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there"):
        describe(tmp_path / "gone.onnx")
    with pytest.raises(ModelError, match=r"no runtime for files that end in '\.pt'"):
        describe(tmp_path / "model.pt")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"broken\.onnx cannot be loaded"):
        describe(tmp_path / "broken.onnx")


def test_bare_models_answer_tensors(call: Call) -> None:
    answer = call("sine_float.tflite", dense_input=[[1.5708], [0.0]])
    assert answer["outputs"]["dense_2"]["shape"] == [2, 1]
    assert answer["outputs"]["dense_2"]["data"] == [[pytest.approx(1, abs=0.05)], [pytest.approx(0, abs=0.1)]]


def test_a_bare_file_with_other_inputs_is_not_served(tmp_path: Path) -> None:
    """The tool's arguments were made from the file that was there when the server started."""
    path = tmp_path / "bare.tflite"
    shutil.copy(FIXTURES / "models/sine_float.tflite", path)
    bare = Manifest(ModelSection("bare", "1.0.0", path.name), ToolSection("bare"))
    spec = ModelSpec("bare", str(tmp_path), bare, input_schema(bare, describe(path).signature))
    ServedModel.load(spec)
    shutil.copy(FIXTURES / "models/mlp_int8.tflite", path)
    with pytest.raises(ModelError) as caught:
        ServedModel.load(spec)
    now = describe(path).signature.inputs[0].name
    said = f"bare.tflite has other inputs now ({now}) than when the server started (dense_input). Restart edge-mcp"
    assert said in str(caught.value)
