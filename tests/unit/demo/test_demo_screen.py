from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from compose.demo.proof import Check
from compose.demo.screen import Screen, progress_line
from compose.demo.watch import Glance

GLANCE = Glance(
    instances=1,
    circuit="OPEN",
    partitions=12,
    read=12,
    paused=12,
    in_kafka=215,
    pending=1_426,
    delivered=238,
    troubled=0,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def seconds() -> list[float]:
    """The clock's coming answers."""
    return []


@pytest.fixture
def piped(out: io.StringIO, seconds: list[float]) -> Screen:
    return Screen(out, live=False, colour=False, width=lambda: 60, clock=lambda: seconds[0])


class TestProgress:
    def test_says_where_the_events_are(self) -> None:
        assert progress_line(1_879, GLANCE) == (
            "published 1,879  in Kafka 215  in outbox 1,426  delivered 238  circuit OPEN  paused 12/12"
        )

    def test_says_what_is_not_known_as_a_question(self) -> None:
        unknown = Glance(
            instances=None,
            circuit=None,
            partitions=0,
            read=0,
            paused=0,
            in_kafka=None,
            pending=None,
            delivered=None,
            troubled=None,
        )

        assert progress_line(5, unknown) == (
            "published 5  in Kafka ?  in outbox ?  delivered ?  circuit ?  paused 0/0"
        )
        assert progress_line(5, None) == "published 5"

    def test_renews_one_line_on_a_terminal(self) -> None:
        out = Terminal()
        screen = Screen(out, live=True, colour=False, width=lambda: 20)
        screen.progress("one and something too long")
        screen.progress("two")
        screen.line("done")

        assert out.getvalue() == "\r\x1b[2K     one and someth\r\x1b[2K     two\r\x1b[2Kdone\n"

    def test_is_a_plain_line_now_and_then_in_a_pipe(
        self, piped: Screen, out: io.StringIO, seconds: list[float]
    ) -> None:
        for now, text in ((0.0, "one"), (1.0, "two"), (3.0, "three"), (6.5, "three"), (7.0, "four")):
            seconds[:] = [now]
            piped.progress(text)

        assert out.getvalue() == "     one\n     three\n     four\n"


class TestColours:
    @pytest.fixture
    def check(self) -> Check:
        return Check(what="it holds", source="Keycloak", looked_at=3)

    @pytest.mark.parametrize(
        ("out", "environ", "coloured"),
        [
            (Terminal(), {}, True),
            (Terminal(), {"NO_COLOR": "1"}, False),
            (Terminal(), {"NO_COLOR": ""}, True),
            (Terminal(), {"TERM": "dumb"}, False),
            (io.StringIO(), {}, False),
        ],
    )
    def test_are_for_terminals_whose_user_wants_them(
        self, *, out: io.StringIO, environ: dict[str, str], coloured: bool, check: Check
    ) -> None:
        Screen.on(out, environ).checks([check])

        assert ("\x1b[" in out.getvalue()) == coloured


class TestTheTable:
    def lines(self, out: io.StringIO) -> Iterator[str]:
        return iter(out.getvalue().splitlines())

    def test_says_for_each_check_who_was_asked_how_much_and_whether_it_holds(
        self, piped: Screen, out: io.StringIO
    ) -> None:
        piped.checks(
            [
                Check(what="users are right", source="Admin API", looked_at=1_266),
                Check(what="order", source="diary", looked_at=0),
                Check(what="passwords", source="logins", looked_at=2, problems=("ada: no",)),
            ]
        )

        assert list(self.lines(out)) == [
            "     What must hold   Asked      Compared  Result",
            "     users are right  Admin API     1,266  holds",
            "     order            diary             0  nothing to compare",
            "     passwords        logins            2  1 wrong",
            "",
            "     wrong: ada: no",
        ]

    def test_lists_the_first_ten_of_what_is_wrong(self, piped: Screen, out: io.StringIO) -> None:
        problems = tuple(f"user {number}" for number in range(25))
        piped.checks([Check(what="", source="", looked_at=1, problems=problems)])

        assert out.getvalue().count("wrong: user") == 10
        assert list(self.lines(out))[-1] == "     and 15 more"


class TestSentences:
    def test_are_wrapped_to_the_width(self, piped: Screen, out: io.StringIO) -> None:
        piped.say("word " * 30)

        lines = out.getvalue().splitlines()
        assert len(lines) == 3
        assert all(line.startswith("     word") and len(line) <= 60 for line in lines)


class TestAClosedPipe:
    def test_does_not_stop_the_demo(self) -> None:
        screen = Screen(ClosedPipe(), live=False, colour=False)

        screen.line("nobody reads this")
        screen.progress("nor this")
