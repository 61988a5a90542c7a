"""Quarantine: what becomes of a run that comes from an old copy of its store. A pure function.

A restored copy does not know what happened since it was taken: what it holds as approved may have run, what it holds
as asked may have been decided and run, a run that it holds as waiting may be over. So **no run of it takes a step
before a person has spoken on it anew**:

* What has not begun by the copy and has people who decide (PENDING, APPROVED) is asked again. Its nonce is new, and
  with it the digest and the idempotency key: earlier votes are void, and a click on an earlier card is refused. Should
  nobody decide in time, the run ends; it does not go on.
* Of what needs nobody's leave, or has begun (ALLOWED, EXECUTING, RETRY, RECONCILING, UNKNOWN), it is not known whether
  it happened: UNKNOWN, for an operator to say. No probe and no retry is left to decide that. The workers since the copy
  stand in the record as one attempt by nobody who can be seen, so "it did not happen" needs a word that they are dead.
* A run that would go on by itself (QUEUED, READY, ACTIVE) is BLOCKED until an operator repairs or cancels it.

A run that was cancelled still ends; one that stood still for a reason of its own, and asks nobody, stands still; one
that asks finds its reason again once people have decided. ``Run.epoch`` names the quarantine, so that the same one does
nothing to it a second time.
"""

from __future__ import annotations

from governor_agents.core.binding import bind
from governor_agents.core.hours import after
from governor_agents.core.lifecycle import CallEvent, RunEvent, next_call, next_run
from governor_agents.core.records import Attempt, Call, Change, Run, evolve
from governor_agents.core.records import CallState as C
from governor_agents.core.records import RunState as R
from governor_agents.core.settling import HALT, RESTORED, UNKNOWN, block, settle
from governor_agents.core.telling import call_event, notices, run_event
from governor_agents.core.terms import reminders, stage_end

ASKED = (C.PENDING, C.APPROVED)
"""Calls that people are asked for anew."""

BEGUN = (C.ALLOWED, C.EXECUTING, C.RETRY, C.RECONCILING, C.UNKNOWN)
"""Calls that may have happened since, as nobody had to be asked any more."""


def workers_before(epoch: str) -> str:
    """The owner that stands for every worker between the copy and the quarantine: nobody can see whether it is dead."""
    return f"the workers before {epoch}"


def quarantine(run: Run, now: float, *, epoch: str, by: str, stamp: str) -> Change:
    """The run of a restored copy, held until a person speaks on it. ``stamp`` is fresh and unguessable.

    Changes nothing about a run that has ended, or went through this very epoch.
    """
    if run.state.ended or run.epoch == epoch:
        return Change(run)
    told = run_event("run.quarantined", by=by, epoch=epoch, was=str(run.state))
    change = Change(evolve(run, epoch=epoch, attempts=0, not_before=0.0, updated=now), (told,))
    for call in run.calls:
        if call.state in BEGUN:
            change = _in_doubt(change, call, now, epoch)
        elif call.state in ASKED and not run.cancel:
            change = _asked_anew(change, call, now, epoch, stamp)
    return _at_rest(change, now)


def _in_doubt(change: Change, call: Call, now: float, epoch: str) -> Change:
    run = change.run
    lost = Attempt(run.fence, workers_before(epoch), now)
    moved = evolve(
        call,
        state=next_call(call.state, CallEvent.RESTORED, C.UNKNOWN),
        attempts=(*call.attempts, lost),
        doubt=True,
        lapsed=now,
        restored=epoch,
    )
    event = call_event(moved, "call.quarantined", epoch=epoch, was=str(call.state), state=str(moved.state))
    return Change(run.with_call(moved), (*change.events, event))


def _asked_anew(change: Change, call: Call, now: float, epoch: str, stamp: str) -> Change:
    """The same bytes and the same people, from the first stage on, under a digest that nobody has seen yet."""
    run, quiet = change.run, call.quiet_hours
    expires = after(now, call.deadline, quiet)
    asked = evolve(
        call,
        state=next_call(call.state, CallEvent.RESTORED, C.PENDING),
        nonce=f"{stamp}.{call.n}",
        votes=(),
        stage=0,
        stage_expires=stage_end(call.stages, 0, now, quiet),
        passed_over=(),
        expires=expires,
        reminders=reminders(call.remind_after, quiet, now, expires),
        taken_up=None,
        on_expire="end_run",
        restored=epoch,
    )
    asked = bind(run, asked)
    event = call_event(
        asked,
        "call.quarantined",
        epoch=epoch,
        was=str(call.state),
        state=str(asked.state),
        digest=asked.digest,
        earlier=call.digest,
    )
    run = run.with_call(asked)
    run = evolve(run, outbox=(*run.outbox, *notices(run, asked, "asked", now)))
    return Change(run, (*change.events, event))


def _at_rest(change: Change, now: float) -> Change:
    """Where the run waits for a person's word."""
    run = evolve(change.run, lease=None, ready_since=None)
    change = Change(run, change.events)
    if run.cancel:
        return settle(change, now)
    if run.having(C.UNKNOWN):
        return block(change, RunEvent.RESTORED, UNKNOWN, now)
    if run.having(C.PENDING):
        waits = evolve(run, state=next_run(run.state, RunEvent.RESTORED, R.WAITING), blocked="", blocked_detail="")
        return Change(waits, (*change.events, run_event("run.waiting")))
    if run.state is R.DEAD or (run.state is R.BLOCKED and run.blocked not in ("", UNKNOWN, HALT)):
        return change
    return block(change, RunEvent.RESTORED, RESTORED, now, f"quarantine {run.epoch}")
