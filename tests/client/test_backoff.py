"""How long clients wait before they connect again."""

from random import Random

from edge_mcp.client.backoff import FIRST_S, MOST_S, Backoff


def test_the_limit_doubles_up_to_the_most_and_begins_anew_when_it_worked() -> None:
    backoff = Backoff(0.2, 1.0, lambda: 1.0)
    assert [backoff.next() for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next() == 0.2


def test_clients_of_one_device_come_back_spread_over_the_whole_time() -> None:
    chance = Random(1).random
    clients = [Backoff(chance=chance) for _ in range(1000)]
    first = [client.next() for client in clients]
    for _ in range(9):
        last = [client.next() for client in clients]
    for waits, limit in ((first, FIRST_S), (last, MOST_S)):
        tenths = [sum(tenth <= 10 * wait / limit < tenth + 1 for wait in waits) for tenth in range(10)]
        assert all(60 < count < 140 for count in tenths), tenths
