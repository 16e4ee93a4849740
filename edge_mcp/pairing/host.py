"""The host's half of pairing: asks a device at an address, and keeps who it proved to be."""

import hashlib
import http.client
import secrets
import ssl
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from edge_mcp.client.known import Known
from edge_mcp.errors import ConfigError
from edge_mcp.pairing.exchange import (
    MAX_MESSAGE,
    PIN_DIGITS,
    Answer,
    Ask,
    Confirm,
    Done,
    Failure,
    Hello,
    Open,
    Request,
    Secret,
    is_same,
    written,
)

REPLY_S = 20.0
_Said = TypeVar("_Said", Open, Answer, Done)


class _Line:
    """One connection to a device; `fingerprint` of the certificate that it showed, or nothing. Raises: ConfigError."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
            raise ConfigError(f"{url[:200]!r} is no address of a device", "Write its name, or ws://HOST:8765/mcp")
        secure = parts.scheme in ("wss", "https")
        port = parts.port or (443 if secure else 80)
        self._where = f"{parts.hostname}:{port}"
        self.fingerprint = ""
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # pairing is what proves it
            self._http: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, port, timeout=REPLY_S, context=context
            )
        else:
            self._http = http.client.HTTPConnection(parts.hostname, port, timeout=REPLY_S)
        try:
            self._http.connect()
        except OSError as error:
            raise ConfigError(f"{self._where} cannot be reached: {error.strerror or error}") from error
        self._http.auto_open = 0  # another connection could show another certificate
        if isinstance(self._http.sock, ssl.SSLSocket):
            shown = self._http.sock.getpeercert(binary_form=True) or b""
            self.fingerprint = hashlib.sha256(shown).hexdigest()

    def say(self, request: Request, kind: type[_Said]) -> _Said:
        """Raises: ConfigError when the device refuses, or what it says is no answer."""
        body = msgspec.json.encode(request)
        try:
            self._http.request("POST", "/pair", body, {"Content-Type": "application/json"})
            response = self._http.getresponse()
            content = response.read(MAX_MESSAGE + 1)
        except (OSError, http.client.HTTPException) as error:
            raise ConfigError(f"{self._where} does not answer: {error}") from error
        if response.status == 404:
            raise ConfigError(
                f"{self._where} cannot be paired with", "Install there what it takes: pip install 'edge-mcp[pair]'"
            )
        try:
            if response.status == 200:
                return msgspec.json.decode(content, type=kind)
            reason = msgspec.json.decode(content, type=Failure).error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ConfigError(f"{self._where} does not pair as it should (status {response.status})") from None
        raise ConfigError(f"{self._where} refuses: {reason}")

    def close(self) -> None:
        """Hang up."""
        self._http.close()


def pair(url: str, id_: str, name: str, digits: Callable[[str], str]) -> Known:
    """Pair with the device at `url`, as the host `name` with `id_`; `digits` asks the person for those of the device named.

    Returns who the device is, with the token that it gave. Raises: ConfigError.
    """
    if (spake2 := importable()) is None:
        raise ConfigError("pairing needs the package spake2", "pip install 'edge-mcp[pair]'")
    line = _Line(url)
    try:
        device = line.say(Ask(), Open)
    finally:
        line.close()
    pin = digits(device.name).replace(" ", "")
    if len(pin) != PIN_DIGITS or not (pin.isascii() and pin.isdigit()):
        raise ConfigError(f"these are not {PIN_DIGITS} digits", "Type those that the device shows")
    side = spake2.SPAKE2_A(pin.encode())
    hello = Hello(id_, name, secrets.token_hex(32), side.start().hex())
    line = _Line(url)  # anew: a person is slower than a connection lives
    try:
        answer = line.say(hello, Answer)
        try:
            key = side.finish(bytes.fromhex(answer.element))
        except (spake2.SPAKEError, ValueError, AssertionError):
            raise ConfigError(f"{device.name} does not pair as it should: no message of SPAKE2") from None
        secret = Secret(key, hello, answer)
        done = line.say(Confirm(answer.nonce, line.fingerprint, secret.host_mac(line.fingerprint)), Done)
    finally:
        line.close()
    if not is_same(done.mac, secret.device_mac(line.fingerprint, done.sealed)):
        raise ConfigError(f"{device.name} does not know the digits that it should show. It may be another device")
    return Known(answer.id, answer.name, line.fingerprint, written(secret.opened(done.sealed)))


def importable() -> Any:
    """The package spake2, if it is there."""
    try:
        import spake2
    except ImportError:
        return None
    return spake2
