"""The output tensors as they are."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_mcp.engine.host.decoders.base import Result
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.runtimes.base import NAMES, Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.repository.manifest import Manifest


class RawDecoder:
    """Every output as `{dtype, shape, data}`."""

    def __init__(self, manifest: Manifest, outputs: Sequence[TensorSpec], folder: Path) -> None:
        self._names = [spec.name for spec in outputs]

    def decode(self, outputs: Mapping[str, Array], prepared: Prepared, arguments: Mapping[str, Any]) -> Result:
        """Data is base64 where the argument `encoding` says so, or an input came so; else nested lists, where NaN is null."""
        encoding = arguments.get("encoding") or ("base64" if prepared.source else "list")
        return Result({"outputs": {name: _encoded(outputs[name], encoding) for name in self._names}})


def _encoded(array: Array, encoding: str) -> dict[str, Any]:
    datatype = NAMES[array.dtype]
    if encoding == "base64" and datatype != "BYTES":
        data: Any = base64.b64encode(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()).decode()
    else:
        data = array.tolist()  # NaN and infinities become null when msgspec writes them
    return {"dtype": datatype, "shape": list(array.shape), "data": data}
