"""Who is to be mailed what about a card: a thread per person and address, and in it what is new."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from governor_agents.core.calls import freeze, thaw
from governor_agents.core.channels import Card, Place
from governor_agents.core.records import Approval
from governor_agents.errors import ArgumentsError
from governor_agents.handlers.email import mime, standing
from governor_agents.handlers.email.standing import Standing, Standings


@dataclass(frozen=True, slots=True)
class Thread:
    """What a place notes beside what was told: the address, the first mail, the latest, and how many came back."""

    address: str
    root: str
    last: str = ""
    bounced: int = 0

    @classmethod
    def of(cls, place: Place | None) -> Thread | None:
        """The thread at a place, None where there is none yet."""
        try:
            return cls(**thaw(place.ref)) if place is not None and place.ref else None
        except (ArgumentsError, TypeError):
            return None

    def written(self) -> str:
        """As the ``ref`` of a place."""
        return freeze(asdict(self)).decode()

    def forgotten(self, card: Card, person: str) -> Card:
        """The card with this thread, in which this person has been told nothing."""
        place = card.place(person)
        return card if place is None else card.placed(replace(place, ref=self.written(), shown=""))


@dataclass(frozen=True, slots=True)
class Draft:
    """What one person is to be told, and noted as told: nothing to mail where there is no news."""

    person: str
    thread: Thread
    message_id: str
    standings: Standings
    news: tuple[str, ...]

    @property
    def asked(self) -> bool:
        """True when this person can decide one of the requests."""
        return any(standing.asked for standing in self.standings.values())

    def sent(self) -> Draft:
        """With its mail as the latest of the thread."""
        return replace(self, thread=replace(self.thread, last=self.message_id))

    def noted(self, card: Card) -> Card:
        """The card with what this person has now been told."""
        place = card.place(self.person) or Place(self.person, self.thread.root)
        told = (standing.read(place.shown) if _same(place, self.thread) else {}) | dict(self.standings)
        return card.placed(replace(place, ref=self.thread.written(), shown=standing.written(told)))


def drafts(
    card: Card,
    approvals: Mapping[str, Approval],
    people: tuple[str, ...],
    address: Callable[[str], str],
    domain: str,
    deciders: Mapping[str, tuple[str, ...]],
) -> Iterator[Draft]:
    """What is to be told, to those of these people who have an address; nothing for who knows it all.

    ``deciders`` are, by approval, those who can decide it.

    A thread belongs to an address. Somebody who has another one now begins anew there, and nothing goes to the old one.
    """
    for person in dict.fromkeys(people):
        to = address(person)
        if not to:
            continue
        place = card.place(person)
        thread = Thread.of(place)
        begun = thread is not None and thread.address == to
        if thread is None or not begun:
            thread = Thread(to, mime.message_id(card.id, domain, person, to))
        before = standing.read(place.shown) if place is not None and begun else {}
        after = {id: Standing.of(approval, person, deciders[id]) for id, approval in approvals.items()}
        news = standing.news(before, after, approvals, person)
        if news or (begun and before != after):
            # The first mail of a thread is its root whatever it tells, each other one is named by what it tells.
            told = mime.message_id(card.id, domain, person, to, standing.written(after)) if thread.last else thread.root
            yield Draft(person, thread, told, after, news)


def _same(place: Place, thread: Thread) -> bool:
    found = Thread.of(place)
    return found is not None and found.address == thread.address
