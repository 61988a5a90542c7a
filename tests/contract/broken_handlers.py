"""Handlers with one fault each, and the kit over them: `test_handler_kit_controls.py` runs this file and expects failures.

Its name keeps it out of ordinary runs. Each class ``Test…`` names in ``caught_by`` the tests that must notice its fault.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

import pytest

from governor_agents.core.channels import Card, Desk, Handler, Place
from governor_agents.core.records import Approval, Decision
from governor_agents.errors import ChannelUnusable, DeliveryFailed
from governor_agents.handlers.message import Message, to_text
from governor_agents.testing import Channel, HandlerConformance, Shown
from governor_agents.testing.memory_channel import BOARD, Board, MemoryHandler, Note

PASSWORD = "a password that nobody may see"


class Kit(HandlerConformance):
    """The kit over the memory channel, with the handler of the class."""

    time_limit = 20.0
    driver: ClassVar[type[MemoryHandler]] = MemoryHandler
    caught_by: ClassVar[Iterable[str]] = ()

    @pytest.fixture
    def channel(self) -> Channel:
        return Memory(self.driver)


class Memory(Channel):
    secrets = (PASSWORD,)

    def __init__(self, driver: type[MemoryHandler]) -> None:
        self.board = Board(PASSWORD)
        self.driver = driver

    def handler(self) -> Handler:
        return self.driver(self.board, PASSWORD)

    def shown(self) -> Sequence[Shown]:
        return [Shown(note.text, note.asks) for note in self.board.notes]

    def down(self) -> None:
        self.board.away = True

    def up(self) -> None:
        self.board.away = False

    def unusable(self) -> Handler | None:
        return self.driver(self.board, f"{PASSWORD}, but wrong")


class TestSound(Kit):
    """The control of the controls: without a fault nothing fails."""

    time_limit = 60.0


class Cuts(MemoryHandler):
    async def _note(self, card: Card, op: str) -> Note:
        note = await super()._note(card, op)
        return replace(note, text=note.text[:1000])


class TestCuts(Kit):
    """Long requests are cut, and can be decided."""

    driver = Cuts
    caught_by = ("test_notify_shows_the_whole_request", "test_notify_never_asks_about_a_part")


class ShowsRaw(MemoryHandler):
    async def _note(self, card: Card, op: str) -> Note:
        note = await super()._note(card, op)
        approval = await self.desk.approval(card.approvals[-1])
        return replace(note, text=f"{note.text}{approval.call.args.decode()}")


class TestShowsRaw(Kit):
    """Characters that hide, or turn a line round, are shown as they are."""

    driver = ShowsRaw
    caught_by = ("test_notify_shows_the_whole_request",)


class PostsAgain(MemoryHandler):
    async def notify(self, approval: Approval, to: str = "") -> str:
        self._board.post(Note(to_text(Message.of(approval)), True, ""))
        return await super().notify(approval, to)


class TestPostsAgain(Kit):
    """Each notice is another card."""

    driver = PostsAgain
    caught_by = ("test_notify_again_adds_nothing", "test_update_shows_the_outcome")


class NeverEdits(MemoryHandler):
    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        return None


class TestNeverEdits(Kit):
    """Nobody hears of outcomes."""

    driver = NeverEdits
    caught_by = ("test_update_shows_the_outcome", "test_trouble_of_an_update_is_said")


class KeepsButtons(MemoryHandler):
    async def _note(self, card: Card, op: str) -> Note:
        return replace(await super()._note(card, op), asks=True)


class TestKeepsButtons(Kit):
    """What is decided can still be decided."""

    driver = KeepsButtons
    caught_by = ("test_update_shows_the_outcome", "test_a_crash_between_posting_and_noting")


class AsksAnyhow(MemoryHandler):
    async def notify(self, approval: Approval, to: str = "") -> str:
        card = await self.desk.cards.enter(approval, self.name)
        place = Place(BOARD, secrets.token_hex(8))
        ref = self._board.post(Note(to_text(Message.of(approval)), True, place.op))
        await self.desk.cards.change(card.id, lambda known: known.placed(replace(place, ref=ref)))
        return card.id


class TestAsksAnyhow(Kit):
    """The notice counts, not the record."""

    driver = AsksAnyhow
    caught_by = ("test_notify_does_not_ask_about_what_is_decided",)


class PostsOutcomes(MemoryHandler):
    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        if not card:
            self._board.post(Note(to_text(Message.of(approval)), True, ""))
        await super().update(approval, card, to)


class TestPostsOutcomes(Kit):
    """What was never posted is posted when it is decided, with buttons."""

    driver = PostsOutcomes
    caught_by = ("test_update_asks_nobody",)


class ShowsOldBytes(MemoryHandler):
    async def _show(self, card: Card) -> None:
        place = card.place(BOARD)
        if place is not None and place.ref and (await self.desk.approval(card.approvals[0])).call.votes:
            note = self._board.notes[int(place.ref)]
            waits = (await self.desk.approval(card.approvals[0])).call.state == "pending"
            self._board.edit(place.ref, note if waits else await self._note(card, place.op))
            return
        await super()._show(card)


class TestShowsOldBytes(Kit):
    """An edited request stands there as it was."""

    driver = ShowsOldBytes
    caught_by = ("test_update_shows_an_edited_request",)


class CardPerCall(MemoryHandler):
    async def notify(self, approval: Approval, to: str = "") -> str:
        card = await self.desk.cards.enter(approval, f"{self.name}:{approval.id}")
        place = card.place(BOARD) or Place(BOARD, secrets.token_hex(8))
        await self._show(await self.desk.cards.change(card.id, lambda known: known.placed(place)))
        return card.id


class TestCardPerCall(Kit):
    """Identical calls flood people with cards."""

    driver = CardPerCall
    caught_by = ("test_identical_calls_share_what_is_shown",)


class OneDecidesAll(MemoryHandler):
    async def _note(self, card: Card, op: str) -> Note:
        first = await self.desk.approval(card.approvals[0])
        note = await super()._note(card, op)
        return note if first.call.state == "pending" else Note(to_text(Message.of(first)), False, op)


class TestOneDecidesAll(Kit):
    """When the first of several identical calls is decided, nobody is asked about the others any more."""

    driver = OneDecidesAll
    caught_by = ("test_identical_calls_share_what_is_shown",)


class RaisesItsOwn(MemoryHandler):
    async def notify(self, approval: Approval, to: str = "") -> str:
        try:
            return await super().notify(approval, to)
        except DeliveryFailed:
            raise ConnectionResetError from None


class TestRaisesItsOwn(Kit):
    """Trouble is whatever the library raises."""

    driver = RaisesItsOwn
    caught_by = ("test_trouble_is_said_and_decides_nothing",)


class Swallows(MemoryHandler):
    async def notify(self, approval: Approval, to: str = "") -> str:
        try:
            return await super().notify(approval, to)
        except DeliveryFailed:
            return "delivered"


class TestSwallows(Kit):
    """Trouble is kept to itself, and the request is lost."""

    driver = Swallows
    caught_by = ("test_trouble_is_said_and_decides_nothing",)


class Decides(MemoryHandler):
    async def notify(self, approval: Approval, to: str = "") -> str:
        try:
            return await super().notify(approval, to)
        except DeliveryFailed:
            decision, by = Decision.reject("nobody was reached"), approval.people[0]
            await self.desk.decide(approval.id, decision, by=by, digest=approval.call.digest, channel=self.name)
            raise


class TestDecides(Kit):
    """Who cannot be reached has rejected."""

    driver = Decides
    caught_by = ("test_trouble_is_said_and_decides_nothing",)


class Tells(MemoryHandler):
    async def notify(self, approval: Approval, to: str = "") -> str:
        try:
            return await super().notify(approval, to)
        except DeliveryFailed as error:
            raise DeliveryFailed(f"{error} (tried with {self._password})") from None


class TestTells(Kit):
    """An error quotes the password."""

    driver = Tells
    caught_by = ("test_trouble_is_said_and_decides_nothing",)


class NeverAdopts(MemoryHandler):
    async def notify(self, approval: Approval, to: str = "") -> str:
        self._board.find = lambda op: ""  # type: ignore[method-assign]
        card = await self.desk.cards.enter(approval, self.name)
        self._board.post(await self._note(card, ""))  # and notes it when it is too late
        await self.desk.cards.change(card.id, lambda known: known.placed(Place(BOARD, secrets.token_hex(8))))
        return card.id


class TestNeverAdopts(Kit):
    """What was posted before a crash is found by nobody."""

    driver = NeverAdopts
    caught_by = ("test_a_crash_between_posting_and_noting",)


class StartsOnce(MemoryHandler):
    async def start(self, desk: Desk) -> None:
        if self._desk is not None:
            raise RuntimeError("it was started already")
        await super().start(desk)


class TestStartsOnce(Kit):
    """A second start raises."""

    driver = StartsOnce
    caught_by = ("test_start_and_close_may_be_repeated",)


class BelievesAnything(MemoryHandler):
    async def start(self, desk: Desk) -> None:
        self._desk = desk


class TestBelievesAnything(Kit):
    """A wrong password is found when somebody is to be asked."""

    driver = BelievesAnything
    caught_by = ("test_start_finds_wrong_settings",)


class QuotesPassword(MemoryHandler):
    async def start(self, desk: Desk) -> None:
        try:
            await super().start(desk)
        except ChannelUnusable as error:
            raise ChannelUnusable(f"{error}\nit was {self._password}") from None


class TestQuotesPassword(Kit):
    """A wrong setting is said on two lines, one of which quotes it."""

    driver = QuotesPassword
    caught_by = ("test_start_finds_wrong_settings",)


class Nameless(MemoryHandler):
    name = "Memory"


class TestNameless(Kit):
    """It has another name than policies call it by."""

    driver = Nameless
    caught_by = ("test_it_is_a_handler",)


class SaysOnlyThat(MemoryHandler):
    async def _note(self, card: Card, op: str) -> Note:
        note = await super()._note(card, op)
        return note if note.asks else replace(note, text="This request was rejected.")


class TestSaysOnlyThat(Kit):
    """An outcome without who decided, and why."""

    driver = SaysOnlyThat
    caught_by = ("test_update_shows_the_outcome",)


class LeavesOut(MemoryHandler):
    async def notify(self, approval: Approval, to: str = "") -> str:
        return "" if len(approval.call.args) > 10_000 else await super().notify(approval, to)


class TestLeavesOut(Kit):
    """What is too large is told to nobody."""

    driver = LeavesOut
    caught_by = ("test_notify_never_asks_about_a_part",)
