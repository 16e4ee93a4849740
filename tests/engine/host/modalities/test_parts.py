"""Pictures of any size, and parts of pictures."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_mcp.engine.host.modalities.image import ImageModality, read_picture
from edge_mcp.engine.host.modalities.placement import place
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ArgumentError, ModelError
from edge_mcp.repository.inputs import ImageInput

ANY = TensorSpec("x", "FP32", (-1, 3, -1, -1))
FINDER = ImageInput((0, 0), "proportional", layout="NCHW", min_side=736, max_side=960, multiple=32)
READER = ImageInput((0, 48), "proportional", layout="NCHW", min_side=48, max_side=2048, multiple=16)


def gradient(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("config", "size", "expected"),
    [
        (FINDER, (800, 420), (960, 512)),  # enlarged, but not beyond max_side
        (FINDER, (736, 736), (736, 736)),
        (FINDER, (4000, 3000), (960, 704)),  # 720 is between 704 and 736
        (FINDER, (20000, 10), (960, 32)),
        (FINDER, (10, 20000), (32, 960)),
        (FINDER, (1, 1), (736, 736)),
        (READER, (480, 48), (480, 48)),
        (READER, (500, 50), (480, 48)),
        (READER, (485, 48), (480, 48)),
        (READER, (490, 48), (496, 48)),
        (READER, (10, 100), (48, 48)),
        (READER, (20000, 10), (2048, 48)),
        (ImageInput((96, 0), "proportional"), (200, 100), (96, 48)),
        (ImageInput((0, 0), "proportional", max_side=100, multiple=32), (640, 480), (96, 64)),
        (ImageInput((0, 0), "proportional"), (640, 480), (640, 480)),
    ],
)
def test_a_picture_keeps_its_proportions(config: ImageInput, size: tuple[int, int], expected: tuple[int, int]) -> None:
    placement = place(config, size)
    assert (placement.resized, placement.offset, placement.box) == (expected, (0, 0), (0, 0, *size))


def test_the_tensor_is_as_large_as_the_picture_needs() -> None:
    prepared = ImageModality(FINDER, [ANY], Path()).prepare({"image": encoded(gradient(800, 420))}, [])
    assert prepared.tensors["x"].shape == (1, 3, 512, 960)


def test_a_part_is_what_the_picture_has_there() -> None:
    picture = gradient(200, 100)
    modality = ImageModality(ImageInput((40, 20), layout="NCHW"), [ANY], Path())
    prepared = modality.prepare_part(picture, (60, 30, 100, 50))
    assert np.array_equal(prepared.tensors["x"][0].transpose(1, 2, 0), np.asarray(picture, np.float32)[30:50, 60:100])
    corners = prepared.source.placement.to_original(np.array([[0, 0], [40, 20]]))
    assert corners.tolist() == [[60, 30], [100, 50]]


@pytest.mark.parametrize("fit", ["letterbox", "crop"])
def test_a_part_is_fitted_as_a_picture_is(fit: Any) -> None:
    picture = gradient(200, 100)
    modality = ImageModality(ImageInput((32, 32), fit, layout="NCHW"), [ANY], Path())
    cut = picture.crop((60, 30, 100, 50))
    alone = modality.prepare({"image": encoded(cut)}, []).tensors["x"]
    part = modality.prepare_part(picture, (60, 30, 100, 50)).tensors["x"]
    inside = (slice(None), slice(None), slice(9, 23), slice(1, 31))  # at the edges, resizing sees what is beside the part
    assert np.abs(alone[inside] - part[inside]).max() <= 2


def test_of_a_whole_picture_the_tensor_is_the_same() -> None:
    picture = gradient(333, 222)
    modality = ImageModality(FINDER, [ANY], Path())
    whole, decoded = (
        modality.prepare({"image": encoded(picture)}, []),
        modality.prepare_part(read_picture(encoded(picture), [])),
    )
    assert np.array_equal(whole.tensors["x"], decoded.tensors["x"])


def test_a_decoded_picture_is_upright_and_has_no_transparency() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(encoded(gradient(30, 20), "JPEG", exif=exif), []).size == (20, 30)
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert read_picture(encoded(clear), []).getpixel((0, 0)) == (255, 255, 255)
    assert read_picture(encoded(Image.new("1", (4, 4))), []).mode == "RGB"
    with pytest.raises(ArgumentError, match="truncated or corrupt"):
        read_picture(encoded(gradient(300, 200))[:400], [])


def test_a_model_of_one_size_takes_no_pictures_of_any() -> None:
    with pytest.raises(ModelError, match=r"takes one size only. Write it into input.size"):
        ImageModality(READER, [TensorSpec("x", "FP32", (1, 3, 48, 320))], Path())
    ImageModality(READER, [TensorSpec("x", "FP32", (1, 3, 48, -1))], Path())
    ImageModality(READER, [TensorSpec("x", "FP32", (), any_rank=True)], Path())
