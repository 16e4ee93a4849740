"""A device used from Python, on real servers: how they restart, die, refuse and change, and what the caller sees of it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from edge_mcp.client import connect
from edge_mcp.client import device as device_module
from edge_mcp.client.backoff import Backoff
from edge_mcp.client.device import Device
from edge_mcp.client.dial import dialling
from edge_mcp.client.link import MAX_CALLS, MAX_LOSSES, Link
from edge_mcp.client.pulse import POLICY, Pulse
from edge_mcp.client.result import Result
from edge_mcp.conversation import MAX_SUBSCRIPTIONS
from edge_mcp.errors import (
    AwayError,
    BusyError,
    CallError,
    ConfigError,
    ConnectionClosed,
    DeadlineError,
    EngineError,
    ToolError,
    UncertainError,
)
from edge_mcp.transports.keepalive import Policy
from tests.processes import ROOT


class Process:
    """The device of device_script, on one port for all its lives."""

    def __init__(self, port: int, calls: Path) -> None:
        self.url = f"ws://127.0.0.1:{port}/mcp"
        self._command = [sys.executable, str(Path(__file__).with_name("device_script.py")), str(port), str(calls)]
        self._calls = calls
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, more: str = "extra") -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, more, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr is not None
        async with asyncio.timeout(20):
            while b"listening on" not in (line := await self._process.stderr.readline()):
                assert line, "the device ended"

    def send(self, number: int) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):  # it may have ended by itself
            self._process.send_signal(number)

    async def end(self, number: int = signal.SIGKILL) -> None:
        if self._process is None:
            return
        self.send(number)
        try:
            await asyncio.wait_for(self._process.communicate(), 30)
        except TimeoutError:
            self.send(signal.SIGKILL)
            raise
        self._process = None

    def calls(self) -> list[str]:
        return self._calls.read_text().split("\n")[:-1] if self._calls.exists() else []

    async def until(self, seen: Callable[[Sequence[str]], bool]) -> None:
        async with asyncio.timeout(20):
            while not seen(self.calls()):
                await asyncio.sleep(0.01)


@pytest.fixture
async def process(unused_tcp_port: int, tmp_path: Path) -> AsyncIterator[Process]:
    process = Process(unused_tcp_port, tmp_path / "calls")
    await process.start()
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        await process.end()


@asynccontextmanager
async def quick(
    process: Process, policy: Policy = POLICY, busy_s: float = 10.0, patience_s: float = 30.0
) -> AsyncIterator[Device]:
    """A device on a link with times of a test's own."""
    backoff = Backoff(0.02, 0.05)
    link = Link(process.url, dialling(process.url), backoff, patience_s, partial(Pulse, policy=policy, busy_s=busy_s))
    try:
        await link.opened()
        yield Device(link, {})
    finally:
        await link.close()


async def test_a_call_has_a_typed_result(process: Process) -> None:
    async with connect(process.url) as device:
        result = await device.call("safe", n=3)
        assert (result.structured, result.text, result.images) == (None, "3", [])
        assert result.content == [{"type": "text", "text": "3"}]
        assert {"safe", "once", "extra"} <= {tool.name for tool in await device.tools()}
        assert (await device.read("note://one")).text == "hello"
        assert (await device.read("note://bytes")).blob == bytes(range(256))


async def test_what_goes_wrong_has_a_type(process: Process) -> None:
    async with connect(process.url) as device:
        with pytest.raises(ToolError, match="as you wish"):
            await device.call("fail")
        with pytest.raises(CallError, match="unknown tool: 'nope'") as unknown:
            await device.call("nope")
        assert unknown.value.code == -32602
        with pytest.raises(CallError, match="there is no resource"):
            await device.read("note://none")
        with pytest.raises(DeadlineError, match=r"once: no answer from ws://\S+ within 0\.05 s"):
            await device.using(timeout=0.05).call("once", n=1, wait=60)
        with pytest.raises(FileNotFoundError):
            await device.call("safe", n=Path("/nowhere"))
    with pytest.raises(ConnectionClosed, match="this client is closed"):
        await device.call("safe", n=1)


async def test_a_device_that_is_not_there_is_told_at_once(unused_tcp_port: int) -> None:
    for _ in range(2):
        with pytest.raises(ConfigError, match="cannot be reached: Connection refused"):
            async with connect(f"ws://127.0.0.1:{unused_tcp_port}/mcp"):
                pass
    assert not device_module._links[asyncio.get_running_loop()]


async def test_the_server_hears_of_deadline_and_priority_and_tells_progress(process: Process) -> None:
    steps: list[tuple[float, float | None, str]] = []
    async with connect(process.url) as device:
        plain = (await device.call("told")).structured
        assert plain == {"deadline_ms": None, "background": False}
        hurried = device.using(timeout=5, background=True, progress=lambda *step: steps.append(step))
        told = (await hurried.call("told")).structured
    assert 4000 < told["deadline_ms"] <= 5000
    assert told["background"] is True
    assert steps == [(1, 2, "half way")]


async def test_a_progress_callback_that_fails_harms_nobody(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise ValueError("the caller's own")

    async with connect(process.url, progress=fail) as device:
        assert (await device.call("told")).structured
    assert "a progress callback failed" in caplog.text


@pytest.mark.parametrize("kind", ["queue", "engine"])
async def test_a_refused_call_says_when_to_come_back(process: Process, kind: str) -> None:
    async with connect(process.url) as device:
        error = EngineError if kind == "engine" else BusyError
        with pytest.raises(error) as caught:
            await device.call("busy", name="a", times=1, kind=kind)
        assert getattr(caught.value, "retry_after_ms", 0) == 20
        assert getattr(caught.value, "reason", "engine") == kind
        with pytest.raises(error):
            await device.using(retries=1).call("busy", name="b", times=2, kind=kind)
        assert (await device.using(retries=2).call("busy", name="c", times=2, kind=kind)).text == "2"
        with pytest.raises(error):  # and not after the deadline
            await device.using(retries=2, timeout=10).call("busy", name="d", times=1, kind=kind, retry_after_ms=60_000)


async def test_a_server_that_is_about_to_stop_is_waited_for_whatever_the_retries(process: Process) -> None:
    async with connect(process.url) as device:
        assert (await device.call("busy", name="a", times=3, kind="stopping")).text == "3"


async def test_a_cancelled_call_is_withdrawn(process: Process) -> None:
    async with connect(process.url) as device:
        call = asyncio.create_task(device.call("forget"))
        await process.until(lambda calls: "begun" in calls)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await process.until(lambda calls: "forgotten" in calls)
        assert (await device.call("safe", n=1)).text == "1"


async def test_a_thousand_callers_share_one_connection_and_take_turns(process: Process) -> None:
    async def one() -> Result:
        async with connect(process.url) as device:
            return await device.call("crowd")

    results = await asyncio.gather(*(one() for _ in range(1000)))
    assert {result.structured["peers"] for result in results} == {1}
    assert max(result.structured["at_once"] for result in results) == MAX_CALLS
    assert not device_module._links[asyncio.get_running_loop()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_under_200_calls_loses_none_that_may_be_repeated(process: Process, number: int) -> None:
    async with connect(process.url) as device:
        calls = [asyncio.create_task(device.call("once" if n % 2 else "safe", n=n, wait=0.05 + n % 5 / 10)) for n in range(200)]
        await process.until(lambda lines: len(lines) >= 100)
        await process.end(number)
        await process.start()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for n, outcome in enumerate(outcomes):
        if isinstance(outcome, Result):
            assert outcome.text == str(n)
        else:
            assert n % 2
            assert isinstance(outcome, UncertainError), outcome
            assert "may have been made" in str(outcome)
    lines = process.calls()
    assert all(lines.count(f"once {n}") <= 1 for n in range(200))
    assert all(f"once {n}" in lines for n in range(1, 200, 2) if isinstance(outcomes[n], Result))
    if number == signal.SIGKILL:
        assert any(isinstance(outcome, UncertainError) for outcome in outcomes)
        assert any(lines.count(f"safe {n}") > 1 for n in range(200))


async def test_what_is_too_large_is_an_error_of_its_own_and_delays_others(process: Process) -> None:
    async with connect(process.url) as device:
        others = [asyncio.create_task(device.call("safe", n=n, wait=0.3)) for n in range(20)]
        await process.until(lambda lines: len(lines) == 20)
        with pytest.raises(CallError, match="larger than 1048576 bytes") as caught:
            await device.call("length", text="x" * 3_000_000)
        assert not isinstance(caught.value, ConnectionClosed)
        assert [(await other).text for other in others] == [str(n) for n in range(20)]


async def test_a_call_that_ends_every_server_is_given_up(process: Process) -> None:
    async with quick(process) as device:
        call = asyncio.create_task(device.call("poison"))
        for life in range(MAX_LOSSES + 1):
            await process.until(lambda lines, life=life: len(lines) > life)  # type: ignore[misc]
            await process.end()
            if life < MAX_LOSSES:
                await process.start()
        with pytest.raises(ConnectionClosed):
            await call
    assert process.calls() == ["poison"] * (MAX_LOSSES + 1)


async def test_a_call_that_goes_on_a_stream_is_not_repeated(process: Process) -> None:
    async with connect(process.url) as device:
        call = asyncio.create_task(device.call("safe", n=1, wait=60, stream="s"))
        await process.until(lambda calls: "safe 1" in calls)
        await process.end()
        await process.start()
        with pytest.raises(UncertainError):
            await call


async def test_a_device_that_stays_away_is_an_error_of_its_own(process: Process) -> None:
    async with quick(process, patience_s=0.3) as device:
        call = asyncio.create_task(device.call("once", n=1, wait=60))
        await process.until(lambda calls: "once 1" in calls)
        await process.end()
        with pytest.raises(UncertainError, match=r"no connection within 0\.3 s: .*may have been made"):
            await call
        outcomes = await asyncio.gather(*(device.call("safe", n=n) for n in range(200)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {AwayError}
        with pytest.raises(AwayError, match=r"0\.3 s: ws://\S+ cannot be reached: Connection refused$"):
            await device.call("safe", n=2)
        await process.start()
        assert (await device.call("safe", n=3)).text == "3"


SOON = Policy(base_s=0.2, least_s=0.0, near_s=60.0, patience_s=0.1, most_patience_s=1.0)


async def test_a_server_that_dies_silently_is_found_and_the_call_made_again(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with quick(process, SOON, busy_s=0.2) as device:
        process.send(signal.SIGSTOP)
        call = asyncio.create_task(device.call("safe", n=1))
        async with asyncio.timeout(20):
            while "the server is gone: no answer to 2 pings" not in caplog.text:
                await asyncio.sleep(0.01)
        await process.end()
        await process.start()
        assert (await call).text == "1"


async def test_a_server_that_lives_and_is_slow_is_not_given_up(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    often = Policy(base_s=0.2, least_s=0.0, near_s=60.0, patience_s=5.0, most_patience_s=5.0)
    async with quick(process, often, busy_s=0.2) as device:
        assert (await device.call("once", n=1, wait=1.5)).text == "1"
    assert "the server is gone" not in caplog.text


async def test_an_idle_client_finds_out_within_the_servers_promise(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with quick(process, SOON) as device:
        client = await device._link.connected(1)
        assert client.silence_s is not None, "the server said how it keeps the connection alive"
        client.silence_s = 0.3
        await device.tools()  # from here on nothing is waited for
        process.send(signal.SIGSTOP)
        async with asyncio.timeout(20):
            while "the server is gone" not in caplog.text:
                await asyncio.sleep(0.01)


async def test_changes_are_told_and_after_a_restart_all_may_have_changed(process: Process) -> None:
    async with connect(process.url) as device, device.subscribe("tools", "note://one") as changes:
        await device.call("rewrite")
        assert await anext(changes) == "note://one"
        await device.call("learn", name="juggle")
        assert await anext(changes) == "tools"
        assert "juggle" in {tool.name for tool in await device.tools()}
        await process.end(signal.SIGTERM)
        await process.start("different")
        assert {await anext(changes), await anext(changes)} == {"tools", "note://one"}
        names = {tool.name for tool in await device.tools()}
        assert ("juggle" in names, "extra" in names, "different" in names) == (False, False, True)
        await device.call("rewrite")
        assert await anext(changes) == "note://one"


async def test_what_a_server_does_not_tell_is_an_error_of_the_subscription(process: Process) -> None:
    async with connect(process.url) as device, AsyncExitStack() as stack:
        for _ in range(MAX_SUBSCRIPTIONS):
            await stack.enter_async_context(device.subscribe("note://one"))
        with pytest.raises(CallError, match="256 subscriptions are open"):
            await stack.enter_async_context(device.subscribe("note://one"))


async def test_a_subscription_ends_with_its_client(process: Process) -> None:
    async with connect(process.url) as device:
        changes = await device.subscribe("tools").__aenter__()
    with pytest.raises(ConnectionClosed, match="this client is closed"):
        await anext(changes)
    await changes.__aexit__(None, None, None)


async def test_the_client_costs_no_network_and_no_numpy_until_it_is_used() -> None:
    heavy = "{'aiohttp', 'numpy'} & set(sys.modules)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import sys, edge_mcp.client; print({heavy})", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "set()"
