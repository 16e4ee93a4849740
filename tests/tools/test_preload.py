"""Models that are loaded at the start."""

import asyncio
from pathlib import Path

import pytest

from edge_mcp.engine.engines import Engines
from edge_mcp.engine.keeper import Keeper
from edge_mcp.engine.memory import DeviceMemory
from edge_mcp.engine.room import Limits
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import Store, scan
from edge_mcp.tools.models import ModelCatalogue
from edge_mcp.tools.preload import preload
from tests.processes import ROOT, serving


@pytest.fixture(scope="module")
def store() -> Store:
    return scan([ROOT / "models"])


async def loaded(store: Store, names: list[str], folder: Path, keeper: Keeper | None = None) -> frozenset[str]:
    engine = Engines(1, keeper)
    try:
        await preload(store, ModelCatalogue(store, engine, Signatures(folder)), engine, names)
        return engine.loaded
    finally:
        await engine.close()


async def test_what_is_named_is_loaded_and_a_wrong_name_is_answered_with_the_nearest(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await loaded(store, ["language-detector", "face-detektor"], tmp_path) == {"language-detector"}
    assert "there is no model 'face-detektor'. Did you mean 'face-detector'?" in caplog.text


async def test_without_names_no_engine_is_started(store: Store, tmp_path: Path) -> None:
    engine = Engines(1)
    await preload(store, ModelCatalogue(store, engine, Signatures(tmp_path)), engine, [])
    assert engine.pid is None
    await engine.close()


async def test_what_does_not_fit_is_told(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(limits=Limits(DeviceMemory(), 30, 0))
    assert await loaded(store, ["language-detector"], tmp_path, keeper) == frozenset()
    assert "preload: language-detector needs" in caplog.text
    assert "not in memory" in caplog.text


async def test_a_server_loads_what_its_flags_name_keeps_it_and_gives_the_rest_back() -> None:
    flags = ("--stdio", "--keep-loaded-s", "1", "--preload", "language-detector", "--models", "models")
    async with serving(*flags) as served:
        async with asyncio.timeout(20):
            while not [line for line in served.log if "language-detector@" in line and " loaded in " in line]:
                await asyncio.sleep(0.01)
        engine = served.engine_pid()
        assert engine is not None
        await served.call("identify_file", data="aGVsbG8gd29ybGQsIGhlbGxvIHdvcmxkCg==")
        async with asyncio.timeout(20):
            while not [line for line in served.log if "file-identifier@" in line and line.endswith(" unloaded")]:
                assert (await served.ask("tools/list"))["result"]["tools"]
                await asyncio.sleep(0.02)
        assert served.engine_pid() == engine


async def test_a_server_that_nobody_calls_is_alone_again_whatever_is_listed_and_read() -> None:
    async with serving("--stdio", "--keep-loaded-s", "1", "--models", "models") as served:
        for _ in range(2):
            result = await served.call("detect_language", text="Wo ist der Bahnhof?")
            assert result["structuredContent"]["label"] == "de"
            assert served.engine_pid() is not None
            async with asyncio.timeout(20):
                while served.engine_pid() is not None:
                    for method, params in (("tools/list", {}), ("resources/read", {"uri": "device://status"})):
                        assert "result" in await served.ask(method, **params)
                    await asyncio.sleep(0.02)
