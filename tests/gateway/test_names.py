"""What tools are called behind the gateway, which of them are one, and what is held back."""

import re
from itertools import permutations
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mcp.client.messages import ListedTool
from edge_mcp.gateway.names import MAX_NAME, MAX_OF_DEVICE, Memory, Names, Offer, joined, named
from edge_mcp.gateway.resources import private, public


def tool(
    name: str = "detect", model: str = "faces", version: str = "1.0.0", sha: str = "ab", about: str = "Finds."
) -> ListedTool:
    """A model's tool; without a `model` a function's."""
    meta: dict[str, Any] = {"io.edge-mcp/model": {"name": model, "version": version, "sha256": sha}} if model else {}
    return ListedTool(name, "", about, {"type": "object"}, None, None, meta)


def offer(name: str, *tools: ListedTool, by_hand: bool = True) -> Offer:
    return Offer(f"id-{name}", name, tools, by_hand)


def listed(names: Names) -> dict[str, tuple[str, ...]]:
    return {name: one.devices for name, one in names.tools.items() if one.listed}


def test_one_model_on_several_devices_is_one_tool() -> None:
    names = named([offer("a", tool()), offer("b", tool()), offer("c", tool("status", model=""))], Memory())
    assert listed(names) == {"detect": ("id-a", "id-b"), "c.status": ("id-c",)}
    assert names.tools["b.detect"].devices == ("id-b",), "who wants one device's own may have it"


def test_functions_are_never_one() -> None:
    names = named([offer("a", tool(model="")), offer("b", tool(model=""))], Memory())
    assert listed(names) == {"a.detect": ("id-a",), "b.detect": ("id-b",)}


def test_another_content_of_one_version_is_another_tool() -> None:
    names = named([offer("a", tool()), offer("b", tool()), offer("c", tool(sha="cd"))], Memory())
    assert listed(names) == {"detect": ("id-a", "id-b"), "c.detect": ("id-c",)}
    assert "c.detect" in names.apart


def test_a_new_version_rolls_out_device_by_device() -> None:
    memory, new = Memory(), tool(version="1.1.0", sha="cd")
    named([offer(name, tool()) for name in "abc"], memory)
    assert listed(named([offer("a", new), offer("b", tool()), offer("c", tool())], memory)) == {
        "detect": ("id-b", "id-c"),
        "a.detect": ("id-a",),
    }
    names = named([offer("a", new), offer("b", new), offer("c", tool())], memory)
    assert listed(names) == {"detect": ("id-a", "id-b"), "c.detect": ("id-c",)}
    assert not names.held
    assert listed(named([offer(name, new) for name in "abc"], memory)) == {"detect": ("id-a", "id-b", "id-c")}


def test_what_changes_its_meaning_is_held_back_until_it_is_confirmed() -> None:
    memory, other = Memory(), tool(about="Deletes.")
    named([offer("a", tool()), offer("b", tool())], memory)
    names = named([offer("a", other), offer("b", tool())], memory)
    assert listed(names) == {"detect": ("id-b",)}
    assert "a.detect" not in names.tools
    assert set(names.held) == {"a.detect"}
    names = named([offer("a", other), offer("b", other)], memory)
    assert not names.tools
    assert set(names.held) == {"detect", "a.detect", "b.detect"}
    assert sorted(memory.confirm("detect")) == ["a.detect", "b.detect", "detect"]
    assert listed(named([offer("a", other), offer("b", other)], memory)) == {"detect": ("id-a", "id-b")}
    assert named([offer("a", tool())], memory).held, "and what was before is another meaning now"


def test_only_what_was_seen_is_confirmed() -> None:
    memory = Memory()
    named([offer("a", tool())], memory)
    named([offer("a", tool(about="Deletes."))], memory)
    memory.confirm("a.detect")
    assert "a.detect" in named([offer("a", tool(about="Explodes."))], memory).held


def test_a_version_with_other_content_than_before_is_held_back() -> None:
    memory = Memory()
    named([offer("a", tool())], memory)
    assert set(named([offer("a", tool(sha="cd"))], memory).held) == {"a.detect", "detect"}


def test_another_model_does_not_take_a_known_name() -> None:
    memory = Memory()
    named([offer("a", tool())], memory)
    names = named([offer("b", tool(model="dogs")), offer("c", tool(model="dogs"))], memory)
    assert listed(names) == {"b.detect": ("id-b",), "c.detect": ("id-c",)}
    assert set(names.held) == {"detect"}
    names = named([offer("a", tool()), offer("b", tool(model="dogs")), offer("c", tool(model="dogs"))], memory)
    assert listed(names)["detect"] == ("id-a",)


def test_the_memory_outlives_the_gateway() -> None:
    memory = Memory()
    named([offer("a", tool())], memory)
    again = msgspec.json.decode(msgspec.json.encode(memory), type=Memory)
    assert again == memory
    assert named([offer("a", tool(about="Deletes."))], again).held


def test_devices_of_one_name_are_told_apart_by_their_ids() -> None:
    twins = [Offer("00aa11bb22cc33dd", "pi", [tool(model="")]), Offer("11aa11bb22cc33dd", "pi", [tool(model="")])]
    assert list(named(twins, Memory()).tools) == ["pi-00aa.detect", "pi-11aa.detect"]
    found = Offer("00aa11bb22cc33dd", "pi-00aa", [tool(model="")])
    assert list(named([found], Memory()).tools) == ["pi-00aa.detect"]
    impostor = Offer("00aaffffffffffff", "pi-00aa", [tool(model="")])
    memory = Memory()
    named([found], memory)
    assert named([found, impostor], memory).prefixes[found.id] == "pi-00aa"


letters = st.text("abAB.-_ é/", min_size=1, max_size=80)
tools = st.builds(
    tool,
    letters,
    st.sampled_from(["", "faces", "dogs"]),
    st.sampled_from(["1.0.0", "1.1.0", "x"]),
    st.sampled_from(["ab", "cd"]),
)
offers = st.lists(
    st.builds(
        Offer, st.text("0123456789abcdef", min_size=16, max_size=16), letters, st.lists(tools, max_size=4), st.booleans()
    ),
    max_size=3,
    unique_by=lambda device: device.id,
)


@settings(max_examples=30)
@given(offers)
def test_names_do_not_depend_on_the_order_of_the_devices(devices: list[Offer]) -> None:
    first = named(devices, Memory())
    for order in permutations(devices):
        assert named(order, Memory()) == first


@settings(max_examples=30)
@given(offers)
def test_names_are_as_hosts_take_them_and_lead_to_the_tool(devices: list[Offer]) -> None:
    names = named(devices, Memory())
    has = {device.id: [one.name for one in device.tools] for device in devices}
    for name, one in names.tools.items():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", name)
        assert len(name) <= MAX_NAME
        assert all(one.tool.name in has[device] for device in one.devices)
    reached = {(device, one.tool.name) for one in names.tools.values() if one.listed for device in one.devices}
    wanted = {(device, name) for device, known in has.items() for name in known}
    assert len(wanted - reached) <= len(names.held), "nothing is missing that is not held back"


@settings(max_examples=30)
@given(offers, st.data())
def test_who_leaves_renames_nobody(devices: list[Offer], data: st.DataObject) -> None:
    memory = Memory()
    before = named(devices, memory)
    gone = data.draw(st.sampled_from(devices)).id if devices else ""
    after = named([device for device in devices if device.id != gone], memory)
    assert not {name for name in after.held.keys() - before.held.keys() if "." in name}
    for name, one in before.tools.items():
        if "." in name and one.devices != (gone,):
            assert after.tools[name].devices == one.devices, "a name that led to a device still does"
    assert named(devices, memory) == before, "nor does who comes back"


@given(st.text("abé. /", min_size=1), st.text("abé. /", min_size=1), st.text("abé. /", min_size=1))
def test_two_tools_never_get_one_name(first: str, second: str, prefix: str) -> None:
    assert (joined("p", first) == joined("p", second)) == (first == second)
    assert len(joined(prefix, first)) <= MAX_NAME


@given(st.from_regex(r"[a-z][a-z0-9+.-]*://[^\s]*", fullmatch=True) | st.text(min_size=1))
def test_a_uri_comes_back_as_it_was(uri: str) -> None:
    assert private(public("kitchen-3f2a", uri)) == ("kitchen-3f2a", uri)


@given(st.text())
def test_what_is_no_uri_of_the_gateway_is_none(uri: str) -> None:
    assert private(uri) is None or uri.startswith("edge://")


def test_uris_are_readable() -> None:
    assert public("kitchen", "device://status") == "edge://kitchen/device/status"
    assert public("kitchen", "model://{name}") == "edge://kitchen/model/{name}"
    assert public("kitchen", "urn:x:y") == "edge://kitchen/?urn:x:y"
    assert private("edge://kitchen") is None


def test_a_device_with_ever_new_names_takes_no_others_place() -> None:
    memory = Memory()
    for turn in range(40):
        named([Offer("a" * 16, "flood", [ListedTool(f"t{turn}-{number}") for number in range(500)])], memory)
    assert len(memory.names) == MAX_OF_DEVICE
    names = named([Offer("b" * 16, "good", [ListedTool("see")])], memory)
    assert list(names.tools) == ["good-bbbb.see"]
    held = named([Offer("a" * 16, "flood", [ListedTool("one-more")])], memory).held
    assert held == {"flood-aaaa.one-more": f"{MAX_OF_DEVICE} names of this device are known already"}
