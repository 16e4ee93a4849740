"""What a process measures."""

from edge_mcp.measurements import KEPT, Measurements


def test_nothing_is_known_at_first() -> None:
    measured = Measurements()
    assert measured.run_s("m") is measured.run_s_per_byte("m") is measured.load_s("m") is None
    assert (measured.answered, measured.failed) == (0, 0)


def test_the_median_counts_not_the_slow_first_run() -> None:
    measured = Measurements()
    for seconds in (9.0, 0.2, 0.1, 0.3, 0.25):
        measured.ran("m", 10, seconds)
    measured.ran("m", 10, 0.0)  # the model was not run at all
    assert measured.run_s("m") == 0.25
    assert measured.run_s_per_byte("m") == 0.025


def test_old_runs_are_forgotten() -> None:
    measured = Measurements()
    for seconds in [1.0] * KEPT + [2.0] * KEPT:
        measured.ran("m", 0, seconds)
    assert measured.run_s("m") == measured.run_s_per_byte("m") == 2.0


def test_calls_are_counted() -> None:
    measured = Measurements()
    for failed in (False, True, False):
        measured.called(failed)
    assert (measured.answered, measured.failed) == (2, 1)
