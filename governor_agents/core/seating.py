"""Who can fill which place of which stage at once: each person one place, each approver's seat one person.

A stage has ``quorum`` places; whoever takes one takes it for somebody whom the stage names: that somebody's *seat*. A
person's *names* are the seats that he or she can take. This is a flow of people through seats into places, found by
letting people change seats until nobody more finds one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from governor_agents.core.verdicts import Stage

Seat = tuple[int, str]
"""A stage's index, and the approver whose seat it is."""


def places(stage: Stage) -> int:
    """How many must approve; never none."""
    return max(stage.quorum, 1)


def seat(
    stages: tuple[Stage, ...], people: Mapping[str, Collection[str]], seated: Mapping[str, Seat] | None = None
) -> dict[str, Seat]:
    """As many people on seats as the stages have places for, the earliest stages first.

    ``people`` are the names of each. Whoever is ``seated`` already stays so, though perhaps on another seat.
    """
    taken = dict(seated or {})
    for at, stage in enumerate(stages):
        while sum(1 for other, _ in taken.values() if other == at) < places(stage):
            if not _fill(stages, people, taken, at, set()):
                break
    return taken


def _fill(
    stages: tuple[Stage, ...],
    people: Mapping[str, Collection[str]],
    taken: dict[str, Seat],
    at: int,
    tried: set[tuple[str, Seat]],
) -> bool:
    """One more person in this stage, if need be out of another seat, which somebody else then fills."""
    seats = [(at, name) for name in stages[at].people if (at, name) not in taken.values()]
    able = [(who, free) for free in seats for who in sorted(people) if free[1] in people[who]]
    for who, free in sorted(able, key=lambda pair: pair[0] in taken):
        if (who, free) in tried or free in taken.values():
            continue
        tried.add((who, free))
        before = taken.get(who)
        taken[who] = free
        if before is None or _fill(stages, people, taken, before[0], tried):
            return True
        taken[who] = before
    return False


def all_filled(stages: tuple[Stage, ...], people: Mapping[str, Collection[str]]) -> bool:
    """True when every place of every stage is filled, and there is one."""
    return bool(stages) and len(seat(stages, people)) == sum(map(places, stages))
