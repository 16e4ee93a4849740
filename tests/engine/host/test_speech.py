"""`detect_speech`: the network's own scores, and segments by Silero VAD's rule."""

from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_mcp.engine.host.decoders.speech import SpeechTracker
from edge_mcp.engine.host.decoders.tracking import Step
from edge_mcp.engine.host.served import ServedModel
from edge_mcp.repository.outputs import SpeechOutput
from tests.sounds import RATE, ROOT, Samples, answer, recorded, sent, shipped

SPOKEN = ["goforward.wav", "en-us_okay_nabu.flac", "en-gb_okay_nabu.flac", "en-us_alexa.flac", "en-us_hey_mycroft.flac"]
RNG = np.random.default_rng(1)
QUIET = {
    "silence": np.zeros(3 * RATE),
    "noise": RNG.standard_normal(3 * RATE) * 0.1,
    "tone": 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE),
    "hum": 0.5 * np.sign(np.sin(2 * np.pi * 50 * np.arange(3 * RATE) / RATE)),
}


@pytest.fixture(scope="module")
def silero() -> ServedModel:
    return shipped("speech-detector")


def scores_of_the_runtime(samples: Samples) -> list[float]:
    """ONNX Runtime alone, as the reference has it: 64 samples of before and 512 new ones, the last filled up with zeros."""
    session = onnxruntime.InferenceSession(ROOT / "models/speech-detector/silero_vad_16k_fp16w.onnx")
    sound = samples.astype(np.float32) / 32768
    sound = np.concatenate([sound, np.zeros(-len(sound) % 512, np.float32)])
    context, state = np.zeros((1, 64), np.float32), np.zeros((2, 1, 128), np.float32)
    scores = []
    for start in range(0, len(sound), 512):
        given = np.concatenate([context, sound[np.newaxis, start : start + 512]], axis=1)
        context = given[:, -64:]
        score, state = session.run(None, {"input": given, "state": state, "sr": np.array(RATE, np.int64)})
        scores.append(float(score[0, 0]))
    return scores


def silero_segments(scores: list[float], length: int, threshold: float = 0.5) -> list[tuple[float, float]]:
    """Silero VAD 6.2, `get_speech_timestamps`, written out for its defaults."""
    release, least, silence, pad = max(threshold - 0.15, 0.01), 0.25 * RATE, 0.1 * RATE, round(0.03 * RATE)
    found: list[list[int]] = []
    start = quiet = None
    for number, score in enumerate(scores):
        here = number * 512
        if score >= threshold:
            quiet = None
            if start is None:
                start = here
                continue
        if score < release and start is not None:
            quiet = here if quiet is None else quiet
            if here - quiet >= silence:
                if quiet - start > least:
                    found.append([start, quiet])
                start = quiet = None
    if start is not None and length - start > least:
        found.append([start, length])
    return [(max(0, start - pad) / RATE, min(length, end + pad) / RATE) for start, end in found]


@pytest.mark.parametrize("name", SPOKEN)
def test_scores_are_those_of_the_runtime(silero: ServedModel, name: str) -> None:
    samples = recorded(name)
    found = answer(silero, audio=sent(samples), scores=True)
    expected = scores_of_the_runtime(samples)
    assert found["step_s"] == 0.032
    np.testing.assert_allclose(found["scores"], expected, rtol=0, atol=1e-6)
    segments = [(one["start_s"], one["end_s"]) for one in found["segments"]]
    np.testing.assert_allclose(segments, silero_segments(expected, len(samples)), rtol=0, atol=1e-4)
    assert segments
    assert all(0.8 < one["score"] <= 1 for one in found["segments"])
    assert found["duration_s"] == pytest.approx(len(samples) / RATE, abs=1e-4)


@pytest.mark.parametrize("name", list(QUIET))
def test_there_is_no_speech_where_nobody_speaks(silero: ServedModel, name: str) -> None:
    found = answer(silero, audio=sent(QUIET[name]))
    assert (found["segments"], found["speaking"], found["speech_share"]) == ([], False, 0)


def test_a_sound_that_ends_in_a_word_is_told_so(silero: ServedModel) -> None:
    found = answer(silero, audio=sent(recorded("goforward.wav")[: int(1.5 * RATE)]))
    assert found["speaking"]
    assert found["segments"][-1]["end_s"] == 1.5
    assert "since_s" not in found
    assert "stream" not in found
    assert "scores" not in found


def test_the_threshold_is_an_argument(silero: ServedModel) -> None:
    assert answer(silero, audio=sent(recorded("goforward.wav")), threshold=1)["segments"] == []
    everything = answer(silero, audio=sent(recorded("goforward.wav")), threshold=0)["segments"]
    assert [(one["start_s"], one["end_s"]) for one in everything] == [(0, 2.7862)]


def followed(scores: list[float], config: SpeechOutput | None = None, threshold: float = 0.5) -> dict[str, Any]:
    """What a tracker tells of steps of 100 ms."""
    tracker = SpeechTracker(config or SpeechOutput(padding_ms=0), 1000)
    for number, score in enumerate(scores):
        tracker.follow(Step(score, 100 * number, 100 * number + 100), threshold)
    tracker.finish(100 * len(scores))
    return tracker.told()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], []),
        ([0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1], [(0.1, 0.4, 0.9)]),
        ([0.9, 0.4, 0.4, 0.4, 0.1, 0.1], [(0.0, 0.4, 0.525)]),  # above the release it goes on
        ([0.1, 0.4, 0.4, 0.4, 0.4], []),  # and does not begin
        ([0.9, 0.9, 0.1, 0.9, 0.9, 0.1, 0.1], [(0.0, 0.5, 0.74)]),  # 100 ms of silence are not over yet
        ([0.9, 0.9, 0.1, 0.1], []),  # 200 ms are too short
        ([0.1, 0.9, 0.9, 0.9], [(0.1, 0.4, 0.9)]),  # the end of the sound ends it
        ([0.9, 0.9, 0.9, 0.1, 0.1, 0.9, 0.9, 0.9, 0.1, 0.1], [(0.0, 0.3, 0.9), (0.5, 0.8, 0.9)]),
    ],
)
def test_speech_begins_and_ends_by_the_rule(scores: list[float], expected: list[tuple[float, float, float]]) -> None:
    found = [(one["start_s"], one["end_s"], one["score"]) for one in followed(scores)["segments"]]
    assert found == expected


def test_segments_are_padded_within_the_sound() -> None:
    config = SpeechOutput(padding_ms=50)
    assert followed([0.9, 0.9, 0.9, 0.1, 0.1, 0.1], config)["segments"] == [{"start_s": 0.0, "end_s": 0.35, "score": 0.9}]
    assert followed([0.1, 0.9, 0.9, 0.9], config)["segments"] == [{"start_s": 0.05, "end_s": 0.4, "score": 0.9}]
