"""TLS on the network listener: real handshakes with real certificates, good and bad."""

import asyncio
import hashlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession, Fingerprint

from edge_mcp.errors import ConfigError
from edge_mcp.transports import tls
from edge_mcp.transports.http import HttpListener, Options
from tests.processes import serving

_REQUEST = ["openssl", "req", "-x509", "-nodes", "-addext", "subjectAltName=IP:127.0.0.1"]

Pair = tuple[Path, Path]


def certificate(folder: Path, *more: str, name: str = "one", key: str = "ec") -> Pair:
    """A self-signed certificate and its key, by openssl's command line."""
    folder.mkdir(exist_ok=True)
    files = folder / f"{name}.pem", folder / f"{name}.key"
    curve = ("-pkeyopt", "ec_paramgen_curve:P-256") if key == "ec" else ()
    subprocess.run(
        [*_REQUEST, "-subj", f"/CN={name}", "-newkey", key, *curve, *more, "-keyout", files[1], "-out", files[0]],
        check=True,
        capture_output=True,
    )
    return files


def expired(folder: Path) -> Pair:
    """One that was valid for a day, long ago."""
    made, key = certificate(folder)
    (folder / "index").touch()
    (folder / "serial").write_text("01")
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=a\n[a]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n"
        "[p]\ncommonName=supplied\n"
    )
    run: list[str | Path] = ["openssl", "x509", "-x509toreq", "-in", made, "-signkey", key, "-out", folder / "request"]
    subprocess.run(run, check=True, capture_output=True)
    sign: list[str | Path] = ["openssl", "ca", "-batch", "-config", "ca.conf", "-selfsign", "-keyfile", key, "-in", "request"]
    sign += ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-out", made, "-notext"]
    subprocess.run(sign, check=True, capture_output=True, cwd=folder)
    return made, key


@asynccontextmanager
async def listening(context: ssl.SSLContext) -> AsyncIterator[int]:
    """The product's listener, by its port; it has no MCP behind it."""
    ready: asyncio.Queue[str] = asyncio.Queue()

    async def none(_connection: object) -> None:
        """Nobody gets that far."""

    task = asyncio.create_task(HttpListener("127.0.0.1", 0, Options(tls=context), ready.put_nowait).listen(none))
    try:
        url = await asyncio.wait_for(ready.get(), 30)
        assert url.startswith("https://127.0.0.1:")
        yield int(url.split(":")[2].split("/")[0])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_certificate_is_made_once_and_only_its_owner_may_read_the_key(tmp_path: Path) -> None:
    first = tls.of("", "", tmp_path / "tls")
    second = tls.of("", "", tmp_path / "tls")
    assert first.fingerprint == second.fingerprint
    der = ssl.PEM_cert_to_DER_cert(first.certificate.read_text())
    assert first.fingerprint == f"sha256:{hashlib.sha256(der).hexdigest()}"
    assert sorted(file.name for file in (tmp_path / "tls").iterdir()) == ["certificate.pem", "key.pem"]
    assert (tmp_path / "tls/key.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    text = subprocess.run(
        ["openssl", "x509", "-in", first.certificate, "-noout", "-text"], capture_output=True, text=True
    ).stdout
    assert "prime256v1" in text
    assert "DNS:localhost" in text
    assert "Not After : Oct 30" in text or " 21" in text.split("Not After", 1)[1][:40]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_only_tls_1_3_is_spoken(version: ssl.TLSVersion, tmp_path: Path) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = version
    async with listening(tls.of("", "", tmp_path).context) as port:
        opened = asyncio.open_connection("127.0.0.1", port, ssl=client)
        if version is ssl.TLSVersion.TLSv1_2:
            with pytest.raises(OSError):
                await opened
            return
        _, writer = await opened
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_trusts_the_certificate_gets_an_answer(tmp_path: Path) -> None:
    identity = tls.of("", "", tmp_path)
    trusting = ssl.create_default_context(cafile=str(identity.certificate))
    pin = Fingerprint(bytes.fromhex(identity.fingerprint.removeprefix("sha256:")))
    async with listening(identity.context) as port, ClientSession() as session:
        for name, trust in (("localhost", trusting), ("127.0.0.1", pin)):
            async with session.get(f"https://{name}:{port}/health", ssl=trust) as response:
                assert (await response.json())["live"]


async def test_what_is_no_tls_harms_nobody(tmp_path: Path) -> None:
    identity = tls.of("", "", tmp_path)
    async with listening(identity.context) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in await reader.read()
        writer.close()
        trusting = ssl.create_default_context(cafile=str(identity.certificate))
        async with ClientSession() as session, session.get(f"https://127.0.0.1:{port}/health", ssl=trusting) as response:
            assert response.status == 200


def pair_of(kind: str, folder: Path) -> Pair:
    certificate_file, key = certificate(folder)
    match kind:
        case "no certificate":
            certificate_file.unlink()
        case "no key":
            key.unlink()
        case "garbage":
            certificate_file.write_bytes(b"\x00\xff not a certificate")
        case "garbage key":
            key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        case "another key":
            key = certificate(folder, name="two")[1]
        case "a locked key":
            locked = folder / "locked.key"
            subprocess.run(
                ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:secret"],
                check=True,
                capture_output=True,
            )
            key = locked
        case "expired":
            certificate_file, key = expired(folder)
    return certificate_file, key


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no certificate", "the certificate .*one.pem cannot be read: No such file"),
        ("no key", "the key .*one.key cannot be read: No such file"),
        ("garbage", "are no certificate and its key"),
        ("garbage key", "are no certificate and its key"),
        ("another key", "are no certificate and its key: key values mismatch"),
        ("a locked key", "are no certificate and its key: the key is encrypted"),
        ("expired", r"the certificate .*one.pem has expired\. Put a new one in its place"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(kind: str, words: str, tmp_path: Path) -> None:
    files = pair_of(kind, tmp_path)
    with pytest.raises(ConfigError, match=words) as raised:
        tls.of(str(files[0]), str(files[1]), tmp_path / "tls")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "tls").exists()


@pytest.mark.parametrize("key", ["ec", "rsa:2048"])
def test_own_certificates_of_other_kinds_are_shown(key: str, tmp_path: Path) -> None:
    made = certificate(tmp_path, key=key)
    der = ssl.PEM_cert_to_DER_cert(made[0].read_text())
    assert tls.of(str(made[0]), str(made[1]), tmp_path).fingerprint == f"sha256:{hashlib.sha256(der).hexdigest()}"


def test_without_openssl_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"the program openssl.* is not there\. Install it"):
        tls.of("", "", tmp_path / "tls")
    assert not list((tmp_path / "tls").iterdir())


def test_an_openssl_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "openssl"
    program.write_text("#!/bin/sh\necho 'something is wrong' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(shutil.which('sh') or '/bin/sh').parent}")
    with pytest.raises(ConfigError, match="openssl could not make a certificate: something is wrong"):
        tls.of("", "", tmp_path / "tls")
    assert not list((tmp_path / "tls").iterdir())


async def test_the_server_prints_its_fingerprint_and_its_card_has_it(tmp_path: Path) -> None:
    async with serving("--listen", "127.0.0.1:0", "--tls", XDG_DATA_HOME=str(tmp_path)) as served:
        async with asyncio.timeout(30):
            while not any("certificate" in line for line in served.log):
                await asyncio.sleep(0.01)
        [line] = [line for line in served.log if "certificate" in line]
        identity = tls.of("", "", tmp_path / "edge-mcp/tls")
        assert line == f"its certificate is {identity.fingerprint}"
        trusting = ssl.create_default_context(cafile=str(identity.certificate))
        async with ClientSession() as session, session.get(f"{served.url}/server-card", ssl=trusting) as response:
            card = await response.json(content_type=None)
        assert card["_meta"] == {"io.edge-mcp/certificate": identity.fingerprint}
        assert card["remotes"][0]["url"].startswith("https://")


async def test_handshakes_that_never_end_are_bounded_in_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is refused at once."""
    monkeypatch.setattr(tls, "HANDSHAKE_S", 3600)
    identity = tls.of("", "", tmp_path)
    async with listening(identity.context) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(tls.MAX_HANDSHAKES_PER_PEER + 4)]
        ends = [asyncio.create_task(reader.read()) for reader, _ in silent]
        async with asyncio.timeout(30):
            while sum(end.done() for end in ends) < 4:
                await asyncio.sleep(0.01)
        for _, writer in silent:
            writer.close()
        await asyncio.wait_for(asyncio.gather(*ends, return_exceptions=True), 30)


async def test_handshakes_that_never_end_are_given_up_so_that_others_can_come_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = tls.of("", "", tmp_path)
    trusting = ssl.create_default_context(cafile=str(identity.certificate))
    async with listening(identity.context) as port, ClientSession() as session:
        monkeypatch.setattr(tls, "HANDSHAKE_S", 0.1)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(tls.MAX_HANDSHAKES_PER_PEER)]
        ends = [asyncio.create_task(reader.read()) for reader, _ in silent]
        await asyncio.wait_for(asyncio.gather(*ends, return_exceptions=True), 30)
        monkeypatch.undo()
        async with session.get(f"https://127.0.0.1:{port}/health", ssl=trusting) as response:
            assert response.status == 200
        for _, writer in silent:
            writer.close()


async def test_what_comes_right_behind_the_handshake_is_read(tmp_path: Path) -> None:
    """As TLS 1.3 has it: the client's last word of the handshake and its request may be one packet."""
    identity = tls.of("", "", tmp_path)
    trusting = ssl.create_default_context(cafile=str(identity.certificate))
    async with listening(identity.context) as port:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        client.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        writer.write(outgoing.read())
        answer = b""
        async with asyncio.timeout(30):
            while b"live" not in answer:
                incoming.write(await reader.read(65536))
                try:
                    answer += client.read()
                except ssl.SSLWantReadError:
                    continue
        assert answer.startswith(b"HTTP/1.1 200 OK")
        writer.close()


async def test_who_shakes_hands_while_the_listener_ends_is_not_served(tmp_path: Path) -> None:
    identity = tls.of("", "", tmp_path)
    trusting = ssl.create_default_context(cafile=str(identity.certificate))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    async with listening(identity.context) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        writer.write(outgoing.read())
        incoming.write(await reader.read(65536))
    client.do_handshake()
    client.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    writer.write(outgoing.read())
    with suppress(ConnectionError):
        async with asyncio.timeout(30):
            incoming.write(await reader.read())  # to the end
    with pytest.raises((ssl.SSLWantReadError, ssl.SSLEOFError)):
        client.read()
    writer.transport.abort()
