"""What a careless or hostile peer sends gets one clear error, and the server lives on in bounded memory."""

import asyncio
import base64
import io
import json
import shutil
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.processes import MODERN_META, ROOT, Served, serving, status_mb

CAT = (ROOT / "tests/fixtures/chelsea.png").read_bytes()
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def bomb(width: int, height: int) -> bytes:
    """A small PNG that unpacks to width by height pixels."""
    header = width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\x00\x00\x00"
    squeezer = zlib.compressobj(9)
    body = b"".join(squeezer.compress(bytes(width * 3 + 1)) for _ in range(min(height, 2000))) + squeezer.flush()
    return PNG_HEAD + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving("--stdio") as server:
        yield server


async def sees_a_cat(served: Served) -> bool:
    result = await served.call("detect_objects", image=b64(CAT))
    return [found["label"] for found in result["structuredContent"]["detections"]] == ["Cat"]


async def test_bad_pictures_are_told_what_is_wrong_with_them(served: Served) -> None:
    pictures = {
        "truncated": CAT[: len(CAT) // 2],
        "no picture": b"hello, this is text",
        "empty": b"",
        "header only": CAT[:40],
        "corrupt": CAT[:2000] + bytes(2000) + CAT[4000:],
        "bomb": bomb(30_000, 30_000),
        "zero size": PNG_HEAD + png_chunk(b"IHDR", bytes(8) + b"\x08\x02\x00\x00\x00") + png_chunk(b"IEND", b""),
    }
    for name, data in pictures.items():
        for tool in ("detect_objects", "classify_image", "detect_faces"):
            words = await served.failure(tool, image=b64(data))
            assert "picture" in words or "image" in words, (name, words)
            assert len(words) < 300
            assert "internal error" not in words
    assert await sees_a_cat(served)
    engine = served.engine_pid()
    assert engine is not None
    assert status_mb(engine, "VmHWM") < 400


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["image", "missing"]),
        ({"image": 5}, ["image", "string"]),
        ({"image": None}, ["image", "string"]),
        ({"image": ["a"]}, ["image", "string"]),
        ({"image": "%%%"}, ["'%%%'", "base64"]),
        ({"image": "http://example.com/cat.jpg"}, ["http"]),
        ({"image": "file:///etc/passwd"}, ["file:///etc/passwd", "may read"]),
        ({"image": "../../../../../../etc/passwd"}, ["etc/passwd", "may read"]),
        ({"image": b64(CAT), "imagee": 1}, ["imagee", "image"]),
        ({"image": b64(CAT), "threshold": "high"}, ["threshold", "number"]),
        ({"image": b64(CAT), "threshold": 7}, ["threshold", "1"]),
        ({"image": b64(CAT), "threshold": True}, ["threshold", "number"]),
        ({"image": b64(CAT), "max_results": 0}, ["max_results", "1"]),
        ({"image": b64(CAT), "max_results": 1.5}, ["max_results", "integer"]),
        ({"image": b64(CAT), "annotate": "yes"}, ["annotate", "true or false"]),
    ],
)
async def test_wrong_missing_and_extra_arguments_are_named(
    served: Served, arguments: dict[str, Any], expected: list[str]
) -> None:
    words = await served.failure("detect_objects", **arguments)
    for word in expected:
        assert word in words, words
    assert "\n" not in words
    assert await sees_a_cat(served)


@pytest.mark.parametrize("arguments", [b"[]", b"5", b'"x"', b"null", b'{"image":"\xff"}', b'{"image":"\\ud800"}'])
async def test_arguments_that_are_no_object_or_no_utf8_are_an_error(served: Served, arguments: bytes) -> None:
    params = b'{"name":"detect_objects","arguments":%s,"_meta":%s}' % (arguments, json.dumps(MODERN_META).encode())
    await served.write(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":%s}\n' % params)
    answer = await served.read()
    assert "error" in answer or answer["result"]["isError"]
    assert await sees_a_cat(served)


async def test_a_gigabyte_of_base64_over_stdio_is_refused_and_never_kept(served: Served) -> None:
    meta = json.dumps(MODERN_META).encode()
    head = b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"detect_objects","_meta":%s,"arguments":{"image":"'
    await served.write(head % meta)
    chunk = b"QUJD" * (1024 * 1024)
    for _ in range(256):
        await served.write(chunk)
    await served.write(b'"}}}\n')
    answer = await served.read()
    assert answer["id"] == 9
    assert "larger than" in answer["error"]["message"]
    assert served.peak_mb() < 110
    assert await sees_a_cat(served)


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_a_gigabyte_of_base64_over_a_websocket_ends_that_connection_with_the_reason(compression: str | None) -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        async with connect(served.url, max_size=None, compression=compression) as socket:

            async def chunks() -> Any:
                yield '{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"arguments":{"image":"'
                for _ in range(256):
                    yield "QUJD" * (1024 * 1024)
                    await asyncio.sleep(0)  # who only compresses would not hear of it until the server has waited enough

            with pytest.raises(ConnectionClosed):
                await socket.send(chunks())
                await asyncio.wait_for(socket.recv(), 20)
            assert socket.close_code == 1009
            assert "max_message_mb" in (socket.close_reason or "")
        assert served.peak_mb() < 160
        async with connect(served.url) as socket:
            await socket.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
            assert json.loads(await socket.recv())["result"] == {}


async def test_many_large_calls_at_once_are_answered_in_bounded_memory(served: Served) -> None:
    """Forty calls of 12 MB: half a gigabyte in all."""
    filler = " " * 12_000_000
    body = {"name": "detect_language", "arguments": {"text": "x" + filler}, "_meta": MODERN_META}

    async def send() -> None:
        for number in range(40):
            await served.write(
                json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": body}).encode() + b"\n"
            )

    sending = asyncio.create_task(send())
    got = {(await served.read())["id"] for _ in range(40)}
    await sending
    assert got == set(range(40))
    assert served.peak_mb() < 300


async def test_corrupt_models_are_refused_one_by_one_and_the_others_serve(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models", models)
    weights = models / "object-detector/ssd_oidv4_int8_qdq.onnx"
    weights.write_bytes(weights.read_bytes()[:1_000_000])
    (models / "face-detector/model.toml").write_text("[model\n")
    language = models / "language-detector/model.toml"
    language.write_text(language.read_text().replace("deadline", "deadlin").replace("[tool]", "[tool]\ntitel = 'x'"))
    (models / "broken.onnx").write_bytes(b"\x08\x07not a model")
    (models / "broken2.tflite").write_bytes(b"TFL3" * 10)
    (models / "BAD.tflite").write_bytes((ROOT / "tests/fixtures/models/BAD_static_quant_fails_to_prepare.tflite").read_bytes())
    async with serving("--stdio", "--models", str(models), XDG_CACHE_HOME=str(tmp_path / "cache")) as served:
        names = [tool["name"] for tool in (await served.ask("tools/list"))["result"]["tools"]]
        others = {"classify_image", "detect_speech", "detect_wake_word", "identify_file", "read_text", "device_status"}
        assert set(names) == others
        assert (await served.call("classify_image", image=b64(CAT)))["structuredContent"]["label"]
    log = "\n".join(served.log)
    for said in ("SHA-256", weights.name, "face-detector", "titel", "title", "broken.onnx", "broken2.tflite", "BAD.tflite"):
        assert said in log
    assert "Traceback" not in log


async def test_a_picture_with_a_twist_is_still_a_cat(served: Served) -> None:
    """The same photo in other formats, colour modes and orientations."""
    from PIL import Image as image

    cat = image.open(io.BytesIO(CAT)).convert("RGB")
    turned = image.Exif()
    turned[0x0112] = 6
    variants: dict[str, bytes] = {}
    for name, picture, options in (
        ("jpeg", cat, {"format": "JPEG", "quality": 90}),
        ("webp", cat, {"format": "WEBP"}),
        ("bmp", cat, {"format": "BMP"}),
        ("gif", cat, {"format": "GIF"}),
        ("rgba", cat.convert("RGBA"), {"format": "PNG"}),
        ("palette", cat.convert("P"), {"format": "PNG"}),
        ("cmyk", cat.convert("CMYK"), {"format": "JPEG"}),
        ("turned", cat.transpose(image.Transpose.ROTATE_90), {"format": "JPEG", "exif": turned.tobytes()}),
    ):
        out = io.BytesIO()
        picture.save(out, **options)
        variants[name] = out.getvalue()
    for name, data in variants.items():
        result = await served.call("detect_objects", image=b64(data))
        assert [found["label"] for found in result["structuredContent"]["detections"]] == ["Cat"], name
        assert result["structuredContent"]["image"] == {"width": 451, "height": 300}, name
