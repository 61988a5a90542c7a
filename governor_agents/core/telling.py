"""What is told of a transition: the audit events, and the notices that people get through their channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from governor_agents.core.records import Call, CallState, Change, Event, Notice, NoticeKind, Run, evolve


def call_event(call: Call, what: str = "", *, by: str = "", **detail: str | int | float | bool) -> Event:
    """The audit line of something that happened to a call."""
    return Event(what or f"call.{call.state}", call.n, by, call.tool, tuple(detail.items()))


def asked_event(call: Call) -> Event:
    """The audit line of a new call: what was decided about it, by which rule, on which bytes."""
    names = {CallState.PENDING: "call.asked", CallState.DENIED: "call.denied", CallState.ALLOWED: "call.allowed"}
    return call_event(
        call,
        names[call.state],
        digest=call.digest,
        policy=call.policy,
        version=call.version,
        code=call.code,
        call_id=call.call_id,
    )


def notices(run: Run, call: Call, what: NoticeKind, now: float) -> tuple[Notice, ...]:
    """One notice per channel of a call, unless the same one already waits. One that tells of other terms is another:

    it may be on its way to a channel now, and taken for told when it arrives.
    """
    known = {notice.id for notice in run.outbox}
    stamp = f"{call.n}:{what}:{call.stage}:{call.digest[:32]}"
    made = (Notice(f"{stamp}:{channel}", call.n, what, channel, now) for channel in call.channels)
    return tuple(notice for notice in made if notice.id not in known)


def run_event(what: str, *, by: str = "", **detail: str | int | float | bool) -> Event:
    """The audit line of something that happened to a run."""
    return Event(what, None, by, "", tuple(detail.items()))


def moved(before: Run, after: Run) -> bool:
    """True when the run or a call of it stands elsewhere than before: no such change may go without an audit event."""
    return _stands(before) != _stands(after)


def _stands(run: Run) -> tuple[object, ...]:
    calls = {call.n: (call.state, call.digest, len(call.votes), len(call.attempts)) for call in run.calls}
    return run.state, run.generation, run.fence, run.cancel, run.blocked, calls


def take_notices(run: Run, now: float, *, until: float) -> Change:
    """Take what is due for delivery until ``until``, so that no other worker delivers it too. No audit event."""
    due = [notice for notice in run.outbox if notice.due <= now]
    if not due:
        return Change(run)
    return Change(evolve(run, outbox=tuple(evolve(n, due=until) if n in due else n for n in run.outbox)))


def delivered(
    run: Run, now: float, *, done: Collection[str], failed: Mapping[str, str], first: float, most: float
) -> Change:
    """Take delivered notices out of the outbox, and put off those that failed: ``first`` seconds, then doubled."""
    left: list[Notice] = []
    events: list[Event] = []
    for notice in run.outbox:
        if notice.id in done:
            events.append(
                Event("notice.delivered", notice.n, "", "", (("channel", notice.channel), ("about", notice.what)))
            )
        elif notice.id in failed:
            delay = min(most, first * 2.0 ** min(notice.tries, 20))
            left.append(evolve(notice, tries=notice.tries + 1, due=now + delay))
            detail = (("channel", notice.channel), ("about", notice.what), ("reason", failed[notice.id][:500]))
            events.append(Event("notice.failed", notice.n, "", "", detail))
        else:
            left.append(notice)
    return Change(evolve(run, outbox=tuple(left)), tuple(events)) if events else Change(run)
