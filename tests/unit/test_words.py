"""A run in words: each state says what it waits for and the ways on, in text that hides nothing."""

from dataclasses import replace

import pytest

from governor_agents.core.calls import freeze
from governor_agents.core.records import Approval, Attempt, Call, CallState, Lease, Notice, Run, RunState
from governor_agents.core.verdicts import Stage
from governor_agents.handlers.words import Commands, after_decision, explain

NOW = 1_795_000_000.0


def run_in(state: RunState, *calls: CallState, **rest: object) -> Run:
    made = tuple(
        Call(
            n=n,
            call_id=f"c{n}",
            generation=0,
            tool="refund",
            args=freeze({"amount": n}),
            state=call,
            created=NOW,
            stages=(Stage(("group:finance",), ("cfo@example.com",)),),
            expires=NOW + 60,
            attempts=(Attempt(1, "host/1/2", NOW - 5),) if call in (CallState.UNKNOWN, CallState.EXECUTING) else (),
            idem_key="ga1_key" if call is CallState.UNKNOWN else "",
        )
        for n, call in enumerate(calls, 1)
    )
    return Run("default", "run_a", "support", "fake", "ann", state, NOW - 60, calls=made, updated=NOW, **rest)


LEASE = Lease("host/1/2", NOW + 30)


@pytest.mark.parametrize(
    ("run", "because", "more"),
    [
        (
            run_in(RunState.QUEUED),
            "waits for a worker to start it",
            ["governor-agents worker APP:GOVERNOR", "agent support"],
        ),
        (
            run_in(RunState.QUEUED, attempts=2, error="OSError: x", not_before=NOW + 9),
            "waits for a worker to start it; not before 2026-11-18 11:06:49 UTC",
            ["try 2 of 5 failed: OSError: x"],
        ),
        (
            run_in(RunState.ACTIVE, CallState.EXECUTING, lease=LEASE),
            "is being driven by host/1/2",
            ["run_a.1 refund is running"],
        ),
        (
            run_in(RunState.BLOCKED, CallState.APPROVED, blocked="halt", blocked_detail="tool:refund now"),
            "stands still: tool:refund now is halted",
            ["governor-agents halt 'tool:refund now' --lift", "governor-agents runs cancel run_a"],
        ),
        (
            run_in(RunState.ACTIVE, lease=replace(LEASE, until=NOW - 1)),
            "has been silent past its lease",
            ["governor-agents worker APP:GOVERNOR"],
        ),
        (
            run_in(RunState.WAITING, CallState.PENDING, CallState.PENDING),
            "waits for 2 decisions",
            ["run_a.1 refund: asks group:finance; until 2026-", "governor-agents inbox show run_a.2"],
        ),
        (
            replace(
                run_in(RunState.WAITING, CallState.PENDING),
                calls=(replace(run_in(RunState.WAITING, CallState.PENDING).calls[0], expires=NOW),),
            ),
            "waits for 1 decision",
            ["its deadline has passed, a worker will expire it"],
        ),
        (
            run_in(RunState.READY, attempts=1),
            "everything is decided; it waits for a worker",
            ["1 of 5 tries made no progress"],
        ),
        (run_in(RunState.READY, waiter=LEASE), "everything is decided", ["its caller (host/1/2) still waits for it"]),
        (
            run_in(RunState.BLOCKED, CallState.UNKNOWN, blocked="unknown_outcome", blocked_detail="the loop ended"),
            "it may or may not have happened",
            [
                "run_a.1 refund: started at 2026-",
                "idempotency key ga1_key",
                "the loop ended",
                "a late result",
                "runs cancel run_a",
            ],
        ),
        (
            run_in(RunState.BLOCKED, blocked="caller_gone", blocked_detail="pay is a method"),
            "its caller is gone",
            ["pay is a method", "governor-agents runs cancel run_a"],
        ),
        (
            run_in(RunState.BLOCKED, blocked="replay", blocked_detail="response 2 differs: the instructions"),
            "a worker died inside a turn of the model",
            ["response 2 differs", "governor-agents runs repair", "governor-agents runs cancel run_a"],
        ),
        (
            run_in(RunState.BLOCKED, blocked="some_new_reason"),
            "stands still until an operator acts: some new reason",
            [],
        ),
        (
            run_in(RunState.DEAD, attempts=5, blocked_detail="5 tries made no progress; last error: x"),
            "was given up: 5 tries made no progress",
            ["last error: x", "governor-agents runs cancel run_a"],
        ),
        (run_in(RunState.COMPLETED, ended=NOW), "ended at 2026-", []),
        (run_in(RunState.FAILED, ended=NOW, error="Boom: no"), "ended at 2026-11-18 11:06:40 UTC: Boom: no", []),
        (run_in(RunState.CANCELLED, ended=NOW, error="enough"), ": enough", []),
        (
            run_in(RunState.ACTIVE, CallState.EXECUTING, lease=LEASE, cancel="cancelled", cancel_reason="enough"),
            "is being driven",
            ["it was cancelled: enough; it ends as soon as"],
        ),
    ],
    ids=lambda value: value.status if isinstance(value, Run) else "",
)
def test_explain_says(run: Run, because: str, more: list[str]) -> None:
    found = explain(run, NOW)
    assert because in found.because
    told = "\n".join((*found.details, *found.ways))
    assert [piece for piece in more if piece not in told] == []


@pytest.mark.parametrize("state", list(RunState))
def test_every_state_is_explained_in_visible_text(state: RunState) -> None:
    """Whatever stands in the record: no line breaks, nothing that hides, and a way on unless the run has ended."""
    evil = "a\u202e\n\x1b[2Jb"
    run = run_in(state, CallState.PENDING, CallState.UNKNOWN, lease=replace(LEASE, owner=evil), waiter=LEASE)
    run = replace(
        run, id=evil, agent=evil, error=evil, blocked_detail=evil, blocked=evil, cancel="cancelled", cancel_reason=evil
    )
    for blocked in (evil, "unknown_outcome", ""):
        found = explain(replace(run, blocked=blocked), NOW, Commands(store=evil, tenant=evil))
        assert all(text.isprintable() for text in (found.because, *found.details, *found.ways))
        assert bool(found.ways) != state.ended


@pytest.mark.parametrize(
    ("notice", "told"),
    [
        ({}, "is not told to slack yet; a worker does that: governor-agents worker APP:GOVERNOR"),
        ({"tries": 1}, "is not told to slack: 1 try failed, the next comes at 2026-11-18 11:06:40 UTC; why: "),
        (
            {"tries": 3, "due": NOW + 9},
            "is not told to slack: 3 tries failed, the next comes at 2026-11-18 11:06:49 UTC",
        ),
        ({"due": NOW + 9}, ""),  # a reminder that is not due
        ({"held": True}, ""),  # is told in words of its own
    ],
)
def test_what_a_channel_does_not_show_yet_is_told(notice: dict[str, object], told: str) -> None:
    """A request that nobody has heard of does not look like one that people think about; once for each channel."""
    notices = tuple(replace(Notice(f"n{at}", 1, "asked", "slack", NOW), **notice) for at in (1, 2))
    found = explain(run_in(RunState.WAITING, CallState.PENDING, outbox=notices), NOW)
    assert found.because == "waits for 1 decision"
    assert [line for line in found.details if "not told" in line] == [
        line for line in found.details if told and told in line
    ]
    assert len(found.details) == 1 + bool(told)


def test_after_decision_says_what_follows() -> None:
    waiting = run_in(RunState.WAITING, CallState.PENDING, CallState.PENDING)
    approval = Approval(waiting, waiting.calls[0])
    assert after_decision(approval, waiting) == "more approvals are needed: group:finance"
    approved = replace(waiting, calls=(replace(waiting.calls[0], state=CallState.APPROVED), waiting.calls[1]))
    assert after_decision(approval, approved) == "the run waits for 1 more"
    ready = replace(run_in(RunState.READY, CallState.APPROVED))
    assert after_decision(approval, ready) == "a worker goes on with the run"
    assert after_decision(approval, run_in(RunState.COMPLETED, CallState.REJECTED)) == "the run is completed"
