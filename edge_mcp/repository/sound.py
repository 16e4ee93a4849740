"""What types alone do not say of the keys in a `model.toml` that are about sound."""

from collections.abc import Iterator

from edge_mcp.repository.inputs import AudioInput, Input
from edge_mcp.repository.outputs import Output, SpeechOutput, WakeWordOutput
from edge_mcp.repository.steps import Problem

_LISTENERS = (SpeechOutput, WakeWordOutput)
_MICRO_RATE = 16000  # the only one that the front end of TensorFlow Lite Micro is made for here
_MAX_STEP = 16 * 60 * 16000


def sound_problems(place: str, given: Input, output: Output) -> Iterator[Problem]:
    """`place` says which step they belong to, if any."""
    is_audio, listens = isinstance(given, AudioInput), isinstance(output, _LISTENERS)
    yield is_audio != listens, f"output.decoder{place}", 'input.kind = "audio" goes with the decoders "speech" and "wake_word"'
    if isinstance(given, AudioInput):
        yield from _audio_problems(place, given)
    if isinstance(output, SpeechOutput):
        yield not 0 <= output.hysteresis <= 1, f"output.hysteresis{place}", "Write a number from 0 to 1"
        times = (output.min_speech_ms, output.min_silence_ms, output.padding_ms)
        yield not all(0 <= one <= 60_000 for one in times), f"output{place}", "Write times from 0 to 60000 ms"
        too_wide = 2 * output.padding_ms > output.min_silence_ms
        yield too_wide, f"output.padding_ms{place}", "Write at most half of min_silence_ms: segments must not overlap"
    if isinstance(output, WakeWordOutput):
        yield not 1 <= output.window <= 1000, f"output.window{place}", "Write a number of steps from 1 to 1000"
        yield not 0 <= output.pause_ms <= 60_000, f"output.pause_ms{place}", "Write a time from 0 to 60000 ms"


def _audio_problems(place: str, given: AudioInput) -> Iterator[Problem]:
    micro = given.features == "micro"
    yield not 4000 <= given.rate <= 96_000, f"input.rate{place}", "Write samples a second from 4000 to 96000"
    yield micro and given.rate != _MICRO_RATE, f"input.rate{place}", f'features = "micro" needs {_MICRO_RATE}'
    yield micro and given.context != 0, f"input.context{place}", 'It goes with features = "samples"'
    yield not 1 <= given.window <= _MAX_STEP, f"input.window{place}", f"Write a number from 1 to {_MAX_STEP}"
    yield not 0 <= given.context <= _MAX_STEP, f"input.context{place}", f"Write a number of samples from 0 to {_MAX_STEP}"
    yield not 0 <= given.tail_ms <= 10_000, f"input.tail_ms{place}", "Write a time from 0 to 10000 ms"
    yield not 1 <= given.max_seconds <= 36_000, f"input.max_seconds{place}", "Write a number of seconds from 1 to 36000"
    twice = set(given.state) & set(given.constants) or {given.input} & {*given.state, *given.constants}
    yield bool(twice), f"input{place}: {', '.join(sorted(twice))} fed twice", "Name it in one of input, state and constants"
