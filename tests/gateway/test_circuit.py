"""Whether a replica is given calls."""

from edge_mcp.gateway.circuit import DEVICE, FAILURES, FIRST_S, MAX_CIRCUITS, MOST_S, PROBE_S, Circuit, Circuits


def broken(chance: float = 1.0) -> Circuit:
    circuit = Circuit(lambda: chance)
    for _ in range(FAILURES):
        assert circuit.ready_in(0.0) == 0.0
        circuit.begin()
        circuit.failed(0.0)
    return circuit


def test_failures_in_a_row_open_it_and_one_probe_closes_it() -> None:
    circuit = broken()
    assert circuit.ready_in(0.0) == FIRST_S
    assert circuit.ready_in(FIRST_S) == 0.0
    circuit.begin()
    assert circuit.ready_in(FIRST_S) == PROBE_S, "one probe at a time"
    circuit.worked()
    assert circuit.ready_in(FIRST_S) == 0.0
    assert not circuit.open
    circuit.begin()
    circuit.failed(FIRST_S)
    assert circuit.ready_in(FIRST_S) == 0.0, "it begins anew"


def test_a_probe_that_fails_doubles_the_pause_up_to_a_limit() -> None:
    circuit, now, pauses = broken(), 0.0, []
    for _ in range(10):
        pauses.append(circuit.ready_in(now))
        now += pauses[-1]
        circuit.begin()
        circuit.failed(now)
    assert pauses[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert pauses[-1] == MOST_S
    assert broken(0.0).ready_in(0.0) == FIRST_S / 2


def test_what_began_before_it_opened_says_nothing_new() -> None:
    circuit = broken()
    circuit.failed(0.1)
    assert circuit.ready_in(0.1) == FIRST_S - 0.1


def test_a_probe_that_nobody_waits_for_is_made_again() -> None:
    circuit = broken()
    circuit.begin()
    circuit.left()
    assert circuit.ready_in(FIRST_S) == 0.0
    assert circuit.open


def test_who_wants_a_rest_gets_it() -> None:
    circuits = Circuits()
    circuits.of("t").rest(5.0)
    circuits.of("t").rest(3.0)
    assert circuits.ready_in("t", 1.0) == 4.0
    assert circuits.ready_in("u", 1.0) == 0.0
    circuits.of(DEVICE).rest(2.0)
    assert circuits.ready_in("u", 1.0) == 1.0
    assert circuits.ready_in("u", 2.0) == 0.0


def test_they_are_bounded() -> None:
    circuits = Circuits()
    circuits.of("first").rest(100.0)
    circuits.of(DEVICE).rest(1.0)
    for n in range(MAX_CIRCUITS):
        circuits.of(f"t{n}")
    assert circuits.ready_in("first", 0.0) == 1.0, "only the device's is kept"
