"""A call in doubt: the death of its workers, its probe, and the three answers of an operator. Pure functions.

A worker whose lease is over may still hold the request in its hand: no store can call it back. So "did not happen"
counts only once every worker that ever set out to run the call is *known dead* and the longest flight of a request is
over, and it never frees the old approval: the call fails, and a new one (number, nonce, idempotency key) asks people
again. The other answers begin nothing and count at once.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from governor_agents.core import people
from governor_agents.core.binding import bind
from governor_agents.core.execution import find, hold
from governor_agents.core.hours import after
from governor_agents.core.lifecycle import CallEvent, next_call
from governor_agents.core.records import (
    Answer,
    Attempt,
    Call,
    Change,
    Event,
    Resolution,
    Result,
    Run,
    approval_id,
    evolve,
)
from governor_agents.core.records import CallState as C
from governor_agents.core.settling import settle
from governor_agents.core.telling import call_event, notices
from governor_agents.core.terms import reminders, stage_end
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import (
    ArgumentsError,
    NotInDoubt,
    ResolutionRefused,
    TooEarly,
    WorkerMayLive,
)

OPEN = (C.RETRY, C.RECONCILING, C.UNKNOWN)
"""Where a call stands after an attempt that left no result."""

ABANDONED = "outcome unknown; do not retry"


# -- deaths -----------------------------------------------------------------------------------------------------------


def suspects(run: Run) -> frozenset[str]:
    """The workers whose death would matter: those of attempts without a result, not yet known to be dead."""
    calls = run.having(C.EXECUTING, *OPEN)
    return frozenset(attempt.owner for call in calls for attempt in call.attempts if attempt.died is None)


def note_deaths(run: Run, now: float, dead: Collection[str], *, by: str = "") -> Change:
    """Write down that these workers are dead. ``by`` is the operator on whose word, empty when it was seen.

    A worker is one incarnation of a process, and what is dead stays dead: the observation may be older than the record.
    Nobody's word stands against a lease that is alive.
    """
    if by:
        dead = set(dead) - {lease.owner for lease in (run.lease, run.waiter) if lease and lease.until > now}
    events: tuple[Event, ...] = ()
    for call in run.having(*OPEN):
        noted = tuple(_noted(attempt, now, dead) for attempt in call.attempts)
        fresh = [new for new, old in zip(noted, call.attempts, strict=True) if new is not old]
        if fresh:
            run = run.with_call(evolve(call, attempts=noted))
            owners = dict.fromkeys(attempt.owner for attempt in fresh)
            events += tuple(call_event(call, "call.worker_dead", by=by, owner=owner) for owner in owners)
    return Change(evolve(run, updated=now), events) if events else Change(run)


def _noted(attempt: Attempt, now: float, dead: Collection[str]) -> Attempt:
    return evolve(attempt, died=now) if attempt.died is None and attempt.owner in dead else attempt


def over_at(call: Call) -> float | None:
    """From when on no request of any attempt can be under way any more; None while a worker may be alive."""
    moments = [attempt.died for attempt in call.attempts]
    if None in moments:
        return None
    return max([call.lapsed or 0.0, *(at for at in moments if at is not None)]) + call.in_flight


# -- the probe --------------------------------------------------------------------------------------------------------


def probed(
    run: Run,
    n: int,
    now: float,
    *,
    owner: str,
    fence: int,
    happened: bool | None,
    result: Result | None = None,
    why: str = "",
) -> Change:
    """What the ``reconcile`` probe of a tool found out, under a claim; ``happened`` is None when it could not tell.

    Only "it happened", with the result, settles the doubt. That it did *not* happen is no leave to run it: the worker
    of the attempt may still be about to. Raises `Fenced` when the claim is over.
    """
    hold(run, owner=owner, fence=fence)
    call = find(run, n)
    known = happened is True and result is not None
    to = next_call(call.state, CallEvent.PROBE, C.SUCCEEDED if known else C.UNKNOWN)
    call = evolve(call, state=to, result=result if known else None)
    found = "unclear" if happened is None else "happened" if happened else "did not happen"
    run = evolve(run.with_call(call), attempts=0 if known else run.attempts, updated=now)
    return settle(Change(run, (call_event(call, probe=found, reason=why, fence=fence),)), now)


# -- the answers ------------------------------------------------------------------------------------------------------


def resolve(
    run: Run,
    n: int,
    now: float,
    *,
    how: Answer,
    by: str,
    evidence: str,
    nonce: str = "",
    verdict: Verdict | None = None,
) -> Change:
    """An operator's answer to a doubt: ``happened``, ``did-not-happen`` or ``abandon``.

    ``did-not-happen`` fails the call and asks people for it anew; ``nonce`` is that of the new call, and ``verdict``
    says whom to ask when the old one had no approvers. In a run that is being cancelled nothing is asked anew.
    Raises `NotFound`, `NotInDoubt`, `WorkerMayLive`, `TooEarly`, `ResolutionRefused`, `ArgumentsError`.
    """
    call = find(run, n)
    _check(run, call, how, evidence)
    if how == "did-not-happen":
        _check_over(run, call, now)
    said = Resolution(how, by, now, evidence)
    if how == "did-not-happen" and not run.cancel:
        return _replace(run, call, now, said, nonce, verdict)
    told = {
        "happened": evidence,
        "abandon": ABANDONED,
        "did-not-happen": f"it did not happen; the run was {run.cancel}",
    }
    moved = evolve(call, state=_answered(call, how), told=told[how], resolved=said)
    return settle(Change(evolve(run.with_call(moved), updated=now), (_resolved_event(moved, said),)), now)


def _answered(call: Call, how: Answer) -> C:
    event, to = {
        "happened": (CallEvent.HAPPENED, C.SUCCEEDED),
        "did-not-happen": (CallEvent.DID_NOT_HAPPEN, C.FAILED),
        "abandon": (CallEvent.ABANDON, C.FAILED),
    }[how]
    return next_call(call.state, event, to)


def _resolved_event(call: Call, said: Resolution) -> Event:
    return call_event(call, "call.resolved", by=said.by, how=said.how, evidence=said.evidence)


def _check(run: Run, call: Call, how: Answer, evidence: str) -> None:
    id = approval_id(run.id, call.n)
    if how not in ("happened", "did-not-happen", "abandon"):
        raise ResolutionRefused(f"unknown answer {how!r}; say happened, did-not-happen or abandon")
    if call.state is not C.UNKNOWN:
        raise not_in_doubt(run, call)
    if not evidence.strip():
        raise ResolutionRefused(f"say what the answer on {id} rests on: evidence is empty")
    try:
        evidence.encode("utf-8")
    except UnicodeEncodeError:
        raise ArgumentsError("the evidence holds a lone surrogate; write it as plain text") from None


def not_in_doubt(run: Run, call: Call) -> NotInDoubt:
    """What an operator is told whose answer comes to a call that has one."""
    said = call.resolved
    since = "" if said is None else f" since {said.by} said {said.how} at {utc(said.at)} ({said.evidence})"
    lease = run.lease
    later = ""
    if call.state is C.EXECUTING and lease is not None:
        later = f"; if its worker died, a worker finds that once the lease is over (at {utc(lease.until)})"
    return NotInDoubt(
        f"{approval_id(run.id, call.n)} is {call.state}{since}; only a call in doubt can be resolved{later}"
    )


def utc(at: float) -> str:
    """A moment for people."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _check_over(run: Run, call: Call, now: float) -> None:
    """Raise unless nothing of any attempt can still take effect."""
    id = approval_id(run.id, call.n)
    at = over_at(call)
    if at is None:
        alive = tuple(dict.fromkeys(attempt.owner for attempt in call.attempts if attempt.died is None))
        raise WorkerMayLive(
            f"{id} may still be run by {', '.join(alive)}: it is not known to be dead, and could act after the answer",
            workers=alive,
        )
    if now < at:
        raise TooEarly(
            f"a request of {id} may be under way until {utc(at)} ({call.in_flight:g} s after the last sign of its "
            f"worker); say it again then",
            until=at,
        )


def _replace(run: Run, call: Call, now: float, said: Resolution, nonce: str, verdict: Verdict | None) -> Change:
    """Fail the call and ask for it anew, by the chain of approvers it had, else by that of the verdict."""
    old = evolve(
        call,
        state=_answered(call, said.how),
        told="it did not happen; it is asked again",
        resolved=said,
        replaced_by=run.count + 1,
    )
    run = run.with_call(old)
    fresh = bind(run, _anew(run, call, now, nonce, verdict))
    run = evolve(run.with_call(fresh), outbox=(*run.outbox, *notices(run, fresh, "asked", now)), updated=now)
    asked = call_event(fresh, "call.asked", digest=fresh.digest, replaces=call.n)
    return settle(Change(run, (_resolved_event(old, said), asked)), now)


def _anew(run: Run, call: Call, now: float, nonce: str, verdict: Verdict | None) -> Call:
    """The same bytes under a new number and nonce, without votes, attempts or key."""
    if not call.stages:
        call = _with_people(run, call, verdict)
    expires = after(now, call.deadline, call.quiet_hours)
    return Call(
        n=run.count + 1,
        call_id=call.call_id,
        generation=run.generation,
        tool=call.tool,
        args=call.args,
        state=next_call(None, CallEvent.ASK, C.PENDING),
        created=now,
        agent=call.agent,
        schema_sha256=call.schema_sha256,
        operands=call.operands,
        retry=call.retry,
        idempotency_ttl=call.idempotency_ttl,
        in_flight=call.in_flight,
        policy=call.policy,
        version=call.version,
        code=call.code,
        why=call.why,
        nonce=nonce,
        stages=call.stages,
        stage_expires=stage_end(call.stages, 0, now, call.quiet_hours),
        expires=expires,
        deadline=call.deadline,
        run_within=call.run_within,
        reason_required=call.reason_required,
        on_expire=call.on_expire,
        excluded=call.excluded,
        channels=call.channels,
        headline=call.headline,
        risk=call.risk,
        delegates=call.delegates,
        reminders=reminders(call.remind_after, call.quiet_hours, now, expires),
        remind_after=call.remind_after,
        quiet_hours=call.quiet_hours,
        asked_args=call.asked_args,
        replaces=call.n,
    )


def _with_people(run: Run, call: Call, verdict: Verdict | None) -> Call:
    """A call that was allowed, with the people whom the policies name now. Raises `ResolutionRefused`."""
    if verdict is None or verdict.outcome != "require_approval" or not verdict.stages:
        raise ResolutionRefused(
            f"nobody could approve {approval_id(run.id, call.n)} anew: it was allowed without people, and no policy "
            "names any now; abandon it, or give the policies an approver"
        )
    return evolve(
        call,
        stages=verdict.stages,
        policy=verdict.policy,
        version=verdict.version,
        code=verdict.code,
        why=verdict.reason,
        deadline=verdict.deadline,
        run_within=verdict.run_within,
        reason_required=verdict.reason_required,
        on_expire=verdict.on_expire,
        excluded=people.excluded(run, verdict),
        channels=verdict.channels,
        headline=verdict.headline,
        delegates=verdict.delegates,
        remind_after=verdict.reminders,
        quiet_hours=verdict.quiet_hours,
    )
