"""Where a card goes: to each person who is asked, to a channel, or into a thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from governor_agents.core.identity import SLACK
from governor_agents.errors import DeliveryFailed

_ADDRESS = re.compile(r"slack:([TE][A-Z0-9]+)/([UW][A-Z0-9]+)")
_CHANNEL = re.compile(r"(?:(T[A-Z0-9]+)/)?([CGD][A-Z0-9]+)(?:/(\d+\.\d+))?")

Reach = Callable[[str, str], tuple[str, ...]]
"""The addresses of a kind at which somebody is met."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place for a card. ``to`` names it in the card's record; ``user`` or ``channel`` is where it is posted.

    ``asked``: whoever reads there may decide now. ``users`` are those of them whom Slack knows, by their ids.
    """

    to: str
    team: str
    user: str = ""
    channel: str = ""
    thread: str = ""
    asked: bool = True
    users: tuple[str, ...] = ()


def people_of(people: Iterable[str], reach: Reach) -> tuple[Target, ...]:
    """The direct messages of each of these people who has an address in Slack."""
    found = []
    for person in people:
        for address in reach(person, SLACK):
            if known := _ADDRESS.fullmatch(address):
                found.append(Target(address, known[1], user=known[2], users=(known[2],)))
    return tuple(dict.fromkeys(found))


def channel_of(to: str, people: Iterable[str], reach: Reach, teams: tuple[str, ...]) -> Target:
    """The channel or thread that a policy names. Raises `DeliveryFailed` for what names none."""
    known = _CHANNEL.fullmatch(to)
    if known is None:
        raise DeliveryFailed(
            f"slack:{to} names no channel; write slack:C0123, slack:T0123/C0123 or slack:T0123/C0123/TS"
        )
    if not known[1] and len(teams) != 1:
        raise DeliveryFailed(f"slack:{to} names no workspace, and there are {len(teams)}; write slack:T0123/{known[2]}")
    team = known[1] or teams[0]
    users = (target.user for target in people_of(people, reach) if target.team == team)
    return Target(to, team, channel=known[2], thread=known[3] or "", users=tuple(dict.fromkeys(users)))


def team_of(to: str) -> str:
    """The workspace that a target's name tells, empty when it goes without saying."""
    known = _ADDRESS.fullmatch(to) or _CHANNEL.fullmatch(to)
    return (known[1] or "") if known else ""


def standing(to: str, now: Iterable[Target]) -> Target | None:
    """The target of a place where a card stands; people who are not asked any more get no buttons there."""
    found = next((target for target in now if target.to == to), None)
    if found is not None:
        return found
    known = _ADDRESS.fullmatch(to)
    return Target(to, known[1], user=known[2], asked=False) if known else None
