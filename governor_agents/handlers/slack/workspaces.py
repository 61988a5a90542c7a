"""The workspaces that the app is installed in: a client for each, and what Slack's answers mean.

slack-sdk's retry handlers are left out on purpose. The one for cut connections sends a message twice, since nobody
knows whether the first one arrived; the one for rate limits reads one digit of ``Retry-After``. Whatever went wrong is
told to the worker, which waits for as long as Slack says and finds what was posted.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from governor_agents.errors import ChannelUnusable, DeliveryFailed
from governor_agents.handlers.slack.manifest import SCOPES
from governor_agents.handlers.slack.trouble import TROUBLE, word_of

log = logging.getLogger(__name__)

API = "https://slack.com/api/"

TIMEOUT = 10
"""Seconds within which Slack must answer."""

AGAIN = 30.0
"""Seconds after which a token is asked about again that was no good, while others are."""

_TROUBLE = frozenset({"ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"})
"""Answers that say nothing about the request itself."""

Json = Any


_LINK = re.compile(r"wss?://\S+")


class _NoSecrets(logging.Filter):
    """slack-sdk logs whole requests and answers when debugging, and links that open a connection when it cannot."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return False
        record.msg, record.args = _LINK.sub("wss://...", record.getMessage()), ()
        record.exc_info = record.exc_text = None
        return True


def quiet() -> logging.Logger:
    """For slack-sdk's clients: a logger to which no argument of a request and no link gets."""
    made = logging.getLogger("governor_agents.slack.sdk")
    if not any(isinstance(each, _NoSecrets) for each in made.filters):
        made.addFilter(_NoSecrets())
    return made


class SlackRefused(Exception):
    """Slack took a request and said no. ``code`` is its word for why."""

    def __init__(self, method: str, code: str) -> None:
        super().__init__(f"Slack refused {method}: {code}")
        self.code = code


class Workspaces:
    """Clients by team id, learned from the tokens themselves. Usable from any loop; shows nothing of a token.

    Raises `ChannelUnusable` without a token.
    """

    def __init__(self, tokens: Sequence[str], *, url: str = API, timeout: int = TIMEOUT) -> None:
        if not tokens or not all(tokens):
            raise ChannelUnusable(
                "Slack needs a bot token: set SLACK_BOT_TOKEN=xoxb-... (one per workspace, commas between)"
            )
        made = (
            AsyncWebClient(token, base_url=url, timeout=timeout, retry_handlers=[], logger=quiet())
            for token in dict.fromkeys(tokens)
        )
        self._waiting = {
            f"bot token {at}" if len(tokens) > 1 else "bot token": client for at, client in enumerate(made, 1)
        }
        self._again: dict[str, float] = {}
        self._clients: dict[str, AsyncWebClient] = {}
        self._urls: dict[str, str] = {}
        self._bots: dict[str, Json] = {}

    async def open(self) -> None:
        """Ask each token which workspace it is for, unless that is known. Twice is fine.

        Where no token is good: raises `ChannelUnusable` for one that Slack refuses or that lacks a scope,
        `DeliveryFailed` when Slack does not answer. Where one is, that is a line in the log, and the others go on.
        """
        wrong: list[ChannelUnusable | DeliveryFailed] = []
        for which, client in list(self._waiting.items()):
            if self._clients and time.monotonic() < self._again.get(which, 0.0):
                continue
            try:
                await self._meet(which, client)
            except (ChannelUnusable, DeliveryFailed) as error:
                self._again[which] = time.monotonic() + AGAIN
                wrong.append(error)
        if wrong and not self._clients:
            raise wrong[0]
        for each in wrong:
            log.error("slack: %s; the other workspaces go on, and it is asked again", each)

    async def _meet(self, which: str, client: AsyncWebClient) -> None:
        try:
            found = await _called(client, "auth.test", {})
        except SlackRefused as refused:
            raise ChannelUnusable(f"Slack refuses the {which} ({refused.code}): {mend(refused.code)}") from None
        team = str(found["team_id"])
        _check_scopes(team, found.headers)
        self._clients[team] = client
        self._urls[team] = str(found.get("url") or "")
        self._bots[team] = found.get("bot_id")
        self._waiting.pop(which, None)  # somebody may have asked at the same time

    @property
    def teams(self) -> tuple[str, ...]:
        """The workspaces, by team id; empty for one whose token is not good now, so nobody knows which it is."""
        return (*self._clients, *("" for _ in self._waiting))

    def client(self, team: str) -> AsyncWebClient | None:
        """The client of a workspace, None where the app is not installed."""
        return self._clients.get(team)

    def posted(self, team: str, message: Mapping[str, Json]) -> bool:
        """True for a message that the app itself posted there: others can copy all that it says."""
        return bool(message.get("bot_id")) and message["bot_id"] == self._bots.get(team)

    def permalink(self, team: str, channel: str, ts: str) -> str:
        """Where a message can be looked at; empty when that is not known."""
        url = self._urls.get(team, "")
        return f"{url.rstrip('/')}/archives/{channel}/p{ts.replace('.', '')}" if url else ""

    async def call(self, team: str, method: str, **args: Json) -> Json:
        """Call a method of the Web API. Raises `SlackRefused`, and `DeliveryFailed` for trouble on the way."""
        if team not in self._clients:
            await self.open()
        client = self._clients.get(team)
        if client is None and self._waiting:
            raise DeliveryFailed(f"no bot token for workspace {team} is good now")
        if client is None:
            raise SlackRefused(method, "app_not_installed")
        return (await _called(client, method, args)).data


async def _called(client: AsyncWebClient, method: str, args: Mapping[str, Json]) -> Any:
    reads = method.startswith(("conversations.history", "conversations.replies"))
    try:
        if reads:
            return await client.api_call(method, http_verb="GET", params=dict(args))
        return await client.api_call(method, json=dict(args))
    except SlackApiError as error:
        raise _meaning(method, error) from None
    except TROUBLE as error:
        raise DeliveryFailed(f"Slack did not answer {method}: {type(error).__name__}") from None


def _meaning(method: str, error: SlackApiError) -> Exception:
    """What an answer other than "ok" means."""
    status = getattr(error.response, "status_code", 0)
    code = word_of(error)
    if status == 429 or code == "ratelimited":
        wait = _seconds(error.response.headers)
        return DeliveryFailed(f"Slack wants to be left alone for {wait:.0f} s ({method})", retry_after=wait)
    if status != 200 or not code or code in _TROUBLE:
        return DeliveryFailed(f"Slack answered {method} with {code or status or 'something that is no JSON'}")
    return SlackRefused(method, code)


def _seconds(headers: Mapping[str, str]) -> float:
    """``Retry-After``, half a minute when it cannot be read."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else 30.0


def _check_scopes(team: str, headers: Mapping[str, str]) -> None:
    given = next((value for name, value in headers.items() if name.lower() == "x-oauth-scopes"), None)
    if given is None:
        return
    missing = sorted(set(SCOPES) - {scope.strip() for scope in given.split(",")})
    if missing:
        raise ChannelUnusable(
            f"the bot token for workspace {team} lacks {', '.join(missing)}: add the scopes to the app and reinstall it"
        )


def mend(code: str) -> str:
    """What to do when Slack refuses a bot token with this word."""
    if code in ("invalid_auth", "not_authed", "not_allowed_token_type"):
        return "SLACK_BOT_TOKEN must hold the app's bot token, which begins with xoxb-"
    if code in ("token_revoked", "account_inactive", "token_expired"):
        return "install the app in the workspace again and set SLACK_BOT_TOKEN to its new token"
    return "see the app's page at api.slack.com"
