"""Records as bytes: what earlier versions wrote is read, and new fields cost old records nothing."""

from pathlib import Path

import pytest

from governor_agents.core.codec import decode_run, encode_run
from governor_agents.core.records import CallState, Response, RunState, evolve
from governor_agents.errors import SnapshotError

WRITTEN = Path(__file__).parents[1] / "fixtures" / "run_schema_1.json"
"""A paused, decided and claimed run, as the first version stored it."""


def test_a_run_that_the_first_version_stored_is_read() -> None:
    """Fields that came since hold their defaults."""
    run = decode_run(WRITTEN.read_bytes())
    assert (run.state, run.generation, run.fence) == (RunState.ACTIVE, 1, 2)
    assert [call.state for call in run.calls] == [CallState.APPROVED, CallState.REJECTED]
    assert run.calls[0].edited and run.responses == ()


def test_a_run_that_the_first_version_stored_is_written_as_it_was() -> None:
    """A field that holds its default takes no room: an older version could go on with it."""
    assert encode_run(decode_run(WRITTEN.read_bytes())) == WRITTEN.read_bytes()


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
