"""Whether a device's certificate is its own: by who signed it, or by its fingerprint, which is remembered at first use.

A device in a LAN has no name that anybody would sign a certificate for. So its own, self-signed one is taken as it is the first
time, and has to be the same ever after, as with SSH. A pin given from the start leaves no first time.
"""

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from edge_mcp.client.known import Known, KnownDevices, address_key
from edge_mcp.errors import ConfigError

CONNECT_S = 10.0
_SELF_SIGNED = 18  # X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT of OpenSSL


def digest_of(fingerprint: str) -> str:
    """A SHA-256 fingerprint as 64 hexadecimal digits, from how people and programs write it. Raises: ConfigError."""
    digits = fingerprint.strip().lower().removeprefix("sha256").lstrip(":= ").replace(":", "")
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ConfigError(
            f"{fingerprint[:100]!r} is no fingerprint of a certificate",
            "Write the 64 digits after sha256: that the device shows",
        )
    return digits


class _Pinning(ssl.SSLContext):
    """Takes the one certificate that has the digest `pin`, and any where that is empty. `seen` is what there was."""

    pin = ""
    seen = ""


class _PinnedObject(ssl.SSLObject):
    """One connection of a _Pinning: judges as part of the handshake, so that nothing is sent to the wrong one."""

    def do_handshake(self) -> None:
        """See ssl.SSLObject. Raises: ssl.SSLError."""
        super().do_handshake()
        context = self.context
        assert isinstance(context, _Pinning)  # noqa: S101 - narrows the type for mypy
        context.seen = hashlib.sha256(self.getpeercert(binary_form=True) or b"").hexdigest()
        if context.pin and not hmac.compare_digest(context.seen, context.pin):
            raise ssl.SSLError("the certificate is another one")


class Trust:
    """Judges the device at one URL: by `pin`, the fingerprint that it has to have, or what is `known` of it, which is
    remembered as that of `device` (by default of the one at this address). `say` tells the user."""

    def __init__(
        self, url: str, known: KnownDevices, say: Callable[[str], None], pin: str = "", device: Known | None = None
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or 443
        address = address_key(url)
        self._device = device or Known("", address.removeprefix("wss://"), url=address)
        self._name = self._device.name
        self._known = known
        self._say = say
        self._pin = digest_of(pin) if pin else ""
        self._context: ssl.SSLContext | None = None

    async def context(self) -> ssl.SSLContext:
        """For a connection to the device. Raises: ConfigError, whose cause is an OSError where it is not there."""
        if self._context is None:
            remembered = None if self._pin else self._known.get(self._device.key)
            pin = remembered.fingerprint if remembered else self._pin
            self._context = _pinning(pin) if pin else await self._met()
        return self._context

    def check(self) -> None:
        """After a connection failed: whether it was for the certificate. Raises: ConfigError."""
        context = self._context
        if not isinstance(context, _Pinning) or context.seen in ("", context.pin):
            return
        seen, context.seen = context.seen, ""
        what = f"the certificate of {self._name} is sha256:{seen}, not sha256:{context.pin}"
        if self._pin:
            raise ConfigError(
                what, "Compare with what the device shows (edge-mcp token --show). If it has a new one, name that"
            )
        raise ConfigError(
            f"{what} as before. Another device may pose as it",
            "If it was set up anew, compare with what it shows (edge-mcp token --show), and forget what was: "
            f"edge-mcp discover --forget {self._device.key}",
        )

    async def _met(self) -> ssl.SSLContext:
        """The first time: by who signed the certificate, and else by the certificate itself. Raises: ConfigError."""
        verifying = ssl.create_default_context()
        try:
            await self._handshake(verifying)
        except ssl.SSLCertVerificationError as error:
            if error.verify_code != _SELF_SIGNED:
                hint = "Name its fingerprint with --fingerprint, or who signs it with the variable SSL_CERT_FILE"
                raise ConfigError(f"the certificate of {self._name} is not valid: {error.verify_message}", hint) from None
        else:
            return verifying
        context = _pinning("")
        await self._handshake(context)
        context.pin = context.seen
        self._remember(context.pin)
        return context

    async def shown(self) -> str:
        """The digest of the certificate that it shows now, without judging it. Raises: ConfigError."""
        context = _pinning("")
        await self._handshake(context)
        return context.seen

    async def _handshake(self, context: ssl.SSLContext) -> None:
        """Raises: ssl.SSLCertVerificationError; ConfigError for anything else."""
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(self._host, self._port, ssl=context)
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError as error:
            raise ConfigError(f"{self._name} does not speak TLS as it should: {error.reason or error}") from None
        except OSError as error:
            reason = "it does not answer" if isinstance(error, TimeoutError) else error.strerror or error
            raise ConfigError(f"{self._name} cannot be reached: {reason}") from error
        writer.close()

    def _remember(self, digest: str) -> None:
        try:
            device = self._known.get(self._device.key) or self._device
            self._known.remember(replace(device, fingerprint=digest))
        except ConfigError as error:
            self._say(f"{error.message}, so that {self._name} will be new again next time")
        self._say(f"{self._name} is new here: compare what the device shows with its certificate, sha256:{digest}")


def _pinning(pin: str) -> _Pinning:
    context = _Pinning(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the digest says more
    context.sslobject_class = _PinnedObject
    context.pin = pin
    return context
