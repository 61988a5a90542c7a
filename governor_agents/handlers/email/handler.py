"""E-mail as an approval channel: one mail per person and news, all mails about a request in one thread.

A card has a place per person, which notes the thread of their mails and what they were last told; what the records say
beyond that is mailed. It is noted once the server has the mail: when a process dies in between, the mail is sent again
under the same Message-ID, and replaces the first wherever mails are told apart by it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from governor_agents.core.channels import Card, Desk
from governor_agents.core.identity import EMAIL
from governor_agents.core.records import Approval, CallState, waiting_alike
from governor_agents.errors import ChannelUnusable, DeliveryFailed, DirectoryUnreadable, NotFound
from governor_agents.handlers.email import bounces, letter, mime, post
from governor_agents.handlers.email.settings import EXAMPLE, VARIABLE, SmtpSettings, is_address
from governor_agents.handlers.email.threads import Draft, Thread, drafts
from governor_agents.handlers.email.ways import Link, login_ways, ways
from governor_agents.handlers.links import confirm_page
from governor_agents.handlers.message import Message, visible

log = logging.getLogger("governor_agents.handlers.email")

PURPOSE = "decide"
"""What the tokens in mails are for."""

LINK_LIVES = 86_400.0
"""Seconds for which a link may be used at most; never longer than the request waits."""

RESENT = 2
"""How often a request is mailed again to an address whose mails came back."""

LONGEST_SUBJECT = 200
"""Characters of a subject beyond which it names the request alone."""

Approvals = Mapping[str, Approval]


class EmailHandler:
    """Sends requests and outcomes through one SMTP server, from ``url`` or ``$GOVERNOR_SMTP_URL``.

    Raises `ChannelUnusable` when there is none, or it cannot be read. See `SmtpSettings` for what it may say.
    """

    name = "email"

    def __init__(self, url: str | None = None) -> None:
        found = os.environ.get(VARIABLE, "") if url is None else url
        if not found:
            raise ChannelUnusable(f"email: set {VARIABLE}, such as {EXAMPLE}")
        self.settings = SmtpSettings.of(found)
        self._desk: Desk | None = None

    async def start(self, desk: Desk) -> None:
        """Take hold of the desk; log in once. A server that is away now is no reason to give up: mails wait for it."""
        self._desk = desk
        if not desk.public_url:
            log.warning("mails hold no links that decide: set GOVERNOR_PUBLIC_URL to where people reach the pages")
        try:
            await post.try_out(self.settings)
        except DeliveryFailed as error:
            log.warning("email: %s", error)

    async def close(self) -> None:
        """Sessions end with each delivery; nothing is left to let go of."""

    async def notify(self, approval: Approval, to: str = "") -> str:
        """Mail everyone who is asked now and has not been told, and whoever was asked before what is new."""
        desk = self._at(to)
        card = await desk.cards.enter(approval, self.name)
        people = await self._deciders(desk, approval)
        waits = approval.call.state is CallState.PENDING
        if waits and not any(self._address(desk, person) for person in people):
            self._nobody(approval)
        await self._tell(desk, approval, card, (*people, *_placed(card)))
        return card.id

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        """Mail what is new to everyone who has a mail about it."""
        desk = self._at(to)
        found = await desk.cards.find(card) if card else None
        found = found or await desk.cards.enter(approval, self.name)
        await self._tell(desk, approval, found, _placed(found))

    async def bounced(self, raw: bytes) -> bounces.Bounce | None:
        """Take a mail that came back to the sender's address; what it reports, None when it is no report about ours.

        The address is flagged in the stream of refused requests, and the request is mailed to it again, at most
        `RESENT` times. Raises `DeliveryFailed`.
        """
        desk = self._at("")
        bounce = bounces.read(raw)
        card = await desk.cards.find(mime.card_of(bounce.message_id)) if bounce and bounce.failed else None
        if bounce is None or card is None:
            return None
        for place in card.places:
            thread = Thread.of(place)
            if thread and thread.address == bounce.address and bounce.message_id in (thread.root, thread.last):
                await self._came_back(desk, card, place.to, thread)
                return bounce
        return None

    async def send_login(self, address: str, url: str, within: float) -> None:
        """Mail a link that logs somebody in, good for ``within`` seconds. Raises `DeliveryFailed`."""
        if not is_address(address):
            raise DeliveryFailed("a login link was asked for something that is no e-mail address")
        made = letter.compose_note("Log in to look at requests", login_ways(url, within))
        id = mime.message_id("login", self.settings.domain, url)
        raw = mime.mail(made, mime.Envelope(self.settings.sender, address, id))
        async with post.session(self.settings) as session:
            reply = await session.send(address, raw)
        if not reply.taken:
            raise DeliveryFailed(f"a login link to {address} was not taken: {reply.words}")

    def _at(self, to: str) -> Desk:
        if to:
            named = visible(to)[:60]
            raise ChannelUnusable(f"email writes to those who are asked and takes no target; not email:{named}")
        if self._desk is None:
            raise ChannelUnusable("email: start the handler before it is used")
        return self._desk

    def _address(self, desk: Desk, person: str) -> str:
        """Where somebody gets mail, empty when nowhere. Raises `DeliveryFailed`."""
        try:
            return next(filter(is_address, desk.reach(person, EMAIL)), "")
        except DirectoryUnreadable as error:
            raise DeliveryFailed(str(error)) from None

    async def _deciders(self, desk: Desk, approval: Approval) -> tuple[str, ...]:
        """Who can decide it now. Raises `DeliveryFailed` when nobody can say."""
        try:
            return await desk.deciders(approval) if approval.call.state is CallState.PENDING else ()
        except DirectoryUnreadable as error:
            raise DeliveryFailed(str(error)) from None

    def _nobody(self, approval: Approval) -> None:
        """Say that mail reaches none of those who are asked; trouble unless another channel may reach them."""
        why = f"none of those who are asked has an e-mail address: {', '.join(approval.people) or 'nobody is asked'}"
        if set(approval.call.channels) <= {self.name}:
            raise DeliveryFailed(visible(why))
        log.warning("%s: %s", approval.id, visible(why))

    async def _tell(self, desk: Desk, approval: Approval, card: Card, people: tuple[str, ...]) -> None:
        """Send every mail that is due, and note what there is to note."""
        approvals = {**await _approvals(desk, card, but=approval.id), approval.id: approval}
        deciders = {id: await self._deciders(desk, each) for id, each in approvals.items()}
        reach = partial(self._address, desk)
        made = list(drafts(card, approvals, people, reach, self.settings.domain, deciders))
        for draft in made:
            if not draft.news:
                await desk.cards.change(card.id, draft.noted)
        if due := [draft for draft in made if draft.news]:
            await self._send(desk, approval, approvals, card, due)

    async def _send(self, desk: Desk, approval: Approval, approvals: Approvals, card: Card, due: list[Draft]) -> None:
        """Send these mails; what one address refuses stops no other.

        Raises `DeliveryFailed` for what may pass, and while nobody has a mail.
        """
        later: list[str] = []
        refused: list[str] = []
        reached = bool(card.places)
        async with post.session(self.settings) as session:
            for draft in due:
                token, made = await self._letter(desk, approval, approvals, card, draft)
                envelope = mime.Envelope(
                    self.settings.sender, draft.thread.address, draft.message_id, draft.thread.root
                )
                about = (visible(approval.id), visible(approval.call.digest))
                reply = await session.send(draft.thread.address, mime.mail(made, envelope, *about))
                if reply.taken:
                    reached = True
                    await desk.cards.change(card.id, draft.sent().noted)
                    continue
                if token:
                    await desk.tokens.revoke(token)
                (refused if reply.final else later).append(f"{draft.thread.address}: {reply.words}")
                if reply.final:
                    log.warning("%s: the mail to %s is refused: %s", approval.id, draft.thread.address, reply.words)
                    desk.refused("mail", "address_refused", approval.id, by=draft.thread.address, channel=self.name)
        if later or not reached:
            raise DeliveryFailed("; ".join([*later, *refused]))

    async def _letter(
        self, desk: Desk, approval: Approval, approvals: Approvals, card: Card, draft: Draft
    ) -> tuple[str, letter.Letter]:
        """The words for one person, with a fresh link where the whole request fits; and the token in it."""
        asked = [id for id, standing in draft.standings.items() if standing.asked]
        first = approvals[asked[0]] if asked and approval.id not in asked else approval
        others = (each for id, each in approvals.items() if id in asked or not asked)
        alike = [each.id for each in waiting_alike([first, *others]) if each.id != first.id]
        waits, room = first.call.state is CallState.PENDING, len(first.call.args) <= letter.MOST
        message = Message.of(first, alike=alike if waits else (), paths=room)
        message = replace(message, outcome=message.lasting)  # no mail follows when the call runs
        shown = letter.fitting(message, draft.news)
        token, link = "", None
        if asked and shown is not None and desk.public_url:
            whole = all(each.like(first) for each in approvals.values() if each.call.state is CallState.PENDING)
            token, until = await self._token(desk, card.id if whole else first.id, first, draft.thread.address)
            link = Link(confirm_page(desk.public_url, token), until) if token else None
        by = ways(
            message, first.id, desk.tenant, desk.public_url, asked=bool(asked), whole=shown is not None, link=link
        )
        subject = _subject(card, approval)
        if shown is None:
            return token, letter.compose_brief(subject, message, draft.news, by)
        return token, letter.compose(subject, shown, draft.news, by)

    async def _token(self, desk: Desk, subject: str, approval: Approval, address: str) -> tuple[str, float]:
        """A fresh token for a card or one approval, and until when it counts; empty when the deadline is over.

        It is for whoever has the address when it is used: one that was taken from a person decides nothing any more.
        """
        now, ends = await desk.now(), approval.deadline
        until = now + LINK_LIVES if ends is None else min(now + LINK_LIVES, ends)
        if until <= now:
            return "", now
        text = await desk.tokens.issue(
            PURPOSE, address, subject, within=LINK_LIVES, digest=approval.call.digest, not_after=ends
        )
        return text, until

    async def _came_back(self, desk: Desk, card: Card, person: str, thread: Thread) -> None:
        """Flag the address, and forget what it was told, so that it is mailed again."""
        worse = replace(thread, bounced=thread.bounced + 1)
        card = await desk.cards.change(card.id, lambda now: worse.forgotten(now, person))
        for id in card.approvals:
            log.warning("%s: a mail to %s came back", id, thread.address)
            desk.refused("mail", "bounced", id, by=thread.address, channel=self.name)
        approvals = await _approvals(desk, card)
        if worse.bounced <= RESENT and approvals:
            await self._tell(desk, next(iter(approvals.values())), card, (person,))


async def _approvals(desk: Desk, card: Card, but: str = "") -> dict[str, Approval]:
    """What the card is about, by id, without one; a run that was kept for long enough is gone."""
    found: dict[str, Approval] = {}
    for id in card.approvals:
        with suppress(NotFound):
            if id != but:
                found[id] = await desk.approval(id)
    return found


def _subject(card: Card, approval: Approval) -> str:
    """The subject of a thread: the same for each of its mails, whatever becomes of the arguments."""
    id = visible(f"Approval {card.approvals[0]}")
    whole = id + visible(f": {approval.run.agent or 'a function'} asks to run {approval.tool}")
    return whole if len(whole) <= LONGEST_SUBJECT else id


def _placed(card: Card) -> tuple[str, ...]:
    return tuple(place.to for place in card.places)
