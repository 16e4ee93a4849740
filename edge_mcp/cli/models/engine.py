"""An engine for one command, and models as it takes them."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from edge_mcp.engine.client import EngineClient
from edge_mcp.engine.messages import ModelSpec
from edge_mcp.repository.inputs import TensorInput
from edge_mcp.repository.store import Entry
from edge_mcp.tools.arguments import input_schema

T = TypeVar("T")
_LEVEL = "EDGE_MCP_LOG_LEVEL"


@asynccontextmanager
async def own_engine() -> AsyncIterator[EngineClient]:
    """An engine that ends with the command: what a server has loaded is left alone, and what crashes here harms nobody."""
    engine = EngineClient(1)
    try:
        yield engine
    finally:
        await engine.close()


async def spec_of(engine: EngineClient, entry: Entry, threads: int = 0) -> ModelSpec:
    """The model under a key of its own for each number of threads; 0: as the manifest says. Raises: ModelError, EngineError."""
    manifest = entry.manifest
    if threads:
        resources = msgspec.structs.replace(manifest.resources, threads=threads)
        manifest = msgspec.structs.replace(manifest, resources=resources)
    signature = None
    if isinstance(manifest.input, TensorInput):
        signature = (await engine.describe(str(entry.file), manifest.model.signature)).signature
    key = f"{manifest.model.name}, {manifest.resources.threads} threads"
    return ModelSpec(key, str(entry.folder), manifest, input_schema(manifest, signature))


def do(work: Coroutine[Any, Any, T], debug: bool) -> T:
    """Run a command's work to its end; its engine says nothing on standard error but at --debug. Raises: what `work` raises."""
    logging.basicConfig(level="DEBUG" if debug else "CRITICAL")
    level = os.environ.get(_LEVEL)
    os.environ[_LEVEL] = "debug" if debug else "critical"  # for the engine
    try:
        return asyncio.run(work)
    finally:
        os.environ.pop(_LEVEL)
        if level is not None:
            os.environ[_LEVEL] = level
