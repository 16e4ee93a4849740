"""What a model can say: its file of labels, read without loading the model."""

import msgspec

from edge_mcp.repository.bounds import read_bounded
from edge_mcp.repository.outputs import SoftmaxOutput, SsdOutput
from edge_mcp.repository.store import Entry

MAX_BYTES = 1024 * 1024
_NOTHING = "???"


def labels(entry: Entry) -> tuple[str, ...]:
    """A model's labels: one a line, or a JSON array. Empty where it has none, or they cannot be read, or are too many."""
    output = entry.manifest.output
    if not isinstance(output, SoftmaxOutput | SsdOutput):
        return ()
    file = entry.folder / output.labels
    try:
        content = read_bounded(file, MAX_BYTES)
        is_json = file.suffix == ".json"
        found = msgspec.json.decode(content, type=list[str]) if is_json else content.decode("utf-8").splitlines()
    except (OSError, ValueError, msgspec.DecodeError):
        return ()
    return tuple(label for label in found if label and label != _NOTHING)
