"""Asking people and counting what they say: pure functions of (run, what happened, now).

Each returns a `Change`; a decision that does not count raises a `DecisionRefused` and nothing changes. After every
change `settling.settle` moves the run where its calls now allow.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

from governor_agents.core import people
from governor_agents.core.binding import bind
from governor_agents.core.calls import Operand, Tool, ToolCall, freeze_text
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
from governor_agents.core.verdicts import Outcome, Stage, Verdict
from governor_agents.errors import (
    AlreadyDecided,
    ArgumentsError,
    DeadlinePassed,
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
    return {
        "stages": verdict.stages,
        "stage": 0,
        "stage_expires": stage_end(verdict.stages, 0, now),
        "expires": now + verdict.deadline,
        "deadline": verdict.deadline,
        "reason_required": verdict.reason_required,
        "excluded": people.excluded(run, verdict),
        "channels": verdict.channels,
    }


def stage_end(stages: tuple[Stage, ...], at: int, now: float) -> float | None:
    """When the stage is passed over, None when it has no time of its own."""
    within = stages[at].within if at < len(stages) else None
    return None if within is None else now + within


def decide(
    run: Run,
    n: int,
    decision: Decision,
    *,
    by: str,
    now: float,
    digest: str,
    channel: str = "",
    verdict: Verdict | None = None,
    nonce: str = "",
    operands: tuple[Operand, ...] = (),
) -> Change:
    """Count one person's decision on call ``n``.

    ``digest`` is what the person saw. For an edit, ``verdict`` is what the policies say of the new arguments, ``nonce``
    is fresh and ``operands`` are the files that they name. The same decision by the same person again changes nothing
    and is no error.

    Raises `NotFound`, `AlreadyDecided`, `DeadlinePassed`, `StaleDecision`, `NotAnApprover`, `ReasonRequired`,
    `EditRefused`, `ArgumentsError`.
    """
    _check_words(decision)
    late = pass_deadlines(run, now)
    run = late.run
    call = run.call(n)
    if call is None or not call.stages:
        raise NotFound(f"no approval {approval_id(run.id, n)}")
    if call.state is not CallState.PENDING:
        return evolve(after_the_fact(run, call, decision, by), events=late.events)
    id = approval_id(run.id, n)
    if run.cancel:
        raise AlreadyDecided(f"{id} is no longer asked: the run was {run.cancel}")
    if digest != call.digest:
        raise StaleDecision(f"{id} has changed since it was shown; look at it again")
    people.authorise(call, by)
    if call.reason_required and not decision.reason.strip():
        raise ReasonRequired(f"the policy asks for a reason to {decision.kind} {id}; give --reason")
    vote = Vote(by, decision.kind, now, call.digest, call.stage, decision.reason, channel)
    if decision.kind == "edit":
        change = _edit(run, evolve(call, operands=operands), decision, vote, verdict, nonce)
    elif decision.kind == "approve":
        again = any(other.by == by and other.stage == call.stage for other in call.votes)
        if again and not people.stage_met(call):
            return Change(run, late.events, call.expires)
        change = _approve(run, call if again else evolve(call, votes=(*call.votes, vote)), vote)
    else:
        change = _close(run, call, decision, vote)
    return evolve(change, events=(*late.events, *change.events), not_after=call.expires)


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


def after_the_fact(run: Run, call: Call, decision: Decision, by: str) -> Change:
    """A decision on a call that is decided: nothing when it repeats what this person decided, else who won.

    Raises `AlreadyDecided`, `DeadlinePassed`.
    """
    id = approval_id(run.id, call.n)
    if call.state is CallState.EXPIRED:
        raise DeadlinePassed(f"the deadline of {id} has passed; it did not run")
    if call.state in (CallState.CANCELLED, CallState.SUPERSEDED):
        raise AlreadyDecided(f"{id} is no longer asked: it was {call.state}")
    if not call.votes:
        raise AlreadyDecided(f"{id} is {call.state} and asks nobody")
    last = call.votes[-1]
    if _repeats(call, decision, by):
        return Change(run)
    verbs = {"approve": "approved", "reject": "rejected", "edit": "edited and approved", "respond": "answered"}
    told = f"{id} was already {verbs[last.kind]} by {last.by} at {_utc(last.at)}; your {decision.kind} does not count"
    raise AlreadyDecided(told)


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _repeats(call: Call, decision: Decision, by: str) -> bool:
    """True when this person decided just this, and it still stands."""
    last = call.votes[-1]
    if last.kind in ("reject", "respond"):
        same = decision.kind == "reject" or decision.answer == call.told
        return last.by == by and last.kind == decision.kind and same
    if decision.kind == "edit" and decision.args != call.args:
        return False
    return any(vote.by == by and vote.kind == decision.kind for vote in call.votes)


def _approve(run: Run, call: Call, vote: Vote, event: CallEvent = CallEvent.APPROVE) -> Change:
    before = call.stage
    while people.stage_met(call):
        if call.stage + 1 == len(call.stages):
            return _finish_vote(run, evolve(call, state=next_call(call.state, event, CallState.APPROVED)), vote)
        at = call.stage + 1
        call = evolve(call, stage=at, stage_expires=stage_end(call.stages, at, vote.at))
    next_call(call.state, event, CallState.PENDING)
    run = evolve(run.with_call(call), updated=vote.at)
    if call.stage != before:  # the people of the next stage must hear that it is their turn
        run = evolve(run, outbox=(*run.outbox, *notices(run, call, "asked", vote.at)))
    return Change(run, (call_event(call, "call.voted", by=vote.by, decision=vote.kind, reason=vote.reason),))


def _finish_vote(run: Run, call: Call, vote: Vote) -> Change:
    run = evolve(run.with_call(call), updated=vote.at, outbox=(*run.outbox, *notices(run, call, "decided", vote.at)))
    event = call_event(
        call, by=vote.by, decision=vote.kind, digest=call.digest, reason=vote.reason, channel=vote.channel
    )
    return settle(Change(run, (event,)), vote.at)


def _edit(run: Run, call: Call, decision: Decision, vote: Vote, verdict: Verdict | None, nonce: str) -> Change:
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
    fresh = bind(run, evolve(fresh, stage=0, stage_expires=stage_end(fresh.stages, 0, vote.at)))
    if fresh.reason_required and not decision.reason.strip():
        raise ReasonRequired(f"the policy asks for a reason to edit {id} so; give --reason")
    vote = evolve(vote, digest=fresh.digest, stage=0)
    # An editor from a later stage has edited, but does not approve the first.
    counts = vote.by in fresh.stages[0].people and vote.by not in fresh.excluded
    change = _approve(run, evolve(fresh, votes=(vote,) if counts else ()), vote, CallEvent.EDIT)
    still = change.run.call(call.n)
    if still is not None and still.state is CallState.PENDING:  # the others must look at the new bytes
        outbox = (*change.run.outbox, *notices(change.run, still, "asked", vote.at))
        change = evolve(change, run=evolve(change.run, outbox=outbox))
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
    expires = now + verdict.deadline
    return evolve(
        call,
        stages=stages,
        policy=verdict.policy,
        version=verdict.version,
        code=verdict.code,
        why=verdict.reason,
        expires=expires if call.expires is None else min(call.expires, expires),
        deadline=min(call.deadline, verdict.deadline),
        run_within=min(call.run_within, verdict.run_within),
        reason_required=call.reason_required or verdict.reason_required,
        on_expire="end_run" if "end_run" in (call.on_expire, verdict.on_expire) else "continue",
        excluded=tuple(dict.fromkeys((*call.excluded, *people.excluded(run, verdict)))),
        channels=tuple(dict.fromkeys((*call.channels, *verdict.channels))),
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
                at = call.stage + 1
                passed = (*call.passed_over, call.stages[call.stage])
                call = evolve(call, stage=at, stage_expires=stage_end(call.stages, at, now), passed_over=passed)
                run = evolve(run.with_call(call), outbox=(*run.outbox, *notices(run, call, "asked", now)))
                events.append(call_event(call, "call.escalated", stage=at))
            else:
                to = next_call(call.state, CallEvent.DEADLINE, CallState.EXPIRED)
                call = evolve(call, state=to, told="nobody decided in time")
                run = evolve(run.with_call(call), outbox=(*run.outbox, *notices(run, call, "decided", now)))
                events.append(call_event(call))
    return settle(Change(run, tuple(events)), now) if events else Change(run)
