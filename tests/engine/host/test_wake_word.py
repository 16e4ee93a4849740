"""`detect_wake_word`, and other wake words with a manifest of their own: LiteRT's own scores, and a sliding mean."""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from pymicro_features import MicroFrontend

from edge_mcp.engine.host.decoders.tracking import Step
from edge_mcp.engine.host.decoders.wake_word import WakeWordTracker
from edge_mcp.engine.host.served import ServedModel
from edge_mcp.repository.outputs import WakeWordOutput
from tests.sounds import RATE, ROOT, Samples, answer, listener, recorded, sent, shipped

FIXTURES = ROOT / "tests/fixtures/models"
FILES = {
    "okay_nabu": ROOT / "models/wake-word-detector/okay_nabu_int8.tflite",
    "alexa": FIXTURES / "alexa_int8.tflite",
    "hey_mycroft": FIXTURES / "hey_mycroft_int8.tflite",
}
CLIPS = ["en-us_okay_nabu.flac", "en-gb_okay_nabu.flac", "en-us_alexa.flac", "en-us_hey_mycroft.flac", "goforward.wav"]
MANIFEST = """
[model]
name = "mine"
version = "1.0.0"
file = "{file}"
[tool]
name = "mine"
[input]
kind = "audio"
features = "micro"
window = 3
[output]
decoder = "wake_word"
phrase = "mine"
threshold = 0.8
"""


@pytest.fixture(scope="module")
def nabu() -> ServedModel:
    return shipped("wake-word-detector")


def scores_of_the_runtime(file: Path, samples: Samples) -> list[float]:
    """LiteRT and the front end alone, as the reference has it."""
    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    given, score = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    (scale, zero), (score_scale, score_zero) = given["quantization"], score["quantization"]
    front = MicroFrontend()
    pcm = samples.astype("<i2").tobytes()
    rows = [front.process_samples(pcm[start : start + 320]).features for start in range(0, len(pcm) - 319, 320)]
    rows = [np.array(row, np.float32) for row in rows if row]
    scores = []
    for start in range(0, len(rows) - 2, 3):
        integers = np.round(np.stack(rows[start : start + 3])[np.newaxis] / scale + zero).clip(-128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], integers)
        interpreter.invoke()
        scores.append((float(interpreter.get_tensor(score["index"])[0, 0]) - score_zero) * score_scale)
    return scores


def highest_mean(scores: list[float], count: int = 5) -> float:
    window: deque[float] = deque(maxlen=count)
    best = 0.0
    for score in scores:
        window.append(score)
        best = max(best, sum(window) / count) if len(window) == count else best
    return best


@pytest.mark.parametrize("word", list(FILES))
@pytest.mark.parametrize("clip", CLIPS)
def test_scores_are_those_of_the_runtime_and_words_are_told_apart(word: str, clip: str) -> None:
    file = FILES[word]
    model = listener(MANIFEST.format(file=file.name), file.parent)
    samples = recorded(clip)
    found = answer(model, audio=sent(samples), scores=True)
    expected = scores_of_the_runtime(file, samples)
    np.testing.assert_allclose(found["scores"], expected, rtol=0, atol=1e-6)
    assert found["score"] == pytest.approx(highest_mean(expected), abs=1e-4)
    said = word in clip
    assert found["detected"] is said
    assert [detection["phrase"] for detection in found["detections"]] == ["mine"] * said
    assert found["score"] > 0.8 if said else found["score"] < 0.1
    model.close()


@pytest.mark.parametrize("clip", CLIPS[:2])
def test_the_word_is_found_with_its_time(nabu: ServedModel, clip: str) -> None:
    found = answer(nabu, audio=sent(recorded(clip)))
    assert found["score"] > 0.9
    (detection,) = found["detections"]
    assert detection["phrase"] == "Okay Nabu"
    assert detection["score"] > 0.9
    assert 1.8 < detection["time_s"] < 2.4


@pytest.mark.parametrize("clip", CLIPS[:2])
def test_a_word_that_ends_the_sound_is_found(nabu: ServedModel, clip: str) -> None:
    """The network answers a tenth of a second after the word."""
    trimmed = recorded(clip)[: int(2.05 * RATE)]
    found = answer(nabu, audio=sent(trimmed))
    assert [detection["time_s"] for detection in found["detections"]] == [2.05]
    assert found["duration_s"] == 2.05
    half = len(trimmed) // 2
    answer(nabu, audio=sent(trimmed[:half]), stream="trimmed")
    assert not answer(nabu, audio=sent(trimmed[half:]), stream="trimmed")["detected"]
    assert answer(nabu, audio="", stream="trimmed", end=True)["detections"] == found["detections"]


def test_a_call_knows_nothing_of_the_one_before(nabu: ServedModel) -> None:
    clips = [sent(recorded(clip)) for clip in (CLIPS[0], CLIPS[4])]
    first = [answer(nabu, audio=clip, scores=True)["scores"] for clip in clips]
    assert [answer(nabu, audio=clip, scores=True)["scores"] for clip in reversed(clips)] == first[::-1]


def test_the_word_twice_is_told_twice(nabu: ServedModel) -> None:
    once = recorded(CLIPS[0])
    found = answer(nabu, audio=sent(np.concatenate([once, once])))
    times = [detection["time_s"] for detection in found["detections"]]
    assert len(times) == 2
    assert times[1] - times[0] == pytest.approx(len(once) / RATE, abs=0.1)


def followed(scores: list[float], config: WakeWordOutput) -> dict[str, Any]:
    """What a tracker tells of steps of 100 ms."""
    tracker = WakeWordTracker(config, 1000)
    for number, score in enumerate(scores):
        tracker.follow(Step(score, 100 * number, 100 * number + 100), config.threshold)
    tracker.finish(100 * len(scores))
    return tracker.told()


@pytest.mark.parametrize(
    ("scores", "times"),
    [
        ([1.0], []),  # a mean of two needs two
        ([1.0, 1.0], [0.2]),
        ([0.0, 1.0, 0.8, 0.8, 0.8], [0.3]),  # it goes on: told once
        ([1.0, 1.0, 0.0, 0.0, 1.0, 1.0], [0.2]),  # too soon after the first
        ([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0], [0.2, 0.8]),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0.2]),  # it never was below in between
    ],
)
def test_each_time_the_mean_gets_there_is_told_once(scores: list[float], times: list[float]) -> None:
    found = followed(scores, WakeWordOutput("x", threshold=0.8, window=2, pause_ms=500))
    assert [detection["time_s"] for detection in found["detections"]] == times
    assert found["detected"] is bool(times)
