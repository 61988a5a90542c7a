"""Who may still decide: stages, quorum, seats, separation of duties.

Each person whom a stage names has a *seat* in it. The seat's own person fills it, or whoever it was handed to for this
request, or a substitute while that person is away; one human counts once over all stages, one seat once. Whoever asked
for the call decides nothing, under no name, and nobody does so in that person's place.
"""

from __future__ import annotations

from collections.abc import Collection

from governor_agents.core.identity import Voter
from governor_agents.core.records import Call, HandOver, Run, Standing, Vote, evolve
from governor_agents.core.seating import all_filled, seat
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import NotAnApprover

APPROVALS = ("approve", "edit")
"""The kinds of decision that fill a seat."""

_RANKS: tuple[Standing, ...] = ("", "delegate", "substitute")


def authorise(call: Call, voter: Voter, *, requester: Collection[str] = (), veto: bool = False) -> str:
    """The seat that a decision of this voter takes in the stage that is asked now.

    ``requester`` is every name of whoever asked for the call; ``veto``: a decision that fills no seat (a rejection).
    Raises `NotAnApprover`. An empty stage means nobody.
    """
    may_speak(call, voter, requester=requester)
    stage = asked_now(call)
    found = seats(call, voter, stage, requester=requester)
    if not found:
        raise NotAnApprover(f"{voter.id} may not decide this; asked now: {', '.join(stage.names) or 'nobody'}")
    mine = [vote for vote in call.votes if vote.by in voter.names]
    if any(vote.stage != call.stage for vote in mine):
        raise NotAnApprover(
            f"{voter.id} approved an earlier stage, or stands for a later one; each stage needs somebody else"
        )
    if mine:
        return mine[0].seat or mine[0].by
    taken = {vote.seat or vote.by: vote.by for vote in call.votes if vote.stage == call.stage}
    free = [name for name in found if name not in taken]
    if not free and not veto:
        whose = ", ".join(f"{name} (by {taken[name]})" for name in found)
        raise NotAnApprover(f"what {voter.id} could approve for has been approved already: {whose}")
    return (free or list(found))[0]


def why_not(call: Call, voter: Voter, *, requester: Collection[str] = ()) -> str:
    """Why this voter may decide nothing here now, not even reject; empty when they may."""
    try:
        authorise(call, voter, requester=requester, veto=True)
    except NotAnApprover as error:
        return str(error)
    return ""


def may_speak(call: Call, voter: Voter, *, requester: Collection[str] = ()) -> None:
    """Raise `NotAnApprover` for whoever has no word in this call, whatever the stages say."""
    if not voter.id:
        raise NotAnApprover("a decision needs a person; nobody was named")
    if not voter.names:
        raise NotAnApprover(f"{voter.id} is not known (any more), and decides nothing")
    if voter.service:
        raise NotAnApprover(f"{voter.id} is a service; only people decide")
    if barred(call, requester) & {voter.id, *voter.names}:
        others = ", ".join(name for name in asked_now(call).people if name not in call.excluded) or "nobody"
        raise NotAnApprover(
            f"{voter.id} asked for this call and may not decide it (separation of duties); may decide: {others}"
        )


def barred(call: Call, requester: Collection[str] = ()) -> frozenset[str]:
    """Every name that decides nothing here: those the call excludes, and all others of whoever asked if it does."""
    known = frozenset(call.excluded)
    return known | frozenset(requester) if known & set(requester) else known


def asked_now(call: Call) -> Stage:
    """The stage that is asked now; one of nobody where there is none."""
    return call.stages[call.stage] if call.stage < len(call.stages) else Stage(())


def standing(call: Call, name: str, voter: Voter) -> Standing | None:
    """As what this voter may fill the seat of an approver: None for not at all, empty for his or her own."""
    holder, delegates = call.hands(name)
    if holder in voter.names:
        return "" if holder == name else "delegate"
    if any(to in voter.names for to in delegates):
        return "delegate"
    if holder in voter.stands_for:
        return "substitute" if holder == name else "delegate"
    return None


def seats(call: Call, voter: Voter, stage: Stage, *, requester: Collection[str] = ()) -> tuple[str, ...]:
    """The seats of a stage that this voter may fill: his or her own first, then those that were handed over."""
    out = barred(call, requester)
    if voter.service or out & {voter.id, *voter.names}:
        return ()
    able = {name: standing(call, name, voter) for name in stage.people if not out & {name, call.hands(name)[0]}}
    ranks = {name: _RANKS.index(how) for name, how in able.items() if how is not None}
    return tuple(sorted(ranks, key=lambda name: (ranks[name], name not in voter.names)))


def excluded(run: Run, verdict: Verdict) -> tuple[str, ...]:
    """Who may never decide: the agent itself, and the requester unless the policy says otherwise."""
    agent = f"service:{run.agent}"
    requester = (run.requester, *verdict.requesters) if verdict.exclude_requester else ()
    return tuple(dict.fromkeys((agent, *requester)))


def filled(votes: Collection[Vote], excluded: Collection[str]) -> dict[str, set[str]]:
    """Each person who approved, and the seats that the approval may fill."""
    found: dict[str, set[str]] = {}
    for vote in votes:
        if vote.kind in APPROVALS and vote.by not in excluded:
            found.setdefault(vote.by, set()).update({vote.by, vote.seat} - {"", *excluded})
    return found


def stage_met(call: Call) -> bool:
    """True when the stage that is asked now has the approvals it needs."""
    votes = [vote for vote in call.votes if vote.stage == call.stage]
    return all_filled((call.stages[call.stage],), filled(votes, call.excluded))


def counted_for(votes: Collection[Vote], stages: tuple[Stage, ...], excluded: Collection[str]) -> dict[str, int]:
    """The stage that each approval already given counts for: the first that it can, unless nobody else is left for a
    later one. Voters of whom no stage is in need are left out.
    """
    voters = filled(votes, excluded)
    others = {name: {name} for stage in stages for name in stage.people if name not in excluded}
    placed = seat(stages, {**others, **voters}, seat(stages, voters))
    return {who: at for who, (at, _) in placed.items() if who in voters}


def votes_meet(votes: Collection[Vote], stages: tuple[Stage, ...], excluded: Collection[str]) -> bool:
    """True when approvals already given would satisfy these stages: each person counts for one, each seat once."""
    return all_filled(stages, filled(votes, excluded))


def still_handed(handed: tuple[HandOver, ...], delegates: Collection[str]) -> tuple[HandOver, ...]:
    """The hand-overs that stand when seats may go to these only: none of a seat that went to anybody else as well."""
    void = {over.seat for over in handed if over.to not in (*delegates, over.seat)}
    return tuple(over for over in handed if over.seat not in void)


def still_counting(call: Call, verdict: Verdict) -> tuple[Vote, ...]:
    """The votes as a later verdict takes them: none of the requester where it excludes that person, and nobody speaks
    for a seat that went where it would not let it go; whose own seat is somebody else's then speaks for none.
    """
    stands = evolve(call, handed=still_handed(call.handed, verdict.delegates))
    void = {over.seat for over in call.handed} - {over.seat for over in stands.handed}
    found: list[Vote] = []
    for vote in (vote for vote in call.votes if not (vote.own and verdict.exclude_requester)):
        if vote.standing and vote.seat in void:
            found += [evolve(vote, seat="", standing="")] if stands.hands(vote.by)[0] == vote.by else []
        else:
            found.append(vote)
    return tuple(found)
