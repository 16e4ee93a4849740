"""What is remembered of model files."""

import json
from pathlib import Path

from edge_mcp.engine.messages import Described, Quantization, Signature, TensorSpec
from edge_mcp.repository.signatures import Signatures


def test_each_signature_of_a_file_is_kept_by_its_name(tmp_path: Path) -> None:
    file, signatures = tmp_path / "m.tflite", Signatures(tmp_path / "signatures")
    file.write_bytes(b"one")
    inputs = [TensorSpec("x", "INT8", (1, -1), Quantization((0.5,), (3,))), TensorSpec("y", "FP32", (), any_rank=True)]
    described = [Described(Signature((spec,), ()), "0" * 64, {"labels": "a"}, ("one", "two")) for spec in inputs]
    for name, one in zip(("", "two"), described, strict=True):
        signatures.put(file, one, name)
    assert [signatures.get(file, name) for name in ("", "two", "three")] == [*described, None]


def test_what_an_older_version_kept_is_read_anew(tmp_path: Path) -> None:
    file, signatures = tmp_path / "m.onnx", Signatures(tmp_path / "signatures")
    file.write_bytes(b"one")
    signatures.put(file, Described(Signature((), ()), "0" * 64))
    (kept,) = (tmp_path / "signatures").iterdir()
    old = json.loads(kept.read_text())
    del old["format"], old["described"]["metadata"], old["described"]["signatures"]
    kept.write_text(json.dumps(old))
    assert signatures.get(file) is None
