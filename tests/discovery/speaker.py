"""Advertises services as its argument says (a JSON list), says "ready", and takes them back when its standard input ends.

Of each: `name`, `port`, `addresses`, and `txt`; with `"flood": N` instead: N names with hostile contents, sent at once.
"""

import asyncio
import json
import random
import socket
import sys
from typing import Any

from zeroconf import InterfaceChoice, IPVersion, ServiceInfo
from zeroconf._dns import DNSAddress, DNSPointer, DNSService, DNSText
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.asyncio import AsyncZeroconf

SERVICE = "_edge-mcp._tcp.local."
RESPONSE, IN, UNIQUE = 0x8400, 1, 0x8001
TTL_S = 100_000


async def main(services: list[dict[str, Any]]) -> None:
    zeroconf = AsyncZeroconf(InterfaceChoice.All, ip_version=IPVersion.All)
    await zeroconf.zeroconf.async_wait_for_start()
    for service in services:
        if "flood" in service:
            await flood(zeroconf, service["flood"], service.get("addresses"))
            continue
        info = ServiceInfo(
            SERVICE,
            f"{service['name']}.{SERVICE}",
            port=service["port"],
            properties=service["txt"],
            server=f"{service.get('server', service['name'])}.local.",
            parsed_addresses=service["addresses"],
        )
        # A spoofer asks nobody whether the name is taken.
        await (await zeroconf.async_register_service(info, cooperating_responders=True))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read, 1)
    await zeroconf.async_unregister_all_services()
    await zeroconf.async_close()


async def flood(zeroconf: AsyncZeroconf, count: int, addresses: list[str] | None) -> None:
    """Names as they come, of which each says something else that is wrong."""
    chance = random.Random(7)
    texts = [
        b"\x04id=x",
        b"\x00" * 200,
        b"\xff" + b"a" * 255,
        b"\x13id=" + b"0" * 16 + bytes([250]) + b"v=" + b"\xff" * 248,
        b"\x13id=" + b"%016x" + b"\x09n=9999999\x06load=9\x12path=//evil\x1b[2J.com\x08sec=tls?",
    ]
    for number in range(count):
        label = chance.choice(["{}", "\x1b[2J{}", "x" * 50 + "{}", "‮{}", "tool {} ", "ä" * 25 + "{}"]).format(number)
        name = f"{label}.{SERVICE}"
        text = texts[number % len(texts)].replace(b"%016x", b"%016x" % number)
        out = DNSOutgoing(RESPONSE)
        out.add_answer_at_time(DNSPointer(SERVICE, 12, IN, TTL_S, name), 0)
        out.add_answer_at_time(DNSText(name, 16, UNIQUE, TTL_S, text), 0)
        out.add_answer_at_time(DNSService(name, 33, UNIQUE, TTL_S, 0, 0, chance.choice([0, 1, 65535]), f"h{number}.local."), 0)
        for _ in range(chance.choice([1, 1, 30])):
            address = chance.choice(addresses or [f"10.78.{chance.randrange(256)}.{chance.randrange(256)}"])
            out.add_answer_at_time(DNSAddress(f"h{number}.local.", 1, UNIQUE, TTL_S, socket.inet_aton(address)), 0)
        zeroconf.zeroconf.async_send(out)
        if not number % 50:
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
