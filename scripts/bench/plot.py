"""Line plots as SVG, of the shapes that `edge-mcp models bench` draws with."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from edge_mcp.cli.models.chart import HEIGHT, WIDTH, Shape, svg, tick

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, FAINT = "#222222", "#D8D8D8"
_LEFT, _RIGHT, _BOTTOM, _TOP = 80.0, 20.0, 96.0, 44.0


@dataclass(frozen=True)
class Line:
    """Points by rising x; `steps`: a value holds until the next one."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    steps: bool = False


def lines_svg(title: str, across: str, up: str, lines: Sequence[Line]) -> str:
    """One panel with a legend below it; both axes begin at 0."""
    return svg([_text(WIDTH / 2, 26, title, "middle", 17), *panel(_TOP, HEIGHT - _BOTTOM, across, up, lines)])


def panel(top: float, bottom: float, across: str, up: str, lines: Sequence[Line]) -> list[Shape]:
    """The axes, lines and legend between two heights; the legend and the words below need 90 more."""
    right = WIDTH - _RIGHT
    widest = max(x for line in lines for x, _ in line.points)
    step, wide = tick(max(y for line in lines for _, y in line.points)), tick(widest)
    highest = step * ceil(max(y for line in lines for _, y in line.points) / step - 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        return round(_LEFT + (right - _LEFT) * x / widest, 1), round(bottom - (bottom - top) * y / highest, 1)

    drawn: list[Shape] = []
    for index in range(round(highest / step) + 1):
        _, y = place(0, index * step)
        drawn += [_line([(_LEFT, y), (right, y)], FAINT), _text(_LEFT - 8, y + 4, f"{index * step:g}", "end", 12)]
    for index in range(int(widest / wide + 1e-9) + 1):
        x, _ = place(index * wide, 0)
        drawn.append(_text(x, bottom + 18, f"{index * wide:g}", "middle", 12))
    drawn.append(_line([(_LEFT, top), (_LEFT, bottom), (right, bottom)], INK))
    drawn.append(_text((_LEFT + right) / 2, bottom + 38, across, "middle", 13))
    drawn.append(_text(_LEFT - 56, (top + bottom) / 2, up, "middle", 13, turned=True))
    for index, line in enumerate(lines):
        colour = INK if line.dashed else COLOURS[index % len(COLOURS)]
        points = [place(x, y) for x, y in line.points]
        if line.steps:
            points = [
                corner for one, two in zip(points, [*points[1:], points[-1]], strict=True) for corner in (one, (two[0], one[1]))
            ]
        drawn.append(_line(points, colour, line.dashed, 2))
        at = _LEFT + index * 150
        drawn += [_line([(at, bottom + 56), (at + 24, bottom + 56)], colour, line.dashed, 2)]
        drawn.append(_text(at + 30, bottom + 60, line.name, "start", 12))
    return drawn


def _line(points: Sequence[tuple[float, float]], colour: str, dashed: bool = False, width: int = 1) -> Shape:
    return {"shape": "line", "points": list(points), "colour": colour, "dashed": dashed, "width": width}


def _text(x: float, y: float, text: str, anchor: str, size: int, turned: bool = False) -> Shape:
    return {"shape": "text", "x": x, "y": y, "text": text, "anchor": anchor, "size": size, "colour": INK, "turned": turned}
