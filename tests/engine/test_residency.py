"""Who stays in memory, and who goes first: the policy alone, with times given."""

from pathlib import Path

import msgspec
import pytest

from edge_mcp.engine.messages import ModelSpec
from edge_mcp.engine.residency import REMEMBERED, Residency
from edge_mcp.repository.sections import Resources
from edge_mcp.repository.store import derived

INF = float("inf")


class Engine:
    """A holder that is there and idle; the policy never speaks to it."""

    pid, idle = 1, True

    async def drop(self, key: str) -> None:
        raise AssertionError

    async def end(self, why: str) -> None:
        raise AssertionError


SHARED, OTHER = Engine(), Engine()


def model(key: str, **resources: object) -> ModelSpec:
    manifest = msgspec.structs.replace(derived(Path(f"/m/{key}.onnx")), resources=msgspec.convert(resources, Resources))
    return ModelSpec(key, "/m", manifest, {})


def loaded(residency: Residency, *keys: str, at: float = 0) -> None:
    """Each loaded and used, in this order."""
    for key in keys:
        residency.begin(key, at)
        residency.loaded(model(key), SHARED, 10, at)
        residency.end(key, at)


def keys(residency: Residency, now: float) -> list[str]:
    return [one.key for one in residency.due(now)]


def test_a_model_is_due_when_nobody_has_used_it_for_long_enough() -> None:
    residency = Residency(keep_s=300)
    loaded(residency, "a")
    residency.begin("a", 100)
    assert residency.next_due() == INF
    assert residency.end("a", 110) == 410
    assert residency.next_due() == 410
    assert (keys(residency, 409.9), keys(residency, 410)) == ([], ["a"])
    residency.unloaded("a")
    assert (keys(residency, 999), residency.next_due()) == ([], INF)


def test_a_model_in_use_is_never_due_and_each_use_counts() -> None:
    residency = Residency(keep_s=1)
    loaded(residency, "a")
    residency.begin("a", 1)
    residency.begin("a", 2)
    assert residency.end("a", 3) is None
    assert (keys(residency, 99), residency.uses("a")) == ([], 1)
    assert residency.end("a", 5) == 6
    assert keys(residency, 6) == ["a"]


def test_a_manifests_own_time_goes_over_the_setting_and_preloaded_models_do_not_grow_old() -> None:
    residency = Residency(300, frozenset({"c"}))
    for one in (model("a", keep_loaded_s=5), model("b", preload=True), model("c"), model("d")):
        residency.loaded(one, SHARED, 10, 0)
    assert keys(residency, 5) == ["a"]
    assert keys(residency, 1e9) == ["a", "d"]
    assert residency.next_due() == 5


def test_when_the_device_is_in_need_models_grow_old_sooner() -> None:
    residency = Residency(300)
    loaded(residency, "a")
    residency.scale = 0.25
    assert (keys(residency, 74), keys(residency, 75)) == ([], ["a"])
    residency.scale = 0
    assert keys(residency, 0) == ["a"]
    forever = Residency()
    loaded(forever, "a")
    assert keys(forever, 1e9) == []
    forever.scale = 0
    assert keys(forever, 0) == ["a"]


def test_the_least_recently_used_goes_first_and_a_preloaded_one_last() -> None:
    residency = Residency(300, frozenset({"a"}))
    loaded(residency, "a", "b", "c")
    residency.begin("b", 0)
    residency.end("b", 0)  # in the same moment of the clock, and yet later
    order = []
    while victim := residency.victim(busy=False, but="x"):
        order.append(victim.key)
        residency.unloaded(victim.key)
    assert order == ["c", "b", "a"]


def test_only_what_is_idle_goes_unless_the_busy_are_asked_for_and_never_the_one_that_needs_the_room() -> None:
    residency = Residency(300)
    loaded(residency, "a", "b")
    residency.begin("a", 1)
    victim = residency.victim(busy=False, but="b")
    assert victim is None
    victim = residency.victim(busy=True, but="b")
    assert victim is not None
    assert victim.key == "a"
    assert residency.victim(busy=True, but="a") is None


def test_a_load_is_expected_to_need_what_it_was_measured_to_need_and_before_that_more_than_its_file() -> None:
    residency = Residency()
    guess = residency.need(model("a"), file_mb=5, engine_mb=40)
    assert (guess.measured, guess.total_mb) == (False, guess.model_mb + 40)
    assert guess.model_mb > 10
    residency.loaded(model("a"), SHARED, 7.5, 0)
    residency.unloaded("a")
    known = residency.need(model("a"), 5, 0)
    assert (known.measured, known.total_mb) == (True, 7.5)
    residency.forget("a")
    assert residency.need(model("a"), 5, 40) == guess


def test_measurements_are_not_kept_without_end() -> None:
    residency = Residency()
    for number in range(REMEMBERED + 1):
        residency.loaded(model(f"m{number}"), SHARED, 1, 0)
    assert not residency.need(model("m0"), 1, 0).measured
    assert residency.need(model("m1"), 1, 0).measured


def test_loads_under_way_count_until_they_have_ended() -> None:
    residency = Residency()
    residency.expect("a", 10)
    residency.expect("b", 5)
    assert residency.expected_mb == pytest.approx(15)
    residency.settle("a")
    residency.settle("a")
    assert residency.expected_mb == pytest.approx(5)


def test_an_engine_that_ends_takes_its_models_and_no_others() -> None:
    residency = Residency()
    loaded(residency, "a", "b")
    residency.loaded(model("c"), OTHER, 1, 0)
    assert [one.key for one in residency.of(SHARED)] == ["a", "b"]
    residency.ended(SHARED)
    assert [one.key for one in residency.all()] == ["c"]
    assert residency.get("a") is None
