"""Draws boxes, labels and points onto a picture."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from PIL import Image, ImageDraw, ImageFont

_MIN_SIDE = 480  # a smaller picture is enlarged, so that its labels can be read
_FONT_SHARE = 40  # the longest side over this is the font's size: 12 px at 480, 32 px at 1280
_LINE_SHARE = 320
# Strong, distinct, and all light enough for black text (Okabe & Ito 2008, without black).
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0096E0", "#D55E00", "#CC79A7")


@dataclass(frozen=True, slots=True)
class Mark:
    """What to draw, in pixels of the original: a box (`x_min` …), its label, and points (`x`, `y`)."""

    box: Mapping[str, float]
    label: str
    score: float
    points: Sequence[Mapping[str, float]] = ()


def annotate(picture: Image.Image, size: tuple[int, int], marks: Sequence[Mark]) -> bytes:
    """`picture` (RGB) with `marks`, as PNG; `size` is that of the original, to which the marks' pixels refer."""
    enlarged = _enlarge(picture)
    longest = max(enlarged.size)
    draw = ImageDraw.Draw(enlarged)
    font = ImageFont.load_default(longest / _FONT_SHARE)
    line = max(2, longest // _LINE_SHARE)
    across, down = enlarged.width / size[0], enlarged.height / size[1]
    for mark in reversed(marks):  # the best comes last and lies on top
        colour = _COLOURS[crc32(mark.label.encode()) % len(_COLOURS)]
        left, top = mark.box["x_min"] * across, mark.box["y_min"] * down
        right, bottom = mark.box["x_max"] * across, mark.box["y_max"] * down
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=line)
        for point in mark.points:
            draw.circle((point["x"] * across, point["y"] * down), 1.5 * line, fill=colour)
        _write(draw, f"{mark.label} {mark.score:.0%}", (left, top), colour, font)
    buffer = io.BytesIO()
    enlarged.save(buffer, "PNG")
    return buffer.getvalue()


def _enlarge(picture: Image.Image) -> Image.Image:
    longest = max(picture.size)
    if longest >= _MIN_SIDE:
        return picture.copy()
    scale = _MIN_SIDE / longest
    return picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.BILINEAR
    )


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    colour: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """`text` on a plate above `corner`, or below it where the picture ends, moved left as far as needed."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font)
    pad = (bottom - top) / 4
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    limit = draw.im.size[0]
    x = max(0, min(corner[0], limit - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + pad - left, y + pad - top), text, fill="black", font=font)
