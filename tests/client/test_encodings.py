"""JSON or MessagePack: whichever was agreed on, a caller sees the same. And what the README says of Python, run."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mcp.client import connect
from edge_mcp.client.device import ENCODINGS
from edge_mcp.client.values import arrays, sendable
from edge_mcp.errors import ArgumentError, CallError, ConfigError
from tests.onnx_files import identity
from tests.processes import ROOT, SHIPPED, Served, serving

FIXTURES = ROOT / "tests" / "fixtures"
CALLS: dict[str, dict[str, Any]] = {
    "classify_image": {"image": FIXTURES / "chelsea.png"},
    "detect_faces": {"image": FIXTURES / "astronaut.png", "annotate": True},
    "detect_language": {"text": "Wo ist der Bahnhof?"},
    "detect_objects": {"image": FIXTURES / "chelsea.png", "annotate": True},
    "detect_speech": {"audio": FIXTURES / "sounds" / "goforward.wav"},
    "detect_wake_word": {"audio": FIXTURES / "sounds" / "en-us_okay_nabu.flac"},
    "identify_file": {"data": FIXTURES / "coffee.png"},
    "read_text": {"image": FIXTURES / "rendered_text.png"},
}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    own = tmp_path / "models"
    own.mkdir()
    (own / "same.onnx").write_bytes(identity(1, 7, 9, 10, shape=("n", 2)))  # FP32, INT64, BOOL, FP16
    folders = ("--models", str(own), "--models", str(ROOT / "models"))
    async with serving("--listen", "127.0.0.1:0", *folders) as server:
        yield server


def timeless(value: Any) -> Any:
    """What does not depend on how long it took."""
    return {key: entry for key, entry in value.items() if not key.endswith("_ms")}


async def test_both_encodings_give_the_same(served: Served) -> None:
    assert sorted(CALLS) == SHIPPED
    for tool, arguments in CALLS.items():
        results = []
        for encoding in ENCODINGS:
            async with connect(served.url, encodings=[encoding]) as device:
                assert (await device._link.connected(10)).codec.name == encoding
                results.append(await device.call(tool, **arguments))
        packed, json = results
        assert timeless(packed.structured) == timeless(json.structured)
        assert packed.images == json.images
        assert len(json.images) == ("annotate" in arguments)
        assert all(picture.startswith(b"\x89PNG") for picture in json.images)
        kinds = [[block for block in result.content if block["type"] != "text"] for result in results]
        assert kinds[0] == kinds[1]


async def test_messagepack_is_what_both_agree_on(served: Served) -> None:
    async with connect(served.url) as device:
        assert (await device._link.connected(10)).codec.name == "msgpack"


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_arrays_go_in_and_come_out(served: Served, encoding: str) -> None:
    sent: dict[str, Any] = {
        "x0": np.array([[1.5, -0.0], [np.inf, np.nan]], np.float32),
        "x1": np.array([[1, -(2**63)], [2**63 - 1, 0]], np.int64),
        "x2": np.array([[True, False], [False, True]]),
        "x3": np.asfortranarray(np.array([[0.5, 2.0], [3.0, -4.0]], ">f2")),
    }
    async with connect(served.url, encodings=[encoding]) as device:
        result = await device.call("same", **sent)
    for name, array in result.arrays.items():
        there = sent[name.replace("y", "x")]
        assert array.dtype == there.dtype.newbyteorder("=")
        np.testing.assert_array_equal(array, there)
    assert len(result.arrays) == 4


async def test_what_is_no_tensor_is_told(served: Served) -> None:
    async with connect(served.url) as device:
        with pytest.raises(ArgumentError, match="argument x0: no tensor has the dtype complex128"):
            await device.call("same", x0=np.array([1j]))
        answer = await device.call("detect_language", text=np.str_("Wo ist der Bahnhof?"))
        with pytest.raises(CallError, match="the answer has no tensors"):
            _ = answer.arrays


async def test_numpys_values_may_be_anywhere_in_an_argument() -> None:
    sent = await sendable(
        {"box": [np.float32(0.5), 1, b"x"], "more": {"a": (np.int8(3), np.zeros((1, 2), np.uint8))}, "plain": [1]}
    )
    tensor = {"dtype": "UINT8", "shape": [1, 2], "data": b"\0\0"}
    assert sent == {"box": [0.5, 1, b"x"], "more": {"a": (3, tensor)}, "plain": [1]}
    with pytest.raises(ArgumentError, match="argument box: objects of type object cannot be sent"):
        await sendable({"box": [object()]})


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": [1], "shape": [1], "data": [1]},
        {"dtype": "UINT8", "shape": [1], "data": [300]},
        {"dtype": "INT64", "shape": [1], "data": [2**70]},
        {"dtype": "FP32", "shape": [2**70], "data": [1.0]},
        {"dtype": "FP32", "shape": {"a": 1}, "data": {"b": 2}},
        {"dtype": "FP32", "shape": [2], "data": b"123"},
        {"dtype": "BYTES", "shape": [1], "data": b"123"},
        {"dtype": "FP32", "shape": [1], "data": "no base64"},
    ],
)
def test_a_tensor_that_is_none_is_an_error(tensor: dict[str, Any]) -> None:
    with pytest.raises(CallError, match="the output x is not the tensor that it says"):
        arrays({"outputs": {"x": tensor}})


async def test_without_numpy_imported_there_are_no_arrays() -> None:
    source = "import edge_mcp.client.values as v\ntry: v.arrays({})\nexcept Exception as e: print(e)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", source, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode() == "numpy is not imported here. Import numpy before asking for arrays\n"


async def test_the_readmes_example_runs(served: Served, tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text("utf-8").split("### From Python\n")[1].split("\n### ")[0]
    [example] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes((FIXTURES / "chelsea.png").read_bytes())
    source = example.replace("ws://raspberrypi.local:8765/mcp", served.url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", source,
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, problems = await process.communicate()
    assert problems.decode() == ""
    assert out.decode().splitlines()[0].startswith("Cat 0.8")
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")


async def test_a_device_with_a_certificate_of_its_own_is_trusted_at_first_use_or_by_its_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device, ours = tmp_path / "device", tmp_path / "ours"
    monkeypatch.setenv("XDG_DATA_HOME", str(ours))
    async with serving("--listen", "127.0.0.1:0", "--tls", XDG_DATA_HOME=str(device)) as server:
        shown = re.compile(r"sha256:\w+")
        async with asyncio.timeout(30):
            while not (found := shown.search("\n".join(server.log))):
                await asyncio.sleep(0.01)
        url, fingerprint = server.url.replace("https://", "wss://"), found[0]
        async with connect(url, fingerprint=fingerprint) as pinned, connect(f"{url}#fingerprint={fingerprint}") as named:
            assert [tool.name for tool in await pinned.tools()] == [tool.name for tool in await named.tools()]
        with pytest.raises(ConfigError, match="is no fingerprint of a certificate"):
            async with connect(url, fingerprint="sha256:00"):
                pass
        with pytest.raises(ConfigError, match=r"the certificate of .* is"):
            async with connect(url, fingerprint="0" * 64):
                pass
        async with connect(url) as first:
            assert await first.tools()
        assert "is new here" in caplog.text
        caplog.clear()
        async with connect(url) as second:
            assert await second.tools()
        assert "is new here" not in caplog.text
