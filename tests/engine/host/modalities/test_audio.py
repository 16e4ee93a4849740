"""The argument `audio`: what is heard the same in every format, and what is refused."""

import json
import struct
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mcp.engine.host.modalities import sound
from edge_mcp.engine.host.modalities.sound import Clip, RawFormat
from edge_mcp.engine.host.served import ServedModel
from edge_mcp.engine.messages import Item
from edge_mcp.errors import ArgumentError
from tests.sounds import RATE, Samples, answer, base64_of, file_of, raw, recorded, refusal, sent, shipped

SPEECH = recorded("goforward.wav")
REALS = SPEECH / 32768


@pytest.fixture(scope="module")
def silero() -> ServedModel:
    return shipped("speech-detector")


def segments(model: ServedModel, **arguments: Any) -> list[float]:
    found = answer(model, **arguments)["segments"]
    return [time for segment in found for time in (segment["start_s"], segment["end_s"])]


@pytest.mark.parametrize(
    ("kind", "subtype", "exact"),
    [
        ("WAV", "PCM_16", True),
        ("WAV", "PCM_24", True),
        ("WAV", "PCM_32", True),
        ("WAV", "FLOAT", True),
        ("WAV", "DOUBLE", True),
        ("WAVEX", "PCM_16", True),
        ("FLAC", "PCM_16", True),
        ("FLAC", "PCM_24", True),
        ("WAV", "PCM_U8", False),
        ("WAV", "ULAW", False),
        ("WAV", "ALAW", False),
        ("OGG", "VORBIS", False),
        ("OGG", "OPUS", False),
    ],
)
def test_every_format_is_heard(silero: ServedModel, kind: str, subtype: str, exact: bool) -> None:
    expected = answer(silero, audio=sent(SPEECH), scores=True)
    found = answer(silero, audio=sent(REALS, RATE, kind, subtype), scores=True)
    if exact:
        assert found["scores"] == expected["scores"]
    assert segments(silero, audio=sent(REALS, RATE, kind, subtype)) == pytest.approx([0.482, 2.302], abs=0.15)


def test_no_code_is_made_at_run_time_which_a_hardened_service_may_not(
    silero: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = sent(SPEECH)

    def refused(*_: object) -> None:
        raise MemoryError("Cannot allocate write+execute memory for ffi.callback()")  # as cffi says on ARM

    monkeypatch.setattr(soundfile.SoundFile, "_init_virtual_io", refused)
    assert segments(silero, audio=audio) == pytest.approx([0.482, 2.302], abs=0.15)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_rate_and_number_of_channels_is_heard(silero: ServedModel, rate: int, channels: int) -> None:
    resampled = soxr.resample(REALS.astype(np.float32), RATE, rate)
    several = np.repeat(resampled[:, np.newaxis], channels, axis=1)
    found = segments(silero, audio=sent(several, rate))
    assert found == pytest.approx([0.482, 2.302], abs=0.15)


def test_channels_are_mixed() -> None:
    left, right = np.full(100, 8192, np.int16), np.full(100, -16384, np.int16)
    clip = Clip(file_of(np.stack([left, right], axis=1)), None, 10)
    assert np.concatenate(list(clip.blocks())) == pytest.approx(np.full(100, -0.125))


def packed(coding: str) -> bytes:
    whole = SPEECH.astype(np.int32)
    match coding:
        case "s16le":
            return SPEECH.astype("<i2").tobytes()
        case "s16be":
            return SPEECH.astype(">i2").tobytes()
        case "s24le":
            return b"".join(struct.pack("<i", int(one) << 8)[:3] for one in whole)
        case "s32le":
            return (whole << 16).astype("<i4").tobytes()
        case "f32le":
            return REALS.astype("<f4").tobytes()
        case "u8":
            return ((whole >> 8) + 128).astype(np.uint8).tobytes()
        case _:
            riff = file_of(SPEECH, RATE, "WAV", {"mulaw": "ULAW", "alaw": "ALAW"}[coding])
            return riff[-len(SPEECH) :]


@pytest.mark.parametrize("coding", list(sound.RAW))
def test_raw_pcm_is_heard(silero: ServedModel, coding: str) -> None:
    data = base64_of(packed(coding))
    found = answer(silero, audio=data, rate=RATE, format=coding)
    assert found["duration_s"] == pytest.approx(len(SPEECH) / RATE, abs=1e-4)
    times = [time for segment in found["segments"] for time in (segment["start_s"], segment["end_s"])]
    assert times == pytest.approx([0.482, 2.302], abs=0.15)


@pytest.mark.parametrize("how", ["data:audio/wav;base64,{}", "data:;base64,{}", "{}"])
def test_base64_and_data_uris_are_taken(silero: ServedModel, how: str) -> None:
    assert segments(silero, audio=how.format(sent(SPEECH)))


def test_a_wav_of_unknown_length_is_read_to_its_end(silero: ServedModel) -> None:
    """As FFmpeg writes one into a pipe."""
    whole = bytearray(file_of(SPEECH))
    whole[4:8] = whole[40:44] = b"\xff\xff\xff\xff"
    assert answer(silero, audio=base64_of(bytes(whole)))["duration_s"] == pytest.approx(2.7862, abs=1e-3)


def test_a_flac_of_unknown_length_is_read_to_its_end(silero: ServedModel) -> None:
    """As an encoder writes one into a pipe: the 36 bits of STREAMINFO for the number of samples are 0."""
    whole = bytearray(file_of(SPEECH, RATE, "FLAC"))
    whole[21] &= 0xF0
    whole[22:26] = bytes(4)
    expected = answer(silero, audio=sent(SPEECH), scores=True)["scores"]
    assert answer(silero, audio=base64_of(bytes(whole)), scores=True)["scores"] == expected


def header(rate: int = RATE, channels: int = 1, data: bytes = b"\0" * 3200, coding: int = 1, bits: int = 16) -> str:
    """A WAV that says this of itself."""
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", coding, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return base64_of(b"RIFF" + struct.pack("<I", len(body)) + body)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"audio": ""}, "empty: it has no bytes"),
        ({"audio": sent(SPEECH[:0])}, "has no samples"),
        ({"audio": base64_of(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)}, "no sound that can be read. Send WAV, FLAC or OGG"),
        ({"audio": base64_of(SPEECH.tobytes())}, "raw PCM, with the argument rate"),
        ({"audio": base64_of(b"RIFF" + b"\0" * 60)}, "no sound that can be read"),
        ({"audio": base64_of(b"RIFF\0\0\0\0WAVE" + b"\0" * 60)}, "the WAV cannot be read"),
        ({"audio": base64_of(b"fLaC" + b"\0" * 60)}, "the FLAC cannot be read"),
        ({"audio": base64_of(b"OggS" + b"\0" * 60)}, "the OGG cannot be read"),
        ({"audio": header(rate=1)}, "1 samples a second. From 1000 to 384000"),
        ({"audio": header(rate=10_000_000)}, "10000000 samples a second"),
        ({"audio": header(channels=0)}, "cannot be read"),
        ({"audio": header(channels=1000, data=b"\0" * 20_000)}, "1000 channels. At most 32"),
        ({"audio": header(coding=2, bits=4)}, "is not read|cannot be read"),
        ({"audio": header(coding=3, bits=32, data=struct.pack("<f", float("nan")) * 800)}, "no numbers"),
        ({"audio": header(coding=3, bits=32, data=struct.pack("<f", float("inf")) * 800)}, "no numbers"),
        ({"audio": sent(SPEECH), "rate": 8000}, "argument rate is 8000, but the WAV says 16000"),
        ({"audio": base64_of(SPEECH.tobytes()[:-1]), "rate": RATE}, "no whole number of samples of s16le"),
        ({"audio": base64_of(SPEECH.tobytes()), "rate": 1}, "1 samples a second"),
        ({"audio": base64_of(SPEECH.tobytes()), "rate": 2**40}, "samples a second|cannot be read"),
        ({"audio": base64_of(bytes(4000)), "rate": RATE, "channels": 2000}, "channels|cannot be read"),
        ({"audio": base64_of(SPEECH.tobytes()), "rate": 0}, "argument rate must be at least 1"),
        ({"audio": base64_of(SPEECH.tobytes()), "rate": RATE, "format": "mp3"}, "argument format must be one of"),
        ({"audio": "data:audio/L16;rate=16000;base64," + base64_of(SPEECH.tobytes())}, "raw PCM needs the argument rate"),
        ({"audio": "https://example.org/a.wav"}, "fetches nothing"),
        ({"audio": sent(SPEECH), "treshold": 0.5}, "Did you mean threshold"),
    ],
)
def test_what_is_wrong_is_said(silero: ServedModel, arguments: dict[str, Any], said: str) -> None:
    error = refusal(silero, **arguments)
    assert any(one in error for one in said.split("|")), error


def test_values_beyond_one_are_clipped(silero: ServedModel) -> None:
    loud = (REALS * 1e30).astype(np.float32)
    answer(silero, audio=sent(loud, subtype="FLOAT"))
    clip = Clip(file_of(np.array([3e38, -3e38, 0.5], np.float32), subtype="FLOAT"), None, 10)
    assert list(next(clip.blocks())) == [1, -1, 0.5]


def test_a_sound_that_unpacks_to_hours_is_refused_before_it_is(silero: ServedModel) -> None:
    hour = np.zeros(3600 * 8000, np.int16)
    bomb = file_of(hour, 8000, "FLAC")
    assert len(bomb) * 50 < hour.nbytes
    assert "longer than 600 s. Send it in pieces" in refusal(silero, audio=base64_of(bomb))


def test_a_sound_that_hides_its_length_is_stopped() -> None:
    clip = Clip(file_of(np.zeros(30 * RATE, np.int16)), None, 10)
    with pytest.raises(ArgumentError, match="longer than 10 s"):
        clip.check()


def test_many_channels_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MAX_DECODED", 8 * RATE)
    Clip(file_of(np.zeros((RATE, 8), np.int16)), None, 10).check()
    with pytest.raises(ArgumentError, match="in its 9 channels"):
        Clip(file_of(np.zeros((RATE, 9), np.int16)), None, 10).check()


def test_a_file_that_was_cut_off_is_refused(silero: ServedModel) -> None:
    whole = file_of(SPEECH, RATE, "FLAC")
    for size in (100, 5000, len(whole) // 2, len(whole) - 2000):
        assert refusal(silero, audio=base64_of(whole[:size]))


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from([("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")]),
    cut=st.integers(0, 6000),
    changes=st.lists(st.tuples(st.integers(0, 5999), st.integers(0, 255)), max_size=12),
)
def test_damaged_files_are_heard_or_refused(kind: tuple[str, str], cut: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(FILES[kind])
    for place, value in changes:
        data[place % len(data)] = value
    judged(bytes(data[: max(12, len(data) - cut)]), None)


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=3000),
    rate=st.integers(1, 2**33),
    channels=st.integers(1, 4000),
    coding=st.sampled_from(list(sound.RAW)),
)
def test_any_bytes_are_heard_as_raw_pcm_or_refused(data: bytes, rate: int, channels: int, coding: str) -> None:
    judged(data, RawFormat(rate, channels, coding))


def judged(data: bytes, form: RawFormat | None) -> None:
    try:
        blocks: list[Samples] = list(Clip(data, form, 10).blocks())
    except ArgumentError as error:
        assert "0x" not in str(error)
        return
    for block in blocks:
        assert block.ndim == 1
        assert block.dtype == np.float32
        assert 0 < len(block) <= sound.BLOCK
        assert np.abs(block).max() <= 1


FILES = {
    (kind, subtype): file_of(REALS[8000:12_000], RATE, kind, subtype)
    for kind, subtype in [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
}


def test_how_far_a_long_sound_is_is_told(silero: ServedModel) -> None:
    told: list[tuple[int, int]] = []
    item = Item(json.dumps(raw(np.tile(SPEECH, 5))).encode())
    silero.run([item], lambda stage: None, lambda done, total: told.append((done, total)))
    assert [total for _, total in told] == [13] * len(told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (13, 13)
    assert len(told) >= 10
