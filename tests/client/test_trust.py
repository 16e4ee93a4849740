"""Whom a client takes for the device: real handshakes, a certificate that changes, pins from the start."""

import asyncio
import hashlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge_mcp.client.known import Known, KnownDevices
from edge_mcp.client.trust import Trust, digest_of
from edge_mcp.client.websocket import WebSocketServer
from edge_mcp.errors import ConfigError
from edge_mcp.transports import tls
from tests.transports.test_tls import certificate, expired

DIGITS = "4b8fa3845d4b42b32fb64b7b9364fdfc9425efbc96d051e21449688928d3594a"


@asynccontextmanager
async def showing(context: ssl.SSLContext, port: int = 0) -> AsyncIterator[int]:
    """A server that shakes hands, and reads; by its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    heard: list[bytes] = []
    server = await asyncio.start_server(handle, "127.0.0.1", port, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        assert not any(heard), "something was sent to a server that was not trusted"


async def shake(trust: Trust, port: int) -> None:
    """A handshake as a connection makes it, without a word after it. Raises: ConfigError."""
    context = await trust.context()
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
    except ssl.SSLError:
        trust.check()
        raise
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "written",
    [DIGITS, f"sha256:{DIGITS}", f" SHA256:{DIGITS.upper()}\n", ":".join(DIGITS[i : i + 2] for i in range(0, 64, 2))],
)
def test_fingerprints_are_read_as_people_write_them(written: str) -> None:
    assert digest_of(written) == DIGITS


@pytest.mark.parametrize("written", ["", "sha256:", DIGITS[1:], DIGITS + "0", "g" * 64, "sha1:" + DIGITS[:40]])
def test_what_is_no_fingerprint_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="is no fingerprint"):
        digest_of(written)


async def test_the_first_certificate_is_taken_and_another_one_is_refused(tmp_path: Path) -> None:
    known = KnownDevices(tmp_path / "home/devices.json")
    said: list[str] = []
    first, second = tls.of("", "", tmp_path / "one"), tls.of("", "", tmp_path / "two")
    async with showing(first.context) as port:
        url = f"wss://127.0.0.1:{port}/mcp"
        await shake(Trust(url, known, said.append), port)
        assert said == [
            f"127.0.0.1:{port} is new here: compare what the device shows with its certificate, {first.fingerprint}"
        ]
        assert [f"sha256:{one.fingerprint}" for one in known.all()] == [first.fingerprint]
        assert known.file.stat().st_mode & 0o777 == 0o600
        await shake(Trust(url, known, said.append), port)
        assert len(said) == 1
    async with showing(second.context, port):
        refused = (
            rf"the certificate of 127\.0\.0\.1:{port} is {second.fingerprint}, not {first.fingerprint} as before\. "
            rf"Another device may pose as it\. .* forget what was: edge-mcp discover --forget wss://127\.0\.0\.1:{port}$"
        )
        with pytest.raises(ConfigError, match=refused):
            await shake(Trust(url, known, said.append), port)
        assert [f"sha256:{one.fingerprint}" for one in known.all()] == [first.fingerprint]
        assert known.forget(f"wss://127.0.0.1:{port}")
        await shake(Trust(url, known, said.append), port)


async def test_a_pin_leaves_no_first_time(tmp_path: Path) -> None:
    known, said = KnownDevices(tmp_path / "devices.json"), list[str]()
    first, second = tls.of("", "", tmp_path / "one"), tls.of("", "", tmp_path / "two")
    async with showing(first.context) as port:
        url = f"wss://127.0.0.1:{port}/mcp"
        await shake(Trust(url, known, said.append, first.fingerprint), port)
        with pytest.raises(ConfigError, match=rf"is {first.fingerprint}, not {second.fingerprint}\. Compare with"):
            await shake(Trust(url, known, said.append, second.fingerprint), port)
    assert not said
    assert not known.file.exists()


async def test_the_token_is_not_shown_to_the_wrong_one(tmp_path: Path) -> None:
    """`showing` fails if it hears a word."""
    identity = tls.of("", "", tmp_path / "one")
    async with showing(identity.context) as port:
        url = f"wss://127.0.0.1:{port}/mcp"
        trust = Trust(url, KnownDevices(tmp_path / "known"), lambda _: None, DIGITS)
        with pytest.raises(ConfigError):
            await WebSocketServer.connect(url, token="x" * 16, tls=await trust.context())
        with pytest.raises(ConfigError, match=f"not sha256:{DIGITS}"):
            trust.check()


async def test_who_signs_it_counts_where_somebody_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    async with showing(tls.Identity(made, key).context) as port:
        trust = Trust(f"wss://127.0.0.1:{port}/mcp", KnownDevices(tmp_path / "known"), lambda _: None)
        context = await trust.context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        await shake(trust, port)
    assert not (tmp_path / "known").exists()


async def test_a_certificate_that_somebody_else_signed_is_refused(tmp_path: Path) -> None:
    """Its own word is all that a device in a LAN has; but one that names an authority has to be that authority's."""
    context = signed(tmp_path)
    async with showing(context) as port:
        with pytest.raises(ConfigError, match=r"is not valid: .* Name its fingerprint with --fingerprint, or who signs it"):
            await Trust(f"wss://127.0.0.1:{port}/mcp", KnownDevices(tmp_path / "known"), lambda _: None).context()


def signed(folder: Path) -> ssl.SSLContext:
    """A server whose certificate an authority signed that nobody knows."""
    made, key = certificate(folder, name="authority")
    request: list[str | Path] = [
        "openssl",
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=leaf",
    ]
    request += ["-keyout", "leaf.key", "-out", "leaf.csr"]
    sign: list[str | Path] = [
        "openssl",
        "x509",
        "-req",
        "-in",
        "leaf.csr",
        "-CA",
        made,
        "-CAkey",
        key,
        "-set_serial",
        "2",
        "-out",
        "leaf.pem",
    ]
    for command in (request, sign):
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "leaf.pem", folder / "leaf.key")
    return context


async def test_a_pin_does_not_ask_for_how_long_a_certificate_is_valid(tmp_path: Path) -> None:
    """A device whose clock is not set, or that was forgotten for long, is the same device."""
    made, key = expired(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(made.read_text())).hexdigest()
    async with showing(context) as port:
        await shake(Trust(f"wss://127.0.0.1:{port}/mcp", KnownDevices(tmp_path / "known"), lambda _: None, pin), port)


async def test_who_is_not_there_or_speaks_no_tls_is_an_error_of_one_line(tmp_path: Path, unused_tcp_port: int) -> None:
    absent = Trust(f"wss://127.0.0.1:{unused_tcp_port}/mcp", KnownDevices(tmp_path / "known"), lambda _: None)
    with pytest.raises(ConfigError, match="cannot be reached") as raised:
        await absent.context()
    assert isinstance(raised.value.__cause__, OSError)

    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConfigError, match=r"does not speak TLS as it should|cannot be reached"):
            await Trust(f"wss://127.0.0.1:{port}/mcp", KnownDevices(tmp_path / "known"), lambda _: None).context()


async def test_a_device_is_remembered_by_its_id_with_what_was_known_of_it(tmp_path: Path) -> None:
    known, kitchen = KnownDevices(tmp_path / "devices.json"), Known("3f2a" * 4, "kitchen-3f2a", token="t" * 32)
    known.remember(kitchen)
    first, second = tls.of("", "", tmp_path / "one"), tls.of("", "", tmp_path / "two")
    said: list[str] = []
    async with showing(first.context) as port:
        await shake(Trust(f"wss://127.0.0.1:{port}/mcp", known, said.append, device=Known(kitchen.id, kitchen.name)), port)
    assert [line.partition(":")[0] for line in said] == ["kitchen-3f2a is new here"]
    assert known.all() == [replace(kitchen, fingerprint=first.fingerprint.removeprefix("sha256:"))]
    async with showing(second.context) as port:  # elsewhere, by the same name
        trust = Trust(f"wss://127.0.0.1:{port}/mcp", known, said.append, device=Known(kitchen.id, kitchen.name))
        with pytest.raises(ConfigError, match=rf"certificate of kitchen-3f2a is .* --forget {kitchen.id}"):
            await shake(trust, port)
        assert await trust.shown() == second.fingerprint.removeprefix("sha256:")


async def test_a_device_that_cannot_be_remembered_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    async with showing(tls.of("", "", tmp_path / "one").context) as port:
        trust = Trust(f"wss://127.0.0.1:{port}/mcp", KnownDevices(tmp_path / "file/devices.json"), said.append)
        with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
            await trust.context()
