"""Where a run goes once its calls allow: the rules that follow every transition.

`settle` closes a cancelled run, lets a waiting one go on, ends a run of one call, and lets a blocked one out when its
doubt is gone. `due` says when somebody must look at the run again, `kept` how long it stays when it is over.
"""

from __future__ import annotations

from collections.abc import Mapping

from governor_agents.core.calls import freeze
from governor_agents.core.lifecycle import CallEvent, RunEvent, next_call, next_run
from governor_agents.core.records import CallState as C
from governor_agents.core.records import Change, Run, evolve
from governor_agents.core.records import RunState as R
from governor_agents.core.telling import call_event, free_at, heads, notices, run_event
from governor_agents.errors import IllegalTransition

UNKNOWN = "unknown_outcome"
"""The blocking reason of a run that holds a call in doubt."""

HALT = "halt"
"""The blocking reason of a run that a halt stops."""

RESTORED = "restored"
"""The blocking reason of a run that comes from an old copy of its store: see `quarantine`."""

LOOK_AGAIN = 60.0
"""Seconds until a worker looks again whether a halt was lifted, should whoever lifted it have died."""


def settle(change: Change, now: float) -> Change:
    """The change, and whatever now follows from it. Pure and idempotent."""
    run = change.run
    if run.state.ended or run.having(C.EXECUTING):
        return change
    if run.cancel:
        return _close(change, now)
    if run.state is R.WAITING and not run.having(C.PENDING):
        return go_on(change, RunEvent.DECIDED, now)
    if run.single and run.state in (R.ACTIVE, R.READY) and not any(call.state.open for call in run.calls):
        return _end_single(change, RunEvent.END if run.state is R.ACTIVE else RunEvent.DECIDED, now)
    if run.state is R.BLOCKED and run.blocked in ("", UNKNOWN) and not run.having(C.UNKNOWN):
        return unblock(change, now)
    return change


def unblock(change: Change, now: float) -> Change:
    """Let a BLOCKED or DEAD run out: WAITING when people are still asked, else on."""
    run = evolve(change.run, blocked="", blocked_detail="", attempts=0)
    return forward(Change(run, change.events), RunEvent.UNBLOCK, now)


def forward(change: Change, event: RunEvent, now: float) -> Change:
    """A run nobody drives any more: WAITING when people are asked, else on."""
    run = change.run
    if not run.having(C.PENDING):
        return go_on(change, event, now)
    run = evolve(run, state=next_run(run.state, event, R.WAITING), lease=None, updated=now)
    return Change(run, (*change.events, run_event("run.waiting")))


def go_on(change: Change, event: RunEvent, now: float) -> Change:
    """A run with nothing PENDING: READY (QUEUED if it never started), or its end where one follows."""
    run = change.run
    if ends_on_expiry(run):
        return end_expired(change, event, now)
    if run.single and not any(call.state.open for call in run.calls):
        return _end_single(change, event, now)
    state = R.READY if run.snapshot or run.single else R.QUEUED
    # A claim that came to nothing does not give an approval more time; people who decided anew do.
    since = run.ready_since if event is RunEvent.LEASE_OVER and run.ready_since is not None else now
    run = evolve(run, state=next_run(run.state, event, state), lease=None, ready_since=since, updated=now)
    return Change(run, (*change.events, run_event(f"run.{state}")))


def ends_on_expiry(run: Run) -> bool:
    """True when a call expired whose policy says that the run ends with it, and nobody is asked any more."""
    return expired_for_good(run) and not run.having(C.PENDING)


def expired_for_good(run: Run) -> bool:
    """True when a call expired whose policy says that the run ends with it."""
    return any(call.on_expire == "end_run" for call in run.having(C.EXPIRED))


def end_expired(change: Change, event: RunEvent, now: float) -> Change:
    """End the run because an approval expired; doubts come first."""
    change = doubts(change)
    if change.run.having(C.UNKNOWN):
        return block(change, event, UNKNOWN, now)
    change = _withdraw(change, CallEvent.CANCEL, now)
    return end(change, event, R.FAILED, now, error="an approval expired and the policy ends the run")


def block(change: Change, event: RunEvent, why: str, now: float, detail: str = "") -> Change:
    """Park the run for an operator."""
    run = change.run
    state = next_run(run.state, event, R.BLOCKED) if run.state is not R.BLOCKED else R.BLOCKED
    run = evolve(run, state=state, blocked=why, blocked_detail=detail, lease=None, updated=now)
    return Change(run, (*change.events, run_event("run.blocked", reason=why, detail=detail)))


def end(change: Change, event: RunEvent, state: R, now: float, *, error: str = "", output_json: str = "") -> Change:
    """The run's last step."""
    run = change.run
    run = evolve(
        run,
        state=next_run(run.state, event, state),
        lease=None,
        waiter=None,
        responses=(),
        blocked="",
        blocked_detail="",
        error=error,
        output_json=output_json,
        ended=now,
        updated=now,
    )
    return Change(run, (*change.events, run_event(f"run.{state}", reason=error)))


def _end_single(change: Change, event: RunEvent, now: float) -> Change:
    call = change.run.calls[-1]
    good = call.state in (C.SUCCEEDED, C.ANSWERED)
    output = (call.result.data or "") if call.result else freeze(call.told).decode() if good else ""
    error = "" if good else call.told or str(call.state)
    return end(change, event, R.COMPLETED if good else R.FAILED, now, error=error, output_json=output)


def doubts(change: Change) -> Change:
    """No new attempt will be made: what may have happened becomes a doubt that people see."""
    run, events = change.run, change.events
    for call in run.having(C.RETRY, C.RECONCILING):
        call = evolve(call, state=next_call(call.state, CallEvent.CANCEL, C.UNKNOWN), doubt=True)
        run, events = run.with_call(call), (*events, call_event(call, reason="run_ends"))
    return Change(run, events)


def _withdraw(change: Change, event: CallEvent, now: float) -> Change:
    """Every call that has not begun is withdrawn; people who were asked are told."""
    run, events = change.run, change.events
    to = C.CANCELLED if event is CallEvent.CANCEL else C.SUPERSEDED
    for call in run.having(C.PENDING, C.APPROVED, C.ALLOWED):
        told = run.cancel_reason or f"the call was {to} before it ran"
        call = evolve(call, state=next_call(call.state, event, to), told=told)
        run = run.with_call(call)
        run = evolve(run, outbox=(*run.outbox, *notices(run, call, "decided", now)))
        events = (*events, call_event(call))
    return Change(run, events)


def _close(change: Change, now: float) -> Change:
    change = doubts(change)
    run = change.run
    if run.having(C.UNKNOWN):
        known = run.state is R.BLOCKED and run.blocked == UNKNOWN
        return change if known else block(change, RunEvent.CANCEL, UNKNOWN, now)
    event = CallEvent.CANCEL if run.cancel == "cancelled" else CallEvent.SUPERSEDE
    change = _withdraw(change, event, now)
    return end(change, RunEvent.CANCEL, R.CANCELLED, now, error=run.cancel_reason or run.cancel)


def withdraw_open(change: Change, now: float) -> Change:
    """What had not begun when the loop ended never will: CANCELLED."""
    return _withdraw(change, CallEvent.CANCEL, now)


def request_cancel(run: Run, now: float, *, by: str, reason: str, superseded: bool = False) -> Change:
    """Ask for the end of a run. It ends at once unless a tool is executing; then as soon as that is over."""
    if run.state.ended or run.cancel:
        return Change(run)
    if superseded and run.state is R.ACTIVE:
        raise IllegalTransition(f"run {run.id} is being driven; a new message must wait for it")
    kind = "superseded" if superseded else "cancelled"
    run = evolve(run, cancel=kind, cancel_reason=reason, updated=now)
    return settle(Change(run, (run_event("run.cancel_requested", by=by, kind=kind, reason=reason),)), now)


def kept(run: Run, retention: Mapping[str, float]) -> Run:
    """The run with the time until which it is kept: for so many seconds by its outcome, for ever where none are said.

    Only what has ended ever goes, and nothing of which a call may still happen, or may have happened.
    """
    span, until = retention.get(run.state.value), None
    if run.state.ended and run.ended is not None and span is not None:
        until = None if any(call.state.open for call in run.calls) else run.ended + span
    return run if until == run.keep_until else evolve(run, keep_until=until)


def expired(run: Run, now: float) -> bool:
    """True when an ended run has been kept for long enough, and nobody is still to be told of it."""
    return run.state.ended and run.keep_until is not None and run.keep_until <= now and not run.outbox


def due(run: Run) -> float | None:
    """When a worker must look at this run, None when never. Notices wait while the run is driven."""
    if run.state.ended and not run.outbox:
        return run.keep_until
    times = [] if run.state is R.ACTIVE else [free_at(notice) for notice in heads(run)]
    if not run.state.ended:
        for call in run.having(C.PENDING):
            times += [at for at in (call.expires, call.stage_expires) if at is not None]
            times += call.reminders[:1] if not run.cancel else ()
    if run.state is R.ACTIVE and run.lease:
        times.append(run.lease.until)
    if run.state in (R.QUEUED, R.READY):
        times.append(max(run.not_before, run.waiter.until if run.waiter else 0.0))
    if run.state is R.BLOCKED and run.blocked == HALT:
        times.append(run.not_before)
    return min(times) if times else None


def pending_flag(run: Run) -> str:
    """``yes`` while people are asked: the index field behind the inbox."""
    return "yes" if not run.state.ended and run.having(C.PENDING) else "no"
