"""What TFLite files say about themselves, and what a hostile one can do."""

import io
import random
import zipfile
from pathlib import Path

import pytest

from edge_mcp.repository.metadata import About
from edge_mcp.repository.tflite_metadata import MAX_FILE, of_tflite
from tests.repository.tflite import LABELS, metadata, with_metadata

FIXTURES = Path(__file__).parents[1] / "fixtures" / "models"
SINE = (FIXTURES / "sine_float.tflite").read_bytes()
TEXTS = {"name": "Birds", "description": "Says which bird.", "version": "v1", "author": "Ada", "license": "Apache-2.0"}


def about(tmp_path: Path, content: bytes) -> About:
    (tmp_path / "model.tflite").write_bytes(content)
    return of_tflite(tmp_path / "model.tflite")


def test_everything_that_the_metadata_says_is_read(tmp_path: Path) -> None:
    said = about(tmp_path, with_metadata(SINE, metadata(TEXTS), {LABELS: b"robin\nwren\n"}))
    assert said == About(
        title="Birds",
        description="Says which bird.",
        author="Ada",
        license="Apache-2.0",
        version="v1",
        labels=("robin", "wren"),
        scale=(127.5, 127.5),
        threshold=0.25,
        inputs=("image: The picture.",),
        outputs=("scores",),
    )


@pytest.mark.parametrize("name", ["sine_float", "hey_mycroft_int8", "mlp_int8", "BAD_static_quant_fails_to_prepare"])
def test_a_file_without_metadata_says_nothing(name: str) -> None:
    assert of_tflite(FIXTURES / f"{name}.tflite") == About()


def test_channels_that_are_normalized_apart_are_a_remark(tmp_path: Path) -> None:
    content = metadata({}, mean=(123.7, 116.3, 103.5), divisor=(58.4, 57.1, 57.4))
    said = about(tmp_path, with_metadata(SINE, content, {LABELS: b"a\nb"}))
    assert said.scale is None
    assert "each channel by itself: mean 123.7, 116.3, 103.5" in said.remarks[0]


@pytest.mark.parametrize("divisor", [(0.0,), (float("nan"),), (float("inf"),), ()])
def test_a_scale_that_cannot_be_is_left_out(tmp_path: Path, divisor: tuple[float, ...]) -> None:
    assert about(tmp_path, with_metadata(SINE, metadata({}, divisor=divisor), {LABELS: b"a\nb"})).scale is None


def test_control_characters_and_megabytes_are_cleaned_and_cut(tmp_path: Path) -> None:
    texts = {"name": 'x"\n[resources]\nthreads = 64\x1b[31m', "description": "y" * 500_000}
    said = about(tmp_path, with_metadata(SINE, metadata(texts), {LABELS: b"a\x00b\nc\x1bd\n"}))
    assert said.title == 'x" [resources] threads = 64\N{REPLACEMENT CHARACTER}[31m'
    assert len(said.description) == 500
    assert said.labels == ("a\N{REPLACEMENT CHARACTER}b", "c\N{REPLACEMENT CHARACTER}d")


def test_a_label_file_that_unpacks_to_a_gigabyte_is_not_unpacked(tmp_path: Path) -> None:
    said = about(tmp_path, with_metadata(SINE, metadata({}), {LABELS: b"a\n" * (20 * MAX_FILE)}))
    assert said.labels == ()
    assert "too large" in said.remarks[0]


def test_a_label_file_that_lies_about_its_size_is_not_unpacked(tmp_path: Path) -> None:
    content = bytearray(with_metadata(SINE, metadata({}), {LABELS: b"a\n" * (2 * MAX_FILE)}))
    true, small = (4 * MAX_FILE).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    assert content.count(true) >= 2  # in the file's own head, and in the directory
    said = about(tmp_path, bytes(content.replace(true, small)))
    assert said.labels == () or len("\n".join(said.labels)) <= 1000


def test_a_zip_of_very_many_files_is_not_read(tmp_path: Path) -> None:
    files = {f"{index}.txt": b"" for index in range(1000)} | {LABELS: b"a\nb"}
    said = about(tmp_path, with_metadata(SINE, metadata({}), files))
    assert said.labels == ()
    assert "too many files" in said.remarks[0]


def test_a_name_that_leads_out_of_the_folder_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\nlabels\n")
    for name in ("../secret", "/etc/passwd", str(tmp_path / "secret")):
        assert about(tmp_path, with_metadata(SINE, metadata({}, name), {LABELS: b"a\nb"})).labels == ()
    said = about(tmp_path, with_metadata(SINE, metadata({}, "../evil"), {"../evil": b"a\nb"}))
    assert said.labels == ("a", "b")
    assert not (tmp_path.parent / "evil").exists()


def test_an_encrypted_or_oddly_packed_label_file_is_a_remark(tmp_path: Path) -> None:
    buffer = io.BytesIO(with_metadata(SINE, metadata({}), {}))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr(LABELS, b"a\nb")
    assert "unusual" in about(tmp_path, buffer.getvalue()).remarks[0]


def test_no_torn_or_mangled_file_raises_anything(tmp_path: Path) -> None:
    whole = with_metadata(SINE, metadata(TEXTS), {LABELS: b"robin\nwren\n"})
    chance = random.Random(4)
    for round_ in range(600):
        mangled = bytearray(whole)
        for _ in range(chance.randint(1, 12)):
            mangled[chance.randrange(len(mangled))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        cut = chance.randrange(len(mangled)) if round_ % 3 == 0 else len(mangled)
        about(tmp_path, bytes(mangled[:cut]))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\xff" * 64, b"\x00" * 64, b"\x08\x00\x00\x00TFL3" + b"\xff" * 32])
def test_what_is_no_model_at_all_says_nothing(tmp_path: Path, content: bytes) -> None:
    assert not about(tmp_path, content).labels
