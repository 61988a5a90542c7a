"""The ``repr`` of records names things and shows none of their contents: it ends in logs, tracebacks and test output."""

from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from governor_agents.core import calls, channels, ports, records
from governor_agents.core.calls import freeze
from governor_agents.core.records import Approval, Call, CallState, Decision, Event, Result, Run, RunState, Vote
from governor_agents.core.records import evolve as with_changes
from governor_agents.guard import Ran

SECRET = "planted-4711"
SAID = {"args", "asked_args", "body", "data", "answer", "reason", "told", "output", "output_json", "error"}
SAID |= {"evidence", "why", "detail", "blocked_detail", "cancel_reason", "idem_key", "value", "text"}
"""Fields that hold what models, tools and people said, whatever class they are in."""

CLASSES = [
    found
    for module in (calls, channels, ports, records)
    for found in vars(module).values()
    if isinstance(found, type) and is_dataclass(found) and found.__module__ == module.__name__
]


@pytest.mark.parametrize("kind", [*CLASSES, Ran], ids=lambda kind: kind.__name__)
def test_fields_that_hold_contents_are_not_shown(kind: type) -> None:
    """Every class of the core: a field of such a name that is added later is caught too."""
    assert [field.name for field in fields(kind) if field.name in SAID and field.repr] == []


def run_with_secrets() -> Run:
    args = freeze({"token": SECRET})
    vote = Vote("alice@example.com", "approve", 1.0, "d", reason=SECRET)
    call = Call(
        1, "c1", 1, "pay", args, CallState.SUCCEEDED, 1.0, why=SECRET, told=SECRET, asked_args=args, votes=(vote,)
    )
    call = with_changes(call, result=Result("0" * 64, data=f'"{SECRET}"'), idem_key=SECRET)
    run = Run("t", "run_a", "support", "functions", "service:support", RunState.COMPLETED, 1.0, calls=(call,))
    return with_changes(run, output_json=f'"{SECRET}"', error=SECRET, blocked_detail=SECRET, cancel_reason=SECRET)


def test_no_secret_is_shown() -> None:
    """A run with secrets in its arguments, results, reasons and errors, and all that is made of it."""
    run = run_with_secrets()
    call = run.calls[0]
    shown: list[Any] = [run, call, Approval(run, call), call.as_tool_call(run), call.votes, call.result]
    shown += [Decision.edit({"token": SECRET}, SECRET), Decision.respond(SECRET), Decision.reject(SECRET)]
    shown += [Event("call.failed", detail=(("reason", SECRET),)), ports.Record("run", "t", "r", SECRET.encode())]
    shown += [ports.StoredEvent(1, SECRET.encode()), ports.Blob("id", SECRET.encode())]
    shown += [ports.Segment(True, output=SECRET, snapshot=SECRET.encode(), pending=(call.as_tool_call(run),))]
    for each in shown:
        assert SECRET not in repr(each) and SECRET not in str(each)
    assert "pay" in repr(call) and "run_a" in repr(run)


def test_the_control() -> None:
    """The secrets are there: what is compared and stored still holds them."""
    run = run_with_secrets()
    assert SECRET in str(run.output) and SECRET.encode() in run.calls[0].args
    assert run != with_changes(run, output_json="1")
