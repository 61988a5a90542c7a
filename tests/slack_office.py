"""An office that decides in Slack: a local Slack, a governor on a real store, a governed function, and cards.

    async with office(tmp_path / "a.db") as here:
        card = await here.ask(amount=5, to="x")
        answer = await here.click(card, "approve", by="U02")

Cards are posted by hand, with the controls that the inbound part reads; what the Slack handler posts is tested with it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from governor_agents import Governor, PolicySet, Run
from governor_agents.adapters.functions import Governed
from governor_agents.core.channels import Card, Desk, Place
from governor_agents.core.records import Approval
from governor_agents.directory import open_people
from governor_agents.handlers.slack.controls import Spot, value
from governor_agents.handlers.slack.inbound import SlackInbound
from governor_agents.handlers.slack.payloads import Answer
from governor_agents.handlers.slack.signature import SigningSecrets
from governor_agents.testing.slack_interactions import Interaction
from governor_agents.testing.slack_server import Message, SlackServer, Workspace
from tests.asking import Silent, ask, refused

TEAM, ALICE, BOB, CAROL = "T01", "U02", "U03", "U04"
ADDRESS = {user: f"slack:{TEAM}/{user}" for user in (ALICE, BOB, CAROL)}
ACTIONS = ("approve", "reject", "edit", "respond", "claim", "release", "comment", "delegate")

POLICY = f"""
version: 1
approvals: {{channels: [slack], approvers: [{ADDRESS[ALICE]}, {ADDRESS[BOB]}]}}
"""


@dataclass(frozen=True)
class Posted:
    """A card where it stands."""

    card: Card
    message: Message
    approval: Approval


def controls(card: str, approvals: Sequence[Approval]) -> list[Any]:
    """The blocks of a card that has nothing but its controls."""
    carried = value(card, approvals)

    def button(name: str) -> Any:
        return {"type": "button", "action_id": name, "value": carried, "text": {"type": "plain_text", "text": name}}

    return [{"type": "actions", "elements": [button(name) for name in ACTIONS]}]


@dataclass
class Office:
    """See the module."""

    slack: SlackServer
    space: Workspace
    governor: Governor
    inbound: SlackInbound
    wire: Governed
    afters: list[asyncio.Future[Any]] = field(default_factory=list)

    @property
    def desk(self) -> Desk:
        return self.governor.desk

    async def ask(self, channel: str = "C1", **arguments: Any) -> Posted:
        """A call that waits, with its card in a channel."""
        asked = await self.wire.ask(**(arguments or {"amount": 5, "to": secrets.token_hex(4)}))
        return await self.post(await self.governor.approval(asked.approval), channel)

    async def ask_of(self, *people: str, channel: str = "C1") -> Posted:
        """A call that was asked of exactly these addresses, as a stored record may say: of nobody, too."""
        return await self.post(await ask(self.governor, people=people, channels=("slack",)), channel)

    async def post(self, approval: Approval, channel: str = "C1") -> Posted:
        """The card of an approval, posted anew."""
        card = await self.desk.cards.enter(approval, "slack")
        approvals = [await self.desk.approval(id) for id in card.approvals]
        client = AsyncWebClient(self.space.token, base_url=self.slack.url)
        sent = await client.chat_postMessage(channel=channel, text="card", blocks=controls(card.id, approvals))
        spot = Spot(self.space.team, sent["channel"], sent["ts"])
        place = Place(to=channel, op=secrets.token_hex(4), ref=spot.ref())
        card = await self.desk.cards.change(card.id, lambda known: known.placed(place))
        return Posted(card, self.space.messages(sent["channel"])[-1], approval)

    async def send(self, interaction: Interaction, *, wait: bool = True) -> Answer:
        """Hand a request over as the server does: what is left to do is done after the answer."""
        answer = await self.inbound.handle(interaction.headers, interaction.body)
        if answer.after is not None:
            if wait:
                await answer.after()
            else:
                self.afters.append(asyncio.ensure_future(answer.after()))
        return answer

    async def click(self, posted: Posted, action: str, *, by: str, **more: Any) -> Answer:
        """Somebody clicks."""
        return await self.send(self.slack.click(self.space, posted.message, action, by=by, **more))

    def view(self) -> Any:
        """The modal that was opened last, or put in its place."""
        return list(self.space.views.values())[-1]

    async def submit(self, typed: dict[str, Any] | None = None, *, by: str) -> Any:
        """Somebody submits the open modal; the view as it then stands, None when it closed."""
        view = self.view()
        answer = await self.send(self.slack.submit(self.space, view, typed, by=by))
        assert answer.status == 200, answer
        return self.slack.take(self.space, view, json.loads(json.dumps(answer.body)))

    async def run(self, posted: Posted) -> Run:
        return await self.governor.get(posted.approval.run.id)

    async def call(self, posted: Posted) -> Any:
        """The call of a card as it stands."""
        return (await self.governor.approval(posted.approval.id)).call

    async def refusals(self) -> list[dict[str, Any]]:
        """The stream of refused requests."""
        return await refused(self.governor)

    def told(self, user: str) -> list[str]:
        """What this user alone was told."""
        unseen = [message for each in self.space.conversations.values() for message in each.unseen]
        return [message.text for message in unseen if message.seen_by == user]


@asynccontextmanager
async def office(store: Path | str, policy: str = POLICY, **settings: Any) -> AsyncIterator[Office]:
    """Everything, started and stopped."""
    url = store if isinstance(store, str) else f"sqlite:///{store}"
    patience = settings.pop("patience", 60.0)  # of tests that are not about it, on a slow machine
    directory = open_people(settings.pop("people", None))
    policies = PolicySet.from_text(policy, directory=directory)
    governor = Governor(policies, store=url, **{"handlers": {"slack": Silent()}, "people": directory, **settings})
    with SlackServer() as slack:
        async with office_of(governor, slack, patience=patience) as here:
            yield here


@asynccontextmanager
async def office_of(governor: Governor, slack: SlackServer, *, patience: float = 60.0) -> AsyncIterator[Office]:
    """The office of a governor; several may share one Slack, as tenants and environments do."""
    space = slack.workspaces.get(TEAM) or slack.workspace(TEAM)
    for user, name in ((ALICE, "alice"), (BOB, "bob"), (CAROL, "carol")):
        space.person(user, name)
    if "C1" not in space.conversations:
        space.channel("C1", ALICE, BOB, CAROL)

    @governor.govern()
    async def wire(amount: int, to: str, note: str = "") -> str:
        return f"{amount} to {to}"

    async def client(team: str) -> AsyncWebClient | None:
        known = slack.workspaces.get(team)
        return None if known is None else AsyncWebClient(known.token, base_url=slack.url, retry_handlers=[])

    await governor.open()
    urls = (f"http://127.0.0.1:{slack.port}/response/",)
    secret = SigningSecrets([slack.secret])
    inbound = SlackInbound(governor.desk, client, secret, patience=patience, response_urls=urls)
    here = Office(slack, space, governor, inbound, wire)
    try:
        yield here
    finally:
        slack.calm()
        await inbound.close()
        await asyncio.gather(*here.afters)
        await governor.close()
