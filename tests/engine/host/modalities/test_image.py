"""Whatever the file format, mode and orientation, the same picture gives the same answer."""

import base64
import io
import json
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_mcp.engine.host.modalities.image import ImageModality
from edge_mcp.engine.host.modalities.placement import place
from edge_mcp.engine.messages import Item, TensorSpec
from edge_mcp.errors import ArgumentError, ModelError
from edge_mcp.repository.inputs import ImageInput

Call = Callable[..., dict[str, Any]]
Encode = Callable[..., str]
Open = Callable[[str], Image.Image]
Refused = Callable[..., str]

ROTATIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
ONE_STEP = 0.03  # of the detector's quantized score


def modality(**changes: Any) -> ImageModality:
    config = ImageInput(**{"size": (8, 8), **changes})
    width, height = config.size
    shape = (1, height, width, 3) if config.layout == "NHWC" else (1, 3, height, width)
    return ImageModality(config, [TensorSpec("x", "FP32", shape)], Path())


def tensor(image: str, **changes: Any) -> np.ndarray[Any, Any]:
    return modality(**changes).prepare({"image": image}, []).tensors["x"]


def check_cup(answer: dict[str, Any]) -> None:
    best = answer["detections"][0]
    assert best["label"] == "Coffee cup"
    assert best["score"] == pytest.approx(0.5588, abs=ONE_STEP)
    assert best["box"] == pytest.approx(
        {"x_min": 171, "y_min": 27, "x_max": 429, "y_max": 324}, abs=50
    )  # another anchor may win


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("PNG", {}),
        ("WEBP", {"quality": 95}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("GIF", {}),
    ],
)
def test_formats(call: Call, picture: Open, encode: Encode, file_format: str, options: dict[str, Any]) -> None:
    check_cup(call("object-detector", image=encode(picture("coffee.png"), file_format, **options)))


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("RGBA", "WEBP"), ("P", "BMP"), ("YCbCr", "JPEG")],
)
def test_modes(call: Call, picture: Open, encode: Encode, mode: str, file_format: str) -> None:
    quantized: dict[str, Any] = {"palette": Image.Palette.ADAPTIVE} if mode == "P" else {}
    check_cup(call("object-detector", image=encode(picture("coffee.png").convert(mode, **quantized), file_format)))


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_is_the_same_at_any_depth(call: Call, picture: Open, encode: Encode, mode: str) -> None:
    grey = picture("camera.png").convert("L")
    if mode == "I;16":
        wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        assert wide.mode == "I;16"
    else:
        wide = grey.convert(mode)
    for name in ("object-detector", "face-detector"):
        plain = call(name, image=encode(picture("camera.png"), "PNG"))
        same = call(name, image=encode(wide, "PNG"))
        assert {**same, "inference_ms": 0} == {**plain, "inference_ms": 0}


def test_one_bit_pictures_are_black_and_white(picture: Open, encode: Encode) -> None:
    bits = picture("page.png").convert("1")
    assert (tensor(encode(bits, "PNG"), size=(384, 191)) == tensor(encode(bits.convert("RGB"), "PNG"), size=(384, 191))).all()


def png(width: int, height: int, depth: int, *data: bytes) -> str:
    """An RGB PNG put together by hand, for what Pillow does not write."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)), *((b"IDAT", one) for one in data)]
    parts = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def test_sixteen_bit_colour(call: Call, picture: Open) -> None:
    pixels = np.asarray(picture("coffee.png")).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    check_cup(call("object-detector", image=png(600, 400, 16, zlib.compress(rows, 1))))


def test_transparent_parts_are_white(encode: Encode) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((255, 0, 0, 128), (0, 0, 4, 8))
    values = tensor(encode(image, "PNG"))
    assert values[0, 4, 7].tolist() == [255, 255, 255]
    assert values[0, 4, 0] == pytest.approx([255, 127, 127], abs=1)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0] * 256)
    assert (tensor(encode(palette, "PNG", transparency=0)) == 255).all()
    assert (tensor(encode(Image.new("L", (8, 8), 7), "PNG", transparency=7)) == 255).all()


def test_cut_outs_are_recognised(call: Call, picture: Open, encode: Encode) -> None:
    cup = picture("coffee.png").convert("RGBA")
    mask = Image.new("L", cup.size, 0)
    mask.paste(255, (100, 0, 500, 400))
    cup.putalpha(mask)
    assert call("image-classifier", image=encode(cup, "PNG"))["label"] in ("espresso", "cup")


def test_only_the_first_frame_of_an_animation(call: Call, picture: Open, encode: Encode) -> None:
    frames = [picture("brick.png").resize((600, 400))]
    for file_format in ("GIF", "WEBP", "PNG"):
        moving = encode(picture("coffee.png"), file_format, save_all=True, append_images=frames)
        assert call("object-detector", image=moving)["detections"][0]["label"] == "Coffee cup"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["object-detector", "image-classifier", "face-detector"])
def test_orientations(call: Call, picture: Open, encode: Encode, name: str, orientation: int) -> None:
    upright = picture("astronaut.png").crop((0, 0, 512, 400))
    rotation = ROTATIONS[orientation]
    stored = upright.transpose(rotation) if rotation is not None else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = call(name, image=encode(upright, "PNG"))
    turned = call(name, image=encode(stored, "PNG", exif=exif))
    assert plain.get("image") == turned.get("image")
    for kind in ("detections", "labels", "faces"):
        for one, other in zip(plain.get(kind, [])[:1], turned.get(kind, [])[:1], strict=True):
            assert one.get("label") == other.get("label")
            assert one["score"] == pytest.approx(other["score"], abs=ONE_STEP)
            assert one.get("box", {}) == pytest.approx(other.get("box", {}), abs=8)


def test_orientation_turns_pixels_exactly(encode: Encode) -> None:
    upright = Image.fromarray(np.arange(8 * 6 * 3, dtype=np.uint8).reshape(6, 8, 3))
    expected = tensor(encode(upright, "PNG"), size=(8, 6))
    for orientation, rotation in ROTATIONS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = upright.transpose(rotation) if rotation is not None else upright
        assert (tensor(encode(stored, "PNG", exif=exif), size=(8, 6)) == expected).all(), orientation


def test_broken_metadata_does_not_matter(picture: Open, encode: Encode) -> None:
    assert tensor(encode(picture("page.png"), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")).shape == (1, 8, 8, 3)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_huge_photos_give_the_same_answer(call: Call, picture: Open, encode: Encode, scale: int) -> None:
    """They are decoded at a fraction of their size; the boxes still are pixels of the whole."""
    cup = picture("coffee.png")
    large = cup.resize((cup.width * scale, cup.height * scale), Image.Resampling.BICUBIC)
    answer = call("object-detector", image=encode(large, "JPEG", quality=90))
    assert answer["image"] == {"width": 600 * scale, "height": 400 * scale}
    best = answer["detections"][0]
    assert best["label"] == "Coffee cup"
    assert best["score"] == pytest.approx(0.5588, abs=ONE_STEP)
    assert best["box"]["x_min"] == pytest.approx(171 * scale, abs=8 * scale)
    assert call("image-classifier", image=encode(large, "JPEG"))["label"] == "espresso"


def test_layouts(encode: Encode) -> None:
    image = Image.new("RGB", (2, 2), (10, 20, 30))
    file = encode(image, "PNG")
    assert tensor(file, size=(2, 2), scale=(10.0, 10.0))[0, 0, 0].tolist() == [0, 1, 2]
    assert tensor(file, size=(2, 2), channels="BGR")[0, 0, 0].tolist() == [30, 20, 10]
    planes = tensor(file, size=(3, 2), layout="NCHW")
    assert planes.shape == (1, 3, 2, 3)
    assert planes[0, :, 0, 0].tolist() == [10, 20, 30]
    assert planes.flags.c_contiguous


CHANNELS: list[tuple[str, str, tuple[int, ...], list[Any]]] = [
    ("RGBA", "NHWC", (1, 1, 2, 4), [[[[10, 20, 30, 255], [10, 20, 30, 64]]]]),
    ("RGBA", "NCHW", (1, 4, 1, 2), [[[[10, 10]], [[20, 20]], [[30, 30]], [[255, 64]]]]),
    ("L", "NHWC", (1, 1, 2, 1), [[[[18], [196]]]]),
    ("L", "NCHW", (1, 1, 1, 2), [[[[18, 196]]]]),
    ("L", "NHWC", (1, 1, 2), [[[18, 196]]]),
    ("L", "NCHW", (-1, 1, -1), [[[18, 196]]]),
]


@pytest.mark.parametrize(("channels", "layout", "shape", "expected"), CHANNELS)
def test_four_channels_and_one(encode: Encode, channels: Any, layout: Any, shape: tuple[int, ...], expected: list[Any]) -> None:
    """With an alpha channel nothing becomes white; in grey, what shines through it does."""
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 64))
    config = ImageInput((2, 1), channels=channels, layout=layout)
    prepared = ImageModality(config, [TensorSpec("x", "FP32", shape)], Path()).prepare({"image": encode(image, "PNG")}, [])
    assert np.abs(prepared.tensors["x"] - np.array(expected)).max() <= 1


def test_opaque_pictures_have_an_opaque_fourth_channel(encode: Encode) -> None:
    config = ImageInput((4, 4), channels="RGBA", fit="letterbox")
    spec = TensorSpec("x", "UINT8", (1, 4, 4, 4))
    pixels = ImageModality(config, [spec], Path()).prepare({"image": encode(Image.new("L", (8, 4), 9), "PNG")}, []).tensors["x"]
    assert pixels[0, 1:3].tolist() == [[[9, 9, 9, 255]] * 4] * 2
    assert not pixels[0, [0, 3]].any()


def test_channels_that_the_model_has_not() -> None:
    for channels, shape in (("RGBA", (1, 2, 2, 3)), ("L", (1, 2, 2, 3)), ("RGB", (1, 2, 2, 1)), ("RGB", (1, 2, 2))):
        with pytest.raises(ModelError, match=r"but size, channels and layout make .*input\.channels"):
            ImageModality(ImageInput((2, 2), channels=channels), [TensorSpec("x", "FP32", shape)], Path())  # type: ignore[arg-type]


@pytest.mark.parametrize(("datatype", "value"), [("UINT8", 200), ("INT8", 72), ("FP16", 200)])
def test_the_models_dtype_is_met(encode: Encode, datatype: str, value: int) -> None:
    config = ImageInput((2, 2), scale=(128.0 if datatype == "INT8" else 0.0, 1.0))
    prepared = ImageModality(config, [TensorSpec("x", datatype, (1, 2, 2, 3))], Path()).prepare(
        {"image": encode(Image.new("RGB", (4, 4), (200, 200, 200)), "PNG")}, []
    )
    assert prepared.tensors["x"].tolist()[0][0][0] == [value] * 3


def test_letterbox_is_centred_on_black(encode: Encode) -> None:
    values = tensor(encode(Image.new("RGB", (40, 20), (255, 255, 255)), "PNG"), fit="letterbox")
    assert (values[0, 2:6] == 255).all()
    assert (values[0, :2] == 0).all()
    assert (values[0, 6:] == 0).all()


def test_crop_takes_the_centre(encode: Encode) -> None:
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    image.paste((0, 255, 0), (10, 0, 30, 20))
    assert (tensor(encode(image, "PNG"), fit="crop", crop_fraction=0.8)[0] == (0, 255, 0)).all()


@pytest.mark.parametrize("fit", ["letterbox", "crop", "stretch"])
@pytest.mark.parametrize("size", [(640, 427), (427, 640), (1, 3000), (3000, 1), (1, 1)])
def test_corners_lead_back(fit: Any, size: tuple[int, int]) -> None:
    placement = place(ImageInput((128, 96), fit=fit), size)
    left, top = placement.offset
    corners = np.array([(left, top), (left + placement.resized[0], top + placement.resized[1])], np.float32)
    assert placement.to_original(corners).reshape(-1) == pytest.approx(placement.box)
    outside = placement.to_original(np.array([(-1e6, -1e6), (1e6, 1e6)]))
    assert outside.tolist() == [[0, 0], list(size)]


def test_extreme_shapes_run(call: Call, encode: Encode) -> None:
    for size in ((1, 1), (1, 5000), (5000, 1)):
        for name in ("object-detector", "image-classifier", "face-detector"):
            for file_format in ("PNG", "JPEG"):
                call(name, image=encode(Image.new("RGB", size), file_format))


def test_too_many_pixels_are_refused_before_decoding(refused: Refused) -> None:
    for width, height in ((8000, 5001), (60_000, 60_000), (2**31 - 1, 2**31 - 1)):
        said = refused("object-detector", image=png(width, height, 8, b""))
        assert f"{width} x {height} pixels, more than 40 megapixels" in said


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_truncated(refused: Refused, picture: Open, encode: Encode, file_format: str) -> None:
    data = base64.b64decode(encode(picture("coffee.png"), file_format))
    for length in (len(data) // 2, len(data) // 10, 60, 20):
        said = refused("object-detector", image=base64.b64encode(data[:length]).decode())
        assert "truncated or corrupt" in said or "not a picture" in said


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_damaged_files_never_escape(picture: Open, encode: Encode, file_format: str, seed: int) -> None:
    data = bytearray(base64.b64decode(encode(picture("coffee.png").resize((60, 40)), file_format)))
    random = np.random.default_rng(seed)
    reader = modality()
    for _ in range(60):
        damaged = bytearray(data)
        for position in random.integers(0, len(data), 4):
            damaged[position] = random.integers(0, 256)
        try:
            reader.prepare({"image": base64.b64encode(damaged).decode()}, [])
        except ArgumentError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the picture is empty"),
        (b"GIF89a", "truncated or corrupt|not a picture"),
        (b"%PDF-1.7 and more", r"not a picture that can be read. Send a JPEG, PNG, WebP, BMP or GIF"),
        (b"II*\0\x08\0\0\0", "not a picture"),
        (b"P6 1 1 255\n\0\0\0", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not a picture"),
    ],
)
def test_no_pictures(data: bytes, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        modality().prepare({"image": base64.b64encode(data).decode()}, [])


def test_pillows_warnings_stay_inside(encode: Encode) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0] * 256)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reader = modality()
        reader.prepare({"image": encode(image, "PNG", transparency=bytes(range(256)))}, [])
    assert not caught


def test_the_models_input_must_be_the_manifests() -> None:
    config = ImageInput((8, 8))
    for inputs, said in (
        ([], "needs a model with one input; this one has 0"),
        ([TensorSpec("x", "FP32", (1, 3, 8, 8))], r"\[1, 3, 8, 8\].*\[1, 8, 8, 3\]"),
        ([TensorSpec("x", "INT64", (1, 8, 8, 3))], "is INT64"),
    ):
        with pytest.raises(ModelError, match=said):
            ImageModality(config, inputs, Path())
    ImageModality(config, [TensorSpec("x", "FP32", (-1, -1, -1, 3))], Path())


@pytest.mark.parametrize(
    ("file", "name", "size", "expected"),
    [
        ("coffee.png", "object-detector", (120, 80), (480, 320)),
        ("coffee.png", "object-detector", (600, 400), (600, 400)),
        ("astronaut.png", "face-detector", (3000, 3000), (1280, 1280)),
    ],
)
def test_annotate(
    served: Callable[[str], Any],
    picture: Open,
    encode: Encode,
    file: str,
    name: str,
    size: tuple[int, int],
    expected: tuple[int, int],
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = picture(file).resize(size).transpose(Image.Transpose.ROTATE_90)
    arguments = {"image": encode(sideways, "JPEG", exif=exif, quality=95), "annotate": True}
    outcome = served(name).run([Item(json.dumps(arguments).encode())], lambda stage: None)[0][0]
    block = json.loads(outcome.content)[1]
    assert (block["type"], block["mimeType"]) == ("image", "image/png")
    drawn = Image.open(io.BytesIO(base64.b64decode(block["data"])))
    assert (drawn.format, drawn.mode, drawn.size) == ("PNG", "RGB", expected)
    plain = np.asarray(picture(file).resize(expected)).astype(int)
    difference = np.abs(np.asarray(drawn).astype(int) - plain).sum(axis=2) > 150
    assert 0.002 < difference.mean() < 0.15
