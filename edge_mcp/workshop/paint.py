"""Shapes -> a PNG, as `edge_mcp.cli.models.chart` describes them."""

import base64
import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from edge_mcp.errors import ConfigError

_FINER = 2  # drawn larger and made smaller: Pillow's lines have no smooth edges
_DASH, _SPACE = 6, 4
_DOT = 3.5


def paint(drawn: Sequence[dict[str, Any]], width: int, height: int) -> str:
    """Base64 of the PNG. Raises: ConfigError."""
    canvas = Image.new("RGB", (width * _FINER, height * _FINER), "white")
    draw = ImageDraw.Draw(canvas)
    for shape in drawn:
        match shape["shape"]:
            case "line":
                _line(draw, shape)
            case "dot":
                draw.circle((shape["x"] * _FINER, shape["y"] * _FINER), _DOT * _FINER, fill=shape["colour"])
            case "text":
                _text(canvas, draw, shape)
            case other:
                raise ConfigError(f"there is no shape {other!r}")
    buffer = io.BytesIO()
    canvas.resize((width, height), Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _line(draw: ImageDraw.ImageDraw, shape: dict[str, Any]) -> None:
    points = [(x * _FINER, y * _FINER) for x, y in shape["points"]]
    width = shape["width"] * _FINER
    if not shape["dashed"]:
        draw.line(points, fill=shape["colour"], width=width, joint="curve")
        return
    for (x, y), (to_x, to_y) in pairwise(points):
        length = math.hypot(to_x - x, to_y - y) or 1.0
        for start in range(0, math.ceil(length), (_DASH + _SPACE) * _FINER):
            end = min(start + _DASH * _FINER, length)
            dash = [(x + (to_x - x) * at / length, y + (to_y - y) * at / length) for at in (start, end)]
            draw.line(dash, fill=shape["colour"], width=width)


def _text(canvas: Image.Image, draw: ImageDraw.ImageDraw, shape: dict[str, Any]) -> None:
    font = ImageFont.load_default(shape["size"] * _FINER)
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape["anchor"]]
    x, y = shape["x"] * _FINER, shape["y"] * _FINER
    if not shape["turned"]:
        draw.text((x, y), shape["text"], font=font, fill=shape["colour"], anchor=anchor)
        return
    left, top, right, bottom = (math.ceil(side) for side in font.getbbox(shape["text"]))
    label = Image.new("RGB", (right - left, bottom - top), "white")
    ImageDraw.Draw(label).text((-left, -top), shape["text"], font=font, fill=shape["colour"])
    turned = label.transpose(Image.Transpose.ROTATE_90)
    canvas.paste(turned, (round(x - turned.width / 2), round(y - turned.height / 2)))
