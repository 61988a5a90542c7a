"""Who clicked: the user and the workspace that Slack vouches for, and whether that is somebody who may decide at all.

Names, e-mail addresses and everything else that people can set themselves prove nothing and are not looked at. What the
payload says of the user is checked with ``users.info``, so that a guest, a bot, somebody of another company in a shared
channel, or somebody who left is refused before a directory is asked.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from slack_sdk.web.async_client import AsyncWebClient

from governor_agents.core.calls import Json
from governor_agents.handlers.slack.payloads import Payload, Refused, at, malformed, text_at
from governor_agents.handlers.slack.trouble import TROUBLE, word_of

Clients = Callable[[str], Awaitable[AsyncWebClient | None]]
"""Gives the client for a workspace by its team id; None where the app is not installed."""

KEPT = 60.0
"""Seconds for which what Slack said of a user is believed. A person who is removed can decide for that long."""

_MOST = 1_000


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody in a workspace, as Slack vouches for them."""

    team: str
    user: str

    @property
    def address(self) -> str:
        """How policies and directories name them."""
        return f"slack:{self.team}/{self.user}"


class Actors:
    """Confirms who somebody is. Usable on one loop at a time."""

    def __init__(self, clients: Clients, clock: Callable[[], float] = time.monotonic) -> None:
        self._clients = clients
        self._clock = clock
        self._known: OrderedDict[Actor, tuple[float, Json]] = OrderedDict()

    def claimed(self, payload: Payload) -> Actor:
        """Whom an interaction or an event names, not yet confirmed. Raises `Refused`."""
        event = at(payload, "event")
        team = text_at(payload, "team_id") if event is not None else text_at(payload, "team", "id")
        user = text_at(event, "user") if event is not None else text_at(payload, "user", "id")
        if not user.isascii() or not user.isalnum():
            raise malformed("no user is named")
        if not team.startswith("T") or not team.isascii() or not team.isalnum():
            raise Refused(403, "other_workspace", "This app is not installed for your workspace.")
        return Actor(team, user)

    async def confirm(self, payload: Payload) -> Actor:
        """Who it is, once Slack has said that it is a full member of that workspace. Raises `Refused` (403)."""
        actor = self.claimed(payload)
        client = await self._clients(actor.team)
        if client is None:
            raise Refused(403, "other_workspace", "This app is not installed for your workspace.")
        reason = await self.unfit(actor, client, text_at(payload, "user", "team_id"))
        if reason:
            raise Refused(403, reason, _WORDS[reason])
        return actor

    async def unfit(self, actor: Actor, client: AsyncWebClient, home: str = "") -> str:
        """Why this user may decide nothing, as Slack knows them; empty when nothing stands against it. Never raises.

        ``home`` is the workspace that the payload says the user belongs to.
        """
        try:
            return _unfit(actor, await self._user(actor, client), home)
        except Refused as refused:
            return refused.code

    async def _user(self, actor: Actor, client: AsyncWebClient) -> Json:
        at_, known = self._known.get(actor, (0.0, None))
        if known is not None and self._clock() - at_ < KEPT:
            return known
        try:
            found = (await client.users_info(user=actor.user)).get("user")
        except TROUBLE as error:
            reason = "unknown_user" if word_of(error) in ("user_not_found", "user_not_visible") else "unconfirmed_user"
            raise Refused(403, reason, _WORDS[reason]) from None
        self._known[actor] = (self._clock(), found)
        self._known.move_to_end(actor)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return found


def _unfit(actor: Actor, user: Json, home: str) -> str:
    """Why this user may decide nothing, empty when nothing stands against it."""
    if not isinstance(user, dict) or user.get("id") != actor.user:
        return "unknown_user"
    if user.get("deleted"):
        return "deleted_user"
    if any(user.get(flag) for flag in ("is_bot", "is_app_user", "is_workflow_bot", "is_connector_bot")):
        return "bot"
    if user.get("is_stranger"):
        return "stranger"
    if any(user.get(flag) for flag in ("is_restricted", "is_ultra_restricted", "is_invited_user")):
        return "guest"
    teams = at(user, "enterprise_user", "teams")
    shared = (
        isinstance(teams, list) and actor.team in teams
    )  # one company, several workspaces: a member of this one too
    return "" if shared or (user.get("team_id") == actor.team and home in ("", actor.team)) else "other_workspace"


_WORDS = {
    "unknown_user": "Slack does not know you in this workspace.",
    "unconfirmed_user": "Slack did not say who you are; please try again.",
    "deleted_user": "This account is deactivated and decides nothing.",
    "bot": "Bots and apps decide nothing.",
    "stranger": "People of another company decide nothing here.",
    "guest": "Guests of this workspace decide nothing.",
    "other_workspace": "You belong to another workspace and decide nothing here.",
}
