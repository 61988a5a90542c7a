"""Is everything set up for Slack? One line for each thing that must be right, with the mend where it is not."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from governor_agents.core.urls import shown
from governor_agents.handlers.slack.actors import Actor, Actors
from governor_agents.handlers.slack.manifest import CHANNEL_SCOPES, SCOPES
from governor_agents.handlers.slack.signature import WINDOW
from governor_agents.handlers.slack.trouble import TROUBLE, word_of
from governor_agents.handlers.slack.workspaces import API, mend

BOT_TOKEN, SIGNING_SECRET, APP_TOKEN = "SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "SLACK_APP_TOKEN"

_SECRET = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its name, whether it is right, and one line. Holds no secret."""

    name: str
    good: bool
    text: str


class Checks:
    """Looks at the settings in ``env``; ``url`` is Slack's Web API. ``clock`` is epoch seconds."""

    def __init__(self, env: Mapping[str, str], *, url: str = API, clock: Callable[[], float] = time.time) -> None:
        self._env = env
        self._url = url
        self._clock = clock
        self._actors = Actors(_nowhere)

    async def run(self, channels: Sequence[str] = (), people: Sequence[tuple[str, str]] = ()) -> list[Finding]:
        """Look at everything, whether the app is in these channels (``C012`` or ``T01/C012``), and who people are.

        ``people`` are ids with an address in Slack each (``slack:T01/U02``).
        """
        tokens = [text.strip() for text in self._env.get(BOT_TOKEN, "").split(",") if text.strip()]
        found = [] if tokens else [Finding("bot token", False, f"{BOT_TOKEN} is not set")]
        clients: dict[str, AsyncWebClient] = {}
        for token in tokens:
            client = AsyncWebClient(token, base_url=self._url, retry_handlers=[])
            found += await self._token(client, clients, bool(channels))
        found += [*self._secret(), *await self._app_token()]
        for channel in channels:
            found.append(await self._channel(channel, clients))
        for id, address in people:
            found.append(await self._person(id, address, clients))
        return found

    async def _token(
        self, client: AsyncWebClient, clients: dict[str, AsyncWebClient], in_channels: bool
    ) -> list[Finding]:
        try:
            said = await client.auth_test()
        except TROUBLE as error:
            return [Finding("bot token", False, self._refused(f"Slack does not take {BOT_TOKEN}", error, mend))]
        team = str(said["team_id"])
        clients[team] = client
        good = Finding("bot token", True, f"workspace {team} ({said.get('team')}), as {said.get('user')}")
        return [good, _scopes(team, said, in_channels), self._time(said)]

    def _refused(self, what: str, error: Exception, mend: Callable[[str], str]) -> str:
        """What Slack refuses, and the mend; or that it did not answer, which says nothing about the setting."""
        if not word_of(error):
            return f"{shown(self._url)} gave {_code(error)}"
        return f"{what}: {_code(error)}; {mend(word_of(error))}"

    def _time(self, said: AsyncSlackResponse) -> Finding:
        """Requests that Slack signs are refused when the two clocks differ too much."""
        try:
            theirs = parsedate_to_datetime(_header(said, "date") or "").timestamp()
        except ValueError:
            return Finding("clock", True, "Slack did not say what time it is")
        apart = abs(self._clock() - theirs)
        if apart > WINDOW / 2:
            return Finding(
                "clock", False, f"this machine's clock is {apart:.0f} s off; requests are refused from {WINDOW} s on"
            )
        return Finding("clock", True, f"within {max(1, round(apart))} s of Slack's")

    def _secret(self) -> list[Finding]:
        text = self._env.get(SIGNING_SECRET, "")
        if not text:
            if self._env.get(APP_TOKEN):
                return []
            mend = f"set {SIGNING_SECRET} (HTTP), or {APP_TOKEN} (Socket Mode)"
            return [Finding("signing secret", False, f"nothing can come in: {mend}")]
        secrets = [secret.strip() for secret in text.split(",")]
        if len(secrets) > 2 or not all(map(_SECRET.fullmatch, secrets)):
            wants = "one of 32 hexadecimal digits, or two of them with a comma while rotating"
            return [Finding("signing secret", False, f"{SIGNING_SECRET} is not as Slack writes it: {wants}")]
        return [Finding("signing secret", True, f"{len(secrets)} set; whether Slack uses it shows the first request")]

    async def _app_token(self) -> list[Finding]:
        token = self._env.get(APP_TOKEN, "")
        if not token:
            return []
        try:
            await AsyncWebClient(base_url=self._url, retry_handlers=[]).apps_connections_open(app_token=token)
        except TROUBLE as error:
            return [
                Finding("app token", False, self._refused(f"Slack opens no connection with {APP_TOKEN}", error, _mend))
            ]
        return [Finding("app token", True, "Socket Mode can be used")]

    async def _channel(self, named: str, clients: Mapping[str, AsyncWebClient]) -> Finding:
        team, slash, channel = named.rpartition("/")
        name = f"channel {named}"
        if not slash and len(clients) != 1:
            return Finding(name, False, "say which workspace: TEAM/CHANNEL, such as T01/C012")
        client = clients.get(team) if slash else next(iter(clients.values()))
        if client is None:
            return Finding(name, False, f"there is no token for workspace {team}")
        try:
            said = await client.conversations_info(channel=channel)
        except TROUBLE as error:
            code = _code(error)
            return Finding(name, False, _ABSENT if code == "not_in_channel" else f"Slack does not show it: {code}")
        about = said.get("channel") or {}
        if about.get("is_archived"):
            return Finding(name, False, "it is archived")
        if not about.get("is_member"):
            return Finding(name, False, _ABSENT)
        return Finding(name, True, "the app is in it")

    async def _person(self, id: str, address: str, clients: Mapping[str, AsyncWebClient]) -> Finding:
        name = f"person {id}"
        team, _, user = address.partition(":")[2].partition("/")
        client = clients.get(team)
        if client is None:
            return Finding(name, False, f"{address}: there is no token for workspace {team}")
        reason = await self._actors.unfit(Actor(team, user), client)
        if reason:
            return Finding(name, False, f"{address} could decide nothing: {reason}")
        return Finding(name, True, f"{address} is a full member of the workspace")


_ABSENT = "the app is not in it; type /invite @NAME there"


async def _nowhere(team: str) -> None:
    """The clients of a check are handed over with each question."""


def _mend(code: str) -> str:
    if code in ("invalid_auth", "not_authed", "not_allowed_token_type"):
        return "it must hold the app-level token, which begins with xapp-"
    return "see the app-level tokens on the app's page at api.slack.com"


def _scopes(team: str, said: AsyncSlackResponse, in_channels: bool) -> Finding:
    given = _header(said, "x-oauth-scopes")
    if given is None:
        return Finding("scopes", True, f"Slack did not say which {team} gave")
    wanted = {**SCOPES, **(CHANNEL_SCOPES if in_channels else {})}
    missing = sorted(set(wanted) - {scope.strip() for scope in given.split(",")})
    if missing:
        return Finding("scopes", False, f"{team} lacks {', '.join(missing)}; add them to the app and install it again")
    return Finding("scopes", True, f"{team} gave all {len(wanted)} that are needed")


def _header(said: AsyncSlackResponse, name: str) -> str | None:
    headers: Mapping[str, str] = said.headers
    return next((text for key, text in headers.items() if key.lower() == name), None)


def _code(error: Exception) -> str:
    """Slack's word for it, or the kind of trouble; no token stands in either."""
    said = " ".join(filter(None, (word_of(error), word_of(error, "needed"))))
    return said or f"no answer ({type(error).__name__})"
