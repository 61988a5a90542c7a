"""What is told of a transition: the audit events, and the notices that people get through their channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from governor_agents.core.records import Call, CallState, Change, Event, Notice, NoticeKind, Run, evolve

MAX_RETRY_AFTER = 3600.0
"""The longest, in seconds, that another side may put a notice off."""


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

    it may be on its way to a channel now, and taken for told when it arrives. ``changed`` says nothing of its own, so
    there is none where any other of this call waits for its channel.
    """
    if what == "changed":
        waits = {notice.channel for notice in run.outbox if notice.n == call.n and notice.taken <= now}
        return tuple(_changed(run, call.n, channel, now) for channel in call.channels if channel not in waits)
    known = {notice.id for notice in run.outbox}
    handed = f":{len(call.handed)}" if what == "asked" and call.handed else ""
    left = f":{len(call.reminders)}" if what == "reminded" else ""
    stamp = f"{call.n}:{what}:{call.stage}:{call.digest[:32]}{handed}{left}"
    made = (Notice(f"{stamp}:{channel}", call.n, what, channel, now) for channel in call.channels)
    return tuple(notice for notice in made if notice.id not in known)


def _changed(run: Run, n: int, channel: str, now: float) -> Notice:
    """A notice like no other that waits or is on its way."""
    known, at = {notice.id for notice in run.outbox}, 1
    while f"{n}:changed:{at}:{channel}" in known:
        at += 1
    return Notice(f"{n}:changed:{at}:{channel}", n, "changed", channel, now)


def run_event(what: str, *, by: str = "", **detail: str | int | float | bool) -> Event:
    """The audit line of something that happened to a run."""
    return Event(what, None, by, "", tuple(detail.items()))


def moved(before: Run, after: Run) -> bool:
    """True when the run or a call of it stands elsewhere than before: no such change may go without an audit event."""
    return _stands(before) != _stands(after)


def _stands(run: Run) -> tuple[object, ...]:
    calls = {call.n: (call.state, call.digest, len(call.votes), len(call.attempts)) for call in run.calls}
    return run.state, run.generation, run.fence, run.cancel, run.blocked, calls


def heads(run: Run) -> tuple[Notice, ...]:
    """Of each call and channel the notice that is next. The others wait behind it, so a card hears things in order."""
    first: dict[tuple[int, str], Notice] = {}
    for notice in run.outbox:
        first.setdefault((notice.n, notice.channel), notice)
    return tuple(first.values())


def to_deliver(run: Run, now: float) -> tuple[Notice, ...]:
    """What may be taken for delivery now: what is next, due, and in nobody's hands."""
    return tuple(notice for notice in heads(run) if free_at(notice) <= now)


def free_at(notice: Notice) -> float:
    """From when on a notice that is next may be taken."""
    return max(notice.due, notice.taken)


def take_notices(run: Run, now: float, *, until: float, lane: tuple[int, str] | None = None) -> Change:
    """Take what is to be delivered until ``until``, so that no other worker delivers it too. No audit event.

    ``lane`` is a call and a channel: then only what is next there.
    """
    due = [notice for notice in to_deliver(run, now) if lane in (None, (notice.n, notice.channel))]
    if not due:
        return Change(run)
    return Change(evolve(run, outbox=tuple(evolve(n, taken=until) if n in due else n for n in run.outbox)))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a notice was not delivered; ``retry_after`` is for how many seconds the other side wants to be left.

    ``held``: nothing failed; somebody who is asked was asked too much of late, and is left alone for so long.
    """

    reason: str
    retry_after: float | None = None
    held: bool = False


def delivered(
    run: Run,
    now: float,
    *,
    taken: Collection[Notice],
    failed: Mapping[str, Failure],
    first: float,
    most: float,
) -> Change:
    """What became of the notices that a deliverer had ``taken``: those that ``failed`` (by id) are put off, the others
    are told.

    One that failed waits ``first`` seconds, then twice as long each time up to ``most``; or as long as the other side
    said. Whoever comes back when the notice is no longer in his hands may have shown something old over something new:
    the card is then shown anew.
    """
    events: list[Event] = []
    for notice in taken:
        if notice not in run.outbox or notice.taken <= now:
            run = _shown_anew(run, notice, now)
            events.append(_of_notice("notice.late", notice))
        elif (failure := failed.get(notice.id)) is not None:
            delay = min(most, first * 2.0 ** min(notice.tries, 20))
            if failure.retry_after is not None and failure.retry_after > 0:
                delay = min(MAX_RETRY_AFTER, failure.retry_after)
            tries = notice.tries + (not failure.held)
            later = evolve(notice, tries=tries, due=now + delay, taken=0.0, held=failure.held)
            run = evolve(run, outbox=tuple(later if other == notice else other for other in run.outbox))
            what = "notice.held" if failure.held else "notice.failed"
            events.append(_of_notice(what, notice, reason=failure.reason[:500]))
        else:
            run = _told(evolve(run, outbox=tuple(other for other in run.outbox if other != notice)), notice, now)
            events.append(_of_notice("notice.delivered", notice))
    return Change(run, tuple(events))


def _of_notice(what: str, notice: Notice, **detail: str) -> Event:
    about = (("channel", notice.channel), ("about", notice.what), *detail.items())
    return Event(what, notice.n, "", "", about)


def _told(run: Run, notice: Notice, now: float) -> Run:
    """The run once a channel shows the call as it is."""
    call = run.call(notice.n)
    return run if call is None or call.state is not CallState.PENDING else run.with_call(evolve(call, shown=now))


def _shown_anew(run: Run, notice: Notice, now: float) -> Run:
    """The run with a notice that comes after all that may be on its way now."""
    same = [other for other in run.outbox if (other.n, other.channel) == (notice.n, notice.channel)]
    if any(other.taken <= now for other in same):
        return run
    return evolve(run, outbox=(*run.outbox, _changed(run, notice.n, notice.channel, now)))
