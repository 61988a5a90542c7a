"""Socket Mode: the same decisions over slack-sdk's own client, acknowledged when durable, once however often they come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from governor_agents.core.records import CallState
from governor_agents.errors import ChannelUnusable, DeliveryFailed
from governor_agents.handlers.slack.socket import SlackSocket
from tests.slack_office import ADDRESS, ALICE, BOB, Office, office

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connected(tmp_path: Path) -> AsyncIterator[tuple[Office, SlackSocket]]:
    """An office that listens over Socket Mode."""
    async with office(tmp_path / "a.db") as here:
        socket = SlackSocket(here.slack.app_token, here.inbound, url=here.slack.url, ping=1.0)
        await socket.start()
        await here.slack.until(lambda: here.slack.connections == 1)
        try:
            yield here, socket
        finally:
            await socket.close()


async def test_a_click_over_the_socket_counts_before_it_is_acknowledged(tmp_path: Path) -> None:
    """When the envelope is acknowledged, another process finds the decision in the store."""
    async with connected(tmp_path) as (here, _):
        posted = await here.ask()
        envelope = here.slack.emit(here.slack.click(here.space, posted.message, "approve", by=ALICE))
        assert await envelope.answer() in ({}, None)
        assert (await here.call(posted)).state is CallState.APPROVED


async def test_an_envelope_that_comes_again_has_one_effect(tmp_path: Path) -> None:
    """Redelivered, over the same connection or a new one, it is acknowledged alike and counts once."""
    async with connected(tmp_path) as (here, _):
        posted = await here.ask()
        click = here.slack.click(here.space, posted.message, "approve", by=ALICE)
        first = here.slack.emit(click)
        one = await first.answer()
        again = here.slack.emit(click, again=first, attempt=1)
        assert await again.answer() == one
        call = await here.call(posted)
        assert [vote.by for vote in call.votes] == [ADDRESS[ALICE]]
        assert await here.refusals() == []


async def test_a_modal_works_over_the_socket(tmp_path: Path) -> None:
    """The modal opens, errors go back in the acknowledgement, and the submission decides."""
    async with connected(tmp_path) as (here, _):
        posted = await here.ask()
        await here.slack.emit(here.slack.click(here.space, posted.message, "respond", by=ALICE)).answer()
        await here.slack.until(lambda: here.space.views)
        view = here.view()
        wrong = await here.slack.emit(here.slack.submit(here.space, view, {"answer": " "}, by=ALICE)).answer()
        assert here.slack.take(here.space, view, wrong)["errors"] == {"answer": "this may not be empty"}
        right = await here.slack.emit(here.slack.submit(here.space, view, {"answer": "done"}, by=ALICE)).answer()
        assert here.slack.take(here.space, view, right) is None
        assert (await here.call(posted)).state is CallState.ANSWERED


async def test_refused_envelopes_are_acknowledged_and_noted(tmp_path: Path) -> None:
    """Slack would send again what is not acknowledged; a refused request is over."""
    async with connected(tmp_path) as (here, _):
        posted = await here.ask()
        here.space.person("U66", "guest", is_restricted=True)
        for by in ("U66", "U99"):
            await here.slack.emit(here.slack.click(here.space, posted.message, "approve", by=by)).answer()
        assert [line["what"] for line in await here.refusals()] == ["refused.guest", "refused.unknown_user"]
        assert (await here.call(posted)).state is CallState.PENDING


@pytest.mark.parametrize("how", ["refresh", "drop"])
async def test_a_connection_that_ends_is_followed_by_another(tmp_path: Path, how: str) -> None:
    """Asked to come back, or cut without a word: the next click arrives over a new connection."""
    async with connected(tmp_path) as (here, _):
        first = here.slack.count("apps.connections.open")
        here.slack.refresh() if how == "refresh" else here.slack.drop_connections()
        await here.slack.until(lambda: here.slack.count("apps.connections.open") > first)
        await here.slack.until(lambda: here.slack.connections == 1)
        posted = await here.ask()
        await here.slack.emit(here.slack.click(here.space, posted.message, "approve", by=BOB)).answer()
        assert (await here.call(posted)).state is CallState.APPROVED


async def test_a_wrong_app_token_is_found_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line that names the setting and not the token; trouble on Slack's side is another error."""
    caplog.set_level(logging.DEBUG)
    async with office(tmp_path / "a.db") as here:
        socket = SlackSocket("xapp-1-hush", here.inbound, url=here.slack.url)
        with pytest.raises(ChannelUnusable, match="SLACK_APP_TOKEN") as raised:
            await socket.start()
        assert "hush" not in str(raised.value)
        here.slack.trouble("apps.connections.open", "http", status=503)
        with pytest.raises(DeliveryFailed):
            await SlackSocket(here.slack.app_token, here.inbound, url=here.slack.url).start()
        await socket.close()
    assert "hush" not in caplog.text


async def test_no_ticket_and_no_payload_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """slack-sdk logs links and payloads when asked to; through this logger it cannot."""
    logging.getLogger("governor_agents.slack.sdk").setLevel(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "governor_agents.slack.sdk")
    async with connected(tmp_path) as (here, _):
        posted = await here.ask(amount=5, to="planted-secret")
        await here.slack.emit(here.slack.click(here.space, posted.message, "approve", by=ALICE)).answer()
        trouble = here.slack.trouble("apps.connections.open", "error", times=1)
        asked = here.slack.count("apps.connections.open")
        here.slack.refresh()
        await here.slack.until(lambda: trouble.met)  # slack-sdk goes on with the old connection, until it is cut
        here.slack.drop_connections()
        await here.slack.until(lambda: here.slack.count("apps.connections.open") > asked + 1)
        own = [record for record in caplog.records if record.name == "governor_agents.slack.sdk"]
        assert any(record.levelno >= logging.WARNING for record in own)
        for record in own:
            assert "ticket=" not in record.getMessage()
            assert "planted-secret" not in record.getMessage()
            assert record.exc_info is None  # a traceback names the link that was tried


async def test_close_waits_for_what_is_under_way(tmp_path: Path) -> None:
    """A click that is being decided when the process ends is decided and answered."""
    async with connected(tmp_path) as (here, socket):
        posted = await here.ask()
        here.slack.trouble("users.info", "hang")
        envelope = here.slack.emit(here.slack.click(here.space, posted.message, "approve", by=ALICE))
        await here.slack.until(lambda: here.slack.count("users.info"))
        closing = asyncio.create_task(socket.close())
        await asyncio.sleep(0)
        assert not closing.done()
        here.slack.calm()
        await closing
        await envelope.answer()
        assert (await here.call(posted)).state is CallState.APPROVED
