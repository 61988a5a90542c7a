"""Slack is answered when the decision is durable; while a store stalls, in time, and then with nothing but the truth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from governor_agents import Governor, PolicySet
from governor_agents.core.records import CallState
from governor_agents.handlers.slack.inbound import PATIENCE
from tests.slack_office import ALICE, BOB, POLICY, Office, office
from tests.stores import stalled

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

CLAIMS = ("approved", "rejected", "not recorded", "was not", "failed", "nothing was")
"""What nobody may be told while the write is under way: that it counts, or that it does not."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "a.db", patience=0.3) as made:
        yield made


async def test_when_slack_is_answered_another_process_finds_the_decision(tmp_path: Path) -> None:
    """At the moment of the answer the vote stands in the store, for whoever opens it anew."""
    async with office(tmp_path / "a.db") as here:
        for action, typed, state in (
            ("approve", None, CallState.APPROVED),
            ("reject", {"reason": "no"}, CallState.REJECTED),
        ):
            posted = await here.ask()
            answer = await here.click(posted, action, by=ALICE)
            if typed is not None:
                answer = await here.inbound.handle(*_sent(here, typed))
            assert answer.status == 200
            async with Governor(PolicySet.from_text(POLICY), store=here.governor.store.url) as other:
                assert (await other.approval(posted.approval.id)).call.state is state


def _sent(here: Office, typed: dict[str, str]) -> tuple[dict[str, str], bytes]:
    made = here.slack.submit(here.space, here.view(), typed, by=ALICE)
    return made.headers, made.body


async def test_a_click_on_a_stalled_store_is_answered_with_the_truth(here: Office, tmp_path: Path) -> None:
    """While the write waits: 200, "not confirmed yet" to whoever clicked, nothing claimed; then the write lands."""
    posted = await here.ask()
    async with Governor(PolicySet.from_text(POLICY), store=here.governor.store.url) as other:
        await other.approval(posted.approval.id)
        with stalled(tmp_path / "a.db"):
            answer = await here.send(here.slack.click(here.space, posted.message, "approve", by=ALICE), wait=False)
            assert (answer.status, answer.body, answer.refused) == (200, None, "")
            await here.slack.until(lambda: here.told(ALICE))
            assert "Not confirmed yet" in here.told(ALICE)[0]
            assert not any(claim in here.told(ALICE)[0].lower() for claim in CLAIMS)
            assert (await other.approval(posted.approval.id)).call.state is CallState.PENDING
    await here.slack.until(lambda: len(here.told(ALICE)) == 2)
    assert here.told(ALICE)[1] == "Your decision is recorded."
    assert (await here.call(posted)).state is CallState.APPROVED
    notices = [(notice.what, notice.channel) for notice in (await here.run(posted)).outbox]
    assert ("decided", "slack") in notices  # the card is shown anew by the outbox, whoever hung up


async def test_a_modal_on_a_stalled_store_says_so_in_its_place(here: Office, tmp_path: Path) -> None:
    """The modal is replaced by "not confirmed yet", and the person is told in the channel what became of it."""
    posted = await here.ask()
    await here.click(posted, "reject", by=ALICE)
    view = here.view()
    with stalled(tmp_path / "a.db"):
        answer = await here.send(here.slack.submit(here.space, view, {"reason": "no"}, by=ALICE), wait=False)
        shown = here.slack.take(here.space, view, json.loads(json.dumps(answer.body)))
        assert "Not confirmed yet" in json.dumps(shown["blocks"])
        assert not any(claim in json.dumps(shown["blocks"]).lower() for claim in CLAIMS)
    await here.slack.until(lambda: here.told(ALICE))
    assert here.told(ALICE) == ["Your decision is recorded."]
    assert (await here.call(posted)).state is CallState.REJECTED


async def test_who_lost_while_the_store_stalled_is_told_who_won(here: Office, tmp_path: Path) -> None:
    """Two opposite clicks on a stalled store: one counts, the other hears in the end who decided and when."""
    posted = await here.ask()
    with stalled(tmp_path / "a.db"):
        for by in (ALICE, BOB):
            await here.send(here.slack.click(here.space, posted.message, "approve", by=by), wait=False)
        await here.slack.until(lambda: here.told(ALICE) and here.told(BOB))
    await here.slack.until(lambda: len(here.told(ALICE)) == 2 and len(here.told(BOB)) == 2)
    words = {here.told(ALICE)[1], here.told(BOB)[1]}
    assert "Your decision is recorded." in words
    assert any("already approved by slack:T01/U0" in each for each in words)
    assert len((await here.call(posted)).votes) == 1


async def test_who_hangs_up_stops_nothing(here: Office, tmp_path: Path) -> None:
    """The request is cancelled while the write waits: the write goes on, and closing waits for it."""
    posted = await here.ask()
    click = here.slack.click(here.space, posted.message, "approve", by=ALICE)
    with stalled(tmp_path / "a.db"):
        asked = asyncio.create_task(here.inbound.handle(click.headers, click.body))
        await here.slack.until(lambda: here.slack.count("users.info"))
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    await here.inbound.close()
    assert (await here.call(posted)).state is CallState.APPROVED


async def test_a_store_that_cannot_be_reached_promises_nothing(tmp_path: Path) -> None:
    """An error of the store that comes at once is told in the same words: the write may have landed."""
    async with office(tmp_path / "a.db") as here:
        posted = await here.ask()
        await here.governor.loop.bridge(here.governor.store.close())
        (tmp_path / "a.db").unlink()
        (tmp_path / "a.db").mkdir()
        answer = await here.click(posted, "approve", by=ALICE)
        assert answer.status == 200
        assert answer.refused
        assert all("Not confirmed yet" in text for text in here.told(ALICE))
        (tmp_path / "a.db").rmdir()


async def test_an_inbound_part_that_only_waits_would_be_seen(tmp_path: Path) -> None:
    """Negative control: with a patience that outlasts the stall there is no answer while the store stalls."""
    async with office(tmp_path / "a.db", patience=3600.0) as here:
        posted = await here.ask()
        click = here.slack.click(here.space, posted.message, "approve", by=ALICE)
        with stalled(tmp_path / "a.db"):
            asked = asyncio.create_task(here.inbound.handle(click.headers, click.body))
            await here.slack.until(lambda: here.slack.count("users.info"))
            done, _ = await asyncio.wait({asked}, timeout=1.0)
            assert not done
        assert (await asked).status == 200


def test_the_patience_leaves_room_for_what_slack_gives() -> None:
    """Slack gives up after three seconds, and the answer must be on its way within two and a half."""
    assert PATIENCE <= 2.2
