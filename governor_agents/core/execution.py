"""Around the tool: intent, result, and every way in which the two can come apart. Pure functions."""

from __future__ import annotations

from governor_agents.core import people
from governor_agents.core.binding import bind, holds
from governor_agents.core.calls import Operand, sha256
from governor_agents.core.hours import after
from governor_agents.core.lifecycle import CallEvent, RunEvent, next_call
from governor_agents.core.records import Attempt, Call, Change, Event, Response, Result, Run, Vote, approval_id, evolve
from governor_agents.core.records import CallState as C
from governor_agents.core.records import RunState as R
from governor_agents.core.settling import UNKNOWN, block, end_expired, ends_on_expiry, settle
from governor_agents.core.telling import call_event, notices, run_event
from governor_agents.core.terms import reminders, stage_end
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import Fenced, NotFound

FENCED = "call.fenced"
"""The audit line of a result that came from a claim which is over."""

TAMPERED = "the record of this call is not what was approved: it was changed, or belongs elsewhere"
DRIFT = "the tool's parameters changed since this call was decided"
FILES = "a file that its arguments name changed since this call was decided"


def find(run: Run, n: int) -> Call:
    """The call with this number. Raises `NotFound`."""
    call = run.call(n)
    if call is None:
        raise NotFound(f"no call {approval_id(run.id, n)}")
    return call


def hold(run: Run, *, owner: str, fence: int) -> None:
    """Raise `Fenced` unless this claim still drives the run."""
    if run.state is not R.ACTIVE or run.fence != fence or run.lease is None or run.lease.owner != owner:
        raise Fenced(f"run {run.id} is {run.state} under fence {run.fence}; the claim with fence {fence} is over")


def keep(run: Run, now: float, *, owner: str, fence: int, responses: tuple[Response, ...]) -> Change:
    """What models answered, made durable before a tool that they call may start. One is not kept twice.

    Raises `Fenced`.
    """
    known = {(response.chain, response.ordinal) for response in run.responses}
    fresh = tuple(response for response in responses if (response.chain, response.ordinal) not in known)
    if not fresh:
        return Change(run)
    hold(run, owner=owner, fence=fence)
    run = evolve(run, responses=(*run.responses, *fresh), updated=now)
    return Change(run, (run_event("run.answered", responses=len(run.responses)),))


def intent(
    run: Run,
    n: int,
    now: float,
    *,
    owner: str,
    fence: int,
    verdict: Verdict,
    schema_sha256: str,
    idem_key: str,
    operands: tuple[Operand, ...] = (),
) -> Change:
    """Use up the authority to run call ``n``: EXECUTING, durable before the tool starts.

    ``verdict`` is what the current policies say of it, ``operands`` are the files it names as they are now. When the
    record is not what its digest says (`binding.holds`), the tool's schema or a file changed, the policies deny the
    call or demand more people than have approved, the change is that instead: only a call that comes out EXECUTING
    may be run. Raises `Fenced` when the claim is over or the run is being cancelled.
    """
    hold(run, owner=owner, fence=fence)
    if run.lease is None or run.cancel or run.lease.until <= now:
        raise Fenced(f"run {run.id} may start nothing: {run.cancel or 'its lease is over'}")
    call = find(run, n)
    begun = next_call(call.state, CallEvent.INTENT, C.EXECUTING)
    refused = _changed(run, call, now, schema_sha256, operands) or _refused(run, call, now, verdict)
    if refused is not None:
        return refused
    call = evolve(
        call,
        state=begun,
        idem_key=call.idem_key or idem_key,
        attempts=(*call.attempts, Attempt(fence, owner, now)),
    )
    bytes_run = sha256(call.args)
    event = call_event(call, digest=call.digest, args_sha256=bytes_run, attempt=len(call.attempts), fence=fence)
    return Change(evolve(run.with_call(call), updated=now), (event,), not_after=run.lease.until)


def may_begin(
    run: Run, call: Call, now: float, *, verdict: Verdict, schema_sha256: str, operands: tuple[Operand, ...]
) -> bool:
    """True when a decided call passes everything that its intent would ask; for tools that begin without one."""
    if run.cancel or call.state not in (C.ALLOWED, C.APPROVED):
        return False
    changed = _changed(run, call, now, schema_sha256, operands)
    return changed is None and _refused(run, call, now, verdict) is None


def _changed(run: Run, call: Call, now: float, schema_sha256: str, operands: tuple[Operand, ...]) -> Change | None:
    """What was approved is no longer what would run."""
    if not holds(run, call):
        told, code = TAMPERED, "record_changed"
    elif call.schema_sha256 != schema_sha256:
        told, code = DRIFT, "schema_changed"
    elif call.operands != operands:
        told, code = FILES, "operands_changed"
    else:
        return None
    if call.state is C.RETRY:  # it may have happened: that cannot be withdrawn
        return _in_doubt(run, call, now, CallEvent.SUPERSEDE, code)
    return _withdrawn(run, call, now, CallEvent.SUPERSEDE, told, code)


def _refused(run: Run, call: Call, now: float, verdict: Verdict) -> Change | None:
    if call.state in (C.APPROVED, C.RETRY) and _too_late(run, call, now):
        moved, event = _overdue(call)
        return settle(Change(evolve(run.with_call(moved), updated=now), (event,)), now)
    if call.state is C.RETRY:
        first = call.attempts[0].at if call.attempts else now
        if now - first > call.idempotency_ttl:
            return _in_doubt(run, call, now, CallEvent.OVERDUE, "idempotency_ttl_over")
    if verdict.outcome == "deny" or (verdict.outcome == "require_approval" and not verdict.stages):
        if call.state is C.RETRY:
            return _in_doubt(run, call, now, CallEvent.POLICY_DENIES, "policy_denies")
        told = verdict.reason or "a policy denies this call now"
        return _withdrawn(run, call, now, CallEvent.POLICY_DENIES, told, "policy_denies")
    if verdict.outcome == "require_approval" and not _approved_enough(run, call, verdict):
        if call.state is C.RETRY:
            return _in_doubt(run, call, now, CallEvent.POLICY_DEMANDS, "policy_demands_more")
        return _ask_again(run, call, now, verdict)
    return None


def _approved_enough(run: Run, call: Call, verdict: Verdict) -> bool:
    """True when the votes given meet what is demanded now; stages that time passed over are not demanded again."""
    stages = list(verdict.stages)
    for passed in call.passed_over:
        if passed in stages:
            stages.remove(passed)
    votes = people.still_counting(call, verdict)
    return people.votes_meet(votes, tuple(stages), (*call.excluded, *people.excluded(run, verdict)))


def _too_late(run: Run, call: Call, now: float) -> bool:
    return run.ready_since is not None and now - run.ready_since > call.run_within


def _overdue(call: Call) -> tuple[Call, Event]:
    """A decided call that was not run in time."""
    to = C.EXPIRED if call.state is C.APPROVED else C.UNKNOWN
    told = "it was approved but not run in time" if to is C.EXPIRED else ""
    code = "run_within" if to is C.EXPIRED else call.code
    call = evolve(call, state=next_call(call.state, CallEvent.OVERDUE, to), told=told, code=code)
    return call, call_event(call, reason="run_within")


def _in_doubt(run: Run, call: Call, now: float, event: CallEvent, why: str) -> Change:
    call = evolve(call, state=next_call(call.state, event, C.UNKNOWN), doubt=True)
    return Change(evolve(run.with_call(call), updated=now), (call_event(call, reason=why),))


def _withdrawn(run: Run, call: Call, now: float, event: CallEvent, told: str, code: str) -> Change:
    to = C.SUPERSEDED if event is CallEvent.SUPERSEDE else C.CANCELLED
    call = evolve(call, state=next_call(call.state, event, to), told=told, code=code)
    run = evolve(run.with_call(call), outbox=(*run.outbox, *notices(run, call, "decided", now)), updated=now)
    return settle(Change(run, (call_event(call, code=code, reason=told),)), now)


def _ask_again(run: Run, call: Call, now: float, verdict: Verdict) -> Change:
    """Same bytes, more people: votes already given count in the stage where their voter stands."""
    stages, quiet = verdict.stages, verdict.quiet_hours
    excluded = tuple(dict.fromkeys((*call.excluded, *people.excluded(run, verdict))))
    expires = after(now, verdict.deadline, quiet)
    delegates = tuple(name for name in call.delegates if name in verdict.delegates)
    call = evolve(
        call,
        state=next_call(call.state, CallEvent.POLICY_DEMANDS, C.PENDING),
        policy=verdict.policy,
        version=verdict.version,
        code=verdict.code,
        why=verdict.reason,
        headline=verdict.headline or call.headline,
        stages=stages,
        stage=0,
        stage_expires=stage_end(stages, 0, now, quiet),
        passed_over=(),
        expires=expires,
        deadline=verdict.deadline,
        reminders=reminders(verdict.reminders, verdict.quiet_hours, now, expires),
        remind_after=verdict.reminders,
        quiet_hours=quiet,
        run_within=min(call.run_within, verdict.run_within),
        on_expire="end_run" if "end_run" in (call.on_expire, verdict.on_expire) else "continue",
        reason_required=call.reason_required or verdict.reason_required,
        channels=call.channels or verdict.channels,
        excluded=excluded,
        delegates=delegates,
        handed=people.still_handed(call.handed, delegates),
        taken_up=None,
        votes=_carried(call, verdict, excluded),
    )
    while call.stage + 1 < len(stages) and people.stage_met(call):
        call = evolve(call, stage=call.stage + 1)
    call = bind(run, call)
    carried = (evolve(vote, digest=call.digest, seen=vote.seen or vote.digest) for vote in call.votes)
    call = evolve(call, votes=tuple(carried))
    run = evolve(run.with_call(call), outbox=(*run.outbox, *notices(run, call, "asked", now)), updated=now)
    return Change(run, (call_event(call, "call.asked_again", policy=call.policy, version=call.version),))


def _carried(call: Call, verdict: Verdict, excluded: tuple[str, ...]) -> tuple[Vote, ...]:
    """Votes already given, each in the stage that it counts for now, or else in the first that names its voter."""
    votes = people.still_counting(call, verdict)
    counts = people.counted_for(votes, verdict.stages, excluded)

    def named(vote: Vote) -> int:
        mine = {vote.by, vote.seat}
        return next((at for at, stage in enumerate(verdict.stages) if mine & set(stage.people)), 0)

    return tuple(evolve(vote, stage=counts.get(vote.by, named(vote))) for vote in votes)


def _mine(call: Call, owner: str, fence: int, attempt: int) -> bool:
    """True when this claim made this attempt, and it is the call's latest."""
    if len(call.attempts) != attempt:
        return False
    last = call.attempts[-1]
    return (last.owner, last.fence) == (owner, fence)


def record(
    run: Run, n: int, now: float, *, owner: str, fence: int, attempt: int, result: Result, told: str = ""
) -> Change:
    """Record what the tool gave back (or raised: ``result.ok`` False), before the loop goes on.

    Counts for that attempt of this claim only: else the change is an audit line ``call.fenced`` and nothing more, but
    that a result withdraws the call which was asked in the place of one that "did not happen". A result that comes
    late, when the call already stands in doubt, settles the doubt; an exception that comes late proves nothing and
    the doubt stands. In either case the attempt came back only now, whatever was said of its worker before: what may
    be under way is counted from here.
    """
    call = run.call(n)
    if call is None and 0 < n <= run.count:  # its generation is closed
        dropped = Event(FENCED, n, "", "", (("fence", fence), ("now", run.fence), ("ok", result.ok)))
        return Change(evolve(run, updated=now), (dropped,))
    call = find(run, n)
    if not _mine(call, owner, fence, attempt) or call.state not in (C.EXECUTING, C.UNKNOWN):
        dropped = call_event(call, FENCED, fence=fence, now=run.fence, ok=result.ok)
        back = _came_back(call, owner, fence, attempt, now) if call.state.open else call
        change = Change(evolve(run.with_call(back), updated=now), (dropped,))
        mistaken = result.ok and _mine(call, owner, fence, attempt) and call.replaced_by is not None
        return _withdraw_replacement(change, call, now) if mistaken else change
    late = call.state is C.UNKNOWN
    event = CallEvent.RESULT if result.ok else CallEvent.EXCEPTION
    unclear = late or call.doubt
    to = C.SUCCEEDED if result.ok else C.UNKNOWN if unclear else C.FAILED
    moved = evolve(call, state=next_call(call.state, event, to), told=told if to is not C.UNKNOWN else call.told)
    if to is not C.UNKNOWN:
        moved = evolve(moved, result=result)
    else:
        moved = _came_back(evolve(moved, lapsed=call.lapsed if late else now), owner, fence, attempt, now)
    line = call_event(moved, "call.late_exception" if late and not result.ok else "", fence=fence, late=late)
    run = evolve(run.with_call(moved), attempts=0 if not late else run.attempts, updated=now)
    return settle(Change(run, (line,)), now)


def _came_back(call: Call, owner: str, fence: int, attempt: int, now: float) -> Call:
    """The call once the tool of an attempt of this claim has come back: nothing of it runs any more."""
    made = call.attempts[attempt - 1] if 0 < attempt <= len(call.attempts) else None
    if made is None or (made.owner, made.fence) != (owner, fence):
        return call
    ended = evolve(made, died=now)
    return evolve(call, attempts=(*call.attempts[: attempt - 1], ended, *call.attempts[attempt:]))


def _withdraw_replacement(change: Change, call: Call, now: float) -> Change:
    """What was said not to have happened has: the call that was asked in its place must not run as well."""
    run, at = change.run, call
    while at.replaced_by is not None:
        after = run.call(at.replaced_by)
        if after is None:
            return change
        at = after
    if at.state not in (C.PENDING, C.APPROVED):
        return change
    told = "the attempt that it was to replace took effect after all"
    done = _withdrawn(run, at, now, CallEvent.CANCEL, told, "took_effect")
    return evolve(done, events=(*change.events, *done.events))


def lapse_call(call: Call, now: float) -> tuple[Call, Event]:
    """An executing call whose driver is gone, or that was cancelled from outside: by its retry class."""
    to = {"none": C.UNKNOWN, "idempotent": C.RETRY, "reconcilable": C.RECONCILING}[call.retry]
    call = evolve(call, state=next_call(call.state, CallEvent.LAPSE, to), doubt=True, lapsed=now)
    return call, call_event(call, reason="no result")


def lapse(run: Run, n: int, now: float, *, owner: str, fence: int, attempt: int, over: bool = False) -> Change:
    """The tool left no result, and nobody knows how far it came: cut off from outside (a time-out, a shutdown).

    ``over``: it came back by itself and cannot tell, so nothing of this attempt runs any more.
    """
    call = find(run, n)
    if call.state is not C.EXECUTING or not _mine(call, owner, fence, attempt):
        return Change(run)
    if over:
        call = _came_back(call, owner, fence, attempt, now)
    call, event = lapse_call(call, now)
    return settle(Change(evolve(run.with_call(call), updated=now), (event,)), now)


def overdue(run: Run, now: float) -> Change:
    """Approved calls that were not run in time after their run became READY expire; retries become doubts."""
    if run.state not in (R.QUEUED, R.READY):
        return Change(run)
    events: tuple[Event, ...] = ()
    for call in run.having(C.APPROVED, C.RETRY):
        if _too_late(run, call, now):
            moved, event = _overdue(call)
            run, events = run.with_call(moved), (*events, event)
    return _after_overdue(Change(run, events), now) if events else Change(run)


def _after_overdue(change: Change, now: float) -> Change:
    """A READY run whose calls just went overdue: blocked by a doubt, ended, or READY still (the model is told)."""
    run = change.run
    if run.having(C.UNKNOWN):
        return block(change, RunEvent.BLOCK, UNKNOWN, now)
    if ends_on_expiry(run):
        return end_expired(change, RunEvent.DECIDED, now)
    return settle(change, now)
