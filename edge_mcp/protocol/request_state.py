"""`requestState`: what the server wants back with the answers to its questions, sealed, because a client could change it.

HMAC-SHA256 over the JSON, with a time to live, bound to what was called (2026-07-28, Multi Round-Trip Requests).
"""

import base64
import binascii
import hmac
import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from edge_mcp.errors import ProtocolError
from edge_mcp.protocol.jsonrpc import INVALID_PARAMS

TTL_S = 3600.0
_MAC_BYTES = 32


class _Sealed(msgspec.Struct):
    binding: str
    expires: float
    answers: dict[str, dict[str, Any]]


class Sealer:
    """Seals the answers given so far. The key lives as long as the process: a restart voids what is out."""

    def __init__(self, clock: Callable[[], float], key: bytes | None = None) -> None:
        self._clock = clock
        self._key = key or os.urandom(32)

    def seal(self, binding: str, answers: Mapping[str, dict[str, Any]]) -> str:
        """An opaque string that only `unseal` with the same `binding` takes back."""
        body = msgspec.json.encode(_Sealed(binding, self._clock() + TTL_S, dict(answers)))
        return base64.urlsafe_b64encode(self._mac(body) + body).decode()

    def unseal(self, binding: str, state: str) -> dict[str, dict[str, Any]]:
        """The answers sealed in `state`. Raises: ProtocolError when it is forged, too old or of another request."""
        try:
            raw = base64.b64decode(state.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError, ValueError):
            raise _invalid("is not what this server gave out") from None
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise _invalid("is not what this server gave out")
        sealed = msgspec.json.decode(body, type=_Sealed)
        if sealed.binding != binding:
            raise _invalid("belongs to another request")
        if sealed.expires < self._clock():
            raise _invalid("is too old")
        return sealed.answers

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def _invalid(why: str) -> ProtocolError:
    return ProtocolError(INVALID_PARAMS, f"requestState {why}. Call again without it")
