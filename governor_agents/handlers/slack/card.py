"""One card in Slack, in every place where it stands: posted once, found again after a crash, kept as the record is.

**Posted once.** A place is written down before its message is posted, and the message carries the place's op in its
metadata. Whoever finds a place without a message looks for one with that op before posting another; should two have
posted at once, the one that is written down second is taken away again.

**As the record is.** What stood there before is compared when what stands there now is written down. If somebody else
drew the card meanwhile, it is drawn anew from the record, so an older drawing never stays on top of a newer one.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from governor_agents.core.channels import Card, Desk, Place
from governor_agents.core.records import Approval
from governor_agents.errors import DeliveryFailed, NotFound
from governor_agents.handlers.links import request_page
from governor_agents.handlers.slack.blocks import Controls, Drawing, draw
from governor_agents.handlers.slack.controls import Spot, value, waiting
from governor_agents.handlers.slack.targets import Target
from governor_agents.handlers.slack.workspaces import SlackRefused, Workspaces
from governor_agents.handlers.words import Commands

log = logging.getLogger(__name__)

EVENT = "governor_card"
"""The type of the metadata that our messages carry."""

PAGES, PAGE = 10, 200
"""How far back a message is looked for: pages, and messages on each."""

MAX_TRIES = 5
"""How often a card is drawn anew because somebody else drew it meanwhile."""

Json = Any

_TOO_LARGE = frozenset({"invalid_blocks", "msg_blocks_too_long", "msg_too_long"})
DELETED = "message_not_found"
_GONE = frozenset({DELETED, "channel_not_found", "is_archived", "cant_update_message", "not_in_channel"})
"""Answers after which there is nothing that could be shown anew there."""


@dataclass(frozen=True, slots=True)
class View:
    """The approvals of a card as they are now; ``first`` is the one that is shown."""

    card: Card
    approvals: tuple[Approval, ...]

    @property
    def first(self) -> Approval:
        """The first that waits; when none does, the first."""
        return (waiting(self.approvals) or self.approvals)[0]

    @property
    def oldest(self) -> Approval:
        """The first that was put on the card and waits: one more identical call leaves it as it is."""
        waits = waiting(self.approvals)
        return next((approval for approval in self.approvals if approval in waits), self.first)

    @property
    def waits(self) -> bool:
        """True while anything on it is to be decided."""
        return bool(waiting(self.approvals))


async def look(desk: Desk, card: Card, given: Approval | None = None) -> View:
    """The card with its approvals, ``given`` as it was handed over. Those no longer kept are left out."""
    found = []
    for id in card.approvals:
        try:
            found.append(given if given is not None and given.id == id else await desk.approval(id))
        except NotFound:
            log.info("slack: %s is no longer kept", id)
    return View(card, tuple(found))


class Showing:
    """Shows a card in its places. One for each request to show it."""

    def __init__(self, desk: Desk, workspaces: Workspaces, view: View) -> None:
        self._desk = desk
        self._workspaces = workspaces
        self.view = view
        self._drawn: dict[tuple[Controls, bool], Drawing] = {}

    def drawing(self, target: Target, *, small: bool = False) -> Drawing:
        """What the card looks like for this target."""
        first = self.view.first
        link = request_page(self._desk.public_url, first.id) if self._desk.public_url else ""
        controls = Controls(
            value(self.view.card.id, self.view.approvals),
            link,
            Commands(tenant=self._desk.tenant).line("inbox show", first.id),
            target.asked,
            target.users if target.channel else (),
        )
        key = (controls, small)
        if key not in self._drawn:  # one for everybody in direct messages
            others = tuple(other for other in self.view.approvals if other.id != first.id)
            self._drawn[key] = draw(first, controls, others=others, small=small)
        return self._drawn[key]

    async def place(self, target: Target, alert: str = "") -> bool:
        """Make sure that the card stands there; True when it did not before, and now tells of ``alert`` as well.

        Raises `DeliveryFailed`, and `SlackRefused` when nothing can be posted there.
        """
        place, fresh = await self._reserve(target.to)
        if place.ref:
            return False
        channel = await self.channel(target)
        spot = None if fresh else await self._found(target.team, channel, place.op, target.thread)
        if spot is not None:
            log.info("slack: a card that was posted before a crash was found again")
            await self._note(place, spot, "", alert)
        else:
            drawing = self.drawing(target)
            await self._note(place, await self._post(target, channel, place.op, drawing), drawing.shown, alert)
        return True

    async def refresh(self, target: Target) -> None:
        """Show the card there as it is, if it stands there. Raises `DeliveryFailed`, `SlackRefused`."""
        await self._find_lost(target)
        for _ in range(MAX_TRIES):
            place = self.view.card.place(target.to)
            spot = Spot.of(place.ref) if place is not None else None
            drawing = self.drawing(target)
            if place is None or spot is None or place.shown == drawing.shown:
                return
            if gone := await self._update(target, spot, drawing):
                if gone == DELETED and self.view.waits and target.asked:  # whoever is reminded gets another
                    await self._forget(place)
                return
            if await self._shown(place, drawing.shown):
                return
            self.view, self._drawn = await look(self._desk, self.view.card), {}
        raise DeliveryFailed("a card was drawn by several workers at once, again and again; it is tried again")

    async def _find_lost(self, target: Target) -> None:
        """Write down where the card stands when Slack took it and nobody heard so; else its buttons would stay."""
        place = self.view.card.place(target.to)
        if place is None or place.ref:
            return
        spot = await self._found(target.team, await self.channel(target), place.op, target.thread)
        if spot is not None:
            await self._note(place, spot, "", "")

    async def channel(self, target: Target) -> str:
        """The conversation of a target: for a person, their direct messages with the app."""
        if target.channel:
            return target.channel
        opened = await self._workspaces.call(target.team, "conversations.open", users=target.user)
        return str(opened["channel"]["id"])

    async def say(self, target: Target, alert: str, blocks: list[Json], text: str) -> None:
        """Tell something in the card's thread, once for this alert. Raises `DeliveryFailed`, `SlackRefused`."""
        card = self.view.card.place(target.to)
        stands = Spot.of(card.ref) if card is not None else None
        if stands is None:
            return
        place, fresh = await self._reserve(alert)
        if place.ref:
            return
        thread = target.thread or stands.ts
        spot = None if fresh else await self._found(stands.team, stands.channel, place.op, thread)
        if spot is None:
            where = {"channel": stands.channel, "thread_ts": thread, "metadata": self._about(place.op)}
            sent = await self._workspaces.call(stands.team, "chat.postMessage", **where, **_said(blocks, text))
            spot = Spot(stands.team, str(sent["channel"]), str(sent["ts"]))
        await self._note(place, spot, "", "")

    # -- steps ------------------------------------------------------------------------------------------------------

    async def _change(self, step: Callable[[Card], Card]) -> Card:
        card = await self._desk.cards.change(self.view.card.id, step)
        self.view = replace(self.view, card=card)
        return card

    async def _reserve(self, to: str) -> tuple[Place, bool]:
        """The place of this name, written down before anything is posted; True when it was not there before."""
        mine = Place(to, secrets.token_hex(12))
        card = await self._change(lambda card: card if card.place(to) else card.placed(mine))
        place = card.place(to) or mine
        return place, place.op == mine.op

    def _about(self, op: str) -> Json:
        """The metadata by which a message of ours is found again."""
        return {"event_type": EVENT, "event_payload": {"card": self.view.card.id, "op": op}}

    async def _post(self, target: Target, channel: str, op: str, drawing: Drawing) -> Spot:
        where: dict[str, Json] = {"channel": channel, **({"thread_ts": target.thread} if target.thread else {})}
        where["metadata"] = self._about(op)
        try:
            sent = await self._call(target, "chat.postMessage", where, drawing)
        except SlackRefused as refused:
            if refused.code not in _TOO_LARGE or not drawing.whole:
                raise
            log.warning("slack: a card was refused (%s) and is posted without its arguments", refused.code)
            sent = await self._call(target, "chat.postMessage", where, self.drawing(target, small=True))
        return Spot(target.team, str(sent["channel"]), str(sent["ts"]))

    async def _update(self, target: Target, spot: Spot, drawing: Drawing) -> str:
        """Show this drawing there; Slack's word for why nothing can be shown there, empty when it could."""
        where = {"channel": spot.channel, "ts": spot.ts}
        try:
            await self._call(target, "chat.update", where, drawing)
        except SlackRefused as refused:
            if refused.code in _TOO_LARGE and drawing.whole:
                await self._call(target, "chat.update", where, self.drawing(target, small=True))
            elif refused.code in _GONE:
                log.info("slack: a card cannot be shown anew (%s)", refused.code)
                return refused.code
            else:
                raise
        return ""

    async def _forget(self, gone: Place) -> None:
        """Write down that there is no message in this place any more."""
        empty = Place(gone.to, secrets.token_hex(12))
        await self._change(lambda card: card.placed(empty) if card.place(gone.to) == gone else card)

    async def _call(self, target: Target, method: str, where: Mapping[str, Json], drawing: Drawing) -> Json:
        said = _said(list(drawing.blocks), drawing.text)
        if method == "chat.update":
            said = {name: said[name] for name in ("blocks", "text", "link_names", "parse")}
        return await self._workspaces.call(target.team, method, **where, **said)

    async def _found(self, team: str, channel: str, op: str, thread: str) -> Spot | None:
        """The message of ours that carries this op, if it can be seen."""
        method, more = ("conversations.replies", {"ts": thread}) if thread else ("conversations.history", {})
        cursor: dict[str, Json] = {}
        for _ in range(PAGES):
            asked = {"channel": channel, "limit": PAGE, "include_all_metadata": True, **more, **cursor}
            try:
                page = await self._workspaces.call(team, method, **asked)
            except SlackRefused as refused:
                log.warning("slack: nobody can say whether a card was posted before (%s)", refused.code)
                return None
            for message in page["messages"]:
                about = message.get("metadata") or {} if self._workspaces.posted(team, message) else {}
                if about.get("event_type") == EVENT and about.get("event_payload", {}).get("op") == op:
                    return Spot(team, channel, str(message["ts"]))
            cursor = {"cursor": (page.get("response_metadata") or {}).get("next_cursor")}
            if not cursor["cursor"]:
                return None
        return None

    async def _note(self, place: Place, spot: Spot, shown: str, alert: str) -> None:
        """Write down where it stands; take it away again when it is written down elsewhere already."""
        noted = replace(place, ref=spot.ref(), shown=shown)

        def step(card: Card) -> Card:
            standing = card.place(place.to)
            if standing is not None and standing.ref:
                return card
            card = card.placed(noted)
            return card.placed(replace(noted, to=alert, shown="")) if alert and card.place(alert) is None else card

        stands = (await self._change(step)).place(place.to)
        if stands is not None and Spot.of(stands.ref) != spot:
            log.warning("slack: a card was posted twice; the second is taken away")
            await self._workspaces.call(spot.team, "chat.delete", channel=spot.channel, ts=spot.ts)

    async def _shown(self, before: Place, shown: str) -> bool:
        """Write down what is shown now; False when somebody else showed something since ``before``."""
        undisturbed = True

        def step(card: Card) -> Card:
            nonlocal undisturbed
            standing = card.place(before.to)
            undisturbed = standing is not None and standing.shown == before.shown
            return card.placed(replace(standing or before, shown=shown))

        await self._change(step)
        return undisturbed


def _said(blocks: list[Json], text: str) -> dict[str, Json]:
    """What every message has: blocks, a text for notifications, and nothing that Slack would look for or unfold."""
    quiet = {"unfurl_links": False, "unfurl_media": False, "link_names": False, "parse": "none", "mrkdwn": False}
    return {"blocks": blocks, "text": text, **quiet}
