"""`edge-mcp models quantize`: what stays the same is written, what does not is refused."""

import shutil
import wave
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_mcp.repository.manifest import MANIFEST_NAME, read
from tests.cli.command import FIXTURES, ROOT, Ran, edge_mcp

SILERO = FIXTURES / "models" / "silero_vad_16k_op15.onnx"
SHIPPED = ROOT / "models"


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The speech detector with its float32 original, and sounds: two with words in them, one of noise."""
    root = tmp_path_factory.mktemp("speech")
    folder = root / "models" / "speech-detector"
    folder.mkdir(parents=True)
    shutil.copy(SILERO, folder)
    (folder / "note.txt").write_text("stays with the model")
    manifest = read(SHIPPED / "speech-detector")
    text = (SHIPPED / "speech-detector" / MANIFEST_NAME).read_text("utf-8").split("[[check]]")[0]
    text = text.replace(manifest.model.file, SILERO.name).replace(f'sha256 = "{manifest.model.sha256}"\n', "")
    (folder / MANIFEST_NAME).write_text(text, "utf-8")
    (root / "sounds").mkdir()
    shutil.copy(SHIPPED / "speech-detector" / "sample.ogg", root / "sounds" / "alexa.ogg")
    shutil.copy(SHIPPED / "wake-word-detector" / "sample.ogg", root / "sounds" / "nabu.ogg")
    noise = np.random.default_rng(0).normal(0, 800, 16_000).astype(np.int16)
    with wave.open(str(root / "sounds" / "noise.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(noise.tobytes())
    return root


def quantize(tmp_path: Path, *words: str) -> Ran:
    return edge_mcp("models", "quantize", *words, cwd=tmp_path)


def refused(ran: Ran, tmp_path: Path) -> str:
    """What was said; nothing may have been written."""
    assert ran.status == 1, ran
    assert "edge-mcp: refused: only " in ran.err
    assert list(tmp_path.iterdir()) == []
    return ran.out


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_a_speech_detector_that_int8_ruins_is_refused(tmp_path: Path, speech: Path, method: str) -> None:
    words = ("detect_speech", "--models", str(speech / "models"), "--method", method, "--samples", str(speech / "sounds"))
    said = refused(quantize(tmp_path, *words), tmp_path)
    assert "size: 1,289,603 -> " in said
    assert "'output': at or above 0.5 " in said
    assert "worst: alexa.ogg: " in said or "worst: nabu.ogg: " in said


def test_the_same_detector_with_a_scale_for_each_channel_is_written_and_works(tmp_path: Path, speech: Path) -> None:
    words = (
        "speech-detector",
        "--models",
        str(speech / "models"),
        "--method",
        "weight-only",
        "--samples",
        str(speech / "sounds"),
    )
    ran = quantize(tmp_path, *words)
    assert (ran.status, ran.err) == (0, ""), ran
    folder = tmp_path / "speech-detector"
    manifest = read(folder)
    assert manifest.model.version == "1.1.0"
    assert (folder / manifest.model.file).stat().st_size < 400_000
    assert manifest.model.source.startswith(f"speech-detector 1.0.0 ({SILERO.name}, sha256 7ed98ddb")
    assert "weight-only int8" in manifest.model.source
    assert manifest.model.source.endswith("its source: " + read(speech / "models" / "speech-detector").model.source)
    assert (manifest.input, manifest.output, manifest.tool) == _rest(speech / "models" / "speech-detector")
    assert (folder / "note.txt").read_text() == "stays with the model"
    assert not (folder / SILERO.name).exists()
    assert list(tmp_path.iterdir()) == [folder]
    assert edge_mcp("models", "check", "--models", str(tmp_path)).out.startswith("speech-detector 1.1.0: ok (digest ok")
    sound = f"audio=@{speech / 'sounds' / 'nabu.ogg'}"
    called = edge_mcp("call", "detect_speech", sound, "--json", "--models", str(tmp_path))
    assert '"segments":[{' in called.out


def _rest(folder: Path) -> tuple[object, ...]:
    manifest = read(folder)
    return manifest.input, manifest.output, manifest.tool


def test_a_bare_recurrent_file_is_run_on_tensors_with_its_state(tmp_path: Path) -> None:
    """On hand-made frames; the state is left out of the sample, and goes from run to run."""
    samples = tmp_path / "samples"
    samples.mkdir()
    tone = np.sin(np.cumsum(np.linspace(0.02, 0.3, 576 * 60))).astype(np.float32) * 0.3
    np.savez(samples / "sweep.npz", input=tone.reshape(60, 1, 576), sr=np.array(16_000, np.int64))
    ran = quantize(tmp_path, str(SILERO), "--method", "weight-only", "--samples", str(samples))
    # Whatever it thinks of a sweep, it was run sixty times: either there is a figure of each, or it never said yes.
    assert "times, still" in ran.out or "'output' reach 0.5" in ran.err


def test_a_bare_recurrent_file_that_lacks_more_than_state_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", input=np.zeros((3, 1, 576), np.float32))
    error = quantize(tmp_path, str(SILERO), "--method", "weight-only", "--samples", str(tmp_path)).failed()
    assert error.startswith("the samples have no 'sr'")


def test_without_samples_nothing_is_done(tmp_path: Path) -> None:
    error = quantize(tmp_path, str(SILERO), "--method", "weight-only").failed()
    assert error.startswith("without samples nobody knows what quantization does to a model. Give --samples FOLDER")


def matrix(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Path:
    """One layer."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", values.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", values.shape[1]])],
        [numpy_helper.from_array(values, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@pytest.fixture
def layer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of one layer whose columns are of very different sizes, and samples for it."""
    root = tmp_path_factory.mktemp("layer")
    chance = np.random.default_rng(1)
    columns = 10.0 ** np.arange(-3, 5)
    samples = root / "samples"
    samples.mkdir()
    for index in range(12):
        np.save(samples / f"{index:02}.npy", chance.normal(size=(1, 256)).astype(np.float32))
    return matrix(root / "layer.onnx", (chance.normal(size=(256, 8)) * columns).astype(np.float32)), samples


def test_tensors_are_compared_where_there_is_no_decoder(tmp_path: Path, layer: tuple[Path, Path]) -> None:
    ran = quantize(tmp_path, str(layer[0]), "--method", "weight-only", "--samples", str(layer[1]))
    assert ran.status == 0, ran
    assert "highest class the same: 12 of 12" in ran.out
    assert "agreement: 100.0% of the highest classes, on 12 samples (at least 95.0% is asked for)" in ran.out
    assert read(tmp_path / "layer").model.version == "0.1.0"


def test_the_least_agreement_can_be_chosen(tmp_path: Path, speech: Path) -> None:
    words = ("detect_speech", "--models", str(speech / "models"), "--method", "dynamic", "--samples", str(speech / "sounds"))
    ran = quantize(tmp_path, *words, "--min-agreement", "0.2", "--out", str(tmp_path / "speech-detector"))
    assert ran.status == 0, ran
    assert "(at least 20.0% is asked for)" in ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing",), "there is no model 'nothing'"),
        (("{silero}", "--samples", "/no/such"), "the samples in /no/such cannot be read"),
        (("{silero}", "--samples", "{empty}"), "there are no samples in "),
        (("{silero}", "--out", "another-name"), "Write --out another-name/silero-vad-16k-op15"),
        (("text-reader",), "text-reader is a pipeline. Quantize the file of each of its steps"),
        (("face-detector", "--samples", "{photos}"), "makes face_short_range_fp16.tflite no smaller"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    empty, work = tmp_path / "empty", tmp_path / "work"
    empty.mkdir()
    work.mkdir()
    files = {"silero": str(SILERO), "empty": str(empty), "photos": str(FIXTURES)}
    given = [word.format(**files) for word in words]
    given += [] if "--samples" in given else ["--samples", str(empty)]
    error = quantize(work, *given, "--method", "weight-only", "--models", str(SHIPPED)).failed()
    assert said in error
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"not numpy at all", b"\x80\x04\x95."])
def test_a_sample_that_is_no_array_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    error = quantize(tmp_path, str(SILERO), "--method", "weight-only", "--samples", str(tmp_path)).failed()
    assert error.startswith("the sample a.npz cannot be read: ")


def test_what_is_there_already_stays(tmp_path: Path, layer: tuple[Path, Path]) -> None:
    (tmp_path / "layer").mkdir()
    error = quantize(tmp_path, str(layer[0]), "--method", "weight-only", "--samples", str(layer[1])).failed()
    assert error == "layer is there already. Name another folder with --out, or remove it"


def test_a_tflite_model_is_quantized_too(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    for index, angle in enumerate(np.linspace(0.2, 6.2, 40)):
        np.save(samples / f"{index:02}.npy", np.array([[angle]], np.float32))
    sine = str(FIXTURES / "models" / "sine_float.tflite")
    words = ("--samples", str(samples), "--min-agreement", "0.7")
    for method in ("dynamic", "static"):
        ran = quantize(tmp_path, sine, "--method", method, *words, "--out", f"{method}/sine-float")
        assert ran.status == 0, ran
        assert edge_mcp("models", "check", "--models", str(tmp_path / method)).status == 0


@pytest.mark.parametrize("words", [("--method", "magic"), ("--min-agreement", "2"), ("--min-agreement", "x"), ()])
def test_wrong_usage_is_one_line(words: tuple[str, ...]) -> None:
    assert "See edge-mcp models quantize --help" in edge_mcp("models", "quantize", "a", *words).failed(2)
