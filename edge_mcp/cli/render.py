"""Results for people: tables and lines out of any JSON object."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MAX_CELL = 60
_MAX_ITEMS = 8


def rendered(result: Mapping[str, Any]) -> str:
    """Lists of objects as tables; below them texts of several lines as they are, and everything else as `name: value`."""
    tables: list[str] = []
    texts: list[str] = []
    lines: list[str] = []
    for name, value in result.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            tables.append(table(value))
        elif isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values()):
            tables.append(table([{name: key, **item} for key, item in value.items()]))
        elif isinstance(value, list | dict | str) and not value:
            lines.append(f"{printable(name)}: nothing found")
        elif isinstance(value, str) and "\n" in value:
            texts.append("\n".join([f"{printable(name)}:", *(f"  {printable(line)}" for line in value.splitlines())]))
        else:
            lines.append(f"{printable(name)}: {_line(name, value)}")
    return "\n\n".join([*tables, *texts, "\n".join(lines)] if lines else [*tables, *texts])


def table(rows: Sequence[Mapping[str, Any]], widest: int = _MAX_CELL) -> str:
    """Rows with aligned columns, in the order in which their keys first come; text is cut after `widest` characters."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [_column(name, [row.get(name) for row in rows], widest) for name in names]
    lines = ("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))
    return "\n".join(lines)


def printable(text: Any) -> str:
    """Text without what a terminal would take for a command."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(str(text).split()))


def _column(name: str, values: Sequence[Any], widest: int) -> list[str]:
    """The header and the cells of a column, padded to one width: numbers to the right."""
    header, cells = name, [_cell(name, value, widest) for value in values]
    keys = {tuple(value) if isinstance(value, dict) else None for value in values}
    if len(keys) == 1 and (only := keys.pop()) and all(_is_flat(value) for value in values):
        header = f"{name} ({' '.join(only)})"
        cells = [*_aligned([[_cell(key, value[key]) for key in only] for value in values])]
    header = printable(header)
    width = max(map(len, [header, *cells]))
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return [cell.rjust(width) if numeric else cell.ljust(width) for cell in [header, *cells]]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Numbers under numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return (" ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _is_flat(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, int | float) for item in value.values())


def _line(name: str, value: Any) -> str:
    if isinstance(value, dict) and not any(isinstance(item, list | dict) for item in value.values()):
        return ", ".join(f"{printable(key)} {_cell(key, item)}" for key, item in value.items())
    return _cell(name, value)


def _cell(name: str, value: Any, widest: int = _MAX_CELL) -> str:
    """One value, shortened; what is nested deeper is only counted (--json has it all)."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float() | int() if name == "score" and 0 <= value <= 1:
            return f"{value:.1%}"
        case float():
            return _number(value)
        case list():
            return _items(value)
        case dict():
            return " ".join(_cell(key, item) for key, item in value.items()) if _is_flat(value) else str(len(value))
        case _:
            text = printable(value)
            return text if len(text) <= widest else f"{text[: widest - 1]}…"


def _number(value: float) -> str:
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.4g}" if abs(value) < 1 or abs(value) >= 1e15 else f"{value:.2f}".rstrip("0").rstrip(".")


def _items(values: Sequence[Any]) -> str:
    """The first of a list, nested lists flattened in brackets; of objects as many as there is room for."""
    more = f" … ({len(values)})" if len(values) > _MAX_ITEMS else ""
    if values and all(isinstance(value, dict) for value in values):
        shown = ", ".join(_object(value) for value in values[:_MAX_ITEMS]) + more
        return shown if len(shown) <= _MAX_CELL else f"{shown[: _MAX_CELL - 1]}…"
    return (
        " ".join(f"[{_items(value)}]" if isinstance(value, list) else _cell("", value) for value in values[:_MAX_ITEMS]) + more
    )


def _object(value: Mapping[str, Any]) -> str:
    """A label with its score, or keys and values in brackets; what is nested deeper is only counted."""
    if not value or any(isinstance(item, list | dict) for item in value.values()):
        return str(len(value))
    if "label" in value:
        return " ".join(_cell(key, item) for key, item in value.items())
    return f"[{', '.join(f'{printable(key)} {_cell(key, item)}' for key, item in value.items())}]"
