"""Sounds to send, and models that listen to them."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_mcp.engine.host.served import ServedModel
from edge_mcp.engine.messages import Item, ModelSpec
from edge_mcp.repository import manifest
from edge_mcp.tools.arguments import input_schema

ROOT = Path(__file__).parents[1]
SOUNDS = ROOT / "tests" / "fixtures" / "sounds"
RATE = 16_000

Samples = NDArray[Any]


def recorded(name: str) -> Samples:
    """A fixture as int16."""
    samples, rate = soundfile.read(SOUNDS / name, dtype="int16")
    assert rate == RATE
    return np.asarray(samples)


def file_of(samples: Samples, rate: int = RATE, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sent(samples: Samples, rate: int = RATE, kind: str = "WAV", subtype: str = "PCM_16") -> str:
    return base64_of(file_of(samples, rate, kind, subtype))


def raw(samples: Samples) -> dict[str, Any]:
    """The arguments of int16 samples without a header."""
    channels = {"channels": samples.shape[1]} if samples.ndim > 1 else {}
    return {"audio": base64_of(samples.astype("<i2").tobytes()), "rate": RATE, **channels}


def listener(text: str, folder: Path) -> ServedModel:
    """A model of this manifest and folder."""
    described = manifest.parse(text)
    return ServedModel.load(ModelSpec(described.model.name, str(folder), described, input_schema(described, None)))


def shipped(name: str) -> ServedModel:
    """A model that ships, with no streams yet."""
    folder = ROOT / "models" / name
    return listener((folder / "model.toml").read_text("utf-8"), folder)


def answer(model: ServedModel, owner: str = "", roots: tuple[str, ...] = (), **arguments: Any) -> dict[str, Any]:
    outcome = model.run([Item(json.dumps(arguments).encode(), roots=roots, owner=owner)], lambda stage: None)[0][0]
    assert not outcome.error, outcome.error
    structured: dict[str, Any] = json.loads(outcome.structured)
    return structured


def refusal(model: ServedModel, owner: str = "", **arguments: Any) -> str:
    outcome = model.run([Item(json.dumps(arguments).encode(), owner=owner)], lambda stage: None)[0][0]
    assert outcome.error, outcome.structured
    assert len(outcome.error) < 400
    assert "\n" not in outcome.error
    return outcome.error
