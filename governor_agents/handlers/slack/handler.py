"""Slack as an approval channel: direct messages to those who are asked, a channel, or a thread.

    channels: [slack]                               # everyone who is asked, in direct messages
    channels: ["slack:C0123"]                       # a channel (T0123/C0123 where the app is in several workspaces)
    channels: ["slack:T0123/C0123/1700000000.0001"] # a thread

This is the way out. What comes back in is `governor_agents.handlers.slack.inbound`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence

from slack_sdk.web.async_client import AsyncWebClient

from governor_agents.core.channels import Desk
from governor_agents.core.identity import SLACK
from governor_agents.core.records import Approval, CallState
from governor_agents.errors import ChannelUnusable, DeliveryFailed, DirectoryUnreadable
from governor_agents.handlers.links import request_page
from governor_agents.handlers.slack import alerts, home
from governor_agents.handlers.slack.card import Showing, look
from governor_agents.handlers.slack.controls import Spot, waiting
from governor_agents.handlers.slack.targets import Target, channel_of, people_of, standing
from governor_agents.handlers.slack.workspaces import API, TIMEOUT, SlackRefused, Workspaces

log = logging.getLogger(__name__)


class SlackHandler:
    """Shows requests and outcomes in Slack.

    ``tokens`` are the bot tokens, one per workspace (default ``$SLACK_BOT_TOKEN``, commas between them); ``url`` is the
    base of the Web API (default ``$SLACK_API_URL``, else Slack's own), which must answer within ``timeout`` seconds.
    Raises `ChannelUnusable` without a token.
    """

    name = SLACK

    def __init__(self, tokens: Sequence[str] | None = None, *, url: str | None = None, timeout: int = TIMEOUT) -> None:
        given = os.environ.get("SLACK_BOT_TOKEN", "").split(",") if tokens is None else tokens
        base = url or os.environ.get("SLACK_API_URL") or API
        self.workspaces = Workspaces([token.strip() for token in given if token.strip()], url=base, timeout=timeout)
        self._desk: Desk | None = None

    @property
    def desk(self) -> Desk:
        """The desk it was started with. Raises `DeliveryFailed` before that."""
        if self._desk is None:
            raise DeliveryFailed("the Slack channel was not started")
        return self._desk

    def client(self, team: str) -> AsyncWebClient | None:
        """The client of a workspace by its team id, None where the app is not installed."""
        return self.workspaces.client(team)

    async def start(self, desk: Desk) -> None:
        """See `Handler`. When Slack does not answer now, it is asked again before the first card."""
        self._desk = desk
        try:
            await self.workspaces.open()
        except DeliveryFailed as error:
            log.warning("slack: %s; it is asked again later", error)

    async def close(self) -> None:
        """See `Handler`. Every request has a connection of its own, so there is nothing to let go of."""

    async def notify(self, approval: Approval, to: str = "") -> str:
        """See `Handler`: post where the card is missing, show it as it is, tell whoever is newly asked or reminded."""
        card = await self.desk.cards.enter(approval, self._channel(to))
        showing = Showing(self.desk, self.workspaces, await look(self.desk, card, approval))
        people = await self._deciders(showing)
        targets = await self._targets(people, to)
        if approval.call.state is CallState.PENDING:
            nobody = f"nobody who may decide can be reached in Slack: {', '.join(people) or 'no listed person is left'}"
            await _each(targets, lambda target: self._ask(showing, target), nobody=nobody)
        await self._refresh(showing, targets)
        return card.id

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        """See `Handler`."""
        known = await self.desk.cards.find(card) if card else None
        entered = known or await self.desk.cards.enter(approval, self._channel(to))
        if not entered.places:
            return
        showing = Showing(self.desk, self.workspaces, await look(self.desk, entered, approval))
        await self._refresh(showing, await self._targets(await self._deciders(showing), to))
        if showing.view.waits:
            await self._tell_of_next(showing, to)

    async def show_home(self, team: str, user: str) -> None:
        """Publish somebody's home tab: what waits for them. Raises `DeliveryFailed`, `DirectoryUnreadable`."""
        voter = await self.desk.voter(f"{SLACK}:{team}/{user}")
        waits = await self.desk.inbox(voter.id)
        links = [await self._where(approval, team, user) for approval in waits]
        view = home.home(waits, links)
        try:
            await self.workspaces.call(team, "views.publish", user_id=user, view=view)
        except SlackRefused as refused:
            raise DeliveryFailed(str(refused)) from None

    # -- steps ------------------------------------------------------------------------------------------------------

    def _channel(self, to: str) -> str:
        """The channel as policies name it."""
        return f"{self.name}:{to}" if to else self.name

    async def _deciders(self, showing: Showing) -> tuple[str, ...]:
        """Who can decide any of it now. Raises `DeliveryFailed` when nobody can say."""
        differ = {(each.call.stage, each.call.handed): each for each in waiting(showing.view.approvals)}
        asked = [await self._deciders_of(each) for each in differ.values()]
        return tuple(dict.fromkeys(person for people in asked for person in people))

    async def _deciders_of(self, approval: Approval) -> tuple[str, ...]:
        """Who can decide it now. Raises `DeliveryFailed` when nobody can say."""
        try:
            return await self.desk.deciders(approval)
        except DirectoryUnreadable as error:
            raise DeliveryFailed(str(error)) from None

    async def _targets(self, people: Sequence[str], to: str) -> tuple[Target, ...]:
        """Where the card belongs. Raises `DeliveryFailed`."""
        try:
            await self.workspaces.open()
            if to:
                return (channel_of(to, people, self.desk.reach, self.workspaces.teams),)
            return people_of(people, self.desk.reach)
        except (ChannelUnusable, DirectoryUnreadable) as error:
            raise DeliveryFailed(str(error)) from None

    async def _tell_of_next(self, showing: Showing, to: str) -> None:
        """Ring for an identical call whose turn it is now: nothing was said of it while the one before it waited."""
        oldest = showing.view.oldest
        done = {name for vote in oldest.call.votes for name in (vote.by, vote.seat)}
        left = [person for person in await self._deciders_of(oldest) if person not in done]
        stands = {place.to for place in showing.view.card.places if place.ref}
        targets = [target for target in await self._targets(left, to) if target.users and target.to in stands]
        await _each(targets, lambda target: self._ask(showing, target))

    async def _ask(self, showing: Showing, target: Target) -> None:
        """Post the card there, or tell those who were not told yet."""
        before = list(alerts.told(showing.view.card))
        alert = alerts.due(target, showing.view.oldest, before)
        if await showing.place(target, alert.to if alert else "") or alert is None:
            return
        blocks, text = alerts.telling(alert, showing.view.oldest, before)
        await showing.say(target, alert.to, blocks, text)

    async def _refresh(self, showing: Showing, targets: Sequence[Target]) -> None:
        """Show the card as it is in every place where it stands."""
        places = [place.to for place in showing.view.card.places if not alerts.is_alert(place.to)]
        every = [target for to in places if (target := standing(to, targets)) is not None]
        await _each(every, showing.refresh)

    async def _where(self, approval: Approval, team: str, user: str) -> home.Links:
        """Where this person finds the request: the card in front of them, and the page."""
        page = request_page(self.desk.public_url, approval.id) if self.desk.public_url else ""
        for channel in approval.call.channels:
            if channel.partition(":")[0] != self.name:
                continue
            card = await self.desk.cards.of(approval, channel)  # made by whoever asks: who has one is held no more
            for place in card.places if card is not None else ():
                spot = Spot.of(place.ref)
                mine = place.to == f"{SLACK}:{team}/{user}" or ":" not in place.to
                if spot is not None and spot.team == team and mine and not alerts.is_alert(place.to):
                    return home.Links(self.workspaces.permalink(team, spot.channel, spot.ts), page)
        return home.Links("", page)


async def _each(targets: Iterable[Target], work: Callable[[Target], Awaitable[None]], *, nobody: str = "") -> None:
    """Do it for every target, also when one of them cannot be reached.

    A workspace that wants to be left alone is. Raises `DeliveryFailed` when there was trouble, and when nobody could be
    reached and ``nobody`` says what that means.
    """
    failures: dict[str, DeliveryFailed] = {}
    refusals = []
    reached = 0
    for target in targets:
        try:
            if target.team not in failures:
                await work(target)
                reached += 1
        except SlackRefused as refused:
            log.warning("slack: %s cannot be reached: %s", target.to, refused.code)
            refusals.append(f"{target.to}: {refused.code}")
        except DeliveryFailed as error:
            failures[target.team] = error
    if failures:
        raise max(failures.values(), key=lambda error: error.retry_after or 0.0)
    if nobody and not reached:
        raise DeliveryFailed(f"{nobody} ({'; '.join(refusals)})" if refusals else nobody)
