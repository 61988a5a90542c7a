"""The contracts of approval channels: what a channel promises, and what it may ask of the governor in turn.

A `Handler` shows requests where people are. All that it and its inbound part know of the governor is the `Desk`: cards
(what was posted where), tokens (secret texts behind links), and the words of people, which the desk takes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from governor_agents.core.calls import CLOSED, Json
from governor_agents.core.identity import Voter
from governor_agents.core.records import Approval, Decision


@dataclass(frozen=True, slots=True)
class Place:
    """Where a card stands: at whom or what (``to``), under which reference of the channel's own (``ref``, JSON).

    A place without a ``ref`` is about to be posted under ``op``: whoever finds it so looks for a message that carries
    this op before posting another. ``shown`` is a hash of what it shows.
    """

    __pydantic_config__ = CLOSED

    to: str
    op: str
    ref: str = ""
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """A view of one approval, or of several identical ones, in one channel. Its id is opaque; a record decides."""

    id: str
    channel: str
    approvals: tuple[str, ...]
    places: tuple[Place, ...] = ()

    def place(self, to: str) -> Place | None:
        """Where it stands for this recipient."""
        return next((place for place in self.places if place.to == to), None)

    def placed(self, place: Place) -> Card:
        """The card with this place, in the stead of the one for its recipient."""
        others = tuple(place if other.to == place.to else other for other in self.places)
        return replace(self, places=others if place in others else (*self.places, place))


@dataclass(frozen=True, slots=True)
class Token:
    """What a secret text stands for: one purpose, one person, one subject, until a time. The text is not kept.

    ``answer`` is what it was used for, empty until then; ``asked`` counts wrong answers. ``holder`` is the id of
    whoever had the person's address when the text was given out: it stands for nobody else who is given that address.
    """

    __pydantic_config__ = CLOSED

    purpose: str
    person: str
    subject: str
    until: float
    digest: str = ""
    answer: str = field(default="", repr=False)
    asked: int = 0
    holder: str = ""


class Cards(Protocol):
    """What was posted where, for all channels."""

    async def enter(self, approval: Approval, channel: str) -> Card:
        """The card of this approval in this channel; made when there is none.

        An identical call that still waits (same fingerprint, files, approvers and environment) shares its card, unless
        it is of high risk.
        """
        ...

    async def of(self, approval: Approval, channel: str) -> Card | None:
        """The card of this approval in this channel, None when it has none."""
        ...

    async def find(self, id: str) -> Card | None:
        """The card of this id."""
        ...

    async def change(self, id: str, step: Callable[[Card], Card]) -> Card:
        """Change a card by compare-and-set; ``step`` is applied anew when somebody was faster. Raises `NotFound`."""
        ...


class Tokens(Protocol):
    """Secret texts that stand for one thing, once."""

    async def issue(
        self,
        purpose: str,
        person: str,
        subject: str,
        *,
        within: float,
        digest: str = "",
        not_after: float | None = None,
    ) -> str:
        """A fresh secret text of 256 random bits, good for ``within`` seconds, and until ``not_after`` (epoch seconds).

        Only its hash is stored.
        """
        ...

    async def look(self, text: str, purpose: str) -> Token:
        """What it stands for. Raises `NotFound` for none, another purpose, or an address that is somebody else's now;
        `TokenExpired`, `DirectoryUnreadable`.
        """
        ...

    async def use(self, text: str, purpose: str, answer: str) -> Token:
        """Use it up for this answer; the same answer again is fine.

        Raises `NotFound`, `TokenExpired`, `TokenUsed` for another answer.
        """
        ...

    async def release(self, text: str, purpose: str, answer: str) -> None:
        """Let it be used for another answer, since this one did not count. Raises `NotFound`, `TokenExpired`."""
        ...

    async def mistake(self, text: str, purpose: str, most: int) -> Token:
        """Count a wrong answer; after ``most`` of them the token is used up. Raises `NotFound`, `TokenExpired`."""
        ...

    async def revoke(self, text: str) -> None:
        """End it now. Twice is fine."""
        ...


class Desk(Protocol):
    """All that an approval channel may ask of the governor. Whom it speaks for, the channel has proved."""

    tenant: str
    public_url: str
    """Where people reach the pages of ``serve``, without a slash at the end; empty when they are not served."""
    cards: Cards
    tokens: Tokens

    async def now(self) -> float:
        """The store's clock."""
        ...

    async def approval(self, id: str) -> Approval:
        """An approval by its id. Raises `NotFound`, for one of another environment too: it is not decided from here."""
        ...

    async def inbox(self, person: str) -> list[Approval]:
        """What this person may decide now and from here, oldest first; nothing of another environment."""
        ...

    async def voter(self, address: str) -> Voter:
        """Whom an address stands for now. Raises `DirectoryUnreadable`."""
        ...

    def reach(self, person: str, kind: str) -> tuple[str, ...]:
        """The addresses of a kind (``slack``, ``email``) at which somebody named in a record is met."""
        ...

    async def deciders(self, approval: Approval) -> tuple[str, ...]:
        """Whom to ask now: everyone who can still decide it, substitutes of those who are away among them.

        Raises `DirectoryUnreadable`.
        """
        ...

    async def decide(self, id: str, decision: Decision, *, by: str, digest: str, channel: str) -> Approval:
        """Count a decision; the approval as it then stands. Raises `NotFound` and every kind of `DecisionRefused`."""
        ...

    async def take_up(self, id: str, *, by: str, channel: str, release: bool = False) -> Approval:
        """Say that somebody looks at it, or no longer does. Raises `NotFound`, `DecisionRefused`."""
        ...

    async def comment(self, id: str, text: str, *, by: str, channel: str) -> Approval:
        """Write beside a request. Raises `NotFound`, `DecisionRefused`, `ArgumentsError`."""
        ...

    async def delegate(self, id: str, *, to: str, by: str, channel: str) -> Approval:
        """Let somebody else decide for one's seat too. Raises `NotFound`, `DecisionRefused`."""
        ...

    async def tool_schema(self, approval: Approval) -> Json:
        """The JSON schema of the tool's parameters as it was when the call was frozen, None when it was not kept."""
        ...

    def refused(self, asked: str, reason: str, id: str, *, by: str = "", channel: str = "") -> None:
        """One line in the stream of refused requests: a reason code, never words of the request."""
        ...

    async def take(self, name: str, most: int, per: float) -> float:
        """One use out of ``most`` per ``per`` seconds, counted over all processes: 0.0, or seconds to wait."""
        ...


@runtime_checkable
class Handler(Protocol):
    """An approval channel: shows requests and outcomes where people are. Decisions come in by its own inbound part.

    **What is shown follows from the record**, never from the notice that caused it, so both methods may be called any
    number of times and in any order: each makes the cards show the approval as it is given. A card that was posted
    before a crash and not noted is found again, not posted twice. Trouble with the transport raises; the worker tries
    again later. It is never a decision.

    A policy names a channel ``NAME`` or ``NAME:TARGET``; the target comes as ``to``. There is one call at a time for
    one card, in all processes; a channel that keeps no cards may say so (``keeps_cards = False``) and need not wait.
    """

    name: str

    async def start(self, desk: Desk) -> None:
        """Take hold of the desk and look whether the channel can be used. Twice is fine.

        Raises `ChannelUnusable`, one line with the mend: a wrong token, a missing scope, a refused login.
        """
        ...

    async def notify(self, approval: Approval, to: str = "") -> str:
        """Ask everyone who is asked now and has not been; the card's id, empty when the channel keeps none.

        Raises `DeliveryFailed`.
        """
        ...

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        """Show the approval as it stands wherever it was asked. Raises `DeliveryFailed`."""
        ...

    async def close(self) -> None:
        """Let go of connections. Twice is fine."""
        ...
