"""Who may still decide: stages, quorum, separation of duties."""

from __future__ import annotations

from collections.abc import Collection

from governor_agents.core.records import Call, Run, Vote
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import NotAnApprover


def authorise(call: Call, by: str) -> None:
    """Raise `NotAnApprover` unless ``by`` may vote in the stage that is asked now. An empty stage means nobody."""
    if not by:
        raise NotAnApprover("a decision needs a person; nobody was named")
    stage = call.stages[call.stage] if call.stage < len(call.stages) else Stage(())
    if by in call.excluded:
        others = ", ".join(person for person in stage.people if person not in call.excluded) or "nobody"
        raise NotAnApprover(
            f"{by} asked for this call and may not decide it (separation of duties); may decide: {others}"
        )
    if by not in stage.people:
        names = ", ".join(stage.names) or "nobody"
        raise NotAnApprover(f"{by} may not decide this; asked now: {names}")
    if any(vote.by == by and vote.stage != call.stage for vote in call.votes):
        raise NotAnApprover(
            f"{by} approved an earlier stage, or stands for a later one; each stage needs somebody else"
        )


def excluded(run: Run, verdict: Verdict) -> tuple[str, ...]:
    """Who may never decide: the agent itself, and the requester unless the policy says otherwise."""
    agent = f"service:{run.agent}"
    requester = (run.requester, *verdict.requesters) if verdict.exclude_requester else ()
    return tuple(dict.fromkeys((agent, *requester)))


def stage_met(call: Call) -> bool:
    """True when the stage that is asked now has the approvals it needs."""
    stage = call.stages[call.stage]
    voters = {vote.by for vote in call.votes if vote.stage == call.stage and vote.kind in ("approve", "edit")}
    voters -= set(call.excluded)
    return len(voters & set(stage.people)) >= max(stage.quorum, 1)


def stands_for(votes: tuple[Vote, ...], stages: tuple[Stage, ...], excluded: tuple[str, ...]) -> dict[str, int]:
    """The stage that each approval already given counts for: the first that it can, unless nobody else is left for a
    later one. Voters of whom no stage is in need are left out.
    """
    voters = sorted({vote.by for vote in votes if vote.kind in ("approve", "edit")} - set(excluded))
    places = [at for at, stage in enumerate(stages) for _ in range(max(stage.quorum, 1))]
    seats: dict[str, int] = {}

    def fill(place: int, people: Collection[str], seen: set[str]) -> bool:
        able = [person for person in stages[places[place]].people if person in people and person not in seen]
        for person in sorted(able, key=lambda person: person in seats):
            seen.add(person)
            if person not in seats or fill(seats[person], people, seen):
                seats[person] = place
                return True
        return False

    everyone = {person for stage in stages for person in stage.people} - set(excluded)
    for people in (voters, everyone):
        for place in range(len(places)):
            if place not in seats.values():
                fill(place, people, set())
    return {person: places[seats[person]] for person in voters if person in seats}


def votes_meet(votes: tuple[Vote, ...], stages: tuple[Stage, ...], excluded: tuple[str, ...]) -> bool:
    """True when approvals already given would satisfy these stages, each person counting for one stage only."""
    voters = {vote.by for vote in votes if vote.kind in ("approve", "edit")} - set(excluded)
    places = [stage for stage in stages for _ in range(max(stage.quorum, 1))]
    taken: dict[int, str] = {}

    def place(person: str, seen: set[int]) -> bool:
        for at, stage in enumerate(places):
            if person in stage.people and at not in seen:
                seen.add(at)
                if at not in taken or place(taken[at], seen):
                    taken[at] = person
                    return True
        return False

    for person in sorted(voters):
        place(person, set())
    return bool(stages) and len(taken) == len(places)
