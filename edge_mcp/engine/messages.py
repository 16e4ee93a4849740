"""What server and engine say to each other over a lane: one request, one reply, each a tagged struct in MessagePack."""

from typing import Any

import msgspec

from edge_mcp.repository.manifest import Manifest


class Quantization(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the integers of a tensor stand for: real = scale * (integer - zero_point).

    One scale and zero point for the whole tensor, or one for each index of the dimension `axis`.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0


class TensorSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model's input or output: its name, Open Inference Protocol datatype (`FP32`, `INT8` …) and shape (-1: dynamic).

    An output that is no tensor has ONNX's name of its type for a datatype, as in `seq(map(int64,tensor(float)))`, and no shape.
    With `any_rank` nothing is known of the shape, which is then empty. `quantization` is for integers that stand for reals.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    quantization: Quantization | None = None
    any_rank: bool = False


class Signature(msgspec.Struct, frozen=True):
    """The inputs and outputs of a model file, in the file's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class ModelSpec(msgspec.Struct, frozen=True):
    """All that the engine needs to serve a model. `key` names it on the channel; `schema` is its tool's `inputSchema`."""

    key: str
    folder: str
    manifest: Manifest
    schema: dict[str, Any]


class Item(msgspec.Struct, frozen=True):
    """One call's arguments as the peer encoded them (`encoding`: json or msgpack), and the folders that its `file:`
    paths may name.

    `owner` is whose streams it may go on with. `attached` are bytes, by the argument whose place they take: what the sensor
    gave that it names.
    """

    arguments: bytes
    encoding: str = "json"
    roots: tuple[str, ...] = ()
    owner: str = ""
    attached: dict[str, bytes] = {}


class Describe(msgspec.Struct, frozen=True, tag="describe"):
    """Read a signature of the model file at `path`, of several that of this name; answered by `Described`."""

    path: str
    signature: str = ""


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Verify, load and warm up a model; answered by `Loaded`."""

    model: ModelSpec


class Unload(msgspec.Struct, frozen=True, tag="unload"):
    """Give a model's memory back; answered by `Unloaded`, also when it was not loaded."""

    key: str


class Measure(msgspec.Struct, frozen=True, tag="measure"):
    """Find out what batches of a loaded model cost, or those of at most `most` above 0; answered by `Measured`, or by
    `NotLoaded`."""

    key: str
    most: int = 0


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Run a loaded model on a batch; answered by `Ran`, one outcome for each item in order, or by `NotLoaded`."""

    sequence: int
    key: str
    items: list[Item]


class Described(msgspec.Struct, frozen=True, tag="described"):
    """A model file's signature and SHA-256 (hex).

    `signatures` names those that a TFLite file has. `metadata` is what the file says about itself, bounded in size: of ONNX
    its custom metadata, and its own fields under `onnx.producer`, `onnx.graph`, `onnx.domain`, `onnx.version` and
    `onnx.description`.
    """

    signature: Signature
    sha256: str
    metadata: dict[str, str] = {}
    signatures: tuple[str, ...] = ()


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is ready; `seconds` is what loading and warming up took.

    `memory_mb` is by how much the engine grew with the model, `imported_mb` by how much with the packages that the model was
    the first to need, `start_mb` what it had before that, in units of 2^20 bytes.
    """

    seconds: float
    memory_mb: float = 0.0
    imported_mb: float = 0.0
    start_mb: float = 0.0


class Unloaded(msgspec.Struct, frozen=True, tag="unloaded"):
    """The model is not loaded any more."""


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """Seconds of the runtime for a batch of each size that was tried; none where nothing can be said."""

    seconds: dict[int, float]


class NotLoaded(msgspec.Struct, frozen=True, tag="not_loaded"):
    """A run came after its model was unloaded: nothing was done."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one item: `content` and `structured` in the item's encoding, or `error` for the caller."""

    content: bytes = b""
    structured: bytes = b""
    error: str = ""


class Ran(msgspec.Struct, frozen=True, tag="ran"):
    """The outcomes of a batch; `seconds` is what the runtime took for it."""

    outcomes: list[Outcome]
    seconds: float


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a long run is, in rows of its batch; it comes before the reply."""

    done: int
    total: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The request as a whole failed; `message` and `hint` as in `EdgeError`."""

    message: str
    hint: str = ""


Request = Describe | Load | Unload | Measure | Run
Reply = Described | Loaded | Unloaded | Measured | Ran | NotLoaded | Failed
