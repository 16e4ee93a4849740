"""What the benchmarks print: figures with their range, aims, the machine, the versions."""

import os
import platform
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # what the benchmarks import of edge_mcp itself is found by any Python


@dataclass(frozen=True)
class Figures:
    """Several measurements of one thing, shown as their median and range."""

    values: list[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def show(self, digits: int = 0) -> str:
        """The median and, in brackets, the range."""
        return f"{self.median:.{digits}f} ({min(self.values):.{digits}f}-{max(self.values):.{digits}f})"


@dataclass(frozen=True)
class Aim:
    """What an issue wants a figure to be: at most the limit, or at least."""

    what: str
    figure: float
    limit: float
    unit: str
    at_least: bool = False

    def show(self) -> str:
        """One line with the verdict."""
        met, sign = (self.figure >= self.limit, ">=") if self.at_least else (self.figure <= self.limit, "<=")
        verdict = "met" if met else "MISSED"
        return f"{verdict:<7} {self.what}: {self.figure:.3g} {self.unit}, aim {sign} {self.limit:g} {self.unit}"


def progress(text: str) -> None:
    """One line that replaces itself, when there is somebody to read it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def section(title: str, lines: list[str]) -> None:
    """A titled block of output."""
    print(f"\n{title}:\n", *lines, sep="\n")


def record(title: str, head: str, parts: list[tuple[str, list[str]]]) -> None:
    """Put results into README.md, in the place of the last ones of this title, up to the first line that begins with
    `Simulated`."""
    readme = ROOT / "scripts/bench/README.md"
    text = readme.read_text("utf-8")
    body = "\n".join([head, *(line for name, lines in parts for line in ("", f"{name}:", "", *lines)), ""])
    begin = f"## Last results: {title}\n"
    before, _, after = text.partition(begin)
    following = re.search(r"^(?=## |Simulated)", after, re.M)
    rest = f"\n{after[following.start() :]}" if following else ""
    readme.write_text(f"{before.rstrip()}\n\n{begin}{body}{rest}", "utf-8")


def machine() -> str:
    """What ran the measurement, without its name."""
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}, {pages / 2**30:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]} {platform.machine()}, load average {os.getloadavg()[0]:.1f}"
    )


def versions() -> str:
    """What both servers consist of."""
    code = (
        "import platform, sys; from importlib.metadata import version;"
        "print('Python ' + platform.python_version(), *(f'{name} {version(name)}' for name in sys.argv[1:]), sep=', ')"
    )

    def ask(venv: str, *packages: str) -> str:
        argv = (str(ROOT / venv / "bin/python"), "-c", code, *packages)
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    edge = ask(".venv", "edge-mcp", "onnxruntime", "ai-edge-litert", "numpy", "pillow", "aiohttp", "msgspec")
    return f"edge-mcp: {edge}; peer: {ask('.venv-bench', 'fastmcp-slim', 'mcp', 'uvicorn', 'onnxruntime', 'numpy', 'pillow')}"


def prepare() -> None:
    """See that both environments are there. Raises: OSError, CalledProcessError."""
    if not (ROOT / ".venv/bin/edge-mcp").exists():
        raise FileNotFoundError("edge-mcp is not installed in .venv; run scripts/setup")
    if not (ROOT / ".venv-bench" / "ready").exists():
        subprocess.run([ROOT / "scripts/bench/setup"], check=True, stdout=sys.stderr)
