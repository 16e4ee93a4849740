"""TLS 1.3 for the network listener, with a certificate of the user's or one that is made at first use."""

import asyncio
import hashlib
import logging
import os
import re
import socket
import ssl
import subprocess
from pathlib import Path

from edge_mcp.errors import ConfigError
from edge_mcp.transports.limits import ConnectionLimit

logger = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
MAX_HANDSHAKES, MAX_HANDSHAKES_PER_PEER = 64, 16
MAKE_S = 60.0
_CERTIFICATE, _KEY = "certificate.pem", "key.pem"
_DAYS = 36_500  # who pins it does not ask for how long it is valid, and a device may be forgotten for long
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL
_REQUEST = """[req]
distinguished_name = name
x509_extensions = more
prompt = no
[name]
CN = {name}
[more]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = {names}
"""


class Entrance(asyncio.Protocol):
    """A connection that has to shake hands before it becomes `inside`'s: in bounded number and time, as it costs memory and
    is not counted anywhere else. asyncio's own way has no bound on how many do so at once."""

    def __init__(self, inside: asyncio.Protocol, context: ssl.SSLContext, limit: ConnectionLimit) -> None:
        self._inside = inside
        self._context = context
        self._limit = limit
        self._early = b""
        self._gone = False
        self._shaking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        if not isinstance(transport, asyncio.Transport):
            return
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if self._limit.enter(address):
            self._shaking = asyncio.get_running_loop().create_task(self._shake(transport, address))
        else:
            self._limit.leave(address)
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """See asyncio: it came right behind the handshake."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._gone = True

    async def _shake(self, transport: asyncio.Transport, address: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            secure = await loop.start_tls(transport, self, self._context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S)
        except OSError as error:
            logger.debug("%s: no handshake: %s", address, error)
            return
        finally:
            self._limit.leave(address)
        if secure is None or self._gone or secure.is_closing():
            return
        secure.set_protocol(self._inside)
        self._inside.connection_made(secure)
        if self._early and not secure.is_closing():
            self._inside.data_received(self._early)


class Identity:
    """What the server shows: `context` for its listener, and the `fingerprint` of its certificate (`sha256:` and 64 digits)."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both. Raises: ConfigError."""
        self.certificate = certificate
        self.context = _context(certificate, key)
        self.fingerprint = f"sha256:{_digest(self.context, certificate)}"


def of(certificate: str, key: str, folder: Path) -> Identity:
    """The certificate that the settings name, or the one that is kept in `folder`, made now if there is none.

    Raises: ConfigError.
    """
    if certificate:
        return Identity(Path(certificate), Path(key))
    if not (folder / _CERTIFICATE).exists():
        _make(folder)
    return Identity(folder / _CERTIFICATE, folder / _KEY)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    for file, what in ((certificate, "certificate"), (key, "key")):
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            raise ConfigError(f"the {what} {file} cannot be read: {error.strerror}", _HINT) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{certificate} and {key} are no certificate and its key: {_reason(error)}", _HINT) from None
    return context


def _digest(server: ssl.SSLContext, file: Path) -> str:
    """The certificate's SHA-256 in hex, as a client gets to see it. Raises: ConfigError when it has expired."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # it vouches for itself: only its time is of interest
    try:
        client.load_verify_locations(file)
        return hashlib.sha256(_shown(server, client)).hexdigest()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            raise ConfigError(f"the certificate {file} has expired", "Put a new one in its place") from None
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{file} cannot be used: {_reason(error)}", _HINT) from None
    client.verify_mode = ssl.CERT_NONE  # it may not be valid yet, on a device whose clock is not set
    return hashlib.sha256(_shown(server, client)).hexdigest()


def _shown(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """The certificate in a handshake of the two, in memory. Raises: ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(up, down, server_side=True)
    ours = client.wrap_bio(down, up)
    for end in (ours, theirs, ours):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ours.getpeercert(binary_form=True) or b""


def _make(folder: Path) -> None:
    """Raises: ConfigError."""
    import shutil  # with three compression libraries: once in a device's life
    import tempfile

    name = re.sub(r"[^a-z0-9-]", "", socket.gethostname().partition(".")[0].lower()) or "edge-mcp"
    names = dict.fromkeys(["localhost", name, f"{name}.local"])
    request = _REQUEST.format(name=name[:64], names=", ".join([*(f"DNS:{one}" for one in names), "IP:127.0.0.1", "IP:::1"]))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))  # which nobody else may enter
        try:
            (staging / "request").write_text(request)
            _openssl(staging)
            (staging / _KEY).chmod(0o600)
            _sync(staging / _KEY)
            _sync(staging / _CERTIFICATE)
            (staging / _KEY).replace(folder / _KEY)
            (staging / _CERTIFICATE).replace(folder / _CERTIFICATE)  # last: where it is, its key is too
        finally:
            shutil.rmtree(staging)
    except OSError as error:
        raise ConfigError(f"a certificate cannot be kept in {folder}: {error.strerror}") from error


def _openssl(folder: Path) -> None:
    """Have `folder/request` made into a key and a certificate. Raises: ConfigError, OSError."""
    words = ["openssl", "req", "-x509", "-sha256", "-nodes", "-days", str(_DAYS), "-config", "request"]
    words += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", _KEY, "-out", _CERTIFICATE]
    hint = "Install it (apt install openssl), or name a certificate with tls_certificate and tls_key"
    try:
        made = subprocess.run(words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=MAKE_S, check=False)
    except FileNotFoundError:
        raise ConfigError("the program openssl, which makes the certificate, is not there", hint) from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"openssl did not make a certificate within {MAKE_S:.0f} s", hint) from None
    if made.returncode:
        said = made.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise ConfigError(f"openssl could not make a certificate: {said[-1]}", hint)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_password() -> str:
    """Nobody is there to be asked."""
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")


_HINT = "Name a PEM file with tls_certificate and its key with tls_key"
