"""Slack and `serve`: a card posted by a worker, clicked over HTTP or Socket Mode, decided by the served app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from governor_agents import Governor, PolicySet, Worker
from governor_agents.core.records import CallState
from governor_agents.server import create_app
from governor_agents.server.slack import go_on
from governor_agents.testing.slack_server import SlackServer
from tests.pages import Office, served
from tests.slack_office import ALICE, BOB, POLICY

pytestmark = pytest.mark.anyio

SETTINGS = ("SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "SLACK_APP_TOKEN", "SLACK_API_URL")


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackServer]:
    """A workspace that the app is installed in, with the settings that name it."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    with SlackServer() as server:
        space = server.workspace("T01")
        space.person(ALICE, "alice")
        space.person(BOB, "bob")
        monkeypatch.setenv("SLACK_BOT_TOKEN", space.token)
        monkeypatch.setenv("SLACK_SIGNING_SECRET", server.secret)
        monkeypatch.setenv("SLACK_API_URL", server.url)
        yield server


@contextlib.contextmanager
def open_office(tmp_path: Path) -> Iterator[Office]:
    """The app under uvicorn; its governor is another object than the one that asks."""

    def make(url: str) -> Office:
        governor = Governor(PolicySet.from_text(POLICY), store=f"sqlite:///{tmp_path / 'a.db'}")
        return Office(governor, create_app(governor, public_url=url), url)

    with served(make) as office:
        yield office


@contextlib.asynccontextmanager
async def asked(tmp_path: Path, **arguments: Any) -> Any:
    """A call that waits, asked by one governor and delivered by its worker."""
    async with Governor(PolicySet.from_text(POLICY), store=f"sqlite:///{tmp_path / 'a.db'}") as governor:

        @governor.govern()
        async def wire(amount: int, to: str) -> str:
            return to

        await governor.handler("slack").start(governor.desk)
        pending = await wire.ask(**(arguments or {"amount": 5, "to": "x"}))
        await Worker(governor).run(once=True)
        yield governor, pending.approval


async def state_of(governor: Governor, id: str) -> CallState:
    return (await governor.approval(id)).call.state


async def test_a_card_is_posted_clicked_and_shown_decided(slack: SlackServer, tmp_path: Path) -> None:
    """Worker, server and person: the card in Alice's messages is approved over HTTP and then says so."""
    space = slack.workspaces["T01"]
    with open_office(tmp_path) as office:
        async with asked(tmp_path) as (governor, id):
            card = space.messages(space.direct(ALICE).id)[-1]
            answer = await slack.post(slack.click(space, card, "approve", by=ALICE), f"{office.url}/slack")
            assert (answer.status, answer.text) == (200, "")
            assert await state_of(governor, id) is CallState.APPROVED
            await Worker(governor).run(once=True)
            shown = str(space.messages(space.direct(ALICE).id)[0].blocks)
            assert "by slack:T01/U02 at 20" in shown
            assert "'action_id': 'approve'" not in shown
    assert slack.refusals() == []


async def test_a_modal_is_opened_and_submitted_over_http(slack: SlackServer, tmp_path: Path) -> None:
    """Edit on the real card: form, confirmation, decision."""
    space = slack.workspaces["T01"]
    with open_office(tmp_path) as office:
        async with asked(tmp_path) as (governor, id):
            card = space.messages(space.direct(ALICE).id)[-1]
            await slack.post(slack.click(space, card, "edit", by=ALICE), f"{office.url}/slack")
            await slack.until(lambda: space.views)
            view = list(space.views.values())[-1]
            for typed in ({"f0": "6"}, {}):
                answer = await slack.post(slack.submit(space, view, typed, by=ALICE), f"{office.url}/slack")
                view = slack.take(space, view, answer.json)
            assert view is None
            approval = await governor.approval(id)
            assert (approval.call.state, approval.arguments["amount"]) == (CallState.APPROVED, 6)
    assert slack.refusals() == []


async def test_the_home_tab_shows_what_waits(slack: SlackServer, tmp_path: Path) -> None:
    """Opened, it lists the person's open requests."""
    space = slack.workspaces["T01"]
    with open_office(tmp_path) as office:
        async with asked(tmp_path):
            answer = await slack.post(slack.open_home(space, by=ALICE), f"{office.url}/slack")
            assert answer.status == 200
            await slack.until(lambda: space.homes)
            assert "1 request waits for you" in str(space.homes[ALICE])


async def test_what_is_not_slacks_is_refused_by_status(slack: SlackServer, tmp_path: Path) -> None:
    """Unsigned 401, too large 413, malformed 422, another method 405; the headers of every answer are those of the app."""
    space = slack.workspaces["T01"]
    with open_office(tmp_path) as office:
        home = slack.open_home(space, by=ALICE)
        async with httpx.AsyncClient(base_url=office.url) as client:
            unsigned = await client.post("/slack", content=home.body)
            assert unsigned.status_code == 401
            assert unsigned.headers["cache-control"] == "no-store"
            assert (await client.post("/slack", content=b"x" * 600_000)).status_code == 413
            assert (await client.get("/slack")).status_code == 405
            twice = [*home.headers.items(), ("x-slack-signature", "v0=0")]
            assert (await client.post("/slack", content=home.body, headers=twice)).status_code == 401
        assert (await slack.post(home.changed(type="nonsense"), f"{office.url}/slack")).status == 422


async def test_half_an_emoji_is_echoed_and_no_fault(slack: SlackServer, tmp_path: Path) -> None:
    """What is no text by itself is given back as it came."""
    with open_office(tmp_path) as office:
        answer = await slack.post(slack.challenge().changed(challenge="a\ud83d"), f"{office.url}/slack")
    assert (answer.status, answer.json) == (200, {"challenge": "a\ud83d"})


async def test_what_is_left_to_do_and_breaks_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The answer is out already; the log has the kind of error, and no word of it or of a request."""

    async def work() -> None:
        raise RuntimeError("hush")

    behind: set[asyncio.Task[Any]] = set()
    go_on(behind, work)
    await asyncio.gather(*behind)
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("ERROR", None)]
    assert "RuntimeError" in caplog.text and "hush" not in caplog.text


async def test_over_socket_mode_no_route_is_needed(
    slack: SlackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an app token alone clicks arrive over the connection that the app opened; the route lets nobody in."""
    monkeypatch.delenv("SLACK_SIGNING_SECRET")
    monkeypatch.setenv("SLACK_APP_TOKEN", slack.app_token)
    space = slack.workspaces["T01"]
    with open_office(tmp_path) as office:
        await slack.until(lambda: slack.connections)
        async with asked(tmp_path) as (governor, id):
            click = slack.click(space, space.messages(space.direct(ALICE).id)[-1], "approve", by=ALICE)
            await slack.emit(click).answer()
            assert await state_of(governor, id) is CallState.APPROVED
        assert (await slack.post(click, f"{office.url}/slack")).status == 401
    await slack.until(lambda: not slack.connections)


@pytest.mark.parametrize("setting, value, told", [
    ("SLACK_BOT_TOKEN", "xoxb-hush", "invalid_auth"),
    ("SLACK_SIGNING_SECRET", "", "nothing can come in"),
    ("SLACK_SIGNING_SECRET", "a,b,c", "two while rotating"),
    ("SLACK_APP_TOKEN", "xapp-hush", "SLACK_APP_TOKEN"),
])  # fmt: skip
async def test_a_wrong_setting_is_named_and_the_pages_go_on(
    slack: SlackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    setting: str,
    value: str,
    told: str,
) -> None:
    """One line in the log with the mend and without the secret, a word in /readyz; everything else is served."""
    monkeypatch.setenv(setting, value)
    with open_office(tmp_path) as office:
        async with httpx.AsyncClient(base_url=office.url) as client:
            ready = await client.get("/readyz")
            while ready.json()["channels"]["slack"] == "starting":
                ready = await client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["channels"]["slack"] == "unusable"
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 1
    assert told in lines[0]
    assert "hush" not in caplog.text


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("secret", [False, True])
async def test_the_log_says_by_which_way_clicks_come_in(
    slack: SlackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    secret: bool,
    token: bool,
) -> None:
    """The URL that Slack must know, Socket Mode, or both; where there is no way in, no such line."""
    caplog.set_level(logging.INFO, "governor_agents")
    if not secret:
        monkeypatch.delenv("SLACK_SIGNING_SECRET")
    if token:
        monkeypatch.setenv("SLACK_APP_TOKEN", slack.app_token)
    with open_office(tmp_path) as office:
        async with httpx.AsyncClient(base_url=office.url) as client:
            while (await client.get("/readyz")).json()["channels"]["slack"] == "starting":
                pass
        ways = " and ".join([f"{office.url}/slack"] * secret + ["Socket Mode"] * token)
    lines = [record.getMessage() for record in caplog.records if "clicks come in" in record.getMessage()]
    assert lines == ([f"slack: workspace T01; clicks come in by {ways}"] if ways else [])


async def test_without_slack_there_is_no_such_route(
    slack: SlackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Slack is not set up, what comes to its route finds nothing."""
    monkeypatch.delenv("SLACK_BOT_TOKEN")
    with open_office(tmp_path) as office:
        answer = await slack.post(slack.challenge(), f"{office.url}/slack")
        assert answer.status == 404


async def test_slack_that_was_away_at_the_start_is_asked_again(
    slack: SlackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app starts while Slack does not answer; the first click after that counts, over HTTP and over the socket."""
    monkeypatch.setenv("SLACK_APP_TOKEN", slack.app_token)
    slack.trouble("auth.test", "http", status=503)
    slack.trouble("apps.connections.open", "http", status=503)
    space = slack.workspaces["T01"]
    with open_office(tmp_path) as office:
        await slack.until(lambda: slack.count("apps.connections.open"))
        slack.calm()
        async with asked(tmp_path) as (governor, id):
            card = space.messages(space.direct(ALICE).id)[-1]
            await slack.post(slack.click(space, card, "approve", by=ALICE), f"{office.url}/slack")
            assert await state_of(governor, id) is CallState.APPROVED
        await slack.until(lambda: slack.connections)


async def test_a_slack_that_hangs_holds_up_no_page(slack: SlackServer, tmp_path: Path) -> None:
    """While Slack does not answer, the app is there and says that the channel is starting."""
    slack.trouble("auth.test", "hang")
    with open_office(tmp_path) as office:
        async with httpx.AsyncClient(base_url=office.url) as client:
            ready = await client.get("/readyz")
            assert ready.json()["channels"]["slack"] == "starting"
            slack.calm()
