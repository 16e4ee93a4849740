"""What `edge-mcp discover` knows of devices that are found, and says when that is another."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from edge_mcp.cli import survey
from edge_mcp.cli.discover import changes
from edge_mcp.cli.survey import Survey
from edge_mcp.client.known import KnownDevices
from edge_mcp.discovery.advert import Advert
from edge_mcp.discovery.browse import Browser
from edge_mcp.discovery.found import Found


class Heard:
    """What a browser has found, as a test says."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Found] = {}
        self.changed: list[Callable[[], None]] = []

    def tell(self, device: Found) -> None:
        self.found[device.name, device.id] = device
        for changed in self.changed:
            changed()


async def test_a_device_that_moves_is_the_one_that_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "EVERY_S", 0.02)
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_server(("127.0.0.1", 0)) as closed:
        device = Found("kitchen-3f2a", "3f2a" * 4, Advert("3f2a" * 4), ("127.0.0.1",), listening.getsockname()[1])
        nowhere = closed.getsockname()[1]
        closed.close()
        said: list[str] = []
        async with Survey(cast(Browser, heard), KnownDevices(tmp_path / "devices.json")) as seen:
            before = dict(seen.seen)

            async def until(*words: str) -> None:
                nonlocal before
                async with asyncio.timeout(30):
                    while said[-len(words) :] != list(words):
                        said.extend(word for word, _ in changes(before, seen.seen))
                        before = dict(seen.seen)
                        await asyncio.sleep(0.005)

            heard.tell(device)
            await until("found")
            heard.tell(replace(device, port=nowhere))
            await until("found", "changed", "away")
            heard.tell(device)
            await until("away", "changed", "back")
    assert said == ["found", "changed", "away", "changed", "back"]
