"""Driving a run: begin, claim, pause, end, and what becomes of it when its driver dies. Pure functions.

A *claim* is (owner, fence): whoever claims gets a higher fence, and every later step of an older claim is refused with
`Fenced`. A run leaves ACTIVE only when none of its calls is executing, except when the lease is over.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from governor_agents.core.attending import remind
from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.decisions import make_call, pass_deadlines
from governor_agents.core.doubts import note_deaths
from governor_agents.core.execution import hold, lapse_call, overdue
from governor_agents.core.lifecycle import RunEvent, next_run
from governor_agents.core.records import Call, Change, Event, Lease, NoticeKind, Run, Snapshot, evolve
from governor_agents.core.records import CallState as C
from governor_agents.core.records import RunState as R
from governor_agents.core.settling import (
    HALT,
    UNKNOWN,
    block,
    doubts,
    end,
    end_expired,
    expired_for_good,
    forward,
    settle,
    unblock,
    withdraw_open,
)
from governor_agents.core.telling import asked_event, notices, run_event
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import Fenced, IllegalTransition


@dataclass(frozen=True, slots=True)
class Ask:
    """A fresh call that a pause brings, and what the policies said of it."""

    call: ToolCall
    tool: Tool
    verdict: Verdict
    nonce: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The blob that holds calls which are over, and their numbers."""

    blob: str
    calls: frozenset[int]


def queue(run: Run, now: float) -> Change:
    """A new run that any worker may start."""
    run = evolve(run, state=next_run(None, RunEvent.QUEUE, R.QUEUED), ready_since=now, updated=now)
    return Change(run, (_opened("run.queued", run),))


def start(run: Run, now: float, *, owner: str, lease: float, event: RunEvent = RunEvent.START) -> Change:
    """A new run that its creator drives at once, under a lease of ``lease`` seconds."""
    state = next_run(None, event, R.ACTIVE)
    run = evolve(run, state=state, fence=1, lease=Lease(owner, now + lease), attempts=1, updated=now)
    return Change(run, (_opened("run.started", run),))


def _opened(what: str, run: Run) -> Event:
    return run_event(what, by=run.requester, agent=run.agent, conversation=run.conversation)


def ask_single(run: Run, ask: Ask, now: float, *, owner: str, lease: float | None) -> Change:
    """A new run of one call that waits for people. ``lease``: its caller waits too, and will run it itself."""
    change = start(evolve(run, single=True), now, owner=owner, lease=1.0, event=RunEvent.CAPTURE)
    waiter = Lease(owner, now + lease) if lease is not None else None
    run = evolve(change.run, waiter=waiter, attempts=0)
    call = make_call(run, ask.call, ask.tool, ask.verdict, now=now, nonce=ask.nonce)
    run = run.with_call(call)
    run = evolve(run, outbox=notices(run, call, "asked", now))
    return rest(Change(run, (*change.events, asked_event(call))), now, snapshot=None)


def keep_waiting(run: Run, now: float, *, owner: str, lease: float) -> Change:
    """The caller of a function still waits for it."""
    if run.state.ended or run.waiter is None or run.waiter.owner != owner:
        return Change(run)
    return Change(evolve(run, waiter=Lease(owner, now + lease)))


def claim(run: Run, now: float, *, owner: str, lease: float) -> Change:
    """Take a QUEUED or READY run to drive it. Raises `Fenced` when it is not to be had.

    When a decision came too late to be run, or too many claims made no progress, the change is that instead: look at
    ``change.run.state``.
    """
    if run.state not in (R.QUEUED, R.READY):
        raise Fenced(f"run {run.id} is {run.state}; there is nothing to claim")
    if run.waiter and run.waiter.until > now and run.waiter.owner != owner:
        raise Fenced(f"run {run.id} is awaited by {run.waiter.owner}")
    late = overdue(run, now)
    if late.events:
        return late
    if run.attempts >= run.max_attempts:
        dead = evolve(run, state=next_run(run.state, RunEvent.WEAR_OUT, R.DEAD), updated=now)
        detail = f"{no_progress(run.attempts)}; last error: {run.error or 'the worker died'}"
        return Change(evolve(dead, blocked_detail=detail), (run_event("run.dead", reason=detail),))
    fence = run.fence + 1
    run = evolve(
        run,
        state=next_run(run.state, RunEvent.CLAIM, R.ACTIVE),
        fence=fence,
        lease=Lease(owner, now + lease),
        attempts=run.attempts + 1,
        updated=now,
    )
    return Change(run, (run_event("run.claimed", by=owner, fence=fence),))


def no_progress(tries: int) -> str:
    """How often a run was claimed in vain, for people."""
    return "1 try made no progress" if tries == 1 else f"{tries} tries made no progress"


def renew(run: Run, now: float, *, owner: str, fence: int, lease: float) -> Change:
    """Move the lease's end. No audit event: nothing about the run changes."""
    hold(run, owner=owner, fence=fence)
    return Change(evolve(run, lease=Lease(owner, now + lease)))


def forgotten(run: Run) -> tuple[Call, ...]:
    """Calls that ran since the snapshot, or the start, though no kept response made them: nothing could replay them.

    What a pause asked for stands in the snapshot.
    """
    made = {call_id for response in run.responses for call_id in response.calls}
    since = (call for call in run.calls if call.generation == run.generation and call.attempts and not call.stages)
    return tuple(call for call in since if call.call_id not in made)


def pause(
    run: Run,
    now: float,
    *,
    owner: str,
    fence: int,
    snapshot: Snapshot,
    asks: tuple[Ask, ...],
    closed: Closed | None = None,
) -> Change:
    """Make the pause durable: snapshot, new calls, notices, in one change. The run is then nobody's.

    Calls that have a record already are not asked again; ``closed`` is where `closing(run)` was put.
    """
    hold(run, owner=owner, fence=fence)
    nothing_executing(run)
    gone = closed.calls if closed else frozenset()
    run = evolve(
        run,
        generation=run.generation + 1,
        snapshot=snapshot,
        responses=(),
        calls=tuple(call for call in run.calls if call.n not in gone),
        closed=(*run.closed, closed.blob) if closed else run.closed,
        ready_since=None,
        attempts=0,
        error="",
    )
    events: tuple[Event, ...] = ()
    for ask in asks:
        if run.by_call_id(ask.call.call_id) is not None:
            continue
        call = make_call(run, ask.call, ask.tool, ask.verdict, now=now, nonce=ask.nonce)
        run = run.with_call(call)
        what: NoticeKind = "asked" if call.state is C.PENDING else "decided"
        run = evolve(run, outbox=(*run.outbox, *notices(run, call, what, now)))
        events = (*events, asked_event(call))
    paused = run_event("run.paused", generation=run.generation, snapshot=snapshot.blob)
    return rest(Change(run, (*events, paused)), now, snapshot=snapshot)


def rest(change: Change, now: float, *, snapshot: Snapshot | None) -> Change:
    """Leave ACTIVE for the state the calls ask for: BLOCKED, WAITING or on."""
    run = evolve(change.run, lease=None, snapshot=snapshot or change.run.snapshot, updated=now)
    change = evolve(change, run=run)
    if run.cancel:
        return settle(change, now)
    if run.having(C.UNKNOWN):
        return block(change, RunEvent.PAUSE, UNKNOWN, now)
    return forward(change, RunEvent.PAUSE, now)


def abandon(run: Run, now: float, *, owner: str, fence: int, delay: float = 0.0) -> Change:
    """Give up a resume because people must be asked again, or a call stands in doubt: the run keeps its snapshot.

    Where neither people nor an operator are asked (a RETRY), the claim made no progress: the run is tried again
    ``delay`` seconds later, and is DEAD after too many of them.
    """
    hold(run, owner=owner, fence=fence)
    nothing_executing(run)
    asked = bool(run.having(C.PENDING, C.UNKNOWN))
    run = evolve(run, attempts=0) if asked else evolve(run, not_before=now + delay)
    return rest(Change(run, (run_event("run.resume_abandoned"),)), now, snapshot=None)


def nothing_executing(run: Run) -> None:
    """Raise `IllegalTransition` while a call is executing: until then the run stays with its driver."""
    busy = run.having(C.EXECUTING)
    if busy:
        raise IllegalTransition(f"run {run.id} cannot leave its driver: {busy[0].tool} is still executing")


def closing(run: Run) -> tuple[Call, ...]:
    """The calls that the next pause closes: those that are over."""
    return tuple(call for call in run.calls if not call.state.open)


def finish(run: Run, now: float, *, owner: str, fence: int, output_json: str = "", error: str = "") -> Change:
    """The loop has ended: COMPLETED, or FAILED with an error. A doubt blocks the run instead."""
    hold(run, owner=owner, fence=fence)
    nothing_executing(run)
    change = Change(run)
    if run.cancel:
        return settle(change, now)
    change = doubts(change)  # the loop is over: nothing will be tried again
    if change.run.having(C.UNKNOWN):
        return block(change, RunEvent.END, UNKNOWN, now, "the loop ended while a call is in doubt")
    if expired_for_good(run):  # whoever is still asked is asked for nothing: the loop is over
        return end_expired(change, RunEvent.END, now)
    change = withdraw_open(change, now)
    return end(change, RunEvent.END, R.FAILED if error else R.COMPLETED, now, output_json=output_json, error=error)


def lease_over(run: Run, now: float, dead: Collection[str] = ()) -> Change:
    """The driver is gone: its executing calls move by their retry class, the run is free again.

    ``dead`` are workers of whom the caller has seen that they are dead: it is noted with their attempts.
    """
    if run.state is not R.ACTIVE or run.lease is None or run.lease.until > now:
        return Change(run)
    return _let_go(run, now, "run.lease_over", by=run.lease.owner, dead=dead)


def release(run: Run, now: float, *, owner: str, fence: int, error: str, delay: float = 0.0) -> Change:
    """The driver gives the run back after a failure, to be tried again ``delay`` seconds later."""
    hold(run, owner=owner, fence=fence)
    run = evolve(run, error=error, not_before=now + delay)
    return _let_go(run, now, "run.released", by=owner, reason=error)


def _let_go(run: Run, now: float, what: str, *, by: str, dead: Collection[str] = (), **detail: str) -> Change:
    events: tuple[Event, ...] = (run_event(what, by=by, fence=run.fence, **detail),)
    for call in run.having(C.EXECUTING):
        moved, event = lapse_call(call, now)
        run, events = run.with_call(moved), (*events, event)
    noted = note_deaths(run, now, dead)
    change = Change(evolve(noted.run, lease=None, updated=now), (*events, *noted.events))
    if run.cancel:
        return settle(change, now)
    if run.having(C.UNKNOWN):
        return block(change, RunEvent.LEASE_OVER, UNKNOWN, now)
    return forward(change, RunEvent.LEASE_OVER, now)


def park(run: Run, now: float, *, owner: str, fence: int, why: str, detail: str) -> Change:
    """The driver found a doubt that it may not settle (a replay that diverges, an agent that is gone): BLOCKED."""
    hold(run, owner=owner, fence=fence)
    nothing_executing(run)
    change = Change(run)
    if run.cancel:
        return settle(change, now)
    if run.having(C.UNKNOWN):  # the doubt comes first; once it is settled, the next claim finds the rest again
        why, detail = UNKNOWN, ""
    return block(change, RunEvent.BLOCK, why, now, detail)


def repair(run: Run, now: float, *, by: str, reason: str) -> Change:
    """An operator says that what blocked the run, or killed its workers, is gone. Doubts about calls remain.

    Raises `IllegalTransition` where it is not for a repair: a call in doubt is answered, a halt is lifted.
    """
    if run.state is R.BLOCKED and run.blocked == HALT:
        lift = f"governor-agents halt {shlex.quote(run.blocked_detail)} --lift"
        raise IllegalTransition(f"run {run.id} is blocked by a halt; {lift}")
    if run.state not in (R.BLOCKED, R.DEAD) or run.having(C.UNKNOWN):
        doubt = "; a call of it is in doubt: governor-agents runs resolve" if run.having(C.UNKNOWN) else ""
        raise IllegalTransition(f"run {run.id} is {run.state}; there is nothing that a repair would free{doubt}")
    return unblock(Change(run, (run_event("run.repaired", by=by, reason=reason),)), now)


def tick(run: Run, now: float, dead: Collection[str] = ()) -> Change:
    """Everything that time alone does to a run: deadlines, reminders, a lease that is over, approvals not run."""
    events: tuple[Event, ...] = ()
    for step in (pass_deadlines, remind, partial(lease_over, dead=dead), overdue):
        change = step(run, now)
        run, events = change.run, (*events, *change.events)
    return Change(run, events)
