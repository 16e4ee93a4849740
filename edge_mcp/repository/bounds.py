"""How large and how odd a `model.toml` may be: it may come from anywhere, and is parsed in the server."""

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_mcp.repository.inputs import BytesInput, Input, TextInput
from edge_mcp.repository.outputs import BlazefaceOutput, CtcOutput, Output, SoftmaxOutput, SsdOutput
from edge_mcp.repository.sections import Resources, Scheduling
from edge_mcp.repository.steps import Problem

MAX_BYTES = 128 * 1024
MAX_DOTS = 1000
"""In one line: the time that Python's parser takes grows with the square of a key's parts."""
_MAX_NUMBER = 2**64
_DAY_MS = 24 * 3600 * 1000
_YEAR_S = 366 * 24 * 3600
_MAX_STRIDES = 32
_MAX_RATIOS = 64
_MAX_INPUT = 16 * 1024 * 1024


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a plain file: one that is no file hangs nobody. Raises: ValueError (no file, too large), OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no plain file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than {most // 1024} KiB")
    return content


def text_problem(text: str) -> str:
    """Why a text is not even parsed, or nothing."""
    if len(text) > MAX_BYTES:
        return f"it is longer than {MAX_BYTES // 1024} KiB"
    if text.count(".") > MAX_DOTS and any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        return f"a line has more than {MAX_DOTS} dots: write lists on several lines"
    return ""


def odd_number(data: Any) -> bool:
    """Whether there is a number anywhere that is infinite or none, or that no 64 bits hold."""
    if isinstance(data, dict):
        return any(map(odd_number, data.values()))
    if isinstance(data, list):
        return any(map(odd_number, data))
    return isinstance(data, int | float) and not (math.isfinite(data) and abs(data) < _MAX_NUMBER)


def is_plain(name: str) -> bool:
    """Whether it names a file of the same folder, and nothing else."""
    plain = name not in ("", "..") and name.isprintable() and Path(name).name == name
    return plain and len(name.encode("utf-8", "surrogatepass")) <= 255


def resource_problems(scheduling: Scheduling, resources: Resources) -> Iterator[Problem]:
    """What types alone do not say of what a run may use."""
    yield (
        not 1 <= scheduling.deadline_ms <= _DAY_MS,
        "scheduling.deadline_ms",
        f"Write a positive number of milliseconds, at most {_DAY_MS}",
    )
    yield not 0 <= scheduling.max_batch_size <= 65_536, "scheduling.max_batch_size", "Write a number from 0 to 65536"
    yield not 1 <= resources.threads <= 64, "resources.threads", "Write a number from 1 to 64"
    yield not 0 <= resources.memory_mb <= 1024**2, "resources.memory_mb", f"Write megabytes from 0 to {1024**2}"
    yield not 0 <= resources.keep_loaded_s <= _YEAR_S, "resources.keep_loaded_s", f"Write seconds from 0 to {_YEAR_S}"


def part_problems(place: str, given: Input, output: Output) -> Iterator[Problem]:
    """What types alone do not say of the files and numbers of one model; `place` says which step it is, if any."""
    files = {"output.labels": output.labels} if isinstance(output, SsdOutput | SoftmaxOutput | CtcOutput) else {}
    if isinstance(given, TextInput):
        files["input.vocabulary"] = given.vocabulary
        yield not 1 <= given.max_bytes <= _MAX_INPUT, f"input.max_bytes{place}", f"Write a number from 1 to {_MAX_INPUT}"
    for key, file in files.items():
        yield not is_plain(file), f"{key} {file[:100]!r}{place}", "Name a file in this folder"
    if isinstance(given, BytesInput):
        sizes = (given.begin, given.end, given.block, given.min_bytes)
        yield not all(0 <= size <= _MAX_INPUT for size in sizes), f"input{place}", f"Write sizes from 0 to {_MAX_INPUT}"
        yield abs(given.padding) >= 2**31, f"input.padding{place}", "Write a token of the model"
    yield from _limit_problems(place, output)
    if isinstance(output, SsdOutput | BlazefaceOutput):
        yield from _anchor_problems(place, output)


def _limit_problems(place: str, output: Output) -> Iterator[Problem]:
    threshold: float = getattr(output, "threshold", 0.0)
    yield not 0 <= threshold <= 1, f"output.threshold{place}", "Write a number from 0 to 1"
    most: int = getattr(output, "max_results", 1)
    yield not 1 <= most <= 1000, f"output.max_results{place}", "Write a number from 1 to 1000"


def _anchor_problems(place: str, output: SsdOutput | BlazefaceOutput) -> Iterator[Problem]:
    strides = output.strides
    few = 1 <= len(strides) <= _MAX_STRIDES and all(1 <= stride <= 8192 for stride in strides)
    yield not few, f"output.strides{place}", f"Write 1 to {_MAX_STRIDES} strides, each from 1 to 8192 pixels"
    yield not 0 <= output.iou <= 1, f"output.iou{place}", "Write a number from 0 to 1"
    if isinstance(output, SsdOutput):
        ratios = output.aspect_ratios
        few = len(ratios) <= _MAX_RATIOS and all(0.001 <= ratio <= 1000 for ratio in ratios)
        yield not few, f"output.aspect_ratios{place}", f"Write at most {_MAX_RATIOS}, each from 0.001 to 1000"
        scales = (output.min_scale, output.max_scale)
        yield (
            not all(0 < scale <= 10 for scale in scales),
            f"output.min_scale or max_scale{place}",
            "Write parts of the picture",
        )
        yield 0 in output.variances, f"output.variances{place}", "They divide: neither must be 0"
