"""Asking people and counting what they say: pure functions of (run, what happened, now).

Each returns a `Change`; a decision that does not count raises a `DecisionRefused` and nothing changes. After every
change `settling.settle` moves the run where its calls now allow.
"""

from __future__ import annotations

from governor_agents.core import people
from governor_agents.core.binding import bind
from governor_agents.core.calls import Tool, ToolCall
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
from governor_agents.errors import AlreadyDecided, DeadlinePassed, EditRefused, NotFound, ReasonRequired, StaleDecision

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
        retry=tool.retry,
        idempotency_ttl=tool.idempotency_ttl,
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
        "stage_expires": _stage_end(verdict.stages, 0, now),
        "expires": now + verdict.deadline,
        "reason_required": verdict.reason_required,
        "excluded": excluded(run, verdict),
        "channels": verdict.channels,
    }


def excluded(run: Run, verdict: Verdict) -> tuple[str, ...]:
    """Who may never decide: the agent itself, and the requester unless the policy says otherwise."""
    agent = f"service:{run.agent}"
    return tuple(dict.fromkeys((agent, run.requester))) if verdict.exclude_requester else (agent,)


def _stage_end(stages: tuple[Stage, ...], at: int, now: float) -> float | None:
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
) -> Change:
    """Count one person's decision on call ``n``.

    ``digest`` is what the person saw. For an edit, ``verdict`` is what the policies say of the new arguments and
    ``nonce`` is fresh. The same decision by the same person again changes nothing and is no error.

    Raises `NotFound`, `AlreadyDecided`, `DeadlinePassed`, `StaleDecision`, `NotAnApprover`, `ReasonRequired`,
    `EditRefused`.
    """
    call = run.call(n)
    if call is None or not call.stages:
        raise NotFound(f"no approval {approval_id(run.id, n)}")
    if call.state is not CallState.PENDING:
        return _after_the_fact(run, call, decision.kind, by)
    if run.cancel:
        raise AlreadyDecided(f"{approval_id(run.id, n)} is no longer asked: the run was {run.cancel}")
    if call.expires is not None and now >= call.expires:
        raise DeadlinePassed(f"the deadline of {approval_id(run.id, n)} has passed; it did not run")
    if digest != call.digest:
        raise StaleDecision(f"{approval_id(run.id, n)} has changed since it was shown; look at it again")
    people.authorise(call, by)
    if call.reason_required and not decision.reason.strip():
        raise ReasonRequired(f"the policy asks for a reason to {decision.kind} {approval_id(run.id, n)}; give --reason")
    if decision.kind == "approve" and any(vote.by == by and vote.stage == call.stage for vote in call.votes):
        return Change(run)
    vote = Vote(by, decision.kind, now, call.digest, call.stage, decision.reason, channel)
    if decision.kind == "edit":
        return _edit(run, call, decision, vote, verdict, nonce)
    voted = evolve(call, votes=(*call.votes, vote))
    if decision.kind == "approve":
        return _approve(run, voted, vote)
    state = CallState.REJECTED if decision.kind == "reject" else CallState.ANSWERED
    event = CallEvent.REJECT if decision.kind == "reject" else CallEvent.RESPOND
    told = decision.reason if decision.kind == "reject" else decision.answer
    done = evolve(voted, state=next_call(call.state, event, state), told=told)
    return _finish_vote(run, done, vote)


def _after_the_fact(run: Run, call: Call, kind: DecisionKind, by: str) -> Change:
    id = approval_id(run.id, call.n)
    last = call.votes[-1] if call.votes else None
    if call.state is CallState.EXPIRED:
        raise DeadlinePassed(f"the deadline of {id} has passed; it did not run")
    if call.state in (CallState.CANCELLED, CallState.SUPERSEDED):
        raise AlreadyDecided(f"{id} is no longer asked: it was {call.state}")
    if last is None:
        raise AlreadyDecided(f"{id} is {call.state} and asks nobody")
    if any(vote.by == by and vote.kind == kind for vote in call.votes):
        return Change(run)
    verbs = {"approve": "approved", "reject": "rejected", "edit": "edited and approved", "respond": "answered"}
    raise AlreadyDecided(
        f"{id} was already {verbs[last.kind]} by {last.by} at {last.at:.0f}; your {kind} does not count"
    )


def _approve(run: Run, call: Call, vote: Vote, event: CallEvent = CallEvent.APPROVE) -> Change:
    while call.stage < len(call.stages) and people.stage_met(call):
        if call.stage + 1 == len(call.stages):
            return _finish_vote(run, evolve(call, state=next_call(call.state, event, CallState.APPROVED)), vote)
        call = evolve(call, stage=call.stage + 1, stage_expires=_stage_end(call.stages, call.stage + 1, vote.at))
    next_call(call.state, event, CallState.PENDING)
    run = evolve(run.with_call(call), updated=vote.at)
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
    if decision.args is None or not decision.args.startswith(b"{"):
        raise EditRefused(f"the edited arguments of {id} must be a JSON object")
    if verdict is None or verdict.outcome == "deny":
        why = verdict.reason or verdict.code if verdict else "no policy could be asked"
        raise EditRefused(f"the edited arguments of {id} are denied by policy: {why}")
    stages = call.stages
    if verdict.outcome == "require_approval":
        stages = (*stages, *(stage for stage in verdict.stages if stage not in stages))
    fresh = evolve(
        call,
        args=decision.args,
        asked_args=call.asked_args if call.asked_args is not None else call.args,
        stages=stages,
        stage=0,
        stage_expires=_stage_end(stages, 0, vote.at),
        votes=(),
        nonce=nonce,
        policy=verdict.policy or call.policy,
        version=verdict.version or call.version,
        reason_required=call.reason_required or verdict.reason_required,
        excluded=tuple(dict.fromkeys((*call.excluded, *(excluded(run, verdict) if verdict.stages else ())))),
    )
    fresh = bind(run, fresh)
    vote = evolve(vote, digest=fresh.digest, stage=0)
    counts = vote.by in stages[0].people  # an editor from a later stage has edited, but does not approve the first
    change = _approve(run, evolve(fresh, votes=(vote,) if counts else ()), vote, CallEvent.EDIT)
    still = change.run.call(call.n)
    if still is not None and still.state is CallState.PENDING:  # the others must look at the new bytes
        outbox = (*change.run.outbox, *notices(change.run, still, "asked", vote.at))
        change = evolve(change, run=evolve(change.run, outbox=outbox))
    edited = call_event(fresh, "call.edited", by=vote.by, digest=fresh.digest, was=call.digest)
    return evolve(change, events=(edited, *change.events))


def pass_deadlines(run: Run, now: float) -> Change:
    """Ask the next stage, or expire, for every PENDING call whose time is over."""
    events: list[Event] = []
    for call in run.having(CallState.PENDING):
        while call.state is CallState.PENDING:
            over = call.expires is not None and now >= call.expires
            staged = call.stage_expires is not None and now >= call.stage_expires
            if not over and not staged:
                break
            if not over and call.stage + 1 < len(call.stages):
                next_call(call.state, CallEvent.DEADLINE, CallState.PENDING)
                at = call.stage + 1
                call = evolve(call, stage=at, stage_expires=_stage_end(call.stages, at, now))
                run = evolve(run.with_call(call), outbox=(*run.outbox, *notices(run, call, "asked", now)))
                events.append(call_event(call, "call.escalated", stage=at))
            else:
                to = next_call(call.state, CallEvent.DEADLINE, CallState.EXPIRED)
                call = evolve(call, state=to, told="nobody decided in time")
                run = evolve(run.with_call(call), outbox=(*run.outbox, *notices(run, call, "decided", now)))
                events.append(call_event(call))
    return settle(Change(run, tuple(events)), now) if events else Change(run)
