"""The demo in Slack: a local server that behaves like Slack and somebody who clicks there, or the real one."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from governor_agents.core.records import Approval, Decision
from governor_agents.demo.channel import Channel, Real, Shown, StandIn, need
from governor_agents.demo.visitor import typed
from governor_agents.errors import ConfigError, DeliveryFailed, GovernorError

if TYPE_CHECKING:
    from governor_agents.testing.slack_server import Interaction, Message, SlackServer, Workspace

TEAM, PERSON = "T0DEMO", "U0YOU"
PATH = "/slack"

LIBRARIES = {"slack_sdk": "slack", "aiohttp": "slack", "fastapi": "server", "uvicorn": "server"}


class StandInSlack(StandIn):
    """A local Slack with one workspace and one person."""

    name = "slack"

    def __enter__(self) -> Channel:
        """Start it."""
        need(LIBRARIES, "the demo in Slack")
        from governor_agents.testing.slack_server import SlackServer

        self._slack: SlackServer = SlackServer().start()
        self._space: Workspace = self._slack.workspace(TEAM)
        self._space.person(PERSON, "you")
        self.env = {
            "SLACK_API_URL": self._slack.url,
            "SLACK_BOT_TOKEN": self._space.token,
            "SLACK_SIGNING_SECRET": self._slack.secret,
            "SLACK_APP_TOKEN": "",
        }
        self.address = {"slack": f"{TEAM}/{PERSON}"}
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._slack.stop()

    def where(self) -> str:
        """See `Channel`."""
        return f"a direct message in a stand-in Slack on port {self._slack.port}"

    def request(self, approval: str) -> Shown | None:
        """See `StandIn`."""
        card = self._card(approval)
        return self._shown("the card in Slack", card) if card and self._has_buttons(card) else None

    def outcome(self, approval: str) -> Shown | None:
        """See `StandIn`."""
        card = self._card(approval)
        return self._shown("the same card, updated", card) if card and not self._has_buttons(card) else None

    def ask(self, approval: Approval) -> Decision | None:
        """See `StandIn`: the terminal stands for Slack's buttons and modals."""
        from governor_agents.handlers.terminal import ask_in_place

        return ask_in_place(approval)

    def decide(self, approval: str, decision: Decision, pages: str) -> list[Shown]:
        """See `StandIn`: click the button; where a modal opens, fill it in and submit it."""
        card = self._card(approval)
        if card is None:
            raise GovernorError("there is no card to click on")
        before = set(self._space.views)
        self._send(self._slack.click(self._space, card, decision.kind, by=PERSON), pages)
        if decision.kind == "approve":
            return []
        self._slack.wait(lambda: set(self._space.views) - before)
        [opened] = set(self._space.views) - before
        view: Any = self._space.views[opened]
        met = []
        while view is not None:
            filled = _filled(view, decision)
            met.append(_modal(view, filled))
            if view.get("errors") or "submit" not in view:
                raise GovernorError(f"Slack's modal says: {view.get('errors') or ' '.join(met[-1].text.split())}")
            answered = self._send(self._slack.submit(self._space, view, filled, by=PERSON), pages)
            view = self._slack.take(self._space, view, answered)
        return met

    def _send(self, interaction: Interaction, pages: str) -> Any:
        """What the app answers to a signed request."""
        answered = asyncio.run(self._slack.post(interaction, f"{pages}{PATH}"))
        if answered.status != 200:
            raise GovernorError(f"the app answered Slack with {answered.status}: {answered.text[:200]}")
        return answered.json

    def _card(self, approval: str) -> Message | None:
        found = [one for one in self._space.messages() if approval in json.dumps(one.blocks)]
        return found[0] if found else None

    def _has_buttons(self, card: Message) -> bool:
        return any(block["type"] == "actions" for block in card.blocks)

    def _shown(self, title: str, card: Message) -> Shown:
        from governor_agents.testing import slack_picture

        html = slack_picture.page(title, [slack_picture.message_html(card.blocks)])
        return Shown(title, slack_picture.message_text(card.blocks), html)


class RealSlack(Real):
    """The user's own workspace, by Socket Mode, so that it needs no public URL."""

    name = "slack"

    def __init__(self, token: str, app_token: str, to: str) -> None:
        super().__init__()
        self._token = token
        self._app_token = app_token
        self._to = to

    def __enter__(self) -> Channel:
        """Look whether both tokens are good. Raises `ConfigError`."""
        need(LIBRARIES, "the demo in Slack")
        if not self._token or not self._app_token:
            raise ConfigError(
                "your own Slack needs both --slack-token xoxb-... (cards go out by it) and --slack-app-token xapp-..."
                " (clicks come in by Socket Mode); see docs/slack.md"
            )
        if not re.fullmatch(r"[UW][A-Z0-9]+", self._to):
            raise ConfigError("say whom to ask in Slack: --to U0123 (your member ID, in your profile under ...)")
        team = asyncio.run(self._team())
        self.env = {"SLACK_BOT_TOKEN": self._token, "SLACK_APP_TOKEN": self._app_token, "SLACK_SIGNING_SECRET": ""}
        self.address = {"slack": f"{team}/{self._to}"}
        return self

    async def _team(self) -> str:
        """The workspace of the bot token. Raises `ConfigError` for what is wrong with either token."""
        from governor_agents.handlers.slack.check import APP_TOKEN, Checks
        from governor_agents.handlers.slack.workspaces import API, Workspaces

        api = os.environ.get("SLACK_API_URL") or API
        workspaces = Workspaces([self._token], url=api)
        try:
            await workspaces.open()
        except DeliveryFailed as error:
            raise ConfigError(str(error)) from None
        for found in await Checks({APP_TOKEN: self._app_token}, url=api).run():
            if found.name == "app token" and not found.good:
                raise ConfigError(f"--slack-app-token: {found.text}")
        return workspaces.teams[0]

    def __exit__(self, *_: object) -> None:
        """The connection is that of ``serve``."""

    def where(self) -> str:
        """See `Channel`."""
        return f"a direct message to {self.address['slack'].partition('/')[2]} in Slack"


def _modal(view: Any, filled: Mapping[str, str]) -> Shown:
    """A modal as it stands when it is submitted."""
    from governor_agents.testing import slack_picture

    blocks = copy.deepcopy(view["blocks"])
    for block in blocks:
        if block.get("block_id") in filled:
            block["element"]["initial_value"] = filled[block["block_id"]]
    shown = {**view, "blocks": blocks}
    html = slack_picture.page("a modal in Slack", [slack_picture.view_html(shown)])
    return Shown("a modal in Slack", slack_picture.view_text(shown), html)


def _filled(view: Any, decision: Decision) -> dict[str, str]:
    """What the person types into the inputs of a modal, by the ids of their blocks."""
    given = {"reason": decision.reason, "answer": decision.answer}
    edited = typed(decision) if decision.kind == "edit" else {}
    found: dict[str, str] = {}
    for block in view["blocks"]:
        if block["type"] != "input":
            continue
        text = given.get(block["block_id"]) or edited.get(block["label"]["text"], "")
        if text:
            found[block["block_id"]] = text
    return found
