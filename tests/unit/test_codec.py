"""Records as bytes: what earlier versions wrote is read, and new fields cost old records nothing."""

from pathlib import Path

import pytest

from governor_agents.core import codec
from governor_agents.core.binding import digest, holds
from governor_agents.core.codec import decode_run, encode_run
from governor_agents.core.records import CallState, Response, RunState, evolve
from governor_agents.errors import SnapshotError, StoreTooNew

WRITTEN = Path(__file__).parents[1] / "fixtures" / "run_schema_1.json"
"""A paused, decided and claimed run, as the first version stored it."""

SECOND = WRITTEN.with_name("run_schema_2.json")
"""A run that waits, with all that the second version brought."""


def test_a_run_that_the_first_version_stored_is_read() -> None:
    """Fields that came since hold their defaults."""
    run = decode_run(WRITTEN.read_bytes())
    assert (run.state, run.generation, run.fence) == (RunState.ACTIVE, 1, 2)
    assert [call.state for call in run.calls] == [CallState.APPROVED, CallState.REJECTED]
    assert run.calls[0].edited and run.responses == ()


def test_a_run_that_the_first_version_stored_is_written_as_it_was_but_for_its_number() -> None:
    """A field that holds its default takes no room; the number says that others may come."""
    before = WRITTEN.read_bytes()
    assert encode_run(decode_run(before)) == before.replace(b'{"schema":1,', b'{"schema":2,', 1)


def test_digests_of_the_first_version_hold() -> None:
    """What was approved under it may run: nothing that is bound was added to records that do not have it."""
    approved = decode_run(WRITTEN.read_bytes())
    assert holds(approved, approved.calls[0])
    assert not holds(approved, evolve(approved.calls[0], delegates=("eve",)))


def test_a_run_of_the_second_version_is_read_and_written_as_it_was() -> None:
    """Seats, hand-overs, a claim, a comment, reminders, quiet hours, a notice in hand."""
    run = decode_run(SECOND.read_bytes())
    (call,) = run.calls
    assert (call.votes[0].seat, call.votes[0].standing, call.handed[0].to) == ("ann", "delegate", "dora")
    assert call.taken_up and call.comments and call.reminders and call.quiet_hours and call.shown
    assert run.outbox[0].taken and {notice.what for notice in run.outbox} == {"asked", "changed"}
    assert encode_run(run) == SECOND.read_bytes() and call.digest == digest(run, call)


def test_an_earlier_version_refuses_what_it_would_have_to_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the record is too new for it, and leaves it as it is."""
    monkeypatch.setattr(codec, "RUN_SCHEMA", 1)
    with pytest.raises(StoreTooNew, match="schema 2, this version reads up to 1"):
        decode_run(SECOND.read_bytes())
    assert decode_run(WRITTEN.read_bytes()).state is RunState.ACTIVE


def test_recorded_responses_are_read_as_written() -> None:
    """Chains, ordinals, digests and call ids survive."""
    kept = Response(("call_1", "call_2"), 3, ("a", "b"), "blob", ("call_9",))
    run = evolve(decode_run(WRITTEN.read_bytes()), responses=(kept,))
    assert decode_run(encode_run(run)).responses == (kept,)


def test_a_run_with_a_field_of_the_wrong_type_is_refused() -> None:
    """Negative control: the reader looks at what it reads."""
    broken = WRITTEN.read_bytes().replace(b'"fence":2', b'"fence":"two"')
    with pytest.raises(SnapshotError, match="fence"):
        decode_run(broken)
