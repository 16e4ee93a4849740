"""What a wrong key or word in a `model.toml` is answered with."""

import pytest

from edge_mcp.errors import ManifestError
from edge_mcp.repository.manifest import parse

LEAST = """
[model]
name = "a"
version = "1.0.0"
file = "a.onnx"
[tool]
name = "t"
"""
SOFTMAX = '[output]\ndecoder = "softmax"\nlabels = "x"\n'


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[tol]\nx = 1", "Did you mean 'tool'?"),
        ("[xyz]\nx = 1", "The sections are model, tool, input"),
        ('[output]\ndecoder = "sofmax"', "Did you mean 'softmax'? output.decoder is one of ssd, blazeface, softmax"),
        ('[output]\ndecodr = "softmax"\nlabels = "x"', "Did you mean 'decoder' where it says 'decodr'?"),
        ('[output]\nlabels = "x"', 'Write decoder = "…", one of ssd'),
        ('[input]\nkind = "imgae"', "Did you mean 'image'? input.kind is one of image"),
        ('[input]\nkind = "image"\nsize = [1, 2]\nlayout = "NHCW"', "Did you mean 'NHWC'? input.layout is one of NHWC, NCHW"),
        (SOFTMAX + "thresold = 1", "Did you mean 'threshold'?"),
        (SOFTMAX + "iou = 0.5", '\'iou\' is a key of [output] with decoder = "ssd" or "blazeface"'),
        ("[scheduling]\nthreads = 2", "'threads' is a key of [resources]"),
        ("[scheduling]\nthread = 1", "Did you mean 'threads' of [resources]? The keys of [scheduling] are deadline_ms"),
        ("[resources]\nkeep_load_s = 3", "Did you mean 'keep_loaded_s'?"),
        ("[resources]\nzzz = 1", "The keys of [resources] are threads"),
        ("[[check]]\nargs = {}", "Did you mean 'arguments'?"),
        ("[check]\narguments = {}", "Write [[check]]"),
        ("[model.x]\ny = 1", "The keys of [model] are name, version, file"),
    ],
)
def test_the_nearest_right_one_is_named(more: str, said: str) -> None:
    with pytest.raises(ManifestError) as wrong:
        parse(LEAST + more)
    assert wrong.value.hint.startswith(said)


def test_what_is_missing_is_said_with_its_place() -> None:
    for text, said in (
        ("", "Write [model] with name and version"),
        (LEAST.partition("[tool]")[0], "Write [tool] with name"),
        (LEAST.replace('version = "1.0.0"\n', ""), "Write version = … below [model]"),
    ):
        with pytest.raises(ManifestError) as wrong:
            parse(text)
        assert wrong.value.hint == said


def test_a_key_above_the_first_section_is_led_to_its_own() -> None:
    with pytest.raises(ManifestError) as wrong:
        parse("threads = 2\n" + LEAST)
    assert wrong.value.hint == "'threads' is a key of [resources]"


@pytest.mark.parametrize(
    "word",
    ["a`b", "a" * 100_000, "' - at `$.model`", "\\n\\u0000", "`$.output.decoder`"],
)
def test_no_word_breaks_the_search(word: str) -> None:
    for text in (f'{LEAST}[output]\ndecoder = "{word}"', f'{LEAST}["{word}"]\nx = 1', f'{LEAST}[resources]\n"{word}" = 1'):
        with pytest.raises(ManifestError):
            parse(text)


def test_a_table_too_deep_to_read_is_no_valid_toml() -> None:
    with pytest.raises(ManifestError, match="not valid TOML"):
        parse("a = " + "[" * 100_000)
