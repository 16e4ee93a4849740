"""Curves, knees and the factor that follows the device's pace."""

import pytest

from edge_mcp.scheduling.knee import Curve, Service
from tests.scheduling.simulation import CURVES


def test_between_its_points_a_curve_is_straight_and_beyond_them_it_goes_on() -> None:
    curve = Curve({1: 1.0, 2: 1.5, 4: 2.5})
    assert [curve.seconds(size) for size in (1, 2, 3, 4, 5, 8)] == pytest.approx([1, 1.5, 2, 2.5, 3, 4.5])


def test_one_point_makes_a_line() -> None:
    assert Curve({1: 2.0}).seconds(3) == 6.0


def test_a_curve_that_falls_never_gets_below_a_single_run() -> None:
    assert Curve({1: 1.0, 2: 1.2, 4: 1.1}).seconds(32) == 1.0


@pytest.mark.parametrize("points", [{}, {2: 1.0}, {1: 0.0}, {1: 1.0, 2: -1.0}])
def test_what_is_no_curve_is_refused(points: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="begins with"):
        Curve(points)


@pytest.mark.parametrize(
    ("model", "knee"), [("mlp", 32), ("silero", 16), ("dscnn", 16), ("mobilenet-small", 4), ("mobilenet", 1)]
)
def test_the_knee_is_where_more_buys_nothing(model: str, knee: int) -> None:
    assert Curve(CURVES[model]).knee() == knee


def test_a_model_of_a_fixed_batch_has_the_knee_1() -> None:
    assert Service(Curve(CURVES["mlp"])).knee == 1


def test_a_throttled_device_is_followed_in_a_few_runs() -> None:
    service = Service(Curve(CURVES["dscnn"]), most=32)
    for size in (1, 4, 16, 8, 2, 1, 16, 4, 1, 8):
        service.observe(size, service.seconds(size) / service.factor * 1.8)
    assert service.factor == pytest.approx(1.8, rel=0.06)
    assert service.knee == 16


def test_before_anything_was_measured_the_first_run_tells() -> None:
    service = Service(most=8, guess_s=0.05)
    assert service.seconds(1) == 0.05
    service.observe(2, 0.004)
    assert (service.seconds(1), service.knee) == (0.002, 1)


def test_a_run_of_no_time_is_no_measurement() -> None:
    service = Service(Curve({1: 1.0}))
    service.observe(1, 0.0)
    assert service.factor == 1.0


def test_what_each_call_costs_besides_makes_batches_less_worth() -> None:
    service = Service(Curve(CURVES["mlp"]), most=32)
    for _ in range(20):
        service.observe(1, CURVES["mlp"][1], besides_s=0.001)
    assert service.knee == 1
    assert service.seconds(2) == pytest.approx(0.002, rel=0.05)
