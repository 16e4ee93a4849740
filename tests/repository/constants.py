"""Models whose answer tells their version: what they are given, plus a number."""

import hashlib
from pathlib import Path

import numpy as np

from tests.onnx_files import FLOAT, graph, model, node, tensor, value

PADDING = 100_000


def constant(number: int) -> bytes:
    """An ONNX file that answers y = x + `number`."""
    adding = node("Add", ["x", "c"], ["y"])
    numbers = [tensor("c", np.array([number], np.float32))]
    main = graph([adding], [value("x", FLOAT, (1,))], [value("y", FLOAT, (1,))], numbers)
    return model(main, {"padding": str(number) * (PADDING // len(str(number)))}, opset=13)


def manifest(version: str, content: bytes | None = None, name: str = "adder", description: str = "Adds.") -> str:
    """A `model.toml`, with the digest of `content` if there is one."""
    digest = f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n' if content is not None else ""
    return (
        f'[model]\nname = "{name}"\nversion = "{version}"\nfile = "model.onnx"\n{digest}'
        f'[tool]\nname = "{name}"\ndescription = "{description}"\n'
    )


def write(folder: Path, number: int, version: str = "", content: bytes | None = None) -> Path:
    """A model folder with the version `number`.0.0 (or another), and its content, or what stands there instead of it."""
    folder.mkdir(parents=True, exist_ok=True)
    good = constant(number)
    (folder / "model.onnx").write_bytes(good if content is None else content)
    (folder / "model.toml").write_text(manifest(version or f"{number}.0.0", good))
    return folder
