"""A store that is away is asked ever more seldom, up to a bound; its going and its coming back are said once each."""

import logging

import pytest

from governor_agents.errors import StoreUnavailable, UnsafeStore
from governor_agents.worker.absence import FIRST, LONGEST, Absence

GONE = StoreUnavailable("nobody listens")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines so far, as they come."""
    caplog.set_level(logging.INFO, "governor_agents.worker")
    lines: list[str] = []
    caplog.handler.addFilter(lambda record: bool(lines.append(record.getMessage())) or True)
    return lines


def test_it_is_left_alone_longer_each_time_up_to_a_bound() -> None:
    """Doubled with every failure; back to the first after it answered."""
    absence, now, waits = Absence("there"), 100.0, []
    for _ in range(8):
        absence.fails(GONE, now)
        start = now
        while absence.lasts(now):
            now += 0.5
        waits.append(now - start)
    assert waits[:3] == [FIRST, 2 * FIRST, 4 * FIRST] and set(waits[4:]) == {LONGEST}
    absence.answers(set(), now)
    assert not absence.lasts(now)
    absence.fails(GONE, now)
    assert absence.lasts(now + 0.9 * FIRST) and not absence.lasts(now + FIRST)


def test_works_that_fail_together_count_once() -> None:
    """A hundred runs that meet the same trouble do not make the wait a hundred times as long."""
    absence = Absence("there")
    for run in range(100):
        absence.fails(GONE, 0.0, run)
    assert absence.lasts(0.0) and not absence.lasts(FIRST)


def test_one_line_when_it_goes_and_one_when_it_is_back(said: list[str]) -> None:
    """However often it fails between; a failure of another kind is a line of its own."""
    absence = Absence("there")
    for at in range(0, 100, 10):
        absence.fails(GONE, float(at))
    assert said == ["the store there: nobody listens; trying again, at most 10 s apart"]
    absence.fails(UnsafeStore("it is read-only"), 100.0)
    assert len(said) == 2 and "it is read-only" in said[1]
    absence.answers(set(), 130.0)
    absence.answers(set(), 131.0)
    assert said[2:] == ["the store there answers again, after 130 s"]


def test_a_store_that_only_reads_is_not_back(said: list[str]) -> None:
    """While a work that it failed is still due and has not been done; then, or when it is no longer due, it is back."""
    for done in (True, False):
        absence = Absence("there")
        absence.fails(GONE, 0.0, "run")
        absence.answers({"run", "other"}, 5.0)
        assert "again, after" not in said[-1]
        if done:
            absence.done("run")
        absence.answers({"run"} if done else {"other"}, 6.0)
        assert said[-1] == "the store there answers again, after 6 s"
