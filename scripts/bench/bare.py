"""The limit of `throughput` and `lone`: the models of `zoo.py` in a loop, without any server.

    bare.py MODELS      then lines "MODEL BATCH THREADS SECONDS" on standard input, each answered by one of JSON

Tensors are made in advance. `call` as the batch is what one call of a tool has to do: a tensor is run; a picture is read from
JPEG, resized and run, and its scores are sorted.
"""

import io
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

CROP, SIZE = 0.875, 224
PAUSE_S = 0.0005
"""Before each run of a `call`, as in a server between two calls of a lone caller: after a pause a processor is slower."""


def session(folder: Path) -> Any:
    """The folder's model as edge-mcp loads it: one thread, no spinning."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return ort.InferenceSession(next(folder.glob("*.onnx")), options, providers=["CPUExecutionProvider"])


def classifier(folder: Path) -> Callable[[io.BytesIO], dict[str, Any]]:
    """A function from a picture to its best labels."""
    network = session(folder)
    labels = (folder / "imagenet_labels.txt").read_text("utf-8").splitlines()

    def classify(file: io.BytesIO) -> dict[str, Any]:
        picture = Image.open(file).convert("RGB")
        side = round(min(picture.size) * CROP)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        resized = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box)
        tensor = ((np.asarray(resized, np.float32) - 127) / 128).transpose(2, 0, 1)[None]
        logits = network.run(None, {"input": tensor})[0][0]
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = [int(index) for index in np.argsort(-shares)[:5]]
        found = [{"label": labels[index], "score": round(float(shares[index]), 4)} for index in best if shares[index] >= 0.01]
        return {"label": found[0]["label"] if found else "", "labels": found}

    return classify


def work(models: Path, name: str, batch: str) -> Callable[[], object]:
    """What is done again and again."""
    folder = models / {"lite0": "image-classifier", "ssd": "object-detector"}.get(name, name)
    if batch == "call" and name == "lite0":
        classify, picture = classifier(folder), (folder / "sample.jpg").read_bytes()
        return lambda: classify(io.BytesIO(picture))
    network, rows = session(folder), 1 if batch == "call" else int(batch)
    random = np.random.default_rng(0)
    shapes = {"mlp": (rows, 490), "silero": (rows, 576), "lite0": (rows, 3, 224, 224), "ssd": (rows, 300, 300, 3)}
    given = {network.get_inputs()[0].name: random.normal(0, 0.2, shapes[name]).astype(np.float32)}
    if name == "silero":
        given |= {"state": random.normal(0, 0.5, (2, rows, 128)).astype(np.float32), "sr": np.array(16000, np.int64)}
    return lambda: network.run(None, given)


def measure(models: Path, name: str, batch: str, threads: int, seconds: float) -> dict[str, float]:
    """Items in a second by all threads, and the median of what one run takes (of the first thread)."""
    todo = work(models, name, batch)
    taken: list[list[float]] = [[] for _ in range(threads)]
    todo()

    def loop(own: list[float]) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if batch == "call":
                time.sleep(PAUSE_S)
            began = time.perf_counter()
            todo()
            own.append(time.perf_counter() - began)

    others = [threading.Thread(target=loop, args=(own,)) for own in taken[1:]]
    began = time.perf_counter()
    for thread in others:
        thread.start()
    loop(taken[0])
    for thread in others:
        thread.join()
    items = sum(map(len, taken)) * (1 if batch == "call" else int(batch))
    return {"per_s": items / (time.perf_counter() - began), "p50_s": float(np.median(taken[0]))}


def main() -> None:
    """Answer until standard input ends."""
    models = Path(sys.argv[1])
    for line in sys.stdin:
        name, batch, threads, seconds = line.split()
        print(json.dumps(measure(models, name, batch, int(threads), float(seconds))), flush=True)


if __name__ == "__main__":
    main()
