"""What one person was last told of a card's requests, and what is new since: only that is worth a mail.

It follows from the records alone, so it does not matter which notice asks for it, or how often.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import astuple, dataclass

from governor_agents.core.calls import freeze, thaw
from governor_agents.core.records import Approval, Call, CallState
from governor_agents.errors import ArgumentsError
from governor_agents.handlers.message import lasting, visible, when

_CLOSED = frozenset(
    {CallState.REJECTED, CallState.ANSWERED, CallState.EXPIRED, CallState.CANCELLED, CallState.SUPERSEDED}
)
ASKED = "You are asked to decide."
_ANEW = "The request has changed since the last mail: look at it again."
_NO_LONGER = "You are no longer asked to decide this."
_VERBS = {"approve": "approved", "edit": "edited and approved", "reject": "rejected", "respond": "answered"}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a request stands for one person, as far as mails tell of it.

    ``asked``: this person can decide it now. ``state`` is ``waits``, ``approved`` whatever came of it, or how it
    closed. The rest counts what the record holds.
    """

    asked: bool
    digest: str
    state: str
    votes: int
    handed: int
    taken: str
    comments: int
    reminders: int
    stage: int = 0

    @classmethod
    def of(cls, approval: Approval, person: str, deciders: Collection[str] | None = None) -> Standing:
        """How it stands now. ``deciders`` are those who can decide it, by default those whom the record names."""
        call = approval.call
        waits = call.state is CallState.PENDING
        return cls(
            asked=waits and person in (approval.people if deciders is None else deciders) and not _voted(call, person),
            digest=call.digest[:32],
            state="waits" if waits else call.state.value if call.state in _CLOSED else "approved",
            votes=len(call.votes),
            handed=len(call.handed),
            taken=f"{call.taken_up.by} {call.taken_up.at:.3f}" if call.taken_up else "",
            comments=len(call.comments),
            reminders=len(call.reminders),
            stage=call.stage,
        )


Standings = Mapping[str, Standing]
"""By approval."""


def _voted(call: Call, person: str) -> bool:
    """True when this person decided in any stage, since nobody does in two, or somebody in their place in this one."""
    return any(
        vote.by == person or (vote.seat == person and (vote.stage == call.stage or not vote.standing))
        for vote in call.votes
    )


def news(before: Standings, after: Standings, approvals: Mapping[str, Approval], person: str) -> tuple[str, ...]:
    """What to tell, line by line, each visible; empty when nothing is worth a mail.

    One more call that is identical to one that this person is asked about is no news: the link that they have is about
    all of them. Nor is what this person did, but for the outcome.
    """
    waiting = any(after[id].asked and before[id].asked for id in after.keys() & before.keys())
    lines: list[str] = []
    for id, standing in after.items():
        told = before.get(id)
        if told is not None and told != standing:
            lines += _changed(told, standing, approvals[id], person)
        elif told is None and standing.asked and not waiting:
            lines.append(ASKED)
    return tuple(dict.fromkeys(lines))


def _changed(before: Standing, after: Standing, approval: Approval, person: str) -> Iterator[str]:
    if after.state != "waits":
        if after.state != before.state:
            yield f"Closed: {lasting(approval.call)}."
    elif after.digest != before.digest or before.state != "waits":
        editor = next((vote.by for vote in approval.call.votes if vote.kind == "edit"), "")
        yield f"{visible(editor)} edited the request: look at it again." if editor else _ANEW
    else:
        yield from _small(before, after, approval.call, person)


def _small(before: Standing, after: Standing, call: Call, person: str) -> Iterator[str]:
    """What is new about a request that still waits as it did."""
    for vote in call.votes[before.votes :]:
        if person not in (vote.by, vote.seat):
            yield f"{visible(vote.by)} {_VERBS[vote.kind]} it at {when(vote.at)}; it waits for more votes."
    for over in call.handed[before.handed :]:
        how = "instead of" if over.moved else "as well as"
        if over.by != person:
            yield f"{visible(over.to)} may decide {how} {visible(over.seat)}, by a word of {visible(over.by)}."
    for said in call.comments[before.comments :]:
        if said.by != person:
            yield f"{visible(said.by)} wrote: {visible(said.text)}"
    if after.taken != before.taken and (call.taken_up is None or call.taken_up.by != person):
        yield f"{visible(call.taken_up.by)} looks at it now." if call.taken_up else "Nobody looks at it any more."
    if after.asked and not (before.asked and before.stage == after.stage):
        yield ASKED
    elif before.asked and not after.asked and not _voted(call, person):
        yield _NO_LONGER
    elif after.asked and after.reminders < before.reminders:
        yield "Reminder: it still waits for you" + ("." if call.expires is None else f" until {when(call.expires)}.")


def written(standings: Standings) -> str:
    """For a card's place: what was told, by approval."""
    return freeze({id: list(astuple(standing)) for id, standing in standings.items()}).decode()


def read(shown: str) -> dict[str, Standing]:
    """What `written` wrote; nothing where it cannot be read."""
    try:
        return {id: Standing(*fields) for id, fields in thaw(shown).items()} if shown else {}
    except (ArgumentsError, AttributeError, TypeError):
        return {}
