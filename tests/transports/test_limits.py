"""The bounds of the network listener, with a clock of the tests' own."""

import asyncio

from edge_mcp.errors import ConnectionClosed
from edge_mcp.transports.base import Connection, Peer
from edge_mcp.transports.inbox import Inbox
from edge_mcp.transports.limits import MAX_PEERS, ByteBudget, ConnectionLimit, RateLimit
from edge_mcp.transports.replay import Replay
from edge_mcp.transports.sessions import EVICT_S, Sessions


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_peer_has_so_many_requests_and_a_burst_of_them() -> None:
    clock = Clock()
    limit = RateLimit(10, clock)
    assert [limit.take("a") for _ in range(20)] == [0.0] * 20
    assert limit.take("a") == 0.1
    assert limit.take("b") == 0.0
    clock.now += 0.1
    assert (limit.take("a"), limit.take("a") > 0) == (0.0, True)
    clock.now += 1000
    assert [limit.take("a") > 0 for _ in range(21)] == [False] * 20 + [True]


def test_no_limit() -> None:
    limit = RateLimit(0, Clock())
    assert not any(limit.take("a") for _ in range(10_000))
    assert len(limit) == 0


def test_the_table_of_peers_is_bounded() -> None:
    limit = RateLimit(1, Clock())
    for n in range(3 * MAX_PEERS):
        limit.take(str(n))
    assert len(limit) == MAX_PEERS


def test_connections_are_counted_in_all_and_by_address() -> None:
    limit = ConnectionLimit(3, 2)
    assert [limit.enter("a"), limit.enter("a"), limit.enter("a")] == [True, True, False]
    limit.leave("a")
    assert [limit.enter("b"), limit.enter("c")] == [True, False]
    for address in "aabc":
        limit.leave(address)
    assert len(limit) == 0
    assert limit.enter("a")


def test_bytes_are_held_until_their_request_ends() -> None:
    budget = ByteBudget(20, small=0)
    with budget.lease("a") as first:
        assert first(6)
        with budget.lease("a") as second:
            assert [second(5), second(4), second(1)] == [False, True, False]
        assert budget.held == 6
        assert first(4)
    assert budget.held == 0


def test_one_peer_has_half_of_the_bytes_and_small_requests_are_always_let_in() -> None:
    budget = ByteBudget(20, small=3)
    with budget.lease("a") as a, budget.lease("a") as more, budget.lease("b") as b, budget.lease("c") as c:
        assert [a(13), a(1), more(4), more(3), more(1)] == [True, False, False, True, False]
        assert [b(2), b(11), b(1)] == [True, True, False]
        assert [c(2), c(1), c(1)] == [True, True, False]
        assert budget.held == 20
    assert budget.held == 0
    with budget.lease("a") as a:
        assert a(13)


def test_replay_keeps_the_newest() -> None:
    replay = Replay(events=3, size=100)
    for number in range(1, 6):
        replay.add("s", 1, number, b"x" * 10)
    assert [number for number, _ in replay.after("s", 1, 0)] == [3, 4, 5]
    assert [number for number, _ in replay.after("s", 1, 4)] == [5]
    assert list(replay.after("other", 1, 0)) == []
    replay.add("s", 2, 1, b"y" * 95)
    assert (len(replay), replay.size) == (1, 95)
    assert not replay.has("s", 1)
    replay.add("s", 3, 1, b"z" * 101)  # more than may be kept
    assert (len(replay), replay.size) == (0, 0)
    replay.add("s", 4, 1, b"a")
    replay.drop("s", iter([4, 5]))
    assert (len(replay), replay.size) == (0, 0)


async def ignore(connection: Connection) -> None:
    async for _ in connection:
        pass


async def test_a_session_ends_when_it_was_not_used_for_long() -> None:
    clock = Clock()
    sessions = Sessions(ignore, 10, 100, clock)
    session = sessions.open(Peer("a"))
    assert session is not None
    clock.now += 99
    sessions.sweep()
    assert sessions.get(session.id, "") is session  # which is a use of it
    clock.now += 99
    sessions.sweep()
    assert len(sessions) == 1
    clock.now += 1
    sessions.sweep()
    assert sessions.get(session.id, "") is None
    assert session.closed
    await sessions.close()


async def test_a_session_is_its_principals() -> None:
    sessions = Sessions(ignore, 10, 100, Clock())
    session = sessions.open(Peer("a", principal="one"))
    assert session is not None
    assert sessions.get(session.id, "two") is None
    assert sessions.get(session.id, "one") is session
    await sessions.close()
    assert len(sessions) == 0


async def test_too_many_sessions_make_the_quietest_go() -> None:
    clock = Clock()
    sessions = Sessions(ignore, 2, 10_000, clock)
    first, second = sessions.open(Peer("a")), sessions.open(Peer("a"))
    assert first is not None and second is not None
    assert sessions.open(Peer("a")) is None  # both are new
    clock.now += EVICT_S
    second.touch()
    assert sessions.open(Peer("a")) is not None
    assert (first.closed, second.closed) == (True, False)
    assert sessions.open(Peer("a")) is None
    await sessions.close()


async def test_a_session_whose_conversation_fails_is_gone() -> None:
    async def fail(connection: Connection) -> None:
        raise RuntimeError("a bug")

    sessions = Sessions(fail, 2, 100, Clock())
    session = sessions.open(Peer("a"))
    assert session is not None
    async with asyncio.timeout(30):
        while len(sessions):
            await asyncio.sleep(0)
    assert session.closed
    await sessions.close()


async def test_an_inbox_that_is_closed_wakes_all_who_wait() -> None:
    inbox = Inbox[int](2)
    puts = [asyncio.create_task(inbox.put(n)) for n in range(9)]
    await asyncio.sleep(0)
    assert [await inbox.get(), await inbox.get()] == [0, 1]
    await asyncio.sleep(0)
    puts[4].cancel()
    assert [await inbox.get() for _ in range(3)] == [2, 3, 5]
    inbox.close()
    async with asyncio.timeout(30):
        said = await asyncio.gather(*puts, return_exceptions=True)
    assert {type(word) for word in said[6:]} <= {type(None), ConnectionClosed}
    assert isinstance(said[8], ConnectionClosed)
    assert await inbox.get() is None
    reader = Inbox[int](1)
    waiting = asyncio.create_task(reader.get())
    await asyncio.sleep(0)
    reader.close()
    assert await waiting is None
