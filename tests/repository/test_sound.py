"""The keys of a `model.toml` that are about sound."""

import pytest

from edge_mcp.errors import ManifestError
from edge_mcp.repository.inputs import AudioInput
from edge_mcp.repository.manifest import parse
from edge_mcp.repository.outputs import SpeechOutput, WakeWordOutput

HEAD = '[model]\nname = "a"\nversion = "1.0.0"\nfile = "a.onnx"\n[tool]\nname = "a"\n'
AUDIO = '[input]\nkind = "audio"\nwindow = 512\n'
SPEECH = '[output]\ndecoder = "speech"\n'
WORD = '[output]\ndecoder = "wake_word"\nphrase = "x"\n'


def test_little_has_to_be_said() -> None:
    assert parse(HEAD + AUDIO + SPEECH).input == AudioInput(window=512)
    assert parse(HEAD + AUDIO + SPEECH).output == SpeechOutput()
    assert parse(HEAD + AUDIO + WORD).output == WakeWordOutput("x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[input]\nkind = "audio"\n' + SPEECH, "missing required field `window`"),
        (AUDIO + '[output]\ndecoder = "softmax"\nlabels = "a.txt"\n', '"audio" goes with the decoders'),
        ('[input]\nkind = "image"\nsize = [8, 8]\n' + SPEECH, '"audio" goes with the decoders'),
        (SPEECH, "output.decoder"),
        (AUDIO + "rate = 100\n" + SPEECH, "input.rate"),
        (AUDIO + 'features = "micro"\nrate = 8000\n' + WORD, '"micro" needs 16000'),
        (AUDIO + 'features = "micro"\ncontext = 64\n' + WORD, "input.context"),
        ('[input]\nkind = "audio"\nwindow = 0\n' + SPEECH, "input.window"),
        (AUDIO + "context = -1\n" + SPEECH, "input.context"),
        (AUDIO + "tail_ms = -1\n" + SPEECH, "input.tail_ms"),
        (AUDIO + "max_seconds = 0\n" + SPEECH, "input.max_seconds"),
        (AUDIO + "state = { h = 'hn' }\nconstants = { h = 1 }\n" + SPEECH, "h fed twice"),
        (AUDIO + "input = 'h'\nstate = { h = 'hn' }\n" + SPEECH, "h fed twice"),
        (AUDIO + SPEECH + "hysteresis = 2\n", "output.hysteresis"),
        (AUDIO + SPEECH + "min_speech_ms = -1\n", "from 0 to 60000"),
        (AUDIO + SPEECH + "padding_ms = 60\n", "at most half of min_silence_ms"),
        (AUDIO + WORD + "window = 0\n", "output.window"),
        (AUDIO + WORD + "pause_ms = 100000\n", "output.pause_ms"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(ManifestError) as wrong:
        parse(HEAD + text)
    assert said in str(wrong.value)
