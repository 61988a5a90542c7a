"""What people do with a request short of deciding it: hand a seat over, say that they look at it, write beside it; and
how they are reminded of it.

Pure functions like those in `decisions`, with the same refusals for a request that nobody is asked any more. None of
them moves the call or changes its digest: they say who may speak for whom, and what is shown beside the request.
"""

from __future__ import annotations

from collections.abc import Collection

from governor_agents.core import people
from governor_agents.core.decisions import open_call
from governor_agents.core.identity import Voter
from governor_agents.core.records import (
    Call,
    CallState,
    Change,
    Comment,
    Event,
    HandOver,
    Run,
    TakenUp,
    approval_id,
    evolve,
)
from governor_agents.core.telling import call_event, notices
from governor_agents.errors import ArgumentsError, NotAnApprover

MAX_COMMENTS = 50
"""The most comments beside one request."""

MAX_COMMENT = 2_000
"""The most characters of a comment."""

MAX_HANDED = 50
"""How often the seats of one request may be handed over."""


def hand_over(
    run: Run,
    n: int,
    *,
    to: Voter,
    by: Voter,
    now: float,
    seat: str = "",
    moved: bool = False,
    coordinator: bool = False,
    requester: Collection[str] = (),
    channel: str = "",
) -> Change:
    """Let ``to`` decide for a seat too, or in place of its person when it is ``moved``.

    ``seat`` is the approver whose seat it is, empty for the one of ``by``. Only that person may hand it over, and a
    ``coordinator`` may move any; only to people whom the policy lets it be handed to. Raises what `decisions.decide`
    does for a request that is over, and `NotAnApprover`.
    """
    late, call = open_call(run, n, now)
    people.may_speak(call, by, requester=requester)
    name = _seat_of(call, by, seat, coordinator and moved, requester)
    delegate = _allowed(call, name, to, by, requester)
    known = call.hands(name)
    if (delegate == known[0]) if moved else (delegate in known[1]):
        return late
    over = HandOver(name, delegate, by.id, now, moved)
    handed = evolve(call, handed=(*call.handed, over))
    event = call_event(
        call, "call.reassigned" if moved else "call.delegated", by=by.id, seat=name, to=delegate, channel=channel
    )
    run = late.run.with_call(handed)
    outbox = (*run.outbox, *notices(run, handed, "asked", now))
    return Change(evolve(run, outbox=outbox, updated=now), (*late.events, event), call.expires)


def _seat_of(call: Call, by: Voter, seat: str, any_seat: bool, requester: Collection[str]) -> str:
    """The seat that is meant, when it is ``by``'s to hand over."""
    out = people.barred(call, requester)
    names = dict.fromkeys(name for stage in call.stages[call.stage :] for name in stage.people)
    mine = [name for name in names if call.hands(name)[0] in by.names]
    found = seat or (mine[0] if mine else "")
    if found not in names or not (any_seat or found in mine):
        whose = f"the seat of {seat}" if seat else "a seat that could be handed over"
        raise NotAnApprover(f"{by.id} does not have {whose} in this request")
    if {found, call.hands(found)[0]} & out:
        raise NotAnApprover(f"{found} asked for this call; nobody decides it in that person's place")
    if any(found == (vote.seat or vote.by) for vote in call.votes):
        raise NotAnApprover(f"for {found} it has been approved already; there is nothing to hand over")
    return found


def _allowed(call: Call, seat: str, to: Voter, by: Voter, requester: Collection[str]) -> str:
    """The name under which the policy lets the seat be handed to ``to``."""
    people.may_speak(call, to, requester=requester)
    back = seat if seat in to.names else ""
    allowed = next((name for name in call.delegates if name in to.names), back)
    if not allowed:
        others = ", ".join(call.delegates) or "nobody"
        raise NotAnApprover(f"the policy does not let a seat be handed to {to.id}; it may go to: {others}")
    if to.id == by.id and not back:
        raise NotAnApprover(f"{by.id} cannot take over a seat by {by.id}'s own word")
    if any(call.hands(name)[0] in to.names for name in people.asked_now(call).people if name != seat):
        raise NotAnApprover(f"{to.id} is asked already")
    if any(vote.by in to.names for vote in call.votes):
        raise NotAnApprover(f"{to.id} has approved already, and counts once")
    if len(call.handed) >= MAX_HANDED:
        raise NotAnApprover(f"seats of this request were handed over {MAX_HANDED} times; that is enough")
    return allowed


def take_up(
    run: Run,
    n: int,
    *,
    by: Voter,
    now: float,
    release: bool = False,
    requester: Collection[str] = (),
    channel: str = "",
) -> Change:
    """Say that ``by`` looks at it, so that others need not; or, to ``release`` it, no longer. It binds nobody.

    Whoever may decide now may say so, also after somebody else did. Raises what `decisions.decide` does for a request
    that is over, and `NotAnApprover`.
    """
    late, call = open_call(run, n, now)
    people.may_speak(call, by, requester=requester)
    if not people.seats(call, by, people.asked_now(call), requester=requester):
        raise NotAnApprover(f"{by.id} is not asked to decide this")
    mine = call.taken_up is not None and call.taken_up.by in by.names
    if mine is not release:
        return late
    taken = None if release else TakenUp(by.id, now)
    event = call_event(call, "call.released" if release else "call.taken_up", by=by.id, channel=channel)
    return _beside(late, evolve(call, taken_up=taken), event, now)


def comment(
    run: Run, n: int, text: str, *, by: Voter, now: float, requester: Collection[str] = (), channel: str = ""
) -> Change:
    """Write beside a request, for all who are asked to see. Whoever has a seat in any stage may.

    Raises what `decisions.decide` does for a request that is over, `NotAnApprover`, and `ArgumentsError` for a text
    that is empty, too long or no text, or for one too many.
    """
    late, call = open_call(run, n, now)
    people.may_speak(call, by, requester=requester)
    if not any(people.seats(call, by, stage, requester=requester) for stage in call.stages):
        raise NotAnApprover(f"{by.id} has no part in this request")
    _check_comment(run, call, text)
    written = evolve(call, comments=(*call.comments, Comment(by.id, now, text)))
    event = call_event(call, "call.commented", by=by.id, text=text, channel=channel)
    return _beside(late, written, event, now)


def _check_comment(run: Run, call: Call, text: str) -> None:
    if not text.strip():
        raise ArgumentsError("a comment says something; this one is empty")
    if len(text) > MAX_COMMENT:
        raise ArgumentsError(f"a comment has at most {MAX_COMMENT} characters, this one has {len(text)}")
    if len(call.comments) >= MAX_COMMENTS:
        raise ArgumentsError(f"{approval_id(run.id, call.n)} has {MAX_COMMENTS} comments, and takes no more")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ArgumentsError("the comment holds a lone surrogate; write it as plain text") from None


def _beside(late: Change, call: Call, event: Event, now: float) -> Change:
    """What is shown changes, and nothing else."""
    run = late.run.with_call(call)
    outbox = (*run.outbox, *notices(run, call, "changed", now))
    return Change(evolve(run, outbox=outbox, updated=now), (*late.events, event), call.expires)


def remind(run: Run, now: float) -> Change:
    """Tell those who are asked once more, where the time for it has come. Times that were missed count as one."""
    events: tuple[Event, ...] = ()
    for call in run.having(CallState.PENDING) if not run.cancel else ():
        left = tuple(at for at in call.reminders if at > now)
        if left != call.reminders:
            reminded = evolve(call, reminders=left)
            run = run.with_call(reminded)
            run = evolve(run, outbox=(*run.outbox, *notices(run, reminded, "reminded", now)))
            events = (*events, call_event(reminded, "call.reminded", left=len(left)))
    return Change(run, events)
