"""What is shown of the engines."""

import msgspec


class LoadedModel(msgspec.Struct, frozen=True):
    """A model in memory. `memory_mb` is what it was measured to take, in units of 2^20 bytes."""

    key: str
    name: str
    version: str
    memory_mb: float
    idle_s: float
    preloaded: bool


class EngineStatus(msgspec.Struct, frozen=True):
    """An engine: its process while there is one, the key of the model that it is kept for (None: the shared one), how many runs
    are in progress, and what is loaded."""

    pid: int | None
    isolated: str | None
    running: int
    models: list[LoadedModel]
