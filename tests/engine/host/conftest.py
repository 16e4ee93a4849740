"""The shipped models, loaded once, and pictures to send to them."""

import base64
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edge_mcp.engine.host.served import ServedModel, describe
from edge_mcp.engine.messages import Item, ModelSpec, Outcome
from edge_mcp.repository import manifest
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.sections import ModelSection, ToolSection
from edge_mcp.tools.arguments import input_schema

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "tests" / "fixtures"

Answer = dict[str, Any]
Call = Callable[..., Answer]


@cache
def load(name: str) -> ServedModel:
    """A model of the default set by its folder's name, or a bare file of the fixtures."""
    folder = ROOT / "models" / name
    if folder.is_dir():
        described = manifest.read(folder)
        return ServedModel.load(ModelSpec(name, str(folder), described, input_schema(described, None)))
    path = FIXTURES / "models" / name
    bare = Manifest(ModelSection("bare", "1.0.0", path.name), ToolSection("bare"))
    schema = input_schema(bare, describe(path).signature)
    return ServedModel.load(ModelSpec(name, str(path.parent), bare, schema))


def run(name: str, arguments: Any, roots: tuple[str, ...] = ()) -> Outcome:
    outcomes, _ = load(name).run([Item(json.dumps(arguments).encode(), roots=roots)], lambda stage: None)
    return outcomes[0]


@pytest.fixture(scope="session")
def served() -> Callable[[str], ServedModel]:
    return load


@pytest.fixture(scope="session")
def call() -> Call:
    """Calls a model with arguments as a peer would, and answers the structured content."""

    def answer(name: str, *, roots: tuple[str, ...] = (), **arguments: Any) -> Answer:
        outcome = run(name, arguments, roots)
        assert not outcome.error, outcome.error
        structured: Answer = json.loads(outcome.structured)
        return structured

    return answer


@pytest.fixture(scope="session")
def refused() -> Callable[..., str]:
    """Calls a model with arguments that must fail, and answers the error."""

    def error(name: str, *, roots: tuple[str, ...] = (), **arguments: Any) -> str:
        outcome = run(name, arguments, roots)
        assert outcome.error
        assert outcome.content == outcome.structured == b""
        assert len(outcome.error) < 800
        assert "\n" not in outcome.error
        return outcome.error

    return error


@pytest.fixture(scope="session")
def fixture() -> Callable[[str], str]:
    """A fixture file in base64."""

    def encoded(name: str) -> str:
        return base64.b64encode((FIXTURES / name).read_bytes()).decode()

    return encoded


@pytest.fixture(scope="session")
def picture() -> Callable[[str], Image.Image]:
    """A fixture as a Pillow image in RGB."""

    def opened(name: str) -> Image.Image:
        with Image.open(FIXTURES / name) as image:
            return image.convert("RGB")

    return opened


@pytest.fixture(scope="session")
def encode() -> Callable[..., str]:
    """A Pillow image as a file in base64."""

    def encoded(image: Image.Image, file_format: str, **options: Any) -> str:
        buffer = io.BytesIO()
        image.save(buffer, file_format, **options)
        return base64.b64encode(buffer.getvalue()).decode()

    return encoded
