"""The peer: a FastMCP server over stdio with one tool, the object detector that edge-mcp ships.

    peer_fastmcp.py MODEL_FOLDER [--eager]

Written as its users would, and in its favour: an async tool (a sync one goes through a thread), no banner, no check for
updates, one ONNX Runtime thread without spinning. The runtime is loaded at the first call, or at start with `--eager`.
"""

import base64
import functools
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("FASTMCP_CHECK_FOR_UPDATES", "off")
os.environ.setdefault("FASTMCP_LOG_LEVEL", "ERROR")

from fastmcp import FastMCP  # after the environment, which it reads when imported

Result = dict[str, Any]

SIZE = 300
STRIDES = (16, 32, 64, 128, 256, 512)
ASPECT_RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
THRESHOLD, IOU, MAX_RESULTS = 0.4, 0.5, 20


def load_detector(folder: Path) -> Callable[[bytes], Result]:
    """A function from the bytes of a picture to its detections; imports NumPy, Pillow and ONNX Runtime."""
    import numpy as np
    import onnxruntime as ort
    from PIL import Image, ImageOps

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(next(folder.glob("*.onnx")), options, providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name
    labels = next(folder.glob("*labels*.txt")).read_text("utf-8").splitlines()
    anchors = np.array(_anchors(), np.float32)

    def suppress(boxes: Any, scores: Any) -> list[int]:
        """Non-maximum suppression: the indices that stay, best first."""
        order, keep = np.argsort(-scores), []
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        while order.size:
            best, order = order[0], order[1:]
            keep.append(int(best))
            low, high = np.maximum(boxes[best, :2], boxes[order, :2]), np.minimum(boxes[best, 2:], boxes[order, 2:])
            common = np.prod(np.clip(high - low, 0, None), axis=1)
            order = order[common <= IOU * (area[best] + area[order] - common)]
        return keep

    def detect(data: bytes) -> Result:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        resized = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        tensor = np.asarray(resized, np.float32)[None] / np.float32(127.5) - np.float32(1)
        started = time.perf_counter()
        by_width = {output.shape[-1]: output for output in session.run(None, {input_name: tensor})}
        seconds = time.perf_counter() - started
        offsets = by_width[4].reshape(-1, 4)
        scores = 1 / (1 + np.exp(-by_width[len(labels)].reshape(-1, len(labels))))
        centre = offsets[:, :2] / 10 * anchors[:, 2:] + anchors[:, :2]
        half = np.exp(offsets[:, 2:] / 5) * anchors[:, 2:] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)  # y_min, x_min, y_max, x_max
        detections: list[dict[str, Any]] = []
        for column in range(1, len(labels)):
            rows = np.flatnonzero(scores[:, column] >= THRESHOLD)
            for index in rows[suppress(boxes[rows], scores[rows, column])]:
                y_min, x_min, y_max, x_max = (float(value) for value in boxes[index].clip(0, 1))
                box = {
                    "x_min": round(x_min * picture.width, 1),
                    "y_min": round(y_min * picture.height, 1),
                    "x_max": round(x_max * picture.width, 1),
                    "y_max": round(y_max * picture.height, 1),
                }
                detections.append({"label": labels[column], "score": round(float(scores[index, column]), 4), "box": box})
        detections.sort(key=lambda detection: -detection["score"])
        return {
            "detections": detections[:MAX_RESULTS],
            "image": {"width": picture.width, "height": picture.height},
            "inference_ms": round(seconds * 1000, 2),
        }

    return detect


def _anchors() -> list[tuple[float, float, float, float]]:
    """The SSD anchors (y, x, height, width) of the TensorFlow Object Detection API, the first layer reduced."""
    last = len(STRIDES) - 1
    scales = [0.2 + 0.75 * layer / last for layer in range(len(STRIDES))] + [1.0]
    anchors = []
    for layer, stride in enumerate(STRIDES):
        shapes = [(ratio, scales[layer]) for ratio in ASPECT_RATIOS] + [(1.0, (scales[layer] * scales[layer + 1]) ** 0.5)]
        if layer == 0:
            shapes = [(1.0, 0.1), (2.0, scales[0]), (0.5, scales[0])]
        cells = -(-SIZE // stride)
        for row in range(cells):
            for column in range(cells):
                for ratio, scale in shapes:
                    anchors.append(((row + 0.5) / cells, (column + 0.5) / cells, scale / ratio**0.5, scale * ratio**0.5))
    return anchors


def main() -> None:
    """Serve until standard input ends."""
    folder = Path(sys.argv[1])
    detector = functools.cache(load_detector)
    if "--eager" in sys.argv:
        detector(folder)

    async def detect_objects(image: str) -> Result:
        """Find objects in a picture (base64): their labels, scores and boxes in pixels."""
        return detector(folder)(base64.b64decode(image))

    server = FastMCP("peer")
    server.tool(detect_objects)
    server.run("stdio", show_banner=False)


if __name__ == "__main__":
    main()
