"""What `edge-mcp top` shows, out of what a server tells: a page of text. Pure; a server's words are made printable."""

from collections.abc import Iterator
from typing import Any

import msgspec

from edge_mcp.cli.render import printable, table

_COLOURS = {"NOMINAL": "32", "WARM": "33", "HOT": "31", "CRITICAL": "1;31"}


class Why(msgspec.Struct):
    """A reason."""

    text: str = ""


class Memory(msgspec.Struct):
    """In MB."""

    available_mb: float = 0
    total_mb: float = 0


class Pressure(msgspec.Struct):
    """Per cent of the last 10 s in which some task waited."""

    some_10s: float = 0


class Throttling(msgspec.Struct):
    """What the firmware does."""

    now: list[str] = []


class Power(msgspec.Struct):
    """A battery."""

    on_battery: bool = False
    percent: float | None = None


class Signals(msgspec.Struct):
    """None: that device does not tell."""

    cpu_percent: float | None = None
    frequency_percent: float | None = None
    temperature_c: float | None = None
    throttling: Throttling | None = None
    memory: Memory | None = None
    pressure: dict[str, Pressure | None] = {}
    loop_lag_ms: float | None = None
    power: Power | None = None


class Budget(msgspec.Struct):
    """What is allowed."""

    lanes: int = 0
    slack: float = 0
    keepalive: float = 1
    deflate: str = ""
    kept: float = 1
    background: bool = True


class Load(msgspec.Struct):
    """`device://load`."""

    state: str
    budget: Budget
    signals: Signals
    since_s: float | None = None
    why: list[Why] = []
    queued: int = 0
    running: int = 0
    absent: list[str] = []


class Calls(msgspec.Struct):
    """Since the start."""

    answered: int = 0
    failed: int = 0


class Model(msgspec.Struct):
    """A model that is served."""

    name: str
    version: str = ""
    loaded: bool = False
    calls: Calls = msgspec.field(default_factory=Calls)
    inference_ms: float | None = None


class LoadedModel(msgspec.Struct):
    """A model in memory."""

    name: str
    memory_mb: float = 0


class Engine(msgspec.Struct):
    """A process that runs models."""

    models: list[LoadedModel] = []
    memory_mb: float | None = None


class Processes(msgspec.Struct):
    """Memory of the server."""

    server_mb: float | None = None


class Status(msgspec.Struct):
    """`device://status`."""

    version: str
    uptime_s: float
    models: list[Model]
    calls: Calls
    engines: list[Engine] = []
    memory: Processes = msgspec.field(default_factory=Processes)
    problems: list[str] = []


def page(address: str, load: Load, status: Status, colours: bool = False) -> list[str]:
    """The lines; `colours`: the state in its colour, for a terminal."""
    return [*_head(address, load, status, colours), "", *_signals(load), "", *_models(status)]


def _head(address: str, load: Load, status: Status, colours: bool) -> Iterator[str]:
    yield f"edge-mcp {printable(status.version)} at {printable(address)}, up {_time(status.uptime_s)}"
    state = printable(load.state)
    shown = f"\x1b[{_COLOURS[load.state]}m{state}\x1b[0m" if colours and load.state in _COLOURS else state
    since = "" if load.since_s is None else f" for {_time(load.since_s)}"
    why = "; ".join(printable(reason.text) for reason in load.why)
    yield f"state    {shown}{since}{f': {why}' if why else ''}"
    budget = load.budget
    background = "yes" if budget.background else "no"
    yield (
        f"budget   {budget.lanes} lanes, {budget.slack:.0%} of a deadline, keep-alive {budget.keepalive:g} times as long, "
        f"deflate {printable(budget.deflate)}, idle models kept {budget.kept:.0%} of their time, background work {background}"
    )
    calls = status.calls
    yield f"calls    {calls.answered} answered, {calls.failed} failed, {load.queued} waiting, {load.running} batches running"


def _signals(load: Load) -> Iterator[str]:
    told = load.signals
    processor = [
        *([] if told.cpu_percent is None else [f"{told.cpu_percent:g} % busy"]),
        *([] if told.frequency_percent is None else [f"at {told.frequency_percent:g} % of its frequency"]),
        *([] if told.temperature_c is None else [f"{told.temperature_c:.1f} °C"]),
        *([] if told.throttling is None else [printable(", ".join(told.throttling.now)) or "not throttled"]),
    ]
    yield f"cpu      {', '.join(processor) or 'not told'}"
    if (memory := told.memory) is not None:
        yield f"memory   {memory.available_mb:g} of {memory.total_mb:g} MB available"
    waits = [f"{printable(name)} {one.some_10s:g} %" for name, one in told.pressure.items() if one is not None]
    if waits:
        yield f"pressure {', '.join(waits)}"
    if told.loop_lag_ms is not None:
        yield f"lag      {told.loop_lag_ms:g} ms"
    if (power := told.power) is not None:
        level = "" if power.percent is None else f", {power.percent:g} %"
        yield f"power    {'battery' if power.on_battery else 'mains'}{level}"
    if load.absent:
        yield f"not told {printable(', '.join(load.absent))}"


def _models(status: Status) -> Iterator[str]:
    own = "" if status.memory.server_mb is None else f"server {status.memory.server_mb:.0f} MB"
    engines = [f"engine {engine.memory_mb or 0:.0f} MB" for engine in status.engines]
    yield f"taken    {', '.join([*([own] if own else []), *(engines or ['no engine'])])}"
    yield ""
    loaded = {model.name: model.memory_mb for engine in status.engines for model in engine.models}
    if status.models:
        yield from table([_row(model, loaded.get(model.name)) for model in status.models]).splitlines()
    else:
        yield "no models"
    for problem in status.problems:
        yield f"problem  {printable(problem)}"


def _row(model: Model, memory_mb: float | None) -> dict[str, Any]:
    return {
        "model": model.name,
        "version": model.version,
        "loaded": model.loaded,
        "MB": "" if memory_mb is None else f"{memory_mb:.1f}",
        "answered": model.calls.answered,
        "failed": model.calls.failed,
        "ms": "" if model.inference_ms is None else f"{model.inference_ms:.2f}",
    }


def _time(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{minutes} min {rest} s" if not hours else f"{hours} h {minutes} min"
