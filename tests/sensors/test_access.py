"""Consent and the log: the user is asked once, in both eras, and each access is a line."""

import asyncio
import base64
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from edge_mcp import Server
from edge_mcp.context import Context, Question
from edge_mcp.errors import RefusedError
from edge_mcp.sensors.access import PASSING_S, REMEMBERED, SensorAccess
from edge_mcp.sensors.capture import Sensors
from edge_mcp.sensors.settings import sensors_of
from edge_mcp.transports.base import Peer
from tests.processes import ROOT
from tests.talk import LEGACY, MODERN, TASKS, talking

CAT = ROOT / "tests/fixtures/chelsea.png"
FORMS: dict[str, Any] = {"elicitation": {}}
DOOR = {"door": f"file:{CAT}"}


def server(consent: str = "ask", **sensors: str) -> Server:
    return Server("test", sensors={**DOOR, **sensors}, sensor_consent=consent, log_level="info")


def words(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge_mcp.sensors")


def accesses(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "edge_mcp.sensors.access"]


async def test_a_legacy_client_is_asked_once_for_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    mine = server()
    async with talking(mine.connect, LEGACY, FORMS) as talk:
        talk.answers["elicitation/create"] = lambda params: {"action": "accept", "content": {}}
        for _ in range(2):
            result = await talk.call("detect_objects", image="sensor://door")
            assert result["structuredContent"]["detections"][0]["label"] == "Cat"
        assert (await talk.ask("resources/read", uri="sensor://door"))["contents"][0]["mimeType"] == "image/png"
        assert talk.methods().count("elicitation/create") == 1
        asked = await talk.notified("elicitation/create")
        assert "detect_objects wants to read the sensor 'door' of this device (take a picture)" in asked["message"]
    async with talking(mine.connect, LEGACY, FORMS) as talk:  # another connection is asked anew
        talk.answers["elicitation/create"] = lambda params: {"action": "decline"}
        result = await talk.call("detect_objects", image="sensor://door")
        assert result["isError"]
        assert words(result) == "sensor://door is not read: the user does not allow it. Do without, or ask the user first"
        assert "does not allow it" in (await talk.fail("resources/read", uri="sensor://door"))["message"]
    await mine.close()
    size = CAT.stat().st_size
    assert accesses(caplog) == [
        f"sensor://door was read for detect_objects of memory: image/png, {size} bytes",
        f"sensor://door was read for detect_objects of memory: image/png, {size} bytes",
        f"sensor://door was read for resources/read of memory: image/png, {size} bytes",
        "sensor://door was refused for detect_objects of memory: the user does not allow it",
        "sensor://door was refused for resources/read of memory: the user does not allow it",
    ]


async def test_a_modern_client_is_asked_by_the_result() -> None:
    mine = server()
    async with talking(mine.connect, MODERN, FORMS) as talk:
        asked = await talk.call("detect_objects", image="sensor://door")
        assert asked["resultType"] == "input_required"
        assert list(asked["inputRequests"]) == ["sensor:door"]
        call = {"name": "detect_objects", "arguments": {"image": "sensor://door"}, "requestState": asked["requestState"]}
        declined = await talk.ask("tools/call", **call, inputResponses={"sensor:door": {"action": "decline"}})
        assert declined["isError"] and "does not allow it" in words(declined)
        seen = await talk.ask("tools/call", **call, inputResponses={"sensor:door": {"action": "accept", "content": {}}})
        assert seen["structuredContent"]["detections"][0]["label"] == "Cat"
        assert "structuredContent" in await talk.call("detect_objects", image="sensor://door")  # and remembered
        read = await talk.ask("resources/read", uri="sensor://door")
        assert base64.b64decode(read["contents"][0]["blob"]) == CAT.read_bytes()
    await mine.close()


async def test_a_call_that_becomes_a_task_is_asked_before_it_begins() -> None:
    mine = server(mic="microphone:no-such-microphone?seconds=4")
    async with talking(mine.connect, MODERN, {**FORMS, **TASKS}) as talk:
        asked = await talk.call("detect_speech", audio="sensor://mic")
        assert asked["resultType"] == "input_required"
        assert "(record sound)" in asked["inputRequests"]["sensor:mic"]["params"]["message"]
        call = {"name": "detect_speech", "arguments": {"audio": "sensor://mic"}, "requestState": asked["requestState"]}
        declined = await talk.ask("tools/call", **call, inputResponses={"sensor:mic": {"action": "decline"}})
        assert declined["isError"] and "does not allow it" in words(declined)
        begun = await talk.ask("tools/call", **call, inputResponses={"sensor:mic": {"action": "accept", "content": {}}})
        assert begun["resultType"] == "task"
        for _ in range(600):
            state = await talk.ask("tasks/get", taskId=begun["taskId"])
            if state["status"] != "working":
                break
            await asyncio.sleep(0.05)
        assert state["result"]["isError"] and words(state["result"]).startswith("sensor://mic cannot be read: ")
    await mine.close()


async def test_a_sound_is_heard_by_the_tools_for_sounds() -> None:
    mine = server(hall=f"file:{ROOT}/models/speech-detector/sample.ogg")
    async with talking(mine.connect, MODERN) as talk:
        heard = await talk.call("detect_speech", audio="sensor://hall")
        assert heard["structuredContent"]["segments"], heard
        refused = await talk.call("detect_speech", audio="sensor://door")
        assert words(refused).startswith("sensor://door gives image, and the argument audio takes sound (WAV, FLAC, OGG)")
    await mine.close()


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_client_that_cannot_ask_passes_unless_consent_is_required(version: str) -> None:
    cannot: dict[str, Any]
    for cannot in ({}, {"elicitation": {"url": {}}}):
        asking, strict = server("ask"), server("required")
        async with talking(asking.connect, version, cannot) as talk:
            assert "structuredContent" in await talk.call("detect_objects", image="sensor://door")
        async with talking(strict.connect, version, cannot) as talk:
            assert "its user has to agree, and this client cannot ask" in words(
                await talk.call("detect_objects", image="sensor://door")
            )
            assert "cannot ask" in (await talk.fail("resources/read", uri="sensor://door"))["message"]
        await asking.close()
        await strict.close()


async def test_nobody_is_asked_where_the_owner_says_never() -> None:
    mine = server("never")
    async with talking(mine.connect, LEGACY, FORMS) as talk:
        assert "structuredContent" in await talk.call("detect_objects", image="sensor://door")
        assert "elicitation/create" not in talk.methods()
    await mine.close()


class Asking:
    """A client that can ask; `answer` is what its user says."""

    def __init__(self, answer: str = "accept") -> None:
        self.answer = answer
        self.asked = 0
        self.go = asyncio.Event()
        self.go.set()

    async def ask(self, questions: Mapping[str, Question]) -> Mapping[str, dict[str, Any]]:
        self.asked += 1
        await self.go.wait()
        return {key: {"action": self.answer} for key in questions}

    async def progress(self, done: float, total: float | None, message: str) -> None: ...
    async def log(self, level: str, data: Any, logger: str) -> None: ...
    async def hang_up(self, retry_ms: int) -> None: ...

    def context(self, peer: Peer) -> Context:
        return Context(peer, FORMS, None, self, self.ask)


async def test_a_yes_holds_for_its_connection_or_for_a_while_where_there_is_none() -> None:
    now = 0.0
    access = SensorAccess(Sensors(sensors_of(["door=file:/x", "hall=file:/x"])), "ask", lambda: now)
    door, hall = access.sensors.all
    user = Asking()

    async def questions(peer: Peer, sensor: Any = door) -> int:
        before = user.asked
        await access.allow(sensor, user.context(peer), "test")
        return user.asked - before

    one, other = Peer("10.0.0.1"), Peer("10.0.0.1")
    assert [await questions(peer) for peer in (one, one, other, other)] == [1, 0, 1, 0]
    assert [await questions(one, hall), await questions(one, hall)] == [1, 0]

    def passing(address: str, principal: str = "") -> Peer:
        return Peer(address, principal=principal, passing=True)

    assert [await questions(passing("10.0.0.1")) for _ in range(2)] == [1, 0]
    assert await questions(passing("10.0.0.1", "token")) == 1
    assert await questions(passing("10.0.0.2")) == 1
    now += PASSING_S
    assert [await questions(passing("10.0.0.1")), await questions(one)] == [1, 0]
    for _ in range(REMEMBERED):
        await questions(Peer("10.0.0.3"))
    assert await questions(one) == 1  # the oldest are forgotten


async def test_two_calls_at_once_are_one_question_and_a_no_is_not_kept() -> None:
    access = SensorAccess(Sensors(sensors_of(["door=file:/x"])))
    (door,) = access.sensors.all
    user, peer = Asking(), Peer("here")
    user.go.clear()
    both = [asyncio.create_task(access.allow(door, user.context(peer), "test")) for _ in range(2)]
    await asyncio.sleep(0)
    user.go.set()
    await asyncio.gather(*both)
    assert user.asked == 1
    user.answer = "cancel"
    for _ in range(2):
        with pytest.raises(RefusedError):
            await access.allow(door, user.context(Peer("there")), "test")
    assert user.asked == 3
