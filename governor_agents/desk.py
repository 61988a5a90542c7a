"""What an approval channel may ask of the governor, and nothing else: see `core.channels.Desk`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from governor_agents import cards, limits, tokens
from governor_agents.core import channels
from governor_agents.core.calls import Json, thaw
from governor_agents.core.channels import Card, Token
from governor_agents.core.identity import Voter
from governor_agents.core.records import Approval, Decision
from governor_agents.core.urls import origin_of
from governor_agents.deciding import Deciding
from governor_agents.errors import NotFound, SnapshotError

if TYPE_CHECKING:
    from governor_agents.governor import Governor

T = TypeVar("T")


async def _there(governor: Governor, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Do this on the governor loop, when the store is open."""
    await governor.open()
    return await governor.loop.bridge(work())


class Desk:
    """The desk of one governor. Its coroutines may be awaited on any loop."""

    def __init__(self, governor: Governor, public_url: str = "") -> None:
        self._governor = governor
        self.tenant = governor.tenant
        if public_url:
            origin_of(public_url)  # a link that everybody on the way could read is mailed to nobody
        self.public_url = public_url.rstrip("/")
        self._cards = cards.Cards(governor.runs)
        self.cards: channels.Cards = _Cards(governor, self._cards)
        self.tokens: channels.Tokens = _Tokens(governor)
        self._limits = limits.Limits(governor.runs)
        self._deciding = Deciding(governor, self.approval)

    async def now(self) -> float:
        """See `core.channels.Desk`."""
        return await _there(self._governor, lambda: self._governor.runs.now())

    async def approval(self, id: str) -> Approval:
        """See `core.channels.Desk`."""
        found = await self._governor.approval(id)
        if found.run.env != self._governor.env:
            raise NotFound(f"no approval {id} in environment {self._governor.env!r}")
        return found

    async def inbox(self, person: str) -> list[Approval]:
        """See `core.channels.Desk`."""
        found = await self._governor.inbox(person=person)
        return [approval for approval in found if approval.run.env == self._governor.env]

    async def voter(self, address: str) -> Voter:
        """See `core.channels.Desk`."""
        return self._governor.identities.voter(address, await self.now())

    def reach(self, person: str, kind: str) -> tuple[str, ...]:
        """See `core.channels.Desk`."""
        return self._governor.identities.reach(person, kind)

    async def deciders(self, approval: Approval) -> tuple[str, ...]:
        """See `core.channels.Desk`."""
        identities, now = self._governor.identities, await self.now()
        away = (substitute for person in approval.people for substitute in identities.substitutes(person, now))
        people = dict.fromkeys((*approval.people, *away))
        return tuple([person for person in people if await self._deciding.those_for(person, [approval])])

    async def decide(self, id: str, decision: Decision, *, by: str, digest: str, channel: str) -> Approval:
        """See `core.channels.Desk`."""
        return await self._deciding.decide(id, decision, by=by, digest=digest, channel=channel)

    async def take_up(self, id: str, *, by: str, channel: str, release: bool = False) -> Approval:
        """See `core.channels.Desk`."""
        return await self._deciding.take_up(id, by=by, release=release, channel=channel)

    async def comment(self, id: str, text: str, *, by: str, channel: str) -> Approval:
        """See `core.channels.Desk`."""
        return await self._deciding.comment(id, text, by=by, channel=channel)

    async def delegate(self, id: str, *, to: str, by: str, channel: str) -> Approval:
        """See `core.channels.Desk`."""
        return await self._deciding.hand_over(id, to=to, by=by, seat="", moved=False, channel=channel)

    async def tool_schema(self, approval: Approval) -> Json:
        """See `core.channels.Desk`."""
        if not approval.call.schema_sha256:
            return None
        try:
            text = await self._governor.loop.bridge(
                self._governor.runs.blob(approval.run.id, approval.call.schema_sha256)
            )
        except SnapshotError:  # frozen by a version, or in a way, that did not keep it
            return None
        return thaw(text)

    def refused(self, asked: str, reason: str, id: str, *, by: str = "", channel: str = "") -> None:
        """See `core.channels.Desk`."""
        self._governor.audit.refusals.note(asked, reason, id, by=by, channel=channel)

    async def take(self, name: str, most: int, per: float) -> float:
        """See `core.channels.Desk`."""
        return await self.count(name, most, per, "")

    async def count(self, name: str, most: int, per: float, op: str) -> float:
        """The same, where an ``op`` that comes again soon is counted once."""
        return await _there(self._governor, lambda: self._limits.take(name, most, per, op))

    async def joins(self, approval: Approval, channel: str) -> bool:
        """True when people have a card already that takes this call."""
        return await _there(self._governor, lambda: self._cards.joins(approval, channel))

    @asynccontextmanager
    async def turn(self, approval: Approval, channel: str, seconds: float) -> AsyncIterator[bool]:
        """Work alone, in all processes, on what identical calls share: False when somebody else does."""
        await self._governor.open()
        bridge = self._governor.loop.bridge
        turn = await bridge(self._cards.take_turn(approval, channel, seconds))
        try:
            yield turn is not None
        finally:
            if turn is not None:
                await bridge(self._cards.end_turn(turn))


class _Cards:
    """The cards, from any loop."""

    def __init__(self, governor: Governor, kept: cards.Cards) -> None:
        self._governor = governor
        self._cards = kept

    async def enter(self, approval: Approval, channel: str) -> Card:
        return await _there(self._governor, lambda: self._cards.enter(approval, channel))

    async def of(self, approval: Approval, channel: str) -> Card | None:
        """See `core.channels.Cards`."""
        return await _there(self._governor, lambda: self._cards.of(approval, channel))

    async def find(self, id: str) -> Card | None:
        return await _there(self._governor, lambda: self._cards.find(id))

    async def change(self, id: str, step: Callable[[Card], Card]) -> Card:
        return await _there(self._governor, lambda: self._cards.change(id, step))


class _Tokens:
    """The tokens, from any loop."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self._tokens = tokens.Tokens(governor.runs)

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
        holder = self._governor.identities.canonical(person)
        issue = partial(self._tokens.issue, purpose, person, subject, within=within, digest=digest, holder=holder)
        return await _there(self._governor, lambda: issue(not_after=not_after))

    async def look(self, text: str, purpose: str) -> Token:
        token = await _there(self._governor, lambda: self._tokens.look(text, purpose))
        if token.holder and token.holder not in self._governor.identities.names(token.person):
            raise NotFound(tokens.UNKNOWN)
        return token

    async def use(self, text: str, purpose: str, answer: str) -> Token:
        return await _there(self._governor, lambda: self._tokens.use(text, purpose, answer))

    async def release(self, text: str, purpose: str, answer: str) -> None:
        await _there(self._governor, lambda: self._tokens.release(text, purpose, answer))

    async def mistake(self, text: str, purpose: str, most: int) -> Token:
        return await _there(self._governor, lambda: self._tokens.mistake(text, purpose, most))

    async def revoke(self, text: str) -> None:
        await _there(self._governor, lambda: self._tokens.revoke(text))
