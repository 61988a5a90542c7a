"""Telling one person something in Slack that nobody else sees."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
from slack_sdk.web.async_client import AsyncWebClient

from governor_agents.handlers.slack.actors import Actor, Clients
from governor_agents.handlers.slack.modals import TEXT_ROOM
from governor_agents.handlers.slack.trouble import TROUBLE

log = logging.getLogger(__name__)

RESPONSE_URLS = ("https://hooks.slack.com/", "https://hooks.slack-gov.com/")
"""How a ``response_url`` begins; nothing is sent to any other, whoever wrote it into a payload."""

MOST = 2_500
"""Characters of what one person is told."""

_PATIENCE = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True)
class Ear:
    """Where somebody can be told something: as a message of their own in a channel, else by a ``response_url``."""

    clients: Clients = field(repr=False)
    actor: Actor
    channel: str
    response_url: str = field(default="", repr=False)
    allowed: Sequence[str] = RESPONSE_URLS

    async def tell(self, text: str) -> bool:
        """Tell it; False when that was not possible. Raises nothing: what counts is the record, not this message.

        Words longer than Slack takes (a refusal may list hundreds of names) are cut; they are no part of a request.
        """
        text = text if len(text) <= MOST else f"{text[:MOST]} ..."
        client = await self.clients(self.actor.team) if self.channel else None
        if client is not None and await self._ephemeral(client, text):
            return True
        return bool(self.response_url) and await self._respond(text)

    async def _ephemeral(self, client: AsyncWebClient, text: str) -> bool:
        try:
            await client.chat_postEphemeral(
                channel=self.channel, user=self.actor.user, text=escaped(text), blocks=_blocks(text), link_names=False
            )
        except TROUBLE as error:
            log.info("slack: a person could not be told: %s", type(error).__name__)
            return False
        return True

    async def _respond(self, text: str) -> bool:
        if not self.response_url.startswith(tuple(self.allowed)):
            log.warning("slack: a response_url that is not Slack's was left alone")
            return False
        said = {"response_type": "ephemeral", "replace_original": False, "text": escaped(text), "blocks": _blocks(text)}
        try:
            async with (
                aiohttp.ClientSession(timeout=_PATIENCE) as session,
                session.post(self.response_url, json=said, allow_redirects=False) as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.info("slack: a person could not be told: %s", type(error).__name__)
            return False


def escaped(text: str) -> str:
    """A text in which Slack finds no mention, link or entity."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _blocks(text: str) -> list[dict[str, object]]:
    parts = [text[at : at + TEXT_ROOM // 2] for at in range(0, len(text), TEXT_ROOM // 2)]
    return [{"type": "section", "text": {"type": "plain_text", "text": part, "emoji": False}} for part in parts]
