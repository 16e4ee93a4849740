"""Who may use the network listener: the bearer token, and Host and Origin against DNS rebinding."""

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from edge_mcp.protocol.headers import Fields, Refusal


class Access:
    """Judges requests. `token_hash` is the SHA-256 of the bearer token, or empty where none is asked for; `hosts` are names
    by which this machine is called besides its own; `paired` names the host whose own token has a hash, if one has."""

    def __init__(
        self,
        listen_host: str,
        hosts: tuple[str, ...] = (),
        token_hash: bytes = b"",
        paired: Callable[[bytes], str | None] = lambda token_hash: None,
    ) -> None:
        self._paired = paired
        self._names = own_names(listen_host) | {name.lower().rstrip(".") for name in hosts}
        self._token_hash = token_hash
        self._principal = f"token-{token_hash.hex()[:12]}" if token_hash else ""

    def principal(self, fields: Fields) -> str | None:
        """Who the peer proved to be: empty where no proof is asked for; None where it failed."""
        if not self._token_hash:
            return ""
        values = fields.getall("Authorization", [])
        scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        # Hashes are compared, so that the time taken tells nothing about the token, not even its length.
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogatepass")).digest()
        if scheme.lower() != "bearer":
            return None
        host = self._paired(given)
        if hmac.compare_digest(given, self._token_hash):
            return self._principal
        return f"host-{host}" if host is not None else None

    def check_site(self, fields: Fields) -> Refusal | None:
        """Whether the request was meant for this machine, and comes from no page of another site."""
        hosts = fields.getall("Host", [])
        host = _hostname(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._is_own(host):
            return Refusal(421, f"this server does not go by the name {(host or '')[:100]!r}")
        for origin in fields.getall("Origin", []):
            if not self._same_site(_origin(origin), host):
                return Refusal(403, "pages of other sites may not use this server (Origin)")
        return None

    def _same_site(self, origin: str, host: str) -> bool:
        """Whether a page from `origin` was served by this machine."""
        return bool(origin) and (origin == host or origin in self._names or is_loopback(origin))

    def _is_own(self, host: str) -> bool:
        """Whether a host name means this machine: a name of its own, or an address (which no DNS answer can turn)."""
        if host in self._names:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


def unauthorized() -> Refusal:
    """For a request without a good token (RFC 6750)."""
    return Refusal(401, "this server needs a token: Authorization: Bearer TOKEN", headers={"WWW-Authenticate": "Bearer"})


def token_hash(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def own_names(listen_host: str) -> frozenset[str]:
    """The names by which this machine may be called in a Host or Origin header, in lower case."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, f"{name}.local", name.partition(".")[0] + ".local", listen_host.lower()})


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(64)
def _hostname(host: str) -> str | None:
    try:
        split = urlsplit(f"//{host}")
        return None if split.path or split.query or split.username else (split.hostname or "").rstrip(".")
    except ValueError:
        return None


def _origin(origin: str) -> str:
    try:
        return (urlsplit(origin).hostname or "").rstrip(".")
    except ValueError:
        return ""
