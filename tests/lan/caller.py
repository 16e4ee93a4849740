"""The official client with many callers: CALLS CALLERS URL...; with several URLs they are taken in turn.

Begins when the first URL lists the tool `work`, says "calling", then what became of the calls, in lines of JSON.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

from mcp import Client

CALLS, CALLERS, URLS = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
PATIENCE_S = 60.0


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main() -> None:
    numbers, by, took_ms, whys = count(), Counter[str](), list[float](), Counter[str]()
    lost = wrong = 0

    async def caller(clients: list[Any]) -> None:
        nonlocal lost, wrong
        while (n := next(numbers)) < CALLS:
            begun = time.monotonic()
            try:
                result = await asyncio.wait_for(clients[n % len(clients)].call_tool("work", {"n": n}), PATIENCE_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, the call is lost
                lost, whys[repr(error)[:200]] = lost + 1, whys[repr(error)[:200]] + 1
                continue
            took_ms.append((time.monotonic() - begun) * 1000)
            if result.is_error:
                lost, whys[str(result.content)[:200]] = lost + 1, whys[str(result.content)[:200]] + 1
            elif result.structured_content.get("square") != n * n:
                wrong += 1
            else:
                by[result.structured_content["by"]] += 1

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(url)) for url in URLS]
        async with asyncio.timeout(PATIENCE_S):
            while "work" not in [tool.name for tool in (await clients[0].list_tools(cache_mode="refresh")).tools]:
                await asyncio.sleep(0.1)
        say("calling")
        begun = time.monotonic()
        await asyncio.gather(*(caller(clients) for _ in range(CALLERS)))
        took_ms.sort()
        p50, p99 = (took_ms[int(len(took_ms) * share)] if took_ms else 0.0 for share in (0.5, 0.99))
        seconds = time.monotonic() - begun
        say({"lost": lost, "wrong": wrong, "by": by, "p50_ms": p50, "p99_ms": p99, "seconds": seconds, "why": whys})


asyncio.run(main())
