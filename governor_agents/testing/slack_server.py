"""A local server that behaves like Slack, for slack-sdk's own clients: Web API, Socket Mode, and what people click.

    with SlackServer() as slack:
        space = slack.workspace("T01")
        space.person("U02", "alice", email="alice@example.com")
        space.channel("C012", "U02")
        client = AsyncWebClient(space.token, base_url=slack.url)
        ...
        message = space.messages()[-1]
        answer = await slack.post(slack.click(space, message, "approve", by="U02"), "http://127.0.0.1:8000/slack")
        slack.trouble("chat.*", "ratelimited", retry_after=30)   # and "error", "http", "garbage", "hang", "reset"

It has its own thread and loop, so tests may use it from any loop, and from none. Beside this module: `slack_limits` is
what it refuses, `slack_methods` what it answers, `slack_interactions` what people send.
"""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
from aiohttp import web

from governor_agents.background import Background
from governor_agents.testing.slack_interactions import (
    Interaction,
    action_of,
    event_payload,
    message_payload,
    state_of,
    view_payload,
)
from governor_agents.testing.slack_limits import block_problems, view_problems
from governor_agents.testing.slack_methods import METHODS, Refused, needs
from governor_agents.testing.slack_sockets import PATIENCE, Envelope, Sockets
from governor_agents.testing.slack_workspaces import SCOPES, Message, Workspace

__all__ = ["PATIENCE", "SCOPES", "Envelope", "Interaction", "Message", "SlackServer", "Trouble", "Workspace"]

RESPONSES = 5
"""How often a response_url may be used."""

Json = Any
Kind = Literal["ratelimited", "error", "http", "garbage", "hang", "reset"]


@dataclass
class Trouble:
    """Something wrong with a method, for the next ``times`` requests; ``met`` counts them.

    ``applied``: the request has its effect all the same, only the answer is lost or wrong.
    """

    method: str
    kind: Kind
    times: float
    retry_after: int
    error: str
    status: int
    team: str
    applied: bool
    met: int = 0


@dataclass
class Asked:
    """A request that came in."""

    method: str
    team: str
    args: Mapping[str, Json]
    error: str = ""


@dataclass(frozen=True)
class Answered:
    """What the app answered over HTTP."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Json:
        """Its body, ``{}`` when it is empty."""
        return json.loads(self.text) if self.text else {}


class SlackServer:
    """See the module. ``secret`` and ``app_token`` are the app's; each workspace has its own bot token."""

    def __init__(self, *, app_id: str = "A0GOVERNOR") -> None:
        self.app_id = app_id
        self.secret = f"signing-{uuid.uuid4().hex}"
        self.app_token = f"xapp-1-{app_id}-{uuid.uuid4().hex}"
        self.app_scopes = {"connections:write"}
        self.workspaces: dict[str, Workspace] = {}
        self.asked: list[Asked] = []
        self.responses: list[Json] = []
        self.port = 0
        self._troubles: list[Trouble] = []
        self._triggers: dict[str, str] = {}
        self._spent: set[str] = set()
        self._urls: dict[str, tuple[Workspace, str, Message | None]] = {}
        self._used: dict[str, int] = {}
        self._changed = threading.Condition()
        self._loop = Background("slack")
        self._runner: web.AppRunner | None = None
        self.sockets = Sockets(app_id, self._loop, self._tell)

    # -- its life -------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The ``base_url`` for slack-sdk's clients."""
        return f"http://127.0.0.1:{self.port}/api/"

    def start(self) -> Self:
        """Serve, on the port it had before if any."""
        self._loop.call(self._up())
        return self

    def stop(self) -> None:
        """Serve nothing: connections are refused, open ones are cut. What was posted stays for the next start."""
        if self._runner is not None:
            self._loop.call(self._down(self._runner))
            self._loop.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    async def _up(self) -> None:
        self._released = asyncio.Event()
        app = web.Application(client_max_size=4_000_000)
        app.router.add_route("*", "/api/{method}", self._method)
        app.router.add_post("/response/{token}", self._response)
        app.router.add_get("/link", self.sockets.link)
        self._runner = web.AppRunner(app, shutdown_timeout=0.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def _down(self, runner: web.AppRunner) -> None:
        self._runner = None
        self._released.set()
        await runner.cleanup()

    # -- what is in it --------------------------------------------------------------------------------------------

    def workspace(self, team: str, *, enterprise: str = "") -> Workspace:
        """Install the app in one more workspace."""
        made = Workspace(team, self.app_id, f"xoxb-{team}-{uuid.uuid4().hex}", enterprise)
        made.person(made.bot_user, "governor", is_bot=True)
        self.workspaces[team] = made
        return made

    def trouble(
        self,
        method: str,
        kind: Kind,
        *,
        times: float = float("inf"),
        retry_after: int = 1,
        error: str = "internal_error",
        status: int = 500,
        team: str = "",
        applied: bool = False,
    ) -> Trouble:
        """Make requests of a method (a pattern such as ``chat.*``) go wrong until `calm`."""
        made = Trouble(method, kind, times, retry_after, error, status, team, applied)
        self._troubles.append(made)
        return made

    def calm(self) -> None:
        """No trouble any more; what hangs is let go."""
        self._troubles.clear()
        if self._runner is not None:
            self._loop.call(self._let_go())

    async def _let_go(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    def count(self, method: str, *, team: str = "") -> int:
        """How many requests of a method (a pattern) came in."""
        return sum(fnmatchcase(one.method, method) and team in ("", one.team) for one in list(self.asked))

    def refusals(self) -> list[str]:
        """Every error that was answered, but for those that a test asked for by `trouble`."""
        return [f"{one.method}: {one.error}" for one in list(self.asked) if one.error]

    def wait(self, so: Callable[[], Any]) -> Any:
        """Block until it is so, looking whenever something came in; what ``so`` gave. `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(so, PATIENCE):
                raise TimeoutError(f"it never came; last asked: {[one.method for one in self.asked[-5:]]}")
        return so()

    async def until(self, so: Callable[[], Any]) -> Any:
        """The same for a coroutine."""
        return await asyncio.to_thread(self.wait, so)

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # -- the Web API ----------------------------------------------------------------------------------------------

    async def _method(self, request: web.Request) -> web.StreamResponse:
        method, args = request.match_info["method"], await _arguments(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        workspace = next((one for one in self.workspaces.values() if one.token == token), None)
        asked = Asked(method, workspace.team if workspace else "", args)
        trouble = self._trouble_of(asked)
        answer: Json = None
        if trouble is None or trouble.applied:
            try:
                answer = {"ok": True, **self._answer(method, token, workspace, args)}
            except Refused as refused:
                answer, asked.error = refused.answer, str(refused)
        self.asked.append(asked)
        self._tell()
        if trouble is not None:
            return await self._suffer(trouble, request)
        scopes = workspace.scopes if workspace else set()
        return web.json_response(answer, headers={"X-OAuth-Scopes": ",".join(sorted(scopes))})

    def _answer(self, method: str, token: str, workspace: Workspace | None, args: Mapping[str, Json]) -> Json:
        if method == "apps.connections.open":
            return self._open_connection(token)
        if not token:
            raise Refused("not_authed")
        if workspace is None:
            raise Refused("not_allowed_token_type" if token == self.app_token else "invalid_auth")
        if workspace.revoked:
            raise Refused(workspace.revoked)
        offered = METHODS.get(method)
        if offered is None:
            raise Refused("unknown_method", req_method=method)
        if offered.scope:
            needs(workspace, offered.scope)
        return offered.call(self, workspace, args)

    def _open_connection(self, token: str) -> Json:
        if token != self.app_token:
            raise Refused("not_allowed_token_type" if token.startswith("xoxb-") else "invalid_auth")
        if "connections:write" not in self.app_scopes:
            raise Refused("missing_scope", needed="connections:write", provided=",".join(self.app_scopes))
        return {"url": f"ws://127.0.0.1:{self.port}/link?ticket={self.sockets.ticket()}"}

    def _trouble_of(self, asked: Asked) -> Trouble | None:
        for trouble in self._troubles:
            meant = fnmatchcase(asked.method, trouble.method) and trouble.team in ("", asked.team)
            if meant and trouble.met < trouble.times:
                trouble.met += 1
                return trouble
        return None

    async def _suffer(self, trouble: Trouble, request: web.Request) -> web.StreamResponse:
        if trouble.kind == "ratelimited":
            headers = {"Retry-After": str(trouble.retry_after)}
            return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)
        if trouble.kind == "error":
            return web.json_response({"ok": False, "error": trouble.error})
        if trouble.kind == "http":
            return web.Response(status=trouble.status, text="upstream connect error")  # plain text, as proxies send it
        if trouble.kind == "garbage":
            return web.Response(text='{"ok": tru', content_type="application/json")
        if trouble.kind == "hang":
            await self._released.wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def use_trigger(self, trigger: str) -> str:
        """Whose click a trigger came from; each opens one modal. Raises `Refused`."""
        if trigger in self._spent:
            raise Refused("exchanged_trigger_id")
        if trigger not in self._triggers:
            raise Refused("invalid_trigger_id" if not trigger else "expired_trigger_id")
        self._spent.add(trigger)
        return self._triggers[trigger]

    def _trigger(self, who: str) -> str:
        trigger = f"{uuid.uuid4().int % 10**13}.{uuid.uuid4().int % 10**12}.{uuid.uuid4().hex}"
        self._triggers[trigger] = who
        return trigger

    # -- response_url ---------------------------------------------------------------------------------------------

    async def _response(self, request: web.Request) -> web.Response:
        token = request.match_info["token"]
        if token not in self._urls or self._used.get(token, 0) >= RESPONSES:
            return web.json_response({"ok": False, "error": "used_url"}, status=404)
        self._used[token] = self._used.get(token, 0) + 1
        workspace, channel, message = self._urls[token]
        body = await request.json()
        if problems := block_problems(body.get("blocks") or []):
            return web.json_response({"ok": False, "error": "invalid_blocks", "errors": problems}, status=400)
        if body.get("replace_original") and message is not None:
            message.past.append((message.blocks, message.text))
            message.blocks, message.text = body.get("blocks") or [], body.get("text", "")
        self.responses.append({"team": workspace.team, "channel": channel, **body})
        self._tell()
        return web.Response(text="ok")

    # -- Socket Mode ----------------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many Socket Mode connections are open."""
        return self.sockets.open

    def emit(self, interaction: Interaction, *, again: Envelope | None = None, attempt: int = 0) -> Envelope:
        """Send it over Socket Mode, over one of the connections in turn; ``again`` is one that was not acknowledged."""
        return self.sockets.emit(interaction, again=again, attempt=attempt)

    def refresh(self, reason: str = "refresh_requested") -> None:
        """Ask the connections to come back: ``warning`` (soon), ``refresh_requested`` (now), ``link_disabled``."""
        self.sockets.refresh(reason)

    def drop_connections(self) -> None:
        """Cut every Socket Mode connection without a word."""
        self.sockets.drop()

    # -- what people do -------------------------------------------------------------------------------------------

    def _team(self, workspace: Workspace) -> Json:
        team = {"id": workspace.team, "domain": workspace.team.lower()}
        return team | ({"enterprise_id": workspace.enterprise} if workspace.enterprise else {})

    def _who(self, workspace: Workspace, id: str) -> Json:
        known = workspace.users.get(id) or {"name": id.lower(), "team_id": workspace.team}
        return {"id": id, "username": known["name"], "name": known["name"], "team_id": known["team_id"]}

    def click(
        self,
        workspace: Workspace,
        message: Message,
        action: str,
        *,
        by: str,
        value: str | None = None,
        chosen: str = "",
    ) -> Interaction:
        """Somebody clicks something on a posted message. `LookupError` when it is not there.

        ``value`` is another one than was posted (a forger's); ``chosen`` the value of an option of a menu.
        """
        channel = workspace.where(message)
        url = f"http://127.0.0.1:{self.port}/response/{uuid.uuid4().hex}"
        self._urls[url.rpartition("/")[2]] = (workspace, channel, message)
        shown = message.as_json(workspace)
        payload = message_payload(self.app_id, self._who(workspace, by), self._team(workspace), shown, channel, url)
        entry = action_of(message.blocks, action, chosen or None)
        payload |= {"actions": [entry if value is None else entry | {"value": value}], "trigger_id": self._trigger(by)}
        return Interaction(payload, self.secret)

    def click_in(self, workspace: Workspace, view: Json, action: str, *, by: str) -> Interaction:
        """Somebody clicks something in a modal or a home tab."""
        team, who = self._team(workspace), self._who(workspace, by)
        payload = view_payload("block_actions", self.app_id, who, team, _shown(view))
        payload |= {"actions": [action_of(view["blocks"], action)], "trigger_id": self._trigger(by)}
        return Interaction(payload, self.secret)

    def submit(
        self, workspace: Workspace, view: Json, typed: Mapping[str, Json] | None = None, *, by: str
    ) -> Interaction:
        """Somebody fills in a modal and submits it; ``typed`` by block id or action id, the rest as it was given."""
        filled = _shown(view) | {"state": {"values": state_of(view, typed or {})}}
        team, who = self._team(workspace), self._who(workspace, by)
        payload = view_payload("view_submission", self.app_id, who, team, filled) | {"trigger_id": self._trigger(by)}
        return Interaction(payload, self.secret)

    def dismiss(self, workspace: Workspace, view: Json, *, by: str) -> Interaction:
        """Somebody closes a modal that has ``notify_on_close``."""
        team, who = self._team(workspace), self._who(workspace, by)
        return Interaction(view_payload("view_closed", self.app_id, who, team, _shown(view)), self.secret)

    def open_home(self, workspace: Workspace, *, by: str) -> Interaction:
        """Somebody opens the app's home tab: an event."""
        event = {
            "type": "app_home_opened",
            "user": by,
            "channel": workspace.direct(by).id,
            "tab": "home",
            "event_ts": f"{time.time():.6f}",
        }
        if by in workspace.homes:
            event["view"] = _shown(workspace.homes[by])
        return Interaction(event_payload(self.app_id, workspace.team, event), self.secret, "events_api")

    def challenge(self) -> Interaction:
        """What Slack asks of a request URL when it is entered."""
        said = {"type": "url_verification", "challenge": uuid.uuid4().hex, "token": "proves-nothing"}
        return Interaction(said, self.secret, "events_api")

    async def post(self, interaction: Interaction, url: str) -> Answered:
        """Send it over HTTP as Slack would."""
        wait = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=wait) as session:
            sent = session.post(url, data=interaction.body, headers=interaction.headers, allow_redirects=False)
            async with sent as answer:
                return Answered(answer.status, dict(answer.headers), await answer.text())

    def take(self, workspace: Workspace, view: Json, answer: Json) -> Json:
        """What Slack does with the answer to a submission: the view as it then stands, or None when it closed.

        `AssertionError` for an answer that Slack would meet with "We had some trouble connecting".
        """
        action = (answer or {}).get("response_action", "")
        if action == "errors":
            inputs = {block["block_id"] for block in view["blocks"] if block["type"] == "input"}
            assert answer["errors"] and set(answer["errors"]) <= inputs, (
                f"errors for inputs that are not there: {answer}"
            )
            assert all(isinstance(said, str) and said for said in answer["errors"].values())
            return view | {"errors": answer["errors"]}
        if action in ("update", "push"):
            assert not view_problems(answer["view"]), view_problems(answer["view"])
            kept = workspace.views[view["id"]] = {**view, **answer["view"], "hash": workspace.next_id("hash.")}
            return kept
        assert action in ("", "clear"), f"Slack knows no response_action {action!r}"
        workspace.views.pop(view["id"], None)
        return None


def _shown(view: Json) -> Json:
    return {name: value for name, value in view.items() if name not in ("seen_by", "errors")}


async def _arguments(request: web.Request) -> dict[str, Json]:
    """Query, form or JSON; the parts of a form that are JSON are read as such."""
    args: dict[str, Json] = dict(request.query)
    if request.content_type == "application/json":
        body = await request.text()
        args |= json.loads(body) if body else {}
    elif request.method == "POST":
        args |= {name: str(value) for name, value in (await request.post()).items()}
    for name in ("blocks", "view", "metadata"):
        if isinstance(args.get(name), str):
            args[name] = json.loads(args[name])
    return args
