"""The device's half of pairing: what `POST /pair` answers. SPAKE2 is imported once somebody pairs."""

import asyncio
import hashlib
import ipaddress
import logging
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec

from edge_mcp.discovery.identity import device_id, instance_name
from edge_mcp.discovery.interfaces import interfaces
from edge_mcp.errors import ConfigError
from edge_mcp.pairing import opening
from edge_mcp.pairing.exchange import MAX_MESSAGE, Answer, Ask, Confirm, Done, Failure, Hello, Open, Request, Secret, is_same
from edge_mcp.pairing.exchange import written as token_text
from edge_mcp.pairing.hosts import PairedHost, PairedHosts

logger = logging.getLogger(__name__)

TRIES = 5
EXCHANGE_S = 15.0
MAX_EXCHANGES = 4
PER_S = 4
"""SPAKE2 is about 15 ms of arithmetic, on a Pi several times that. One address begins half as many at most: so a single flood
keeps nobody else out."""
_LAN = tuple(
    ipaddress.ip_network(net)
    for net in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1",
    )
)
_CLOSED = "pairing is not open here. Run on the device: edge-mcp pair"
Reply = tuple[int, Open | Answer | Done | Failure]


@dataclass(slots=True)
class _Window:
    """While the device is open: the digits, until when they count, and how many tries are left."""

    pin: str
    until_s: float
    tries: int = TRIES


@dataclass(frozen=True, slots=True)
class _Begun:
    """An exchange that waits for the host's proof."""

    window: _Window
    secret: Secret
    address: str
    until_s: float


class Device:
    """Pairs with hosts: `id_` and `name` are its own, `fingerprint` that of its certificate (64 hexadecimal digits, or empty).

    `now` is the clock of `opening`.
    """

    def __init__(
        self,
        id_: str,
        name: str,
        fingerprint: str,
        hosts: PairedHosts,
        file: Path | None = None,
        now: Callable[[], float] = opening.now_s,
    ) -> None:
        self._id = id_
        self._name = name
        self._fingerprint = fingerprint
        self._hosts = hosts
        self._file = file or opening.own_file()
        self._now = now
        self._window: _Window | None = None
        self._begun: dict[str, _Begun] = {}
        self._started: list[tuple[float, str]] = []
        self._arithmetic = asyncio.Lock()

    async def answer(self, body: bytes, address: str) -> tuple[int, bytes]:
        """A status of HTTP and what to say, in JSON, to who sent `body` from `address`. Raises nothing for what is sent."""
        status, said = await self._answered(body, address)
        return status, msgspec.json.encode({"error": said.error} if isinstance(said, Failure) else said)

    async def _answered(self, body: bytes, address: str) -> Reply:
        if not is_near(address):
            return 403, Failure("pairing is for hosts in the same network")
        try:
            request: Request = msgspec.json.decode(body[: MAX_MESSAGE + 1], type=Request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 400, Failure("this is no message of pairing: an object with the step ask, hello or confirm")
        window = self._opened()
        if window is None:
            return 403, Failure(_CLOSED)
        match request:
            case Ask():
                return 200, Open(self._id, self._name)
            case Hello():
                return await self._hello(request, address, window)
            case Confirm():
                return await self._confirm(request, address)

    def _opened(self) -> _Window | None:
        """What is open now. Who opens it anew gives new digits and tries."""
        now = self._now()
        try:
            fresh = opening.take(self._file, now)
        except OSError as error:
            logger.error("the digits in %s cannot be taken: %s", self._file, error.strerror)
            fresh = None
        if fresh is not None:
            self._close()
            self._window = _Window(fresh.pin, fresh.until_s)
        if self._window is not None and now >= self._window.until_s:
            self._close()
        return self._window

    def _close(self) -> None:
        self._window = None
        self._begun.clear()

    async def _hello(self, hello: Hello, address: str, window: _Window) -> Reply:
        now = self._now()
        self._begun = {nonce: begun for nonce, begun in self._begun.items() if now < begun.until_s and begun.address != address}
        self._started = [(then, who) for then, who in self._started if now - then < 1.0]
        mine = sum(who == address for _, who in self._started)
        if len(self._begun) >= MAX_EXCHANGES or len(self._started) >= PER_S or mine >= PER_S // 2 or self._arithmetic.locked():
            return 429, Failure("others are pairing at the moment. Try again in a few seconds")
        self._started.append((now, address))
        async with self._arithmetic:
            made = await asyncio.to_thread(_finished, window.pin, bytes.fromhex(hello.element))
        if made is None:
            return 400, Failure("this is no message of SPAKE2")
        if self._window is not window:
            return 403, Failure(_CLOSED)
        element, key = made
        reply = Answer(self._id, self._name, secrets.token_hex(32), element.hex())
        self._begun[reply.nonce] = _Begun(window, Secret(key, hello, reply), address, now + EXCHANGE_S)
        return 200, reply

    async def _confirm(self, confirm: Confirm, address: str) -> Reply:
        begun = self._begun.pop(confirm.nonce, None)  # whatever comes of it, it is over
        if begun is None or begun.address != address or begun.window is not self._window or self._now() >= begun.until_s:
            return 400, Failure("there is no such exchange, or no more. Begin again")
        if not is_same(confirm.mac, begun.secret.host_mac(confirm.fingerprint)):
            return self._wrong(begun.window, address)
        self._close()  # the digits are for one host
        name = begun.secret.hello.name
        if confirm.fingerprint != self._fingerprint:
            logger.warning("%s at %s sees another certificate than this device shows: somebody is between", name, address)
            return 403, Failure("you see another certificate than this device shows: somebody is between. Pairing is closed")
        token = secrets.token_bytes(32)
        digest = hashlib.sha256(token_text(token).encode()).hexdigest()
        try:
            await asyncio.to_thread(self._hosts.add, PairedHost(name, digest, int(time.time())))
        except ConfigError as error:
            logger.error("%s", error)
            return 500, Failure(str(error)[:300])
        logger.info("paired with %s at %s", name, address)
        sealed = begun.secret.sealed(token)
        return 200, Done(sealed, begun.secret.device_mac(self._fingerprint, sealed))

    def _wrong(self, window: _Window, address: str) -> Reply:
        window.tries -= 1
        logger.warning("%s tried to pair with wrong digits; %s tries are left", address, window.tries)
        if window.tries > 0:
            return 403, Failure(f"these are not the digits that the device shows. Tries left: {window.tries}")
        self._close()
        return 403, Failure("these are not the digits that the device shows. Pairing is closed: open it again on the device")


def served(name: str, fingerprint: str, hosts: PairedHosts) -> Callable[[bytes, str], Awaitable[tuple[int, bytes]]] | None:
    """What answers `POST /pair` on a device that its owner calls `name`; nothing where the extra is not installed."""
    if find_spec("spake2") is None:
        return None
    id_ = own_id()
    shown = instance_name(name or socket.gethostname().partition(".")[0], id_)
    return Device(id_, shown, fingerprint.removeprefix("sha256:"), hosts).answer


def own_id() -> str:
    """That of this machine; see discovery/identity.py."""
    try:
        return device_id(interfaces())
    except OSError as error:
        logger.warning("the network interfaces cannot be read: %s", error.strerror or error)
        return device_id(())


def is_near(address: str) -> bool:
    """Whether an address is of this machine or a private network."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return any(ip in network for network in _LAN)


def _finished(pin: str, element: bytes) -> tuple[bytes, bytes] | None:
    """The device's element and the key; nothing for an element that is none."""
    from spake2 import SPAKE2_B, SPAKEError

    side = SPAKE2_B(pin.encode())
    ours = side.start()
    try:
        return ours, side.finish(element)
    except (SPAKEError, ValueError, AssertionError):
        return None
