"""Slack's way in: one route for what Slack signs, or a connection of Socket Mode, whichever is set up.

``SLACK_SIGNING_SECRET`` opens the route, ``SLACK_APP_TOKEN`` the connection. A channel that cannot be used is named in
``/readyz`` and in one line of the log; the pages go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from governor_agents.errors import ConfigError, DeliveryFailed, GovernorError
from governor_agents.server.access import signed
from governor_agents.server.refusal import Refused
from governor_agents.server.site import Site

if TYPE_CHECKING:
    from slack_sdk.web.async_client import AsyncWebClient

    from governor_agents.handlers.slack.handler import SlackHandler
    from governor_agents.handlers.slack.inbound import SlackInbound
    from governor_agents.handlers.slack.socket import SlackSocket

log = logging.getLogger(__name__)

router = APIRouter()

BOT_TOKEN, SIGNING_SECRET, APP_TOKEN = "SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "SLACK_APP_TOKEN"

FIRST, MOST = 1.0, 60.0
"""Seconds until a connection that could not be opened is tried again, doubled each time."""


@router.post("/slack", dependencies=[Depends(signed)])
async def from_slack(request: Request) -> Response:
    """What Slack sends. What is left to do after the answer goes on beside it, and is waited for at the end."""
    inbound: SlackInbound | None = getattr(request.app.state, "slack", None)
    if inbound is None:
        raise Refused(404, "no_slack", "There is nothing here.")
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    answer = await inbound.handle(headers, await request.body())
    if answer.after is not None:
        go_on(request.app.state.behind, answer.after)
    if answer.body is None:
        return Response(status_code=answer.status)
    text = json.dumps(answer.body)  # ASCII, so that half of an emoji, which Slack may echo, is no error
    return Response(text, answer.status, media_type="application/json")


def go_on(behind: set[asyncio.Task[Any]], work: Callable[[], Awaitable[Any]]) -> None:
    """Do this beside the answer."""

    async def done() -> None:
        try:
            await work()
        except Exception as error:  # the answer is out already; a traceback could quote a request
            log.error("slack: what was left to do after an answer broke: %s", type(error).__name__)

    task = asyncio.ensure_future(done())
    behind.add(task)
    task.add_done_callback(behind.discard)


@contextlib.asynccontextmanager
async def slack_open(site: Site, state: Any) -> AsyncIterator[None]:
    """Let Slack in while the app runs, where it is set up. Nobody waits for Slack to answer: the pages go on."""
    state.slack = None
    async with contextlib.AsyncExitStack() as stack:
        try:
            if (handler := _handler(site)) is not None:
                _start(site, handler, state, stack)
        except ConfigError as error:
            _unusable(site, state, error)
        yield


def _unusable(site: Site, state: Any, error: ConfigError) -> None:
    site.channels["slack"], state.slack = "unusable", None
    log.error("slack cannot be used: %s", error)


def _handler(site: Site) -> SlackHandler | None:
    """The channel's way out, None where Slack is not set up. Raises `ConfigError`."""
    try:
        handler = site.governor.handler("slack")
    except ConfigError:
        if os.environ.get(BOT_TOKEN):
            raise
        return None
    from governor_agents.handlers.slack.handler import SlackHandler

    return handler if isinstance(handler, SlackHandler) else None


def _start(site: Site, handler: SlackHandler, state: Any, stack: contextlib.AsyncExitStack) -> None:
    """Open the route, where there is a secret, and begin to talk to Slack. Raises `ConfigError`."""
    from governor_agents.handlers.slack.inbound import SlackInbound
    from governor_agents.handlers.slack.signature import SigningSecrets
    from governor_agents.handlers.slack.socket import SlackSocket
    from governor_agents.handlers.slack.workspaces import API

    secret, token = os.environ.get(SIGNING_SECRET, ""), os.environ.get(APP_TOKEN, "")
    if not secret and not token:
        raise ConfigError(f"nothing can come in: set {SIGNING_SECRET} (HTTP) or {APP_TOKEN} (Socket Mode)")
    secrets = SigningSecrets.of(secret) if secret else None
    inbound = state.slack = SlackInbound(site.desk, _clients(handler), secrets, home=handler.show_home)
    stack.push_async_callback(inbound.close)
    socket = SlackSocket(token, inbound, url=os.environ.get("SLACK_API_URL") or API) if token else None
    if socket is not None:
        stack.push_async_callback(socket.close)
    site.channels["slack"] = "starting"
    talking = asyncio.ensure_future(_talk(site, handler, state, socket))
    stack.callback(talking.cancel)


async def _talk(site: Site, handler: SlackHandler, state: Any, socket: SlackSocket | None) -> None:
    """Ask Slack about the tokens, and connect; a Slack that does not answer is asked again."""
    try:
        await handler.start(site.desk)
        if socket is not None:
            await _connect(socket)
        teams = ", ".join(handler.workspaces.teams) or "not known yet"
        ways = [f"{site.settings.public_url}/slack"] if os.environ.get(SIGNING_SECRET) else []
        ways += ["Socket Mode"] if socket is not None else []
        log.info("slack: workspace %s; clicks come in by %s", teams, " and ".join(ways))
        site.channels["slack"] = "ok"
    except ConfigError as error:
        _unusable(site, state, error)


def _clients(handler: SlackHandler) -> Callable[[str], Awaitable[AsyncWebClient | None]]:
    """Clients by team id; a workspace that did not answer when the app started is asked again."""

    async def client(team: str) -> AsyncWebClient | None:
        with contextlib.suppress(GovernorError):
            await handler.workspaces.open()
        return handler.client(team)

    return client


async def _connect(socket: SlackSocket) -> None:
    """Connect; when Slack gives no connection, try again, for as long as the app runs. Raises `ChannelUnusable`."""
    wait = FIRST
    while True:
        try:
            await socket.start()
            return
        except DeliveryFailed as error:
            log.warning("slack: %s; it is tried again", error)
        await asyncio.sleep(wait)
        wait = min(MOST, wait * 2)
