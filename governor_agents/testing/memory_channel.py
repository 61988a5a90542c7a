"""A channel in memory: a board on which cards are posted and edited, and the handler that does it.

It is for tests, and to be read: it does all that a handler must (`governor_agents.core.ports.Handler`) and no more.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from governor_agents.core.calls import sha256
from governor_agents.core.channels import Card, Desk, Place
from governor_agents.core.records import Approval, CallState, waiting_alike
from governor_agents.errors import ChannelUnusable, DeliveryFailed
from governor_agents.handlers.message import Message, to_text

BOARD = "board"
"""The one place where a card stands."""


@dataclass(frozen=True)
class Note:
    """One thing on the board. ``asks``: whoever reads it can decide there."""

    text: str
    asks: bool
    op: str


class Board:
    """What people look at. ``password`` is what a handler must know; while it is ``away``, nothing can be done."""

    def __init__(self, password: str = "") -> None:
        self.password = password
        self.notes: list[Note] = []
        self.away = False

    def check(self) -> None:
        """Raise `DeliveryFailed` while it is away."""
        if self.away:
            raise DeliveryFailed("the board is away")

    def post(self, note: Note) -> str:
        """Put a note on it; its reference."""
        self.check()
        self.notes.append(note)
        return str(len(self.notes) - 1)

    def edit(self, ref: str, note: Note) -> None:
        """Put another in its place."""
        self.check()
        self.notes[int(ref)] = note

    def find(self, op: str) -> str:
        """The reference of the note that was posted under this op, empty when there is none."""
        self.check()
        return next((str(at) for at, note in enumerate(self.notes) if note.op == op), "")


class MemoryHandler:
    """Posts on a board, one card for identical calls."""

    name = "memory"

    def __init__(self, board: Board, password: str = "") -> None:
        self._board = board
        self._password = password
        self._desk: Desk | None = None

    @property
    def desk(self) -> Desk:
        """The desk it was started with."""
        if self._desk is None:
            raise DeliveryFailed("the channel was not started")
        return self._desk

    async def start(self, desk: Desk) -> None:
        """See `Handler`."""
        if self._password != self._board.password:
            raise ChannelUnusable("memory: the board knows another password; give MemoryHandler that one")
        self._desk = desk

    async def close(self) -> None:
        """See `Handler`."""

    async def notify(self, approval: Approval, to: str = "") -> str:
        """See `Handler`."""
        card = await self.desk.cards.enter(approval, f"{self.name}:{to}" if to else self.name)
        if card.place(BOARD) is None and approval.call.state is CallState.PENDING:
            place = Place(BOARD, secrets.token_hex(8))
            card = await self.desk.cards.change(
                card.id, lambda known: known if known.place(BOARD) else known.placed(place)
            )
        await self._show(card)
        return card.id

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        """See `Handler`."""
        known = await self.desk.cards.find(card) if card else None
        if known is not None:
            await self._show(known)

    async def _show(self, card: Card) -> None:
        """Make the note show the card as it is; post it where it is missing."""
        place = card.place(BOARD)
        if place is None:
            return
        note = await self._note(card, place.op)
        ref = place.ref or self._board.find(place.op) or self._board.post(note)
        if place.ref and place.shown == sha256(note.text.encode()):
            return
        self._board.edit(ref, note)
        shown = replace(place, ref=ref, shown=sha256(note.text.encode()))
        await self.desk.cards.change(card.id, lambda known: known.placed(shown))

    async def _note(self, card: Card, op: str) -> Note:
        """What the card says: the first of its calls that waits and the others like it, else the last one's outcome."""
        every = [await self.desk.approval(id) for id in card.approvals]
        waits = waiting_alike(every)
        message = Message.of((waits or every[-1:])[0], alike=[each.id for each in waits[1:]])
        return Note(to_text(message), bool(waits), op)
