"""Asking people and counting what they say: pure functions of (run, what happened, now).

Each returns a `Change`; a decision that does not count raises a `DecisionRefused` and nothing changes. After every
change `settling.settle` moves the run where its calls now allow.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import get_args

from governor_agents.core import people
from governor_agents.core.binding import bind
from governor_agents.core.calls import Operand, Tool, ToolCall, freeze_text
from governor_agents.core.hours import after
from governor_agents.core.identity import Voter
from governor_agents.core.lifecycle import CallEvent, next_call
from governor_agents.core.records import (
    Call,
    CallState,
    Change,
    Decision,
    DecisionKind,
    Event,
    Run,
    Vote,
    approval_id,
    evolve,
)
from governor_agents.core.settling import settle
from governor_agents.core.telling import call_event, notices
from governor_agents.core.terms import reminders, stage_end
from governor_agents.core.verdicts import Outcome, Verdict
from governor_agents.errors import (
    AlreadyDecided,
    ArgumentsError,
    DeadlinePassed,
    DecisionRefused,
    EditRefused,
    NotFound,
    ReasonRequired,
    StaleDecision,
)

_OUTCOMES: dict[Outcome, tuple[CallEvent, CallState]] = {
    "allow": (CallEvent.ALLOW, CallState.ALLOWED),
    "deny": (CallEvent.DENY, CallState.DENIED),
    "require_approval": (CallEvent.ASK, CallState.PENDING),
}


def make_call(run: Run, call: ToolCall, tool: Tool, verdict: Verdict, *, now: float, nonce: str) -> Call:
    """The journal entry of a fresh tool call under a verdict. Its number is the run's next one."""
    event, state = _OUTCOMES[verdict.outcome]
    asked = state is CallState.PENDING
    made = Call(
        n=run.count + 1,
        call_id=call.call_id,
        generation=run.generation,
        tool=call.tool,
        args=call.args,
        state=next_call(None, event, state),
        created=now,
        agent="" if call.agent == run.agent else call.agent,
        schema_sha256=call.schema_sha256,
        operands=call.operands,
        retry=tool.retry,
        risk=tool.risk,
        idempotency_ttl=tool.idempotency_ttl,
        in_flight=tool.in_flight,
        policy=verdict.policy,
        version=verdict.version,
        code=verdict.code,
        why=verdict.reason,
        nonce=nonce,
        run_within=verdict.run_within,
        on_expire=verdict.on_expire,
        told=verdict.reason or f"denied by policy ({verdict.code})" if state is CallState.DENIED else "",
        **(_asking(run, verdict, now) if asked else {}),  # type: ignore[arg-type]
    )
    return bind(run, made)


def _asking(run: Run, verdict: Verdict, now: float) -> dict[str, object]:
    """The terms of a demand, with all its times fixed now."""
    quiet = verdict.quiet_hours
    expires = after(now, verdict.deadline, quiet)
    return {
        "stages": verdict.stages,
        "stage": 0,
        "stage_expires": stage_end(verdict.stages, 0, now, quiet),
        "expires": expires,
        "deadline": verdict.deadline,
        "reason_required": verdict.reason_required,
        "excluded": people.excluded(run, verdict),
        "channels": verdict.channels,
        "headline": verdict.headline,
        "delegates": verdict.delegates,
        "reminders": reminders(verdict.reminders, quiet, now, expires),
        "remind_after": verdict.reminders,
        "quiet_hours": quiet,
    }


def decide(
    run: Run,
    n: int,
    decision: Decision,
    *,
    by: Voter,
    now: float,
    digest: str,
    channel: str = "",
    verdict: Verdict | None = None,
    nonce: str = "",
    operands: tuple[Operand, ...] = (),
    requester: Collection[str] = (),
) -> Change:
    """Count one person's decision on call ``n``.

    ``digest`` is what the person saw; ``requester`` is every name of whoever asked for the call, as known now. For an
    edit, ``verdict`` is what the policies say of the new arguments, ``nonce`` is fresh and ``operands`` are the files
    that they name. The same decision by the same person again changes nothing and is no error.

    Raises `NotFound`, `AlreadyDecided`, `DeadlinePassed`, `StaleDecision`, `NotAnApprover`, `ReasonRequired`,
    `EditRefused`, `ArgumentsError`.
    """
    _check_words(decision)
    late = pass_deadlines(run, now)
    run, call = late.run, _asked_call(late.run, n)
    if call.state is not CallState.PENDING:
        return evolve(after_the_fact(run, call, decision, by), events=late.events)
    _check_cancel(run, call)
    id = approval_id(run.id, n)
    if digest != call.digest:
        raise StaleDecision(f"{id} has changed since it was shown; look at it again")
    given = any(other.by in by.names and other.stage == call.stage for other in call.votes)
    if given and decision.kind == "approve" and not people.stage_met(call):
        return Change(run, late.events, call.expires)
    seat = people.authorise(call, by, requester=requester, veto=decision.kind == "reject")
    if call.reason_required and not decision.reason.strip():
        raise ReasonRequired(f"the policy asks for a reason to {decision.kind} {id}; give --reason")
    vote = _vote(run, call, seat, decision, by, now, channel)
    if decision.kind == "edit":
        change = _edit(run, evolve(call, operands=operands), decision, vote, verdict, nonce, by, requester)
    elif decision.kind == "approve":
        change = _approve(run, call if given else evolve(call, votes=(*call.votes, vote)), vote)
    else:
        change = _close(run, call, decision, vote)
    return evolve(change, events=(*late.events, *change.events), not_after=call.expires)


def open_call(run: Run, n: int, now: float) -> tuple[Change, Call]:
    """What time has made of a run, and a call of it that people are asked for still.

    Raises `NotFound`, `AlreadyDecided`, `DeadlinePassed`.
    """
    late = pass_deadlines(run, now)
    call = _asked_call(late.run, n)
    if call.state is not CallState.PENDING:
        raise over(run, call, "word")
    _check_cancel(late.run, call)
    return late, call


def _asked_call(run: Run, n: int) -> Call:
    call = run.call(n)
    if call is None or not call.stages:
        raise NotFound(f"no approval {approval_id(run.id, n)}")
    return call


def _check_cancel(run: Run, call: Call) -> None:
    if run.cancel:
        raise AlreadyDecided(f"{approval_id(run.id, call.n)} is no longer asked: the run was {run.cancel}")


def _vote(run: Run, call: Call, seat: str, decision: Decision, by: Voter, now: float, channel: str) -> Vote:
    """The word of a voter for a seat of the stage that is asked now."""
    return Vote(
        by.id,
        decision.kind,
        now,
        call.digest,
        call.stage,
        decision.reason,
        channel,
        seat="" if seat == by.id else seat,
        standing=people.standing(call, seat, by) or "",
        own=run.requester in (by.id, *by.names),
    )


def _check_words(decision: Decision) -> None:
    if decision.kind not in get_args(DecisionKind):
        raise ArgumentsError(f"a decision is one of {', '.join(get_args(DecisionKind))}, not {decision.kind!r}")
    try:
        (decision.reason + decision.answer).encode("utf-8")
    except UnicodeEncodeError:
        raise ArgumentsError("the reason or answer holds a lone surrogate; write it as plain text") from None


def _close(run: Run, call: Call, decision: Decision, vote: Vote) -> Change:
    """Reject or respond: the tool never runs."""
    rejected = decision.kind == "reject"
    state, event = (CallState.REJECTED, CallEvent.REJECT) if rejected else (CallState.ANSWERED, CallEvent.RESPOND)
    told = decision.reason if rejected else decision.answer
    closed = evolve(call, votes=(*call.votes, vote), state=next_call(call.state, event, state), told=told)
    return _finish_vote(run, closed, vote)


def after_the_fact(run: Run, call: Call, decision: Decision, by: Voter) -> Change:
    """A decision on a call that is decided: nothing when it repeats what this person decided, else who won.

    Raises `AlreadyDecided`, `DeadlinePassed`.
    """
    gone = (CallState.EXPIRED, CallState.CANCELLED, CallState.SUPERSEDED)
    if call.state not in gone and call.votes and _repeats(call, decision, by):
        return Change(run)
    raise over(run, call, decision.kind)


def over(run: Run, call: Call, what: str) -> DecisionRefused:
    """What somebody is told whose word comes to a call that nobody is asked any more."""
    id = approval_id(run.id, call.n)
    if call.state is CallState.EXPIRED:
        return DeadlinePassed(f"the deadline of {id} has passed; it did not run")
    if call.state in (CallState.CANCELLED, CallState.SUPERSEDED):
        return AlreadyDecided(f"{id} is no longer asked: it was {call.state}")
    if not call.votes:
        return AlreadyDecided(f"{id} is {call.state} and asks nobody")
    last = call.votes[-1]
    verbs = {"approve": "approved", "reject": "rejected", "edit": "edited and approved", "respond": "answered"}
    return AlreadyDecided(
        f"{id} was already {verbs[last.kind]} by {last.by} at {_utc(last.at)}; your {what} does not count"
    )


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _repeats(call: Call, decision: Decision, by: Voter) -> bool:
    """True when this person decided just this, and it still stands."""
    last = call.votes[-1]
    if last.kind in ("reject", "respond"):
        same = decision.kind == "reject" or decision.answer == call.told
        return last.by in by.names and last.kind == decision.kind and same
    if decision.kind == "edit" and decision.args != call.args:
        return False
    return any(vote.by in by.names and vote.kind == decision.kind for vote in call.votes)


def _approve(run: Run, call: Call, vote: Vote, event: CallEvent = CallEvent.APPROVE) -> Change:
    before = call.stage
    while people.stage_met(call):
        if call.stage + 1 == len(call.stages):
            return _finish_vote(run, evolve(call, state=next_call(call.state, event, CallState.APPROVED)), vote)
        call = _next_stage(call, vote.at)
    next_call(call.state, event, CallState.PENDING)
    run = evolve(run.with_call(call), updated=vote.at)
    # People of another stage, or of new bytes, must look; else those who are asked see who has spoken.
    anew = call.stage != before or event is CallEvent.EDIT
    told = notices(run, call, "asked" if anew else "changed", vote.at)
    return Change(evolve(run, outbox=(*run.outbox, *told)), (_vote_event(call, vote, "call.voted"),))


def _next_stage(call: Call, now: float) -> Call:
    """The call once its next stage is asked; whoever looked at it for the last one does not for this."""
    at = call.stage + 1
    ends = stage_end(call.stages, at, now, call.quiet_hours)
    return evolve(call, stage=at, stage_expires=ends, taken_up=None)


def _finish_vote(run: Run, call: Call, vote: Vote) -> Change:
    run = evolve(run.with_call(call), updated=vote.at, outbox=(*run.outbox, *notices(run, call, "decided", vote.at)))
    return settle(Change(run, (_vote_event(call, vote),)), vote.at)


def _vote_event(call: Call, vote: Vote, what: str = "") -> Event:
    """The audit line of somebody's word: on which bytes, for whom, and how long it took.

    ``waited`` are seconds since the call was made, ``after_shown`` since a channel last showed it, where one did.
    """
    detail: dict[str, str | float] = {"waited": round(vote.at - call.created, 3)}
    if call.shown is not None:
        detail["after_shown"] = round(vote.at - call.shown, 3)
    detail |= {"seat": vote.seat, "standing": vote.standing} if vote.seat else {}
    return call_event(
        call,
        what,
        by=vote.by,
        decision=vote.kind,
        digest=call.digest,
        reason=vote.reason,
        channel=vote.channel,
        **detail,
    )


def _edit(
    run: Run,
    call: Call,
    decision: Decision,
    vote: Vote,
    verdict: Verdict | None,
    nonce: str,
    by: Voter,
    requester: Collection[str],
) -> Change:
    """New bytes, new digest, votes void, the editor's vote counts; the stricter of old and new verdict holds."""
    id = approval_id(run.id, call.n)
    _check_edit(id, decision.args)
    if verdict is None or verdict.outcome == "deny":
        why = (
            verdict.reason or f"{verdict.policy or 'the policies'} ({verdict.code})"
            if verdict
            else "none could be asked"
        )
        raise EditRefused(f"the edited arguments of {id} are denied by policy: {why}")
    fresh = evolve(
        call,
        args=decision.args,
        asked_args=call.asked_args if call.asked_args is not None else call.args,
        votes=(),
        nonce=nonce,
        passed_over=(),
    )
    if verdict.outcome == "require_approval":
        fresh = _stricter(run, fresh, verdict, vote.at)
    fresh = bind(run, evolve(fresh, stage=0, stage_expires=stage_end(fresh.stages, 0, vote.at, fresh.quiet_hours)))
    if fresh.reason_required and not decision.reason.strip():
        raise ReasonRequired(f"the policy asks for a reason to edit {id} so; give --reason")
    # An editor from a later stage has edited, but does not approve the first.
    counts = people.seats(fresh, by, fresh.stages[0], requester=requester)
    seat = counts[0] if counts else vote.seat or vote.by
    vote = _vote(run, fresh, seat, decision, by, vote.at, vote.channel)
    change = _approve(run, evolve(fresh, votes=(vote,) if counts else ()), vote, CallEvent.EDIT)
    edited = call_event(fresh, "call.edited", by=vote.by, digest=fresh.digest, was=call.digest)
    return evolve(change, events=(edited, *change.events))


def _check_edit(id: str, args: bytes | None) -> None:
    try:
        good = args is not None and args.startswith(b"{") and freeze_text(args) == args
    except ArgumentsError as error:
        raise EditRefused(f"the edited arguments of {id}: {error}") from None
    if not good:
        raise EditRefused(f"the edited arguments of {id} must be a JSON object in canonical form")


def _stricter(run: Run, call: Call, verdict: Verdict, now: float) -> Call:
    """The call under its old terms and those of a new demand, the stricter of each."""
    stages = (*call.stages, *(stage for stage in verdict.stages if stage not in call.stages))
    expires = after(now, verdict.deadline, verdict.quiet_hours)
    expires = expires if call.expires is None else min(call.expires, expires)
    more = reminders(verdict.reminders, verdict.quiet_hours, now, expires)
    delegates = tuple(name for name in call.delegates if name in verdict.delegates)
    return evolve(
        call,
        stages=stages,
        policy=verdict.policy,
        version=verdict.version,
        code=verdict.code,
        why=verdict.reason,
        expires=expires,
        deadline=min(call.deadline, verdict.deadline),
        run_within=min(call.run_within, verdict.run_within),
        reason_required=call.reason_required or verdict.reason_required,
        on_expire="end_run" if "end_run" in (call.on_expire, verdict.on_expire) else "continue",
        excluded=tuple(dict.fromkeys((*call.excluded, *people.excluded(run, verdict)))),
        channels=tuple(dict.fromkeys((*call.channels, *verdict.channels))),
        headline=verdict.headline or call.headline,
        quiet_hours=call.quiet_hours if call.quiet_hours == verdict.quiet_hours else None,
        reminders=tuple(sorted({at for at in (*call.reminders, *more) if at < expires})),
        remind_after=tuple(sorted({*call.remind_after, *verdict.reminders})),
        delegates=delegates,
        handed=people.still_handed(call.handed, delegates),
    )


def _next_may_stand_in(call: Call) -> bool:
    """True when the next stage belongs to the same demand as the one whose time is over."""
    here, after = call.stage, call.stage + 1
    return after < len(call.stages) and call.stages[after].source == call.stages[here].source


def pass_deadlines(run: Run, now: float) -> Change:
    """Ask the next stage, or expire, for every PENDING call whose time is over."""
    events: list[Event] = []
    for call in run.having(CallState.PENDING):
        while call.state is CallState.PENDING:
            over = call.expires is not None and now >= call.expires
            staged = call.stage_expires is not None and now >= call.stage_expires
            if not over and not staged:
                break
            if not over and _next_may_stand_in(call):
                next_call(call.state, CallEvent.DEADLINE, CallState.PENDING)
                passed = (*call.passed_over, call.stages[call.stage])
                call = evolve(_next_stage(call, now), passed_over=passed)
                run = evolve(run.with_call(call), outbox=(*run.outbox, *notices(run, call, "asked", now)))
                events.append(call_event(call, "call.escalated", stage=call.stage))
            else:
                to = next_call(call.state, CallEvent.DEADLINE, CallState.EXPIRED)
                call = evolve(call, state=to, told="nobody decided in time")
                run = evolve(run.with_call(call), outbox=(*run.outbox, *notices(run, call, "decided", now)))
                events.append(call_event(call))
    return settle(Change(run, tuple(events)), now) if events else Change(run)
