"""A page of text in the terminal that is drawn again and again."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # another screen, no cursor, no wrapping
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def other_screen() -> Iterator[None]:
    """The terminal is given back as it was, however this ends."""
    _write(_ENTER)
    try:
        yield
    finally:
        _write(_LEAVE)


def draw(lines: Sequence[str]) -> None:
    """Over what is there, without a blank moment; what does not fit is cut."""
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    shown = [cut(line, columns) + "\x1b[K" for line in lines[:rows]] if columns and rows else list(lines)
    _write("\x1b[H" + "\n".join(shown) + "\x1b[J")


def cut(line: str, columns: int) -> str:
    """The first characters of a line; what colours it takes no place."""
    if len(_STYLE.sub("", line)) <= columns:
        return line
    styles = sum(len(style) for style in _STYLE.findall(line))
    return line[: columns + styles - 1] + "…"


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
