"""Which runs may go, and when: pure functions over every state a run can be in."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor_agents.conversations import _body, _number, _run, count
from governor_agents.core.ports import Record
from governor_agents.core.records import Call, CallState, Notice, Run, RunState, evolve
from governor_agents.core.settling import due, expired, kept

ALL = {state.value: 10.0 for state in RunState}
"""Also for states that no file may name: they must not go all the same."""


def run(state: RunState, **more: Any) -> Run:
    made = Run("t", "r", "a", "x", "p", state, 0.0, ended=100.0 if state.ended else None)
    return evolve(made, **more)


def call(state: CallState) -> Call:
    return Call(n=1, call_id="c", generation=0, tool="pay", args=b"{}", state=state, created=0.0)


@pytest.mark.parametrize("state", RunState)
def test_only_what_has_ended_is_ever_given_a_time(state: RunState) -> None:
    """A run that waits, is driven, stands still or was given up has none, whatever is said."""
    assert kept(run(state), ALL).keep_until == (110.0 if state.ended else None)
    assert kept(run(state), {}).keep_until is None


@pytest.mark.parametrize(("state", "held"), list(product(RunState, CallState)))
def test_no_run_goes_that_holds_a_call_which_may_happen_or_may_have_happened(state: RunState, held: CallState) -> None:
    """No transition ends such a run; should one ever do so, it stays."""
    until = kept(run(state, calls=(call(held),)), ALL).keep_until
    assert (until is not None) == (state.ended and not held.open)


@pytest.mark.parametrize("state", [state for state in RunState if not state.ended])
def test_a_time_that_somebody_wrote_into_a_run_that_goes_on_counts_for_nothing(state: RunState) -> None:
    """It is not looked at, and taken out with the next write."""
    forged = run(state, keep_until=1.0)
    assert not expired(forged, 1e12) and due(forged) != 1.0 and kept(forged, ALL).keep_until is None


def test_a_run_is_due_when_it_may_go_and_not_before() -> None:
    """By the time it has ended and the span of its outcome alone."""
    gone = kept(run(RunState.COMPLETED), {"completed": 5.0, "failed": 1.0})
    assert (due(gone), expired(gone, 104.9), expired(gone, 105.0)) == (105.0, False, True)
    assert due(kept(run(RunState.FAILED), {"completed": 5.0})) is None


def test_people_are_told_before_a_run_goes() -> None:
    """While a notice is open the run is due for that, and does not go."""
    told = kept(run(RunState.FAILED, outbox=(Notice("n", 1, "decided", "slack", due=500.0),)), {"failed": 1.0})
    assert (due(told), expired(told, 1e9)) == (500.0, False)


def test_what_is_said_may_change() -> None:
    """The time moves both ways, and goes away."""
    first = kept(run(RunState.COMPLETED), {"completed": 5.0})
    assert kept(first, {"completed": 5.0}) is first
    assert [kept(first, said).keep_until for said in ({"completed": 50.0}, {"completed": 1.0}, {})] == [150, 101, None]


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), st.integers(0, 10**9 - 1), st.booleans()
)
def test_a_pointer_gives_back_run_and_number(thread: str, number: int, named: bool) -> None:
    """Whatever a thread is called: with lines, digits and slashes in it."""
    id = f"{thread}/{number}" if named else "run_abcdefghij"
    record = Record("thread", "t", "p", _body(id, number))
    assert (_run(record), count(record)) == (id, number)
    assert _number(evolve(run(RunState.ACTIVE), id=id, conversation=thread)) == (number if named else 0)


def test_pointers_that_do_not_count_are_read() -> None:
    """As they were written before they counted; and those that somebody spoiled."""
    for body, expected in ((b"run_a", ("run_a", 0)), (b"t/3", ("t/3", 3)), (b"", (" ", 0)), (b"\n", ("\n", 0))):
        record = Record("thread", "t", "conversation:t", body)
        assert (_run(record), count(record)) == expected
    assert count(Record("thread", "t", "conversation:other", b"t/3")) == 0
