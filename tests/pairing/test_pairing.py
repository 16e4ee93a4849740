"""Pairing over the product's listener on loopback, with and without TLS: the two sides, and who would like to be one."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from spake2 import SPAKE2_A

from edge_mcp.client.known import Known
from edge_mcp.errors import ConfigError
from edge_mcp.pairing import host, opening
from edge_mcp.pairing.device import TRIES, Device, is_near
from edge_mcp.pairing.exchange import Answer, Hello, Secret
from edge_mcp.pairing.hosts import MAX_HOSTS, PairedHost, PairedHosts
from edge_mcp.transports import tls
from edge_mcp.transports.access import token_hash
from edge_mcp.transports.http import HttpListener, Options

DEVICE, HOST = "0123456789abcdef", "fedcba9876543210"
MAIN = "a-token-of-the-device-itself"


@dataclass
class Running:
    """A device that is served, its files, and the clock that it goes by."""

    folder: Path
    hosts: PairedHosts
    device: Device | None = None
    url: str = ""
    now: float = 1000.0
    fingerprint: str = ""
    asked: list[str] = field(default_factory=list)

    def open(self) -> str:
        return opening.open_pairing(self.folder / "pairing", self.now).pin

    async def pair(self, pin: str, url: str = "", name: str = "laptop-fedc") -> Known:
        def digits(shown: str) -> str:
            self.asked.append(shown)
            return pin

        return await asyncio.to_thread(host.pair, url or self.url, HOST, name, digits)

    async def post(self, body: bytes, **fields: str) -> tuple[int, Any]:
        fields = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in fields.items()}
        async with (
            ClientSession() as session,
            session.post(self.url.replace("/mcp", "/pair"), data=body, headers=fields, ssl=False) as response,
        ):
            return response.status, await response.json(content_type=None)

    async def say(self, step: str, **fields: str) -> tuple[int, Any]:
        return await self.post(msgspec.json.encode({"step": step, **fields}))

    async def status(self, token: str) -> int:
        """What the device's MCP endpoint says to a token."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        async with ClientSession() as session, session.put(self.url, headers=headers, ssl=False) as response:
            return response.status


@asynccontextmanager
async def running(folder: Path, secure: bool) -> AsyncIterator[Running]:
    one = Running(folder, PairedHosts(folder / "paired-hosts.json"))
    identity = tls.of("", "", folder / "tls") if secure else None
    one.fingerprint = identity.fingerprint.removeprefix("sha256:") if identity else ""
    one.device = Device(DEVICE, "kitchen-0123", one.fingerprint, one.hosts, folder / "pairing", lambda: one.now)
    ready: asyncio.Queue[str] = asyncio.Queue()
    options = Options(
        token_hash=token_hash(MAIN), tls=identity.context if identity else None, paired=one.hosts.who, pair=one.device.answer
    )

    async def none(_connection: object) -> None:
        """Nobody gets that far."""

    task = asyncio.create_task(HttpListener("127.0.0.1", 0, options, ready.put_nowait).listen(none))
    try:
        one.url = await asyncio.wait_for(ready.get(), 30)
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
async def device(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, request.param) as one:
        yield one


async def begun(device: Running, pin: str) -> Secret:
    """An exchange up to the point where the host has to prove itself."""
    side = SPAKE2_A(pin.encode())
    hello = Hello(HOST, "laptop-fedc", "11" * 32, side.start().hex())
    status, said = await device.say("hello", id=hello.id, name=hello.name, nonce=hello.nonce, element=hello.element)
    assert status == 200, said
    answer = Answer(**said)
    return Secret(side.finish(bytes.fromhex(answer.element)), hello, answer)


async def confirmed(device: Running, secret: Secret) -> tuple[int, Any]:
    mac = secret.host_mac(device.fingerprint)
    return await device.say("confirm", nonce=secret.answer.nonce, fingerprint=device.fingerprint, mac=mac)


def other(pin: str) -> str:
    return f"{(int(pin) + 1) % 10**6:06}"


async def test_right_digits_give_a_token_of_ones_own_that_can_be_withdrawn(device: Running) -> None:
    known = await device.pair(device.open())
    assert (known.id, known.name, known.fingerprint) == (DEVICE, "kitchen-0123", device.fingerprint)
    assert device.asked == ["kitchen-0123"]
    assert await device.status(known.token) == 405, "it is let in; there is no PUT"
    assert await device.status(MAIN) == 405
    assert await device.status(known.token + "x") == 401
    file = device.hosts.file
    assert file.stat().st_mode & 0o777 == 0o600
    assert known.token not in file.read_text()
    assert [one.name for one in device.hosts.all()] == ["laptop-fedc"]
    assert PairedHosts(file).remove("laptop-fedc")  # as another process does
    assert await device.status(known.token) == 401


async def test_the_digits_are_for_one_host(device: Running) -> None:
    pin = device.open()
    await device.pair(pin)
    with pytest.raises(ConfigError, match="pairing is not open here"):
        await device.pair(pin)


async def test_it_has_to_be_opened_and_closes_by_itself(device: Running) -> None:
    with pytest.raises(ConfigError, match=r"pairing is not open here\. Run on the device: edge-mcp pair"):
        await device.pair("123456")
    pin = device.open()
    device.now += opening.OPEN_S
    with pytest.raises(ConfigError, match="not open"):
        await device.pair(pin)
    assert not (device.folder / "pairing").exists()


async def test_it_closes_while_the_digits_are_typed(device: Running) -> None:
    pin = device.open()
    secret = await begun(device, pin)
    device.now += opening.OPEN_S
    assert (await confirmed(device, secret))[0] == 403
    assert not device.hosts.all()


async def test_wrong_digits_cost_a_try_and_after_five_the_right_ones_are_worth_nothing(device: Running) -> None:
    pin = device.open()
    for left in range(TRIES - 1, 0, -1):
        with pytest.raises(ConfigError, match=f"not the digits that the device shows. Tries left: {left}"):
            await device.pair(other(pin))
        device.now += 1
    with pytest.raises(ConfigError, match="Pairing is closed"):
        await device.pair(other(pin))
    with pytest.raises(ConfigError, match="not open"):
        await device.pair(pin)
    await device.pair(device.open())  # the owner opened it again
    assert len(device.hosts.all()) == 1


async def test_digits_tried_in_parallel_are_not_more_tries(device: Running) -> None:
    pin = device.open()
    for _ in range(TRIES):
        secret = await begun(device, other(pin))
        answers = await asyncio.gather(*(confirmed(device, secret) for _ in range(8)))
        assert sum("not the digits" in said["error"] for _, said in answers) == 1, "one exchange, one try"
        device.now += 1
    assert (await device.say("ask"))[0] == 403
    assert not device.hosts.all()


async def test_a_flood_begins_no_more_than_a_few_exchanges(device: Running) -> None:
    device.open()
    element = SPAKE2_A(b"000000").start().hex()
    hello = {"id": HOST, "name": "flood", "nonce": "22" * 32, "element": element}
    statuses: list[int] = []
    for _ in range(8):  # TLS lets an address shake hands 16 times at once
        answers = await asyncio.gather(*(device.say("hello", **hello) for _ in range(12)))
        statuses += [status for status, _ in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= 4
    assert device.device is not None
    assert len(device.device._begun) <= 4


async def test_a_flood_from_one_address_keeps_nobody_else_out(device: Running) -> None:
    device.open()
    said = {"step": "hello", "id": HOST, "name": "host", "nonce": "22" * 32, "element": SPAKE2_A(b"000000").start().hex()}
    body = msgspec.json.encode(said)
    assert device.device is not None
    flood = [(await device.device.answer(body, "10.0.0.66"))[0] for _ in range(12)]
    assert set(flood) == {200, 429}
    assert (await device.device.answer(body, "10.0.0.5"))[0] == 200


async def test_what_was_said_before_is_worth_nothing(device: Running) -> None:
    secret = await begun(device, device.open())
    assert (await confirmed(device, secret))[0] == 200
    device.open()
    assert (await confirmed(device, secret))[0] == 400
    hello = secret.hello
    device.now += 1
    status, said = await device.say("hello", id=hello.id, name=hello.name, nonce=hello.nonce, element=hello.element)
    assert status == 200
    mac = secret.host_mac(device.fingerprint)
    status, said = await device.say("confirm", nonce=said["nonce"], fingerprint=device.fingerprint, mac=mac)
    assert (status, len(device.hosts.all())) == (403, 1), said


HELLO = '{"step":"hello","id":"%s","name":"a","nonce":"%s","element":"%s"}'
HOSTILE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 4000,
    b'{"step":"other"}',
    b'{"step":"ask","more":1}',
    b'{"step":"hello"}',
    (HELLO % (HOST, "1" * 63, "41" * 33)).encode(),
    (HELLO % (HOST, "1" * 64, "41" * 32)).encode(),
    (HELLO % (HOST + "\\n", "1" * 64, "41" * 33)).encode(),
    (HELLO % (HOST, "1" * 64, "41" * 33)).replace('"a"', '"a\\nb"').encode(),
    (HELLO % (HOST, "1" * 64, "41" + "ff" * 32)).encode(),
    (HELLO % (HOST, "1" * 64, "42" + "00" * 32)).encode(),
    (HELLO % (HOST, "1" * 64, "41" + "01" + "00" * 31)).encode(),
    b'{"step":"confirm","nonce":"%s","fingerprint":"","mac":"%s"}' % (b"0" * 64, b"0" * 64),
]


@pytest.mark.parametrize("body", HOSTILE)
async def test_hostile_messages_are_refused_and_cost_nothing(device: Running, body: bytes) -> None:
    pin = device.open()
    status, said = await device.post(body)
    assert status == 400, said
    device.now += 1
    await device.pair(pin)


async def test_too_large_a_message_is_refused(device: Running) -> None:
    assert (await device.post(b"x" * 5000))[0] == 413


async def test_no_proxy_no_other_site_no_other_method(device: Running) -> None:
    device.open()
    assert (await device.post(b'{"step":"ask"}', X_Forwarded_For="10.0.0.1"))[0] == 403
    assert (await device.post(b'{"step":"ask"}', Origin="http://evil.example"))[0] == 403
    assert (await device.post(b'{"step":"ask"}', Host="evil.example"))[0] == 421
    assert (await device.post(b'{"step":"ask"}', Content_Type="text/plain"))[0] == 400
    assert (await device.say("ask"))[0] == 200


async def test_somebody_between_with_another_certificate_is_found(tmp_path: Path) -> None:
    evil = tls.of("", "", tmp_path / "evil")
    async with running(tmp_path, secure=True) as device, between(device, evil.context) as port:
        with pytest.raises(ConfigError, match="another certificate than this device shows: somebody is between"):
            await device.pair(device.open(), f"wss://127.0.0.1:{port}/mcp")
        assert not device.hosts.all()
        assert (await device.say("ask"))[0] == 403, "closed"


async def test_somebody_between_who_takes_the_tls_away_is_found(tmp_path: Path) -> None:
    async with running(tmp_path, secure=True) as device, between(device, None) as port:
        with pytest.raises(ConfigError, match="somebody is between"):
            await device.pair(device.open(), f"ws://127.0.0.1:{port}/mcp")
        assert not device.hosts.all()


async def test_somebody_between_who_changes_what_is_said_is_found(tmp_path: Path) -> None:
    def changed(said: bytes) -> bytes:
        return said.replace(b"kitchen-0123", b"kitchen-0124")

    async with running(tmp_path, secure=False) as device, between(device, None, changed) as port:
        with pytest.raises(ConfigError, match="not the digits"):
            await device.pair(device.open(), f"ws://127.0.0.1:{port}/mcp")


async def test_a_device_that_does_not_know_the_digits_is_found(tmp_path: Path) -> None:
    """It says that all is well: without the digits it can prove nothing."""

    def changed(said: bytes) -> bytes:
        head, _, body = said.partition(b"\r\n\r\n")
        if b'"sealed"' not in body:
            return said
        return head + b"\r\n\r\n" + body[:12] + (b"1" if body[12:13] == b"0" else b"0") + body[13:]

    async with running(tmp_path, secure=False) as device, between(device, None, changed) as port:
        with pytest.raises(ConfigError, match="does not know the digits"):
            await device.pair(device.open(), f"ws://127.0.0.1:{port}/mcp")


@asynccontextmanager
async def between(
    device: Running, context: ssl.SSLContext | None, changed: Callable[[bytes], bytes] = lambda said: said
) -> AsyncIterator[int]:
    """Somebody who passes on all that is said, and changes what the device says."""
    inner = ssl.create_default_context() if device.fingerprint else None
    if inner is not None:
        inner.check_hostname, inner.verify_mode = False, ssl.CERT_NONE
    port = int(device.url.split(":")[2].split("/")[0])
    writers: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Task[None]] = []

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]) -> None:
        while data := await reader.read(65536):
            writer.write(change(data))
            await writer.drain()
        writer.close()

    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port, ssl=inner)
        writers.extend((writer, ours))
        tasks.append(asyncio.create_task(passed(reader, ours, lambda said: said)))
        tasks.append(asyncio.create_task(passed(theirs, writer, changed)))

    server = await asyncio.start_server(both, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*tasks, *(writer.wait_closed() for writer in writers), return_exceptions=True)


@pytest.mark.parametrize("address", ["192.168.1.7", "10.1.2.3", "172.31.0.1", "169.254.3.4", "127.0.0.1", "::1", "fd00::5"])
def test_the_lan(address: str) -> None:
    assert is_near(address)


@pytest.mark.parametrize("address", ["fe80::1%eth0", "::ffff:192.168.1.7"])
def test_the_lan_in_other_words(address: str) -> None:
    assert is_near(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8", "192.0.2.1", "unknown", ""])
def test_not_the_lan(address: str) -> None:
    assert not is_near(address)


async def test_who_is_far_is_refused(tmp_path: Path) -> None:
    device = Device(DEVICE, "kitchen", "", PairedHosts(tmp_path / "hosts"), tmp_path / "pairing", lambda: 0.0)
    opening.open_pairing(tmp_path / "pairing", 0.0)
    assert (await device.answer(b'{"step":"ask"}', "8.8.8.8"))[0] == 403
    assert (await device.answer(b'{"step":"ask"}', "192.168.0.1"))[0] == 200


def test_hosts_are_bounded_and_one_of_a_name(tmp_path: Path) -> None:
    hosts = PairedHosts(tmp_path / "hosts")
    for number in [*range(MAX_HOSTS), 0]:
        hosts.add(PairedHost(f"host-{number}", hashlib.sha256(b"%d" % number).hexdigest(), 0))
    assert len(hosts.all()) == MAX_HOSTS
    with pytest.raises(ConfigError, match=f"{MAX_HOSTS} hosts are paired already"):
        hosts.add(PairedHost("one more", "00" * 32, 0))
    assert hosts.who(hashlib.sha256(b"7").digest()) == "host-7"
    assert hosts.who(hashlib.sha256(b"x").digest()) is None
    hosts.file.write_text("{")
    assert hosts.who(hashlib.sha256(b"7").digest()) is None, "what is damaged lets nobody in"
    hosts.file.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        hosts.all()
