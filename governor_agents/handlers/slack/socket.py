"""Socket Mode: the same requests over a connection that this side opens, for whoever has no public URL.

There is no signature here; that it is Slack is proved by the connection, which was opened with the app's own token. An
envelope is acknowledged when its decision is durable (or in time, with "not confirmed yet"), so that one whose process
died is delivered again; delivered twice, it has one effect.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import ClientError
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient

from governor_agents.errors import ChannelUnusable, DeliveryFailed
from governor_agents.handlers.slack.inbound import CLOSING, SlackInbound
from governor_agents.handlers.slack.trouble import TROUBLE, word_of
from governor_agents.handlers.slack.workspaces import API, quiet

log = logging.getLogger(__name__)

PING = 10.0
"""Seconds between two looks at the connection; a dead one is opened anew."""


class SlackSocket:
    """Listens over Socket Mode. Shows nothing of its token. Use it on the loop that its inbound part is used on."""

    def __init__(self, app_token: str, inbound: SlackInbound, *, url: str = API, ping: float = PING) -> None:
        self._token = app_token
        self._inbound = inbound
        self._url = url
        self._ping = ping
        self._client: SocketModeClient | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect, and stay connected. Twice is fine.

        Raises `ChannelUnusable` for a token that Slack refuses, `DeliveryFailed` when Slack does not answer.
        """
        if self._client is not None:
            return
        web = AsyncWebClient(base_url=self._url, retry_handlers=[], logger=quiet())
        link = await _first_link(web, self._token)
        client = SocketModeClient(self._token, logger=quiet(), web_client=web, ping_interval=self._ping)
        client.wss_uri = link
        client.socket_mode_request_listeners.append(self._listen)
        self._client = client
        await client.connect()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Hang up, after what is under way is answered. Twice is fine."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._open:
            await asyncio.wait(set(self._open), timeout=CLOSING)
        await client.close()  # type: ignore[no-untyped-call]

    async def _listen(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        """Begin to answer: slack-sdk hands over one envelope after the other, and none is to wait for another."""
        task = asyncio.ensure_future(self._answer(client, request))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _answer(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        answer = await self._inbound.take(request.payload)
        body = answer.body if answer.status == 200 else None
        try:
            await client.send_socket_mode_response(SocketModeResponse(request.envelope_id, body))
        except (ClientError, OSError, RuntimeError) as error:  # the connection went; Slack delivers the envelope again
            log.info("slack: an envelope could not be acknowledged: %s", type(error).__name__)
        if answer.after is not None:
            await answer.after()


async def _first_link(web: AsyncWebClient, token: str) -> str:
    """Where to connect. slack-sdk would ask for ever with a token that is wrong, and log each time."""
    try:
        return str((await web.apps_connections_open(app_token=token))["url"])
    except SlackApiError as error:
        code = word_of(error)
        if code in ("ratelimited", "internal_error", "fatal_error", "service_unavailable", ""):
            raise DeliveryFailed(f"Slack gives no Socket Mode connection now: {code or 'no JSON came'}") from None
        raise ChannelUnusable(
            f"Slack refuses the app token ({code}): SLACK_APP_TOKEN must hold an app-level token, which begins with"
            " xapp- and has the scope connections:write"
        ) from None
    except TROUBLE as error:
        raise DeliveryFailed(f"Slack gives no Socket Mode connection now: {type(error).__name__}") from None
