"""One run decided in each channel, with creator, server and worker as three processes that share nothing but the store."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from governor_agents import Governor, Run
from governor_agents.core.records import RunState, Vote
from governor_agents.testing.slack_server import Message, SlackServer, Workspace
from governor_agents.testing.smtp_server import SmtpServer
from tests.channels.app import PEOPLE
from tests.pages import form_in
from tests.stores import KNOWN

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0


@dataclass
class Place:
    """Servers of others, and what every process of ours has in its environment."""

    slack: SlackServer
    space: Workspace
    mails: SmtpServer
    env: dict[str, str]
    folder: Path

    def run(self, *arguments: str) -> str:
        """A process that ends by itself; what it printed."""
        done = subprocess.run(
            [sys.executable, *arguments], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[str]:
        """A process of ours while the block runs; the first line that it says."""
        command = [sys.executable, "-m", "governor_agents", *arguments]
        with subprocess.Popen(command, env=self.env, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said = [process.stderr.readline()]
            drain = threading.Thread(target=lambda: said.extend(process.stderr or ()))
            drain.start()
            try:
                yield said[0]
                assert process.poll() is None, said
            finally:
                process.terminate()
                drain.join(PATIENCE)

    @property
    def ledger(self) -> list[str]:
        """What was really done."""
        file = self.folder / "ledger"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(params=["sqlite", "redis", "mongodb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "people.yaml").write_text(PEOPLE)
    with SlackServer() as slack, SmtpServer() as mails:
        space = slack.workspace("T01")
        space.person("U02", "alice")
        space.person("U03", "bob")
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CHANNELS_FOLDER": str(tmp_path),
            "GOVERNOR_STORE": KNOWN[request.param](tmp_path),
            "GOVERNOR_SMTP_URL": mails.url(),
            "SLACK_API_URL": slack.url,
            "SLACK_BOT_TOKEN": space.token,
            "SLACK_SIGNING_SECRET": slack.secret,
        }
        yield Place(slack, space, mails, env, tmp_path)


def card(place: Place, user: str) -> Message | None:
    """The card that this user was sent."""
    cards = [message for message in place.space.direct(user).messages if not message.thread_ts]
    return cards[0] if cards else None


async def by_slack(place: Place, url: str) -> None:
    """Alice clicks Approve on her card."""
    await place.slack.until(lambda: card(place, "U02") and card(place, "U03"))
    posted = card(place, "U02")
    assert posted is not None
    assert "120.5" in str(posted.blocks) and "slack" in str(posted.blocks)
    answer = await place.slack.post(place.slack.click(place.space, posted, "approve", by="U02"), f"{url}/slack")
    assert answer.status == 200, answer


async def by_mail(place: Place, url: str) -> None:
    """Bob opens the link of his mail and types the shown word."""
    mails = await asyncio.to_thread(place.mails.wait, 2)
    (mine,) = (mail.text() for mail in mails if mail.recipients == ("bob@example.com",))
    link = re.search(rf"{re.escape(url)}/confirm/[\w-]+", mine)
    assert link is not None
    async with httpx.AsyncClient(headers={"Origin": url}) as browser:
        page = await browser.get(link[0])
        sent = await browser.post(link[0], data=form_in(page.text, "decide", decision="approve", reason="checked"))
    assert sent.status_code == 200, sent.text


def shown(place: Place, user: str) -> str:
    """What this user's card shows."""
    posted = card(place, user)
    return "" if posted is None else str(posted.blocks).lower()


async def outcomes(place: Place, runs: dict[str, str]) -> tuple[dict[str, Run], dict[str, Vote]]:
    """Every run at its end, and the vote that decided its call."""
    async with Governor(store=place.env["GOVERNOR_STORE"]) as governor:
        ended = {
            channel: await governor.wait(run, timeout=PATIENCE, until=lambda run: run.state.ended)
            for channel, run in runs.items()
        }
        return ended, {channel: (await governor.calls(run.id))[0].votes[0] for channel, run in ended.items()}


def by_hand(place: Place, approval: str) -> None:
    """Whoever sits at this machine uses the command line."""
    place.run("-m", "governor_agents", "inbox", "approve", approval)


async def test_each_channel_decides_one_run(place: Place) -> None:
    """The creator is gone before anybody is asked; server and worker have never seen each other."""
    made = json.loads(place.run("-m", "tests.channels.app", "create"))
    assert place.ledger == []
    with place.running("serve", "tests.channels.app:governor", "--port", "0") as said:
        listening = re.search(r"pages at (http://\S+)", said)
        assert listening is not None, said
        place.env["GOVERNOR_PUBLIC_URL"] = url = listening[1]
        with place.running("worker", "tests.channels.app:governor"):
            await by_slack(place, url)
            await by_mail(place, url)
            by_hand(place, made["terminal"]["approval"])
            ended, votes = await outcomes(place, {channel: each["run"] for channel, each in made.items()})
            await place.slack.until(lambda: all("approved by alice" in shown(place, user) for user in ("U02", "U03")))
            mails = await asyncio.to_thread(place.mails.wait, 4)
            assert sum("approved by bob" in mail.text().lower() for mail in mails) == 2, "each thread has its outcome"
    assert {run.state for run in ended.values()} == {RunState.COMPLETED}
    assert sorted(place.ledger) == [f"refund {channel} 120.5" for channel in ("email", "slack", "terminal")]
    assert {channel: (vote.by, vote.channel) for channel, vote in votes.items() if channel != "terminal"} == {
        "slack": ("alice", "slack"),
        "email": ("bob", votes["email"].channel),
    }


async def test_without_a_worker_nobody_is_asked_and_nothing_runs(place: Place) -> None:
    """The control: what the others see comes from the worker, and from nothing that the creator left running."""
    made = json.loads(place.run("-m", "tests.channels.app", "create"))
    by_hand(place, made["terminal"]["approval"])
    assert (card(place, "U02"), place.mails.mails, place.ledger) == (None, [], [])
