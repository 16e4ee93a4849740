"""What the log says again and again."""

import logging

from edge_mcp.repeats import BURST, EACH, EVERY_S, LONGEST_S, MAX_LINES, SAME, SAME_S, Repeats

DAY = 86_400


class Log:
    """A logger before the filter, whose lines are kept; and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.filter = Repeats(lambda: self.now)
        self.lines: list[str] = []

    def say(self, text: str, *args: object, place: int = 1, error: Exception | None = None, each: bool = False) -> None:
        exc_info = (type(error), error, None) if error else None
        record = logging.LogRecord("edge_mcp.room", logging.WARNING, "room.py", place, text, args, exc_info)
        record.__dict__.update(EACH if each else {})
        if self.filter.filter(record):
            self.lines.append(record.getMessage())


def test_what_is_news_is_said_as_it_is() -> None:
    log = Log()
    for number in range(BURST):
        log.say("%d %% of %s", number, "it")
    assert log.lines == [f"{number} % of it" for number in range(BURST)]


def test_a_record_of_what_was_done_is_said_each_time() -> None:
    log = Log()
    for _ in range(3 * BURST):
        log.say("the camera was read", each=True)
    assert log.lines == ["the camera was read"] * (3 * BURST)


def test_the_same_line_is_said_ever_more_rarely_and_tells_how_often_it_was_not() -> None:
    log = Log()
    for second in range(30 * DAY):
        log.now = float(second)
        log.say("no space left")
    assert log.lines[:SAME] == ["no space left"] * SAME
    assert log.lines[SAME] == f"no space left (and {SAME_S - 1:.0f} more like this since the last one)"
    assert len(log.lines) < SAME + 8 + 30
    assert log.lines[-1] == f"no space left (and {LONGEST_S - 1:.0f} more like this since the last one)"


def test_one_place_says_little_whatever_is_in_its_lines_and_keeps_no_other_from_its_own() -> None:
    log = Log()
    for second in range(DAY):
        log.now = float(second)
        log.say("refused, try %d", second)
    assert len(log.lines) <= BURST + DAY / EVERY_S
    log.say("something else", place=2)
    assert log.lines[-1] == "something else"


def test_the_same_words_of_another_failure_are_news() -> None:
    log = Log()
    for number in range(10):
        log.say("a call failed", error=ValueError(str(number)))
    assert len(log.lines) == 10


def test_of_a_flood_no_more_is_remembered_than_fits() -> None:
    log = Log()
    for number in range(10 * MAX_LINES):
        log.say("%d", number, place=number % 7)
    assert len(log.filter._lines) == MAX_LINES
