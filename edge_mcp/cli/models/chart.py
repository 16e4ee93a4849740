"""Two small plots side by side, as shapes: latency and throughput by batch size, a line for each number of threads."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edge_mcp.engine.curve import Point

WIDTH, HEIGHT = 960, 480
_LEFT, _TOP, _PANEL_WIDTH, _PANEL_HEIGHT, _GAP = 80, 84, 360, 290, 110
# Distinct to all eyes (Okabe & Ito 2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK, _FAINT = "#222222", "#D8D8D8"

Curves = Mapping[int, Sequence[Point]]
"""Threads -> what was measured with so many."""
Shape = dict[str, Any]
"""`line` (points, colour, dashed), `dot` (x, y, colour) or `text` (x, y, text, anchor, size, turned)."""


def shapes(title: str, subtitle: str, curves: Curves, knees: Mapping[int, int] | None = None) -> list[Shape]:
    """The whole picture, `WIDTH` by `HEIGHT` pixels; `knees` are batch sizes that are marked, by threads."""
    drawn = [_text(WIDTH / 2, 28, title, "middle", 18), _text(WIDTH / 2, 48, subtitle, "middle", 12)]
    sizes = sorted({point.batch for points in curves.values() for point in points})
    latencies = [[(point.batch, point.p50_ms) for point in points] for points in curves.values()]
    slowest = [[(point.batch, point.p95_ms) for point in points] for points in curves.values()]
    rates = [[(point.batch, point.items_per_s) for point in points] for points in curves.values()]
    marked = [(knees or {}).get(threads) for threads in curves]
    drawn += _panel(_LEFT, "latency of a batch (ms)", sizes, latencies, slowest, [])
    drawn += _panel(_LEFT + _PANEL_WIDTH + _GAP, "throughput (items/s)", sizes, rates, [], marked)
    return drawn + _legend(list(curves))


def svg(drawn: Sequence[Shape]) -> str:
    """The shapes as an SVG file."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *map(_element, drawn),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(
    left: float,
    label: str,
    sizes: Sequence[int],
    solid: Sequence[Any],
    dashed: Sequence[Any],
    marked: Sequence[int | None],
) -> list[Shape]:
    bottom = _TOP + _PANEL_HEIGHT
    step = tick(max(value for line in [*solid, *dashed] for _, value in line))
    highest = step * math.ceil(max(value for line in [*solid, *dashed] for _, value in line) / step)
    across = {size: left + _PANEL_WIDTH * (index + 0.5) / len(sizes) for index, size in enumerate(sizes)}

    def place(point: tuple[int, float]) -> tuple[float, float]:
        return round(across[point[0]], 1), round(bottom - _PANEL_HEIGHT * point[1] / highest, 1)

    drawn: list[Shape] = []
    for index in range(round(highest / step) + 1):
        y = round(bottom - _PANEL_HEIGHT * index * step / highest, 1)
        drawn.append(_line([(left, y), (left + _PANEL_WIDTH, y)], _FAINT))
        drawn.append(_text(left - 8, y + 4, f"{index * step:g}", "end", 12))
    drawn += [_text(x, bottom + 20, str(size), "middle", 12) for size, x in across.items()]
    drawn.append(_line([(left, _TOP), (left, bottom), (left + _PANEL_WIDTH, bottom)], _INK))
    drawn.append(_text(left + _PANEL_WIDTH / 2, bottom + 42, "batch size (items)", "middle", 13))
    drawn.append(_text(left - 58, _TOP + _PANEL_HEIGHT / 2, label, "middle", 13, turned=True))
    for lines, is_dashed in ((dashed, True), (solid, False)):
        for index, line in enumerate(lines):
            colour = _COLOURS[index % len(_COLOURS)]
            points = [place(point) for point in line]
            drawn.append(_line(points, colour, is_dashed, 2))
            drawn += [{"shape": "dot", "x": x, "y": y, "colour": colour} for x, y in points]
    for index, (line, knee) in enumerate(zip(solid, marked, strict=False)):
        drawn += _knee([place(point) for point in line if point[0] == knee], bottom, _COLOURS[index % len(_COLOURS)])
    return drawn


def _knee(at: Sequence[tuple[float, float]], bottom: float, colour: str) -> list[Shape]:
    """From the knee down to its batch size, with the word above."""
    marks = [[_line([(x, y), (x, bottom)], colour, True, 1), _text(x, y - 10, "knee", "middle", 12)] for x, y in at]
    return [shape for mark in marks for shape in mark]


def _legend(threads: Sequence[int]) -> list[Shape]:
    y, x = HEIGHT - 24.0, float(_LEFT)
    drawn: list[Shape] = []
    for index, count in enumerate(threads):
        drawn.append(_line([(x, y - 4), (x + 26, y - 4)], _COLOURS[index % len(_COLOURS)], False, 2))
        drawn.append(_text(x + 32, y, f"{count} thread{'s' * (count != 1)}", "start", 12))
        x += 116
    drawn += [_line([(x, y - 4), (x + 26, y - 4)], _INK, False, 2), _text(x + 32, y, "median", "start", 12)]
    drawn += [_line([(x + 110, y - 4), (x + 136, y - 4)], _INK, True, 2), _text(x + 142, y, "95th percentile", "start", 12)]
    return drawn


def tick(highest: float) -> float:
    """A round step that makes about five of `highest`: 1, 2 or 5 times a power of ten."""
    rough = max(highest, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _line(points: Sequence[tuple[float, float]], colour: str, dashed: bool = False, width: int = 1) -> Shape:
    return {"shape": "line", "points": list(points), "colour": colour, "dashed": dashed, "width": width}


def _text(x: float, y: float, text: str, anchor: str, size: int, turned: bool = False) -> Shape:
    return {"shape": "text", "x": x, "y": y, "text": text, "anchor": anchor, "size": size, "colour": _INK, "turned": turned}


def _element(shape: Shape) -> str:
    match shape["shape"]:
        case "line":
            points = " ".join(f"{x:g},{y:g}" for x, y in shape["points"])
            dashes = ' stroke-dasharray="6 4"' if shape["dashed"] else ""
            return (
                f'<polyline points="{points}" fill="none" stroke="{shape["colour"]}" stroke-width="{shape["width"]}"{dashes}/>'
            )
        case "dot":
            return f'<circle cx="{shape["x"]:g}" cy="{shape["y"]:g}" r="3.5" fill="{shape["colour"]}"/>'
        case _:
            turn = f' transform="rotate(-90 {shape["x"]:g} {shape["y"]:g})"' if shape["turned"] else ""
            place = f'x="{shape["x"]:g}" y="{shape["y"]:g}" font-size="{shape["size"]}" text-anchor="{shape["anchor"]}"'
            return f'<text {place} fill="{shape["colour"]}"{turn}>{escape(shape["text"])}</text>'
