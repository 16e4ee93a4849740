"""What is kept of a stream between calls: for whom, how many, how long; and pieces that give the same as the whole."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mcp.engine.host.decoders.speech import SpeechDecoder
from edge_mcp.engine.host.features import Windows
from edge_mcp.engine.host.modalities.audio import AudioModality
from edge_mcp.engine.host.recurrent import Recurrent
from edge_mcp.engine.host.runtimes.axes import Axes
from edge_mcp.engine.host.runtimes.base import RuntimeOptions
from edge_mcp.engine.host.runtimes.onnx import OnnxRuntime
from edge_mcp.engine.host.served import ServedModel
from edge_mcp.engine.host.streams import TTL_S, Streams
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import AudioInput
from edge_mcp.repository.manifest import parse, read
from edge_mcp.tools.arguments import input_schema
from tests.sounds import RATE, ROOT, SOUNDS, Samples, answer, raw, recorded, refusal, sent, shipped


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def kept(streams: Streams[list[str]], owner: str, name: str, end: bool = False) -> bool:
    """Use a stream; whether there was something of it."""
    with streams.using(owner, name) as use:
        use.state.append("used")
        use.keep = not end
        return not use.is_new


def test_a_stream_goes_on_for_its_owner_alone() -> None:
    streams: Streams[list[str]] = Streams(list)
    assert [kept(streams, "one", "a") for _ in range(3)] == [False, True, True]
    assert not kept(streams, "two", "a")
    assert not kept(streams, "one", "b")
    assert len(streams) == 3
    streams.clear()
    assert not kept(streams, "one", "a")


def test_the_end_and_a_failure_forget_a_stream() -> None:
    streams: Streams[list[str]] = Streams(list)
    assert [kept(streams, "one", "a", end=True) for _ in range(2)] == [False, False]
    kept(streams, "one", "a")
    with pytest.raises(ZeroDivisionError), streams.using("one", "a"):
        _ = 1 / 0
    assert len(streams) == 0
    broken: Streams[float] = Streams(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError), broken.using("one", "a"):
        raise AssertionError
    assert len(broken) == 0


def test_a_stream_that_is_not_used_is_forgotten_after_a_while() -> None:
    clock = Clock()
    streams: Streams[list[str]] = Streams(list, clock, ttl_s=10)
    kept(streams, "one", "a")
    for _ in range(5):
        clock.now += 9
        assert kept(streams, "one", "a")
    clock.now += 11
    assert not kept(streams, "two", "b")
    assert len(streams) == 1
    assert not kept(streams, "one", "a")


def test_the_least_recently_used_of_an_owner_makes_room() -> None:
    streams: Streams[list[str]] = Streams(list, per_owner=2, in_all=10)
    for name in ("a", "b", "a", "c"):
        kept(streams, "one", name)
    assert kept(streams, "one", "a")
    assert not kept(streams, "one", "b")


def test_who_has_most_makes_room_for_all() -> None:
    streams: Streams[list[str]] = Streams(list, per_owner=4, in_all=5)
    kept(streams, "modest", "a")
    for name in "abcd":
        kept(streams, "greedy", name)
    for owner in ("third", "fourth"):
        kept(streams, owner, "a")
    assert len(streams) == 5
    assert kept(streams, "modest", "a")
    assert kept(streams, "greedy", "c")
    assert kept(streams, "greedy", "d")


def test_one_call_at_a_time_has_a_stream() -> None:
    streams: Streams[list[int]] = Streams(list)
    inside: list[int] = []
    crowds: list[int] = []

    def use(number: int) -> None:
        for _ in range(50):
            with streams.using("one", "a") as use:
                inside.append(number)
                crowds.append(len(inside))
                use.state.append(number)
                use.keep = number > 0
                inside.pop()

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert crowds == [1] * 200


@pytest.fixture(scope="module")
def silero() -> ServedModel:
    return shipped("speech-detector")


@pytest.fixture(scope="module")
def nabu() -> ServedModel:
    return shipped("wake-word-detector")


TALK = np.concatenate([recorded("goforward.wav"), recorded("en-us_okay_nabu.flac")])
_names = iter(range(10**9))


def parted(samples: Samples, sizes: list[int]) -> list[Samples]:
    """Pieces of these sizes, over and over."""
    pieces, start, number = [], 0, 0
    while start < len(samples):
        size = sizes[number % len(sizes)]
        pieces.append(samples[start : start + size])
        start, number = start + size, number + 1
    return pieces


def in_pieces(model: ServedModel, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """What the calls of one stream answer, put together."""
    name = f"s{next(_names)}"
    last = len(pieces) - 1
    answers = [
        answer(model, **{**piece, "stream": name, "scores": True, "end": number == last}) for number, piece in enumerate(pieces)
    ]
    assert [one["stream"]["new"] for one in answers] == [True] + [False] * last
    assert [one["stream"]["ended"] for one in answers] == [False] * last + [True]
    return {
        "scores": [score for one in answers for score in one["scores"]],
        "segments": [segment for one in answers for segment in one.get("segments", [])],
        "detections": [detection for one in answers for detection in one.get("detections", [])],
        "position_s": answers[-1]["stream"]["position_s"],
    }


def same(model: ServedModel, whole: dict[str, Any], pieces: list[dict[str, Any]]) -> None:
    expected, found = answer(model, scores=True, **whole), in_pieces(model, pieces)
    assert found["scores"] == expected["scores"]
    assert found["segments"] == expected.get("segments", [])
    assert found["detections"] == expected.get("detections", [])
    assert found["position_s"] == pytest.approx(expected["duration_s"], abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 30_000), min_size=1, max_size=6), listens=st.sampled_from(["silero", "nabu"]))
def test_pieces_of_any_size_give_the_same_as_the_whole(
    silero: ServedModel, nabu: ServedModel, sizes: list[int], listens: str
) -> None:
    sizes = [*sizes, 4000]
    model = silero if listens == "silero" else nabu
    same(model, raw(TALK), [raw(piece) for piece in parted(TALK, sizes)])


def test_pieces_of_one_sample_give_the_same_as_the_whole(nabu: ServedModel, silero: ServedModel) -> None:
    short = recorded("goforward.wav")[8000:9100]
    for model in (nabu, silero):
        same(model, raw(short), [raw(piece) for piece in parted(short, [1])])


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30_000), min_size=1, max_size=4),
    rate=st.sampled_from([8000, 11_025, 22_050, 44_100, 48_000, 12_345]),
    channels=st.integers(1, 6),
)
def test_pieces_at_any_rate_give_the_same_as_the_whole(silero: ServedModel, sizes: list[int], rate: int, channels: int) -> None:
    """The very recording, said to be slower or faster: what matters is that it is resampled."""
    samples = np.repeat(TALK[:, np.newaxis], channels, axis=1)
    samples[::3, 0] = 0
    given = {"rate": rate, "channels": channels}
    same(silero, {**raw(samples), **given}, [{**raw(piece), **given} for piece in parted(samples, [*sizes, 9000])])


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16")])
def test_each_piece_may_be_a_file(nabu: ServedModel, kind: str, subtype: str) -> None:
    pieces = [{"audio": sent(piece, 44_100, kind, subtype)} for piece in parted(TALK, [1000, 30_001])]
    same(nabu, {"audio": sent(TALK, 44_100, kind, subtype)}, pieces)


def test_the_end_may_come_without_sound(silero: ServedModel) -> None:
    speech = recorded("goforward.wav")[: RATE * 3 // 2]
    first = answer(silero, stream="late", **raw(speech))
    assert first["speaking"]
    assert first["segments"] == []
    assert first["since_s"] == pytest.approx(0.48, abs=0.05)
    last = answer(silero, stream="late", audio="", end=True)
    assert [one["end_s"] for one in last["segments"]] == [1.5]
    assert last["stream"] == {"name": "late", "new": False, "position_s": 1.5, "ended": True}
    assert last["duration_s"] == 0


def test_streams_of_two_owners_do_not_meet(nabu: ServedModel) -> None:
    word = recorded("en-us_okay_nabu.flac")
    half = int(1.7 * RATE)
    answer(nabu, "one", stream="a", **raw(word[:half]))
    other = answer(nabu, "two", stream="a", **raw(word[half:]))
    assert other["stream"]["new"]
    assert not other["detected"]
    mine = answer(nabu, "one", stream="a", **raw(word[half:]))
    assert not mine["stream"]["new"]
    assert mine["detected"]


def test_what_was_unloaded_is_told_to_be_lost() -> None:
    word = recorded("en-us_okay_nabu.flac")
    for _ in range(2):
        model = shipped("wake-word-detector")
        assert answer(model, stream="a", **raw(word))["stream"]["new"]
        assert not answer(model, stream="a", **raw(word))["stream"]["new"]
        model.close()


def test_a_piece_that_is_wrong_changes_nothing(nabu: ServedModel) -> None:
    word = recorded("en-us_okay_nabu.flac")
    whole, half = answer(nabu, audio=sent(word), scores=True), int(1.7 * RATE)
    first = answer(nabu, stream="b", scores=True, **raw(word[:half]))
    damaged = file_in_half(word[half:])
    assert "damaged" in refusal(nabu, stream="b", audio=damaged)
    assert "the stream began with 16000" in refusal(nabu, stream="b", audio=sent(word[half:], 8000))
    assert "in 2" in refusal(nabu, stream="b", audio=sent(np.stack([word, word], axis=1)))
    last = answer(nabu, stream="b", scores=True, end=True, **raw(word[half:]))
    assert first["scores"] + last["scores"] == whole["scores"]


def file_in_half(samples: Samples) -> str:
    """A FLAC that was cut off."""
    encoded = sent(samples, kind="FLAC")
    return encoded[: len(encoded) // 8 * 4]


def test_a_stream_that_was_left_for_long_begins_anew() -> None:
    folder = ROOT / "models" / "speech-detector"
    described = read(folder)
    clock = Clock()
    model = OnnxRuntime().load(folder / described.model.file, RuntimeOptions())
    decoder = SpeechDecoder(described, model.outputs, folder)
    assert isinstance(described.input, AudioInput)
    runs = Recurrent(model, described.input, Windows, decoder, clock)
    schema = input_schema(described, None)
    served = ServedModel(model, AudioModality(described.input, model.inputs, folder), decoder, schema, runs)
    talk = raw(recorded("goforward.wav")[:RATE])
    told = []
    for pause in (0.0, TTL_S - 1, TTL_S - 1, TTL_S + 1):
        clock.now += pause
        told.append(answer(served, stream="a", **talk)["stream"])
    assert [(one["new"], one["position_s"]) for one in told] == [(True, 1), (False, 2), (False, 3), (True, 1)]
    served.close()


class Failing:
    """A model that fails at its third step."""

    inputs: Sequence[TensorSpec] = (TensorSpec("x", "FP32", (1, 512)),)
    outputs: Sequence[TensorSpec] = (TensorSpec("p", "FP32", (1, 1)),)
    metadata: Mapping[str, str] = {}
    signatures: Sequence[str] = ()
    batch_axes: Sequence[Axes] = ()
    steps = 0

    def infer(self, tensors: Mapping[str, Samples]) -> Mapping[str, Samples]:
        self.steps += 1
        if self.steps == 4:  # the first is the warm-up
            raise ModelError("out of luck")
        return {"p": np.full((1, 1), 0.5, np.float32)}

    def close(self) -> None: ...


def test_a_run_that_fails_closes_its_stream() -> None:
    described = parse(
        '[model]\nname = "a"\nversion = "1.0.0"\nfile = "a.onnx"\n[tool]\nname = "a"\n'
        '[input]\nkind = "audio"\nwindow = 512\n[output]\ndecoder = "speech"\n'
    )
    assert isinstance(described.input, AudioInput)
    model, folder = Failing(), Path()
    decoder = SpeechDecoder(described, model.outputs, folder)
    runs = Recurrent(model, described.input, Windows, decoder)
    served = ServedModel(
        model, AudioModality(described.input, model.inputs, folder), decoder, input_schema(described, None), runs
    )
    step = raw(np.zeros(512, np.int16))
    assert answer(served, stream="a", **step)["stream"]["new"]
    assert not answer(served, stream="a", **step)["stream"]["new"]
    said = refusal(served, stream="a", **step)
    assert said == "out of luck. The stream a is closed. Its next call begins it anew"
    assert answer(served, stream="a", **step)["stream"]["new"]


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "ä", "../a", "a\n", "a\0"])
def test_names_are_plain_and_short(nabu: ServedModel, name: str) -> None:
    assert "argument stream is" in refusal(nabu, stream=name, **raw(recorded("goforward.wav")))


def test_an_end_needs_a_stream(nabu: ServedModel) -> None:
    assert "argument end is for a stream" in refusal(nabu, end=True, **raw(recorded("goforward.wav")))


def test_files_under_a_root_are_read(silero: ServedModel, tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes((SOUNDS / "goforward.wav").read_bytes())
    assert answer(silero, roots=(str(tmp_path),), audio=clip.as_uri())["segments"]
