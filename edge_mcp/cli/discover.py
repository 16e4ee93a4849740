"""`edge-mcp discover`: the devices in the network."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence

from edge_mcp.cli.arguments import seconds
from edge_mcp.cli.options import Parser
from edge_mcp.cli.render import printable, table
from edge_mcp.cli.screen import draw, other_screen
from edge_mcp.cli.survey import Seen, Survey
from edge_mcp.client.known import KnownDevices
from edge_mcp.discovery.browse import Browser
from edge_mcp.errors import ConfigError

_SIGTERM_STATUS = 143
_DRAW_S = 0.1  # a flood of adverts is not a flood of pages
_WIDEST = 63


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        "discover",
        "Find the devices in this network: what they have, how busy they are, and whether they are who they were.",
        "edge-mcp discover --watch",
    )
    parser.add_argument("--watch", action="store_true", help="go on, and show what changes; Ctrl-C ends it")
    parser.add_argument("--json", action="store_true", help="for programs; with --watch a line for each change")
    parser.add_argument("--wait", metavar="SECONDS", type=seconds, default=2.0, help="how long to look, by default 2")
    parser.add_argument("--forget", metavar="NAME", help="forget what is known of a device: it is new again then")
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Look, or watch until Ctrl-C or SIGTERM. Raises: EdgeError."""
    known = KnownDevices()
    if options.forget is not None:
        print(_forgotten(known, options.forget))
        return 0
    wanted = {device.name.lower() for device in known.all()}
    try:
        return asyncio.run(_discover(options, known, wanted))
    except asyncio.CancelledError:
        return _SIGTERM_STATUS


def _forgotten(known: KnownDevices, name: str) -> str:
    """Raises: ConfigError."""
    devices = known.named(name)
    if not devices:
        names = ", ".join(sorted({device.name for device in known.all()})[:20])
        raise ConfigError(f"no device {name!r} is known here", f"Known are {names}" if names else "")
    if len(devices) > 1:
        ids = ", ".join(device.key for device in devices)
        raise ConfigError(f"{len(devices)} devices are known as {name}", f"Write the id of one: {ids}")
    known.forget(devices[0].key)
    return f"{printable(devices[0].name)} ({printable(devices[0].key)}) is forgotten: it is new again"


async def _discover(options: argparse.Namespace, known: KnownDevices, wanted: set[str]) -> int:
    """Raises: ConfigError."""
    changed = asyncio.Event()
    async with Browser(lambda name: name.lower() in wanted) as browser, Survey(browser, known, changed.set) as survey:
        if options.watch:
            await _watch(options, browser, survey, changed)
        await asyncio.sleep(options.wait)
        await survey.settle()
        devices = list(survey.seen.values())
        if options.json:
            print(json.dumps([seen.told() for seen in devices], indent=2 if sys.stdout.isatty() else None))
            return 0
        if browser.problem:
            raise ConfigError(browser.problem)
        print("\n".join(page(devices)) if devices else "no devices found")
        return 0


async def _watch(options: argparse.Namespace, browser: Browser, survey: Survey, changed: asyncio.Event) -> None:
    task = asyncio.current_task()
    assert task is not None, "this is one"  # noqa: S101
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if options.json or not sys.stdout.isatty():
        shown: dict[tuple[str, str], Seen] = {}
        while True:
            await changed.wait()
            changed.clear()
            for word, seen in changes(shown, survey.seen):
                line = json.dumps({"event": word, **seen.told()}) if options.json else _line(word, seen)
                print(line, flush=True)
            shown = dict(survey.seen)
    with other_screen():
        while True:
            devices = list(survey.seen.values())
            draw(page(devices) if devices else [browser.problem or "no devices found yet"])
            await changed.wait()
            changed.clear()
            await asyncio.sleep(_DRAW_S)


def page(devices: Sequence[Seen]) -> list[str]:
    """A table, and below it who is refused, and why."""
    rows = [_row(seen) for seen in devices]
    refused = [f"{printable(seen.label)} is refused: {printable(seen.refused)}" for seen in devices if seen.refused]
    return [*table(rows, _WIDEST).splitlines(), *([""] if refused else []), *refused]


def changes(before: dict[tuple[str, str], Seen], now: dict[tuple[str, str], Seen]) -> list[tuple[str, Seen]]:
    """What is another one, in a word each: found, changed, away, back, gone. How long it takes to connect is not."""
    told = [("gone", seen) for key, seen in before.items() if key not in now]
    for key, seen in now.items():
        was = before.get(key)
        # Told when it is known whether it answers: one line, not two.
        if was is None or not (was.rtt_ms or was.away):
            if seen.rtt_ms or seen.away:
                told.append(("found", seen))
        elif was.away != seen.away:
            told.append(("away" if seen.away else "back", seen))
        elif _facts(was) != _facts(seen):
            told.append(("changed", seen))
    return told


def _facts(seen: Seen) -> dict[str, object]:
    return {name: value for name, value in seen.told().items() if name != "rtt_ms"}


def _row(seen: Seen) -> dict[str, object]:
    found = seen.found
    return {
        "name": seen.label,
        "address": found.url.partition("://")[2].partition("/")[0],
        "tools": found.advert.tools,
        "load": seen.load,
        "security": seen.security,
        "ms": "away" if seen.away else f"{seen.rtt_ms:.2f}" if seen.rtt_ms else "",
    }


def _line(word: str, seen: Seen) -> str:
    row = {**_row(seen), "tools": f"{seen.found.advert.tools} tools"}
    row["ms"] = f"{row['ms']} ms" if seen.rtt_ms else row["ms"]
    parts = [f"{word:<7}", *(printable(value) for value in row.values() if value), printable(seen.refused)]
    return "  ".join(part for part in parts if part)
