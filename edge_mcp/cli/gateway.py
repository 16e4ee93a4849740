"""`edge-mcp gateway`."""

import argparse
import asyncio
import re
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from edge_mcp.cli.logs import check_streams, ignore, log, say
from edge_mcp.cli.options import Parser
from edge_mcp.cli.remote import token_for
from edge_mcp.client.known import Known, KnownDevices
from edge_mcp.client.resolve import Target, admitted, is_name, parted
from edge_mcp.config import LOG_LEVELS, Config, load
from edge_mcp.errors import ConfigError
from edge_mcp.gateway.confirmed import Confirmed

LISTEN = "127.0.0.1:8766"
_NAMED = re.compile(r"([A-Za-z0-9_-]{1,40})=(.+)")


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        "gateway",
        "Serve many devices as one: those in the network that this machine knows, or those that are named.",
        "edge-mcp gateway --device kitchen=ws://10.0.0.5:8765/mcp --device garage",
    )
    parser.add_argument("--stdio", action="store_true", help="serve the host that started this process")
    parser.add_argument("--listen", metavar="HOST:PORT", help=f"serve here; without --stdio by default {LISTEN}")
    parser.add_argument("--confirm", metavar="NAME", help="let a tool that was held back be what it is now; all: every one")
    add_devices(parser)
    parser.add_argument("--insecure", action="store_const", const=True, help="listen beyond this machine, for anybody there")
    parser.add_argument("--token-file", metavar="FILE", help="the token that peers have to show (see edge-mcp token)")
    parser.add_argument("--tls", action="store_const", const=True, help="speak TLS: https and wss")
    parser.add_argument("--host-name", metavar="NAME", action="append", help="a name that peers may call this machine by")
    parser.add_argument("--log-level", metavar="LEVEL", choices=LOG_LEVELS, help=f"one of {', '.join(LOG_LEVELS)}")
    parser.add_config()
    parser.add_debug()
    return parser


def add_devices(parser: Parser) -> None:
    """Which devices."""
    parser.add_argument(
        "--device", metavar="DEVICE", action="append", default=[], help="only this one: NAME, URL or NAME=URL; may be repeated"
    )
    parser.add_argument("--device-token-file", metavar="FILE", default="", help="the token to show devices named by URL")
    parser.add_argument("--unknown", action="store_true", help="also devices that nobody vouches for and that ask for no token")


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop, or confirm a tool. Raises: EdgeError."""
    if options.confirm is not None:
        return _confirm(options.confirm)
    if options.stdio:
        check_streams()
    flags = {
        "listen": options.listen or LISTEN,
        "insecure": options.insecure,
        "token_file": options.token_file,
        "tls": options.tls,
        "hosts": options.host_name,
        "log_level": "debug" if options.debug else options.log_level,
    }
    config = load(options.config, flags)
    log(config.log_level)
    chatty = config.log_level in ("debug", "info")
    network = options.listen is not None or not options.stdio
    asyncio.run(serve(options, config, options.stdio, network, say if chatty else ignore))
    return 0


async def serve(options: argparse.Namespace, config: Config, stdio: bool, network: bool, say: Callable[[str], None]) -> None:
    """Serve the devices that the options name. Raises: EdgeError."""
    from edge_mcp.gateway.fleet import Fleet
    from edge_mcp.gateway.service import Gateway, Lookout
    from edge_mcp.systemd import Manager, signalled

    stop = signalled()
    targets, names = named(options.device, options.device_token_file)
    lookout = None
    if names or not targets:
        known = _Kept()
        lookout = Lookout(lambda name: name in names or bool(known.named(name)))
        fleet = Fleet(targets, lookout, lambda found: _admit(found, names, options.unknown, known))
    else:
        fleet = Fleet(targets)
    by_hand = frozenset(target.id or target.url for target in targets)
    say(f"edge-mcp gateway: {', '.join(options.device) or 'the devices in this network'}")
    await Gateway(fleet, Confirmed(), by_hand, lookout).serve(config, stdio, network, say, stop, Manager())


def named(devices: Sequence[str], token_file: str) -> tuple[list[Target], frozenset[str]]:
    """Where the devices are that are named with a URL, and the names of those to look for. Raises: ConfigError."""
    targets: dict[str, Target] = {}
    names = set()
    for device in devices:
        if is_name(device):
            names.add(device)
            continue
        match = _NAMED.fullmatch(device)
        name, url = (match[1].lower(), match[2]) if match and "://" in match[2] else ("", device)
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ConfigError(f"{device} is no device", "Write its name, or ws://HOST:8765/mcp, or NAME=ws://HOST:8765/mcp")
        name = name or re.sub(r"[^a-z0-9]+", "-", parts.netloc.lower()).strip("-")[:40]
        if name in targets:
            raise ConfigError(f"two devices are called {name}", "Give one of them another name: NAME=URL")
        targets[name] = Target(name, "", url, token_for(token_file, url))
    return list(targets.values()), frozenset(names)


class _Kept(KnownDevices):
    """Read again only when the file has changed: it is asked for each device at each change in the network."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, Known] = {}
        self._state: tuple[int, int] | None = None

    def _read(self) -> dict[str, Known]:
        state = Confirmed(self.file).state()
        if state != self._state:
            self._known, self._state = super()._read(), state
        return dict(self._known)


def _admit(found: object, names: frozenset[str], unknown: bool, known: KnownDevices) -> Target:
    """Raises: ConfigError."""
    from edge_mcp.discovery.found import Found

    assert isinstance(found, Found)  # noqa: S101
    chosen = [name for name in names if _means(name, found.name, found.id)]
    if names and not chosen:
        raise ConfigError(f"{found.name} is none of those that were named")
    target = admitted(found, "", "", known, any(parted(name)[1] for name in chosen))
    if not (chosen or unknown or known.get(found.id)):
        raise ConfigError(
            f"{found.name} is not known here",
            f"Pair with it: edge-mcp pair {found.name}. Or take all that ask for no token: --unknown",
        )
    return target


def _means(name: str, found: str, id_: str) -> bool:
    start, mark = parted(name)
    return (not start or start.lower() == found.lower()) and id_.startswith(mark)


def _confirm(name: str) -> int:
    confirmed = Confirmed()
    with confirmed.changing() as memory:
        waiting = sorted(memory.pending)
        chosen = memory.confirm(name)
    if not chosen:
        held = f"Held back are: {', '.join(waiting[:20])}" if waiting else "Nothing is"
        raise ConfigError(f"no tool {name} is held back", held)
    print("\n".join(chosen))
    return 0
