"""Models are proven where it harms nobody, and their predecessors' places are taken."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge_mcp.engine.engines import Engines
from edge_mcp.engine.messages import Described, Item, ModelSpec, Ran, Signature, TensorSpec
from edge_mcp.engine.watch import Tell
from edge_mcp.errors import EdgeError, EngineError, ModelError, RefusedError
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import Store, scan
from edge_mcp.repository.versions import Versions
from edge_mcp.tools.models import ModelCatalogue
from edge_mcp.tools.proving import ModelProver
from tests.repository.constants import constant, write

DESCRIBED = Described(Signature((TensorSpec("x", "FP32", (1,)),), (TensorSpec("y", "FP32", (1,)),)), "0" * 64)


class Trying:
    """An engine that fails as told, and remembers what was loaded and unloaded; and the one beside it."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.loaded: list[str] = []
        self.unloaded: list[str] = []
        self.beside: Trying | None = None

    @asynccontextmanager
    async def apart(self) -> AsyncIterator["Trying"]:
        assert self.beside is not None
        yield self.beside

    def is_ready(self, model: ModelSpec) -> bool:
        return model.key in self.loaded

    async def describe(self, path: str, signature: str = "") -> Described:
        return DESCRIBED

    async def load(self, model: ModelSpec) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.loaded.append(model.key)

    async def measure(self, model: ModelSpec) -> dict[int, float]:
        return {}

    async def unload(self, key: str) -> None:
        self.unloaded.append(key)
        if key in self.loaded:
            self.loaded.remove(key)

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        raise AssertionError("nothing is run")


class Device:
    """A catalogue of what is in a folder, and who proves what changes in it."""

    def __init__(self, folder: Path, *failures: Exception, preload: Sequence[str] = ()) -> None:
        self.folder = folder / "models"
        write(self.folder / "adder", 1)
        self.store = scan([self.folder])
        self.engine = Trying()
        self.engine.beside = Trying(*failures)
        signatures = Signatures(folder / "signatures")
        self.catalogue = ModelCatalogue(self.store, self.engine, signatures)
        self.prover = ModelProver(self.catalogue, self.engine, signatures, preload)
        self.released: list[str] = []
        self.catalogue.released = lambda entry: self.released.append(entry.key)

    def next(self, number: int) -> Store:
        """What the folder holds with another version in it."""
        write(self.folder / "adder", number)
        return _scanned(self.folder)

    @property
    def trial(self) -> Trying:
        assert self.engine.beside is not None
        return self.engine.beside


def _scanned(folder: Path) -> Store:
    versions = Versions(folder)
    for source in versions.candidates():
        versions.commit(versions.stage(source))
    return scan([folder])


async def test_a_proof_loads_in_an_engine_of_its_own(tmp_path: Path) -> None:
    device = Device(tmp_path)
    (entry,) = device.next(2).entries
    await device.prover.prove(entry)
    assert (device.trial.loaded, device.engine.loaded) == ([f"{entry.key} on trial"], [])


@pytest.mark.parametrize(
    ("failures", "raised"),
    [
        ([ModelError("torn")], ModelError),
        ([EngineError("it died"), RefusedError("it ends the engine")], RefusedError),
        ([EngineError("memory is short"), EngineError("memory is short")], EngineError),
    ],
)
async def test_what_ends_the_engine_is_told_from_an_engine_in_trouble(
    tmp_path: Path, failures: list[Exception], raised: type[EdgeError]
) -> None:
    device = Device(tmp_path, *failures)
    with pytest.raises(raised):
        await device.prover.prove(device.store.entries[0])
    assert device.trial.failures == []


@pytest.mark.parametrize("preload", [(), ("adder",)])
async def test_what_takes_the_place_of_a_loaded_model_is_loaded_before(tmp_path: Path, preload: Sequence[str]) -> None:
    device = Device(tmp_path, preload=preload)
    (old,) = device.store.entries
    tool = (await device.catalogue.tools())["adder"]
    if not preload:
        device.engine.loaded = [old.key]
    store = device.next(2)
    (new,) = store.entries
    await device.prover.prove(new)
    await device.prover.ready(new)
    assert new.key in device.engine.loaded
    before = await device.catalogue.tools()
    assert device.catalogue.swap(store)
    after = await device.catalogue.tools()
    assert after is not before
    assert after["adder"] is not tool
    while not device.released:
        await asyncio.sleep(0)
    assert (device.engine.unloaded, device.released) == ([old.key], [old.key])
    assert device.engine.loaded == [new.key]


async def test_what_stays_as_it_is_keeps_its_tool_and_what_was_not_loaded_is_not(tmp_path: Path) -> None:
    device = Device(tmp_path)
    (device.folder / "plus.onnx").write_bytes(constant(1))
    device.catalogue.swap(_scanned(device.folder))
    before = dict(await device.catalogue.tools())
    store = device.next(2)
    new = next(entry for entry in store.entries if not entry.bare)
    await device.prover.prove(new)
    await device.prover.ready(new)
    assert device.catalogue.swap(store)
    after = await device.catalogue.tools()
    assert after["plus"] is before["plus"]
    assert after["adder"] is not before["adder"]
    assert device.engine.loaded == []
    assert not device.catalogue.swap(store)


async def test_an_engine_apart_is_a_process_that_ends(tmp_path: Path) -> None:
    write(tmp_path / "models" / "adder", 1)
    store = scan([tmp_path / "models"])
    engines, signatures = Engines(1), Signatures(tmp_path / "signatures")
    prover = ModelProver(ModelCatalogue(store, engines, signatures), engines, signatures)
    try:
        await prover.prove(store.entries[0])
        assert (engines.pid, engines.loaded) == (None, frozenset())
    finally:
        await engines.close()
