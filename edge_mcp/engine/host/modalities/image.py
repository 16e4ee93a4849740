"""The argument `image` -> the tensor of a picture; with annotate.py the only module that imports Pillow."""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError, WebPImagePlugin

from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.modalities.payload import read_payload
from edge_mcp.engine.host.modalities.placement import Box, ImageSource, Placement, place
from edge_mcp.engine.host.runtimes.base import DATATYPES, Array
from edge_mcp.engine.host.runtimes.checks import fits, shown, takes
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ArgumentError, ModelError
from edge_mcp.repository.inputs import ImageInput

# Pillow itself imports its commonest plugins, and on meeting the name of any other all 50 of them: 2 MB.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", WebPImagePlugin.WebPImageFile.format)
# Decoded, 40 megapixels are 120 MB in RGB: what a board of 512 MB can just hold, and more than its cameras take.
MAX_PIXELS = 40_000_000
PICTURE_SIDE = 1280  # an annotated picture's longest side: large enough to read, small enough for a model's context
_ORIENTATION = 0x0112  # EXIF 2.32, 4.6.4
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_CHANNELS = {"RGB": 3, "BGR": 3, "RGBA": 4, "L": 1}
_WHITE = (255, 255, 255)

Picture = Image.Image


class ImageModality:
    """Decodes, orients, fits and scales a picture.

    Transparent parts become white, unless the model takes them as a fourth channel: behind cut-outs it is the usual ground, and
    dark drawings without a ground stay visible. Colour profiles are not applied.
    """

    def __init__(self, config: ImageInput, inputs: Sequence[TensorSpec], folder: Path) -> None:
        """Raises: ModelError when the model's input is no picture of the manifest's size."""
        self._config = config
        self._mode = "RGB" if config.channels == "BGR" else config.channels  # Pillow's name of what is resized
        self._spec = _picture_input(config, inputs)
        # Pillow's own bounds are a warning and an error at other sizes; MAX_PIXELS is checked before anything is decoded.
        Image.MAX_IMAGE_PIXELS = None
        warnings.filterwarnings("ignore", module=r"PIL\.")

    def prepare(self, arguments: Mapping[str, Any], roots: Sequence[Path]) -> Prepared:
        """Tensor: [1, height, width, channels] or [1, channels, height, width] of the model's dtype; of one channel perhaps
        without that dimension, as the model has it. Raises: ArgumentError."""
        data = read_payload(arguments["image"], roots)
        with open_picture(data) as picture:
            orientation = _orientation(picture)
            placement = place(self._config, _turned(picture.size, orientation))
            fitted = self._fit(picture, placement, orientation)
        drawable = _thumbnail(data, orientation) if arguments.get("annotate") else None
        return Prepared({self._spec.name: self._tensor(fitted)}, ImageSource(placement, drawable))

    def _fit(self, picture: Image.Image, placement: Placement, orientation: int) -> Image.Image:
        # Turning comes last, when the picture is small: fitting is symmetric, so only the sides have to be swapped.
        sideways = orientation in _SIDEWAYS
        left, top, right, bottom = placement.box
        box = (top, left, bottom, right) if sideways else placement.box
        resized = placement.resized[::-1] if sideways else placement.resized
        fitted = _resize(picture, resized, _RESAMPLE[self._config.resample], box, self._mode)
        return self._padded(_turn(fitted, orientation), placement)

    def prepare_part(self, picture: Image.Image, part: Box | None = None) -> Prepared:
        """As `prepare`, of a `part` (left, top, right, bottom in pixels) of a picture that `read_picture` has decoded."""
        placement = place(self._config, picture.size, part)
        fitted = picture.resize(placement.resized, _RESAMPLE[self._config.resample], placement.box).convert(self._mode)
        return Prepared({self._spec.name: self._tensor(self._padded(fitted, placement))}, ImageSource(placement))

    def _padded(self, fitted: Image.Image, placement: Placement) -> Image.Image:
        if fitted.size == self._config.size or self._config.fit == "proportional":
            return fitted
        canvas = Image.new(self._mode, self._config.size)
        canvas.paste(fitted, placement.offset)
        return canvas

    def _tensor(self, picture: Image.Image) -> Array:
        shift, divisor = self._config.scale
        pixels = (np.asarray(picture, np.float32) - np.float32(shift)) / np.float32(divisor)
        if self._mode == "L" and len(self._spec.shape) != 3:
            pixels = pixels[..., np.newaxis]
        if self._config.channels == "BGR":
            pixels = pixels[..., ::-1]
        if self._config.layout == "NCHW" and pixels.ndim == 3:
            pixels = pixels.transpose(2, 0, 1)
        dtype = DATATYPES[self._spec.datatype]
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            pixels = np.clip(np.rint(pixels), limits.min, limits.max)
        return np.ascontiguousarray(pixels[np.newaxis], dtype)


def read_picture(text: str, roots: Sequence[Path]) -> Image.Image:
    """The whole picture that an argument carries or names, upright, in RGB. Raises: ArgumentError."""
    with open_picture(read_payload(text, roots)) as picture:
        orientation = _orientation(picture)
        plain = _decoded(picture)
        return _turn(plain if plain.mode == "RGB" else _on_white(plain), orientation)


def white_picture(size: tuple[int, int]) -> Image.Image:
    """A picture of nothing."""
    return Image.new("RGB", size, _WHITE)


def thumbnail(picture: Image.Image) -> Image.Image:
    """A decoded picture at the size for drawing on."""
    return picture.resize(_thumbnail_size(picture.size), Image.Resampling.BILINEAR)


def open_picture(data: bytes) -> Image.Image:
    """Read a picture's header. Raises: ArgumentError (not a picture, or too large to decode)."""
    if not data:
        raise ArgumentError("the picture is empty: it has no bytes")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ArgumentError(
            f"{len(data)} bytes that begin with {data[:8]!r} are not a picture that can be read",
            "Send a JPEG, PNG, WebP, BMP or GIF",
        ) from None
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(error) from error
    if picture.width * picture.height > MAX_PIXELS:
        raise ArgumentError(
            f"the picture has {picture.width} x {picture.height} pixels, more than {MAX_PIXELS // 1_000_000} megapixels",
            "Send a smaller one: the model needs far less",
        )
    return picture


def _resize(
    picture: Image.Image,
    size: tuple[int, int],
    resample: Image.Resampling,
    box: tuple[float, float, float, float],
    mode: str = "RGB",
) -> Image.Image:
    """The part `box` of the whole picture in `mode` at `size`. Raises: ArgumentError (truncated or corrupt)."""
    width, height = picture.size
    needed = [
        2 * side * whole / part
        for side, whole, part in zip(size, picture.size, (box[2] - box[0], box[3] - box[1]), strict=True)
    ]
    plain = _decoded(picture, (int(needed[0]) + 1, int(needed[1]) + 1))
    across, down = plain.width / width, plain.height / height
    scaled = (box[0] * across, box[1] * down, min(box[2] * across, plain.width), min(box[3] * down, plain.height))
    resized = plain.resize(size, resample, scaled)
    return resized.convert("RGBA") if mode == "RGBA" else _on_white(resized).convert(mode)


def _decoded(picture: Image.Image, needed: tuple[int, int] | None = None) -> Image.Image:
    """See `_plain`; of a JPEG where less is `needed` than there is perhaps smaller. Raises: ArgumentError."""
    try:
        if needed is not None:
            # A JPEG can be decoded at 1/2, 1/4 or 1/8: what is left is at least twice the size wanted, so the answer stays.
            picture.draft(None, needed)
        picture.load()
        return _plain(picture)
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(error) from error


def _plain(picture: Image.Image) -> Image.Image:
    """In L, RGB or RGBA, which all can be resized."""
    if picture.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion would clip to 255 instead of scaling
        wide = np.asarray(picture)
        return Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    if picture.mode in ("L", "RGB"):
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    ground = Image.new("RGB", picture.size, _WHITE)
    ground.paste(picture, mask=picture.getchannel("A"))
    return ground


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - broken metadata does not make the picture unusable
        return 1
    return value if value in _TRANSPOSE else 1


def _turn(picture: Image.Image, orientation: int) -> Image.Image:
    return picture.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else picture


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size[::-1] if orientation in _SIDEWAYS else size


def _thumbnail(data: bytes, orientation: int) -> Image.Image:
    """The upright picture, for drawing on; decoded anew, because the model's was decoded no larger than it needs."""
    with open_picture(data) as picture:
        width, height = picture.size
        size = _thumbnail_size(picture.size)
        return _turn(_resize(picture, size, Image.Resampling.BILINEAR, (0, 0, width, height)), orientation)


def _thumbnail_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, PICTURE_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _broken(error: Exception) -> ArgumentError:
    return ArgumentError(f"the picture is truncated or corrupt: {' '.join(str(error).split())[:200]}", "Send the whole file")


def _picture_input(config: ImageInput, inputs: Sequence[TensorSpec]) -> TensorSpec:
    if len(inputs) != 1:
        raise ModelError(f'input.kind = "image" needs a model with one input; this one has {len(inputs)}')
    spec = inputs[0]
    width, height = (side or -1 for side in config.size)
    channels = _CHANNELS[config.channels]
    shape = (1, height, width, channels) if config.layout == "NHWC" else (1, channels, height, width)
    flat = channels == 1 and fits(spec.shape, (1, height, width))
    if not flat and not takes(spec, shape):
        raise ModelError(
            f"input {shown(spec.name)} has shape {list(spec.shape)}, but size, channels and layout make {list(shape)}",
            "Correct input.size, input.channels or input.layout in model.toml",
        )
    first = 1 if config.layout == "NHWC" or flat else 2  # the dimension of the height
    if not spec.any_rank and any(side == -1 != known for side, known in zip((height, width), spec.shape[first:], strict=False)):
        raise ModelError(
            f"input {shown(spec.name)} has shape {list(spec.shape)}: this model takes one size only",
            "Write it into input.size, with another input.fit; or correct input.layout",
        )
    if spec.datatype not in ("FP32", "FP16", "UINT8", "INT8"):
        raise ModelError(f"input {spec.name!r} is {spec.datatype}", "A picture can be FP32, FP16, UINT8 or INT8")
    return spec
