"""Who may use which lane."""

import asyncio

from edge_mcp.engine.lanes import Lanes


async def test_the_first_to_come_is_the_first_served() -> None:
    lanes = Lanes(1)
    first = await lanes.acquire()
    waiting = [asyncio.create_task(lanes.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        lanes.release(first)
        assert await task == first
        assert lanes.taken == 1
    lanes.release(first)
    assert lanes.taken == 0


async def test_a_lone_caller_has_the_same_lane_again() -> None:
    lanes = Lanes(3)
    for _ in range(4):
        taken = await lanes.acquire()
        assert taken == [0]
        lanes.release(taken)


async def test_whoever_runs_alone_gets_all_lanes_and_is_not_overtaken() -> None:
    lanes = Lanes(2)
    one = await lanes.acquire()
    alone = asyncio.create_task(lanes.acquire(alone=True))
    late = asyncio.create_task(lanes.acquire())
    await asyncio.sleep(0)
    assert not alone.done()
    assert not late.done()
    lanes.release(one)
    assert sorted(await alone) == [0, 1]
    assert not late.done()
    lanes.release([0, 1])
    assert await late == [0]


async def test_a_wait_that_is_cancelled_takes_no_lane_in_whatever_order_things_happen() -> None:
    for release_first in (False, True):
        lanes = Lanes(1)
        taken = await lanes.acquire()
        gone, next_in_line = [asyncio.create_task(lanes.acquire()) for _ in range(2)]
        await asyncio.sleep(0)
        if release_first:
            lanes.release(taken)
            gone.cancel()
        else:
            gone.cancel()
            lanes.release(taken)
        await asyncio.gather(gone, return_exceptions=True)
        assert gone.cancelled()
        assert await asyncio.wait_for(next_in_line, 30) == taken
        lanes.release(taken)
        assert lanes.taken == 0
