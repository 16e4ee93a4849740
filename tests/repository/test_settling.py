"""When what changed is looked at."""

from pathlib import Path

from edge_mcp.repository.settling import Settling

A, B = Path("/a"), Path("/b")


def test_what_changes_again_is_looked_at_later() -> None:
    settling = Settling()
    assert settling.next() is None
    settling.touch((A, "x"), 1.0)
    settling.touch((A, "x"), 1.5)
    assert (settling.next(), settling.take(1.4), list(settling.restless(A))) == (1.5, [], ["x"])
    assert (settling.take(1.5), settling.next(), list(settling.restless(A))) == ([A], None, [])


def test_each_name_settles_by_itself_and_a_folder_is_looked_at_once() -> None:
    settling = Settling()
    for place, due in (((A, "x"), 1.0), ((A, "y"), 1.0), ((A, "z"), 2.0), ((B, ""), 1.0)):
        settling.touch(place, due)
    assert sorted(settling.take(1.0)) == [A, B]
    assert list(settling.restless(A)) == ["z"]
    assert settling.next() == 2.0


def test_a_look_that_is_due_anyway_is_not_put_off() -> None:
    settling = Settling()
    settling.again((A, ""), 5.0)
    settling.again((A, ""), 9.0)
    assert settling.next() == 5.0
    settling.again((A, ""), 2.0)
    assert settling.next() == 2.0
