"""The device's prompts name only what the device has."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge_mcp.errors import ArgumentError
from edge_mcp.prompts.device import NAMES, DevicePrompts
from edge_mcp.repository.store import Store, scan
from tests.processes import ROOT

CONTEXT: Any = None


def prompts(store: Store) -> DevicePrompts:
    return DevicePrompts(store, lambda uri: f'{{"uri": "{uri}"}}')


@pytest.fixture
def shipped() -> DevicePrompts:
    return prompts(scan([ROOT / "models"]))


async def said(room: DevicePrompts, name: str, **arguments: str) -> str:
    messages = await room.get(name, arguments, CONTEXT)
    assert messages is not None
    return "\n".join(str(message.content.get("text", message.content)) for message in messages)


ARGUMENTS: dict[str, dict[str, str]] = {
    "look_at_scene": {"question": "Who is there?"},
    "find_object": {"label": "cat"},
    "check_device": {},
    "explain_model": {"model": "face-detector"},
}


@pytest.mark.parametrize("name", sorted(NAMES))
async def test_only_tools_that_are_there_are_named(shipped: DevicePrompts, name: str) -> None:
    tools = {entry.manifest.tool.name for entry in scan([ROOT / "models"]).entries}
    text = await said(shipped, name, **ARGUMENTS[name])
    named = set(re.findall(r"`([a-z]+_[a-z]+)`", text)) - {"inference_ms"}
    assert named <= tools
    assert named or name == "check_device"


async def test_a_scene_is_looked_at_in_a_useful_order(shipped: DevicePrompts) -> None:
    text = await said(shipped, "look_at_scene", question="Who is there?")
    assert text.startswith("Who is there?")
    assert text.index("`detect_objects`") < text.index("`classify_image`") < text.index("`detect_faces`")
    assert (await said(shipped, "look_at_scene")).startswith("What is in this picture?")


async def test_what_the_device_cannot_do_is_not_offered(tmp_path: Path) -> None:
    assert [prompt.name for prompt in await prompts(scan([tmp_path])).prompts()] == ["check_device"]
    shutil.copytree(ROOT / "models/language-detector", tmp_path / "language-detector")
    room = prompts(scan([tmp_path]))
    assert [prompt.name for prompt in await room.prompts()] == ["check_device", "explain_model"]
    assert await room.get("look_at_scene", {}, CONTEXT) is None
    assert await room.complete("find_object", "label", "c", {}) == []


async def test_labels_and_models_are_completed(shipped: DevicePrompts) -> None:
    assert await shipped.complete("find_object", "label", "c", {}) == await shipped.complete("find_object", "label", "C", {})
    labels = await shipped.complete("find_object", "label", "", {})
    assert "Cat" in labels
    assert "???" not in labels
    assert await shipped.complete("explain_model", "model", "face", {}) == ["face-detector"]
    assert await shipped.complete("explain_model", "label", "", {}) == []


async def test_what_is_not_known_is_told_with_what_is(shipped: DevicePrompts) -> None:
    with pytest.raises(ArgumentError, match=r"finds 'unicorn'.*Cat"):
        await said(shipped, "find_object", label="unicorn")
    with pytest.raises(ArgumentError, match=r"no model 'x'.*face-detector"):
        await said(shipped, "explain_model", model="x")


async def test_the_resource_comes_along(shipped: DevicePrompts) -> None:
    assert "device://status" in await said(shipped, "check_device")
    assert "model://face-detector" in await said(shipped, "explain_model", model="face-detector")
