"""The sections of a `model.toml` that every model has, as frozen structs."""

from typing import Any

import msgspec


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a `model.toml`; a key that it does not know is an error."""


class ModelSection(Section, frozen=True):
    """`[model]`: which file this is, and where it comes from. A pipeline names its files in `[[steps]]`."""

    name: str
    version: str
    file: str = ""
    sha256: str = ""
    license: str = ""
    source: str = ""
    signature: str = ""


class ToolSection(Section, frozen=True):
    """`[tool]`: what a language model sees."""

    name: str
    title: str = ""
    description: str = ""


class Scheduling(Section, frozen=True):
    """`[scheduling]`: `deadline_ms` is how long a run may take before it counts as hung (a grace is added).

    `max_batch_size` is how many rows, of one call or several, may run as one; with it there is a batch also where the file does
    not tell the sizes of its outputs. 0: as the file says.
    """

    deadline_ms: int = 10_000
    max_batch_size: int = 0


class Resources(Section, frozen=True):
    """`[resources]`: what a run may use, and how long the model stays in memory.

    `memory_mb` is what it may need of the memory when loaded; 0: no bound of its own. `keep_loaded_s` is how long it stays
    loaded after its last call; 0: as the setting of that name says. `preload` loads it at the start. `isolated` gives it an
    engine process of its own.
    """

    threads: int = 1
    memory_mb: int = 0
    keep_loaded_s: int = 0
    preload: bool = False
    isolated: bool = False


class Check(Section, frozen=True):
    """`[[check]]`: a call and what it has to answer, for `edge-mcp models check`.

    `arguments` are the tool's; a text `@FILE` stands for the content of a file in this folder. `expect` is a part of
    `structuredContent`; numbers may differ by `tolerance`.
    """

    arguments: dict[str, Any]
    expect: dict[str, Any]
    tolerance: float = 0.01
