"""The peer of `throughput`: a FastMCP server with the models of `zoo.py`, over stdio or, with PORT, Streamable HTTP.

    peer_models.py MODELS [PORT]

Written as its users would, and in its favour: models loaded at the start, one ONNX Runtime thread without spinning, async tools
for what takes microseconds (a thread would cost more), for pictures sync ones, which FastMCP gives to threads; answers in JSON.
"""

import base64
import io
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("FASTMCP_CHECK_FOR_UPDATES", "off")
os.environ.setdefault("FASTMCP_LOG_LEVEL", "ERROR")

import numpy as np
from bare import classifier, session
from fastmcp import FastMCP  # after the environment, which it reads when imported
from peer_fastmcp import load_detector

Result = dict[str, Any]


def main() -> None:
    """Serve until standard input ends, or for ever."""
    models = Path(sys.argv[1])
    server = FastMCP("peer")
    mlp_session = session(models / "mlp")
    silero_session = session(models / "silero")
    classify = classifier(models / "image-classifier")
    detect = load_detector(models / "object-detector")

    async def mlp(input: Result) -> Result:
        """Runs the model on a tensor."""
        return {"outputs": {"output": packed(mlp_session.run(None, {"input": tensor(input)})[0])}}

    async def silero(input: Result, state: Result, sr: int) -> Result:
        """Runs the model on tensors."""
        given = {"input": tensor(input), "state": tensor(state), "sr": np.array(sr, np.int64)}
        output, state_after = silero_session.run(None, given)
        return {"outputs": {"output": packed(output), "stateN": packed(state_after)}}

    def classify_image(image: str) -> Result:
        """Say what the main subject of a photo is (base64)."""
        return classify(io.BytesIO(base64.b64decode(image)))

    def detect_objects(image: str) -> Result:
        """Find objects in a picture (base64): their labels, scores and boxes in pixels."""
        return detect(base64.b64decode(image))

    for tool in (mlp, silero, classify_image, detect_objects):
        server.tool(tool)
    if len(sys.argv) > 2:
        server.run("http", show_banner=False, port=int(sys.argv[2]), json_response=True, log_level="error")
    else:
        server.run("stdio", show_banner=False)


def tensor(value: Result) -> Any:
    """An argument as an array."""
    return np.frombuffer(base64.b64decode(value["data"]), np.float32).reshape(list(value["shape"]))


def packed(array: Any) -> Result:
    """An array as a result."""
    return {"dtype": "FP32", "shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode()}


if __name__ == "__main__":
    main()
