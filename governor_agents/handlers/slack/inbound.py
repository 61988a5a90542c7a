"""All that comes in from Slack, over HTTP or Socket Mode, without any web framework.

The order is: size, signature over the raw bytes, parsing within limits, who it is, which card, and only then the
governor's transition, which decides whether it counts. Slack is answered when that is durable, or after `PATIENCE`
seconds with "not confirmed yet", while the write goes on; whoever waited is told later what became of it.

A request that Slack did not send, or that no card of ours can have caused, gets its HTTP status (401, 403, 404, 413,
422). A person whose click does not count (too late, not asked, stale) gets words: Slack wants 200 for these and shows
its own error otherwise. Either way nothing was decided and there is one line in the stream of refused requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from governor_agents.core.channels import Desk
from governor_agents.errors import GovernorError
from governor_agents.handlers.answers import UNCONFIRMED, refusal
from governor_agents.handlers.slack.actors import Actor, Actors, Clients
from governor_agents.handlers.slack.behind import CHANNEL
from governor_agents.handlers.slack.clicks import Outcome, action_of, click, spot_of
from governor_agents.handlers.slack.controls import read_value
from governor_agents.handlers.slack.payloads import MAX_BODY, Answer, Payload, Refused, malformed, parse, text_at
from governor_agents.handlers.slack.signature import SigningSecrets
from governor_agents.handlers.slack.submissions import instead, origin_of, submit
from governor_agents.handlers.slack.telling import RESPONSE_URLS, Ear

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds after which Slack is answered though nothing is confirmed. Slack itself gives up after three."""

CLOSING = 30.0
"""Seconds for which a process that ends waits for a store that does not answer."""

Home = Callable[[str, str], Awaitable[None]]
"""Shows the home tab of a user (team id, user id) anew."""


class SlackInbound:
    """Takes what Slack sends. Use it on one loop; `close` waits for writes that are still under way.

    ``clients`` gives the client of a workspace; ``secrets`` are the signing secrets, None where only Socket Mode is
    used; ``home`` shows a home tab.
    """

    def __init__(
        self,
        desk: Desk,
        clients: Clients,
        secrets: SigningSecrets | None,
        *,
        home: Home | None = None,
        patience: float = PATIENCE,
        response_urls: Sequence[str] = RESPONSE_URLS,
    ) -> None:
        self._desk = desk
        self._clients = clients
        self._secrets = secrets
        self._home = home
        self._patience = patience
        self._response_urls = response_urls
        self._actors = Actors(clients)
        self._open: set[asyncio.Task[Settled]] = set()

    async def handle(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer an HTTP request. Raises nothing, whatever it is."""
        if len(body) > MAX_BODY:
            return self._refused("request", Refused(413, "too_large"))
        if self._secrets is None or not self._secrets.vouch(headers, body, time.time()):
            return self._refused("request", Refused(401, "bad_signature"))
        kinds = [text for name, text in headers.items() if name.lower() == "content-type"]
        try:
            payload = parse(kinds[0] if kinds else "", body)
        except Refused as refused:
            return self._refused("request", refused)
        return await self.take(payload)

    async def take(self, payload: Payload) -> Answer:
        """Answer a payload that is proved to come from Slack: by a signature, or by the socket it came over."""
        kind = text_at(payload, "type")
        try:
            match kind:
                case "url_verification":
                    return Answer(body={"challenge": text_at(payload, "challenge")[:500]})
                case "event_callback":
                    return self._event(payload)
                case "block_actions":
                    return await self._click(payload)
                case "view_submission":
                    return await self._submission(payload)
                case "view_closed":
                    return Answer()
            raise malformed("nothing of this kind was asked for")
        except Refused as refused:
            return self._refused(kind, refused)

    async def close(self) -> None:
        """Wait for writes that are under way, for `CLOSING` seconds. Twice is fine."""
        if self._open:
            await asyncio.wait(set(self._open), timeout=CLOSING)

    # -- kinds of request -------------------------------------------------------------------------------------------

    def _event(self, payload: Payload) -> Answer:
        """An event: a home tab that was opened. Delivered again, it is shown again."""
        if text_at(payload, "event", "type") != "app_home_opened" or text_at(payload, "event", "tab") != "home":
            return Answer()
        actor = self._actors.claimed(payload)
        return Answer(after=partial(self._show_home, actor, payload))

    async def _show_home(self, actor: Actor, payload: Payload) -> None:
        try:
            await self._actors.confirm(payload)
            if self._home is not None:
                await self._home(actor.team, actor.user)
        except Refused as refused:
            self._refused("app_home_opened", refused, actor)
        except GovernorError as error:
            log.warning("slack: a home tab could not be shown: %s", error)

    async def _click(self, payload: Payload) -> Answer:
        action, value = action_of(payload)
        actor = self._actors.claimed(payload)
        spot = spot_of(payload, actor)
        ear = self._ear(actor, spot.channel if spot else "", text_at(payload, "response_url"))

        async def work() -> Outcome:
            return await click(self._desk, self._clients, await self._actors.confirm(payload), payload)

        return await self._within(action[:50], _card(value), actor, work, ear, modal=False)

    async def _submission(self, payload: Payload) -> Answer:
        origin = origin_of(payload)
        actor = self._actors.claimed(payload)
        ear = self._ear(actor, origin.spot.channel, "")

        async def work() -> Outcome:
            return await submit(self._desk, await self._actors.confirm(payload), payload)

        asked = text_at(payload, "view", "callback_id")[:50]
        return await self._within(asked, _card(origin.value), actor, work, ear, modal=True)

    def _ear(self, actor: Actor, channel: str, response_url: str) -> Ear:
        return Ear(self._clients, actor, channel, response_url, self._response_urls)

    # -- in time ----------------------------------------------------------------------------------------------------

    async def _within(
        self, asked: str, card: str, actor: Actor, work: Callable[[], Awaitable[Outcome]], ear: Ear, *, modal: bool
    ) -> Answer:
        """Do the work, and answer when it is done, or in time. What was begun goes on, whoever hangs up."""
        task = asyncio.ensure_future(self._settled(asked, card, actor, work))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        done, _ = await asyncio.wait({task}, timeout=self._patience)
        if done:
            return task.result().answer(ear, modal=modal)
        body = instead("Not confirmed yet", UNCONFIRMED) if modal else None
        return Answer(body=body, after=partial(_later, task, ear, told=modal))

    async def _settled(self, asked: str, card: str, actor: Actor, work: Callable[[], Awaitable[Outcome]]) -> Settled:
        """The outcome, or why there is none. Raises nothing. What the desk refused, it has noted itself."""
        try:
            return Settled(await work())
        except Refused as refused:
            self._refused(asked, refused, actor, card)
            return Settled(status=refused.status, code=refused.code, words=refused.text)
        except GovernorError as error:
            found = refusal(error)
            return Settled(code=found.code, words=found.text)
        except Exception as error:  # a fault of ours: what became of it is not known, and nobody is told more than that
            log.error("slack: %s could not be answered: %s", asked, type(error).__name__)
            return Settled(code="fault", words=UNCONFIRMED)

    def _refused(self, asked: str, refused: Refused, actor: Actor | None = None, card: str = "") -> Answer:
        """One line in the stream of refused requests, and the status. No word of the request is repeated."""
        by = actor.address if actor is not None else ""
        self._desk.refused(f"slack {asked}".strip(), refused.code, card, by=by, channel=CHANNEL)
        return Answer(refused.status, {"error": refused.code}, refused=refused.code)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a request came to: an outcome, or the reason why it does not count."""

    outcome: Outcome | None = None
    status: int = 200
    code: str = ""
    words: str = ""

    def answer(self, ear: Ear, *, modal: bool) -> Answer:
        """What Slack is answered in time."""
        if self.outcome is not None:
            return Answer(body=self.outcome.body, after=self.outcome.then)
        if modal and self.status == 200:
            return Answer(body=instead("It does not count", self.words), refused=self.code)
        body = None if self.status == 200 else {"error": self.code}
        return Answer(self.status, body, partial(ear.tell, self.words) if self.words else None, self.code)

    def later(self) -> str:
        """What whoever was told "not confirmed yet" is told in the end."""
        if self.outcome is None:
            return self.words
        return self.outcome.words or "That took too long, and nothing was recorded by it. Please try again."


async def _later(task: asyncio.Task[Settled], ear: Ear, *, told: bool) -> None:
    """Say that nothing is confirmed, and once it is known what became of it, say that."""
    if not told:
        await ear.tell(UNCONFIRMED)
    await ear.tell((await task).later())


def _card(value: str) -> str:
    """The card's id out of a control's value, for the stream of refused requests; empty when it is none."""
    found = read_value(value)
    return found[0] if found else ""
