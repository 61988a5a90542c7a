"""Slack and e-mail vote against each other at the same moment: one of them wins, and everybody is told who."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from governor_agents import Governor, PolicySet, Worker
from governor_agents.core import decisions
from governor_agents.core.records import Approval, CallState
from governor_agents.directory import PeopleFile
from governor_agents.handlers.email import EmailHandler
from governor_agents.handlers.slack.handler import SlackHandler
from governor_agents.handlers.slack.inbound import SlackInbound
from governor_agents.handlers.slack.signature import SigningSecrets
from governor_agents.server import create_app
from governor_agents.server.settings import Rate, Rates
from governor_agents.testing.slack_server import Message, SlackServer, Workspace
from governor_agents.testing.smtp_server import SmtpServer
from tests.channels.app import PEOPLE
from tests.pages import form_in
from tests.stores import KNOWN

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

ROUNDS = 200
PUBLIC = "http://127.0.0.1"
LINK = re.compile(rf"{PUBLIC}(/confirm/[\w-]+)")
NO_LIMIT = Rates(*(Rate(10**6, 60.0) for _ in range(5)))
POLICY = """
version: 1
approvals: {channels: [slack, email], approvers: [group:finance], deadline: 24h}
"""


@dataclass
class Office:
    """Alice has Slack, Bob has mail, and a function wants to be run."""

    slack: SlackServer
    space: Workspace
    mails: SmtpServer
    governor: Governor
    inbound: SlackInbound
    pages: httpx.AsyncClient
    ran: list[int] = field(default_factory=list)

    async def work(self) -> None:
        """Let a worker do all that is due."""
        await Worker(self.governor, concurrency=8).run(once=True)

    def cards(self) -> dict[str, Message]:
        """Alice's cards by the reference they name."""
        found = {}
        for message in self.space.direct("U02").messages:
            named = re.search(r"ref-\d+", str(message.blocks))
            if named and not message.thread_ts:
                found[named[0]] = message
        return found

    def letters(self) -> dict[str, list[str]]:
        """Bob's mails by the reference they name, oldest first."""
        found: dict[str, list[str]] = {}
        for mail in self.mails.mails:
            text = mail.text()
            if mail.recipients == ("bob@example.com",) and (named := re.search(r"ref-\d+", text)):
                found.setdefault(named[0], []).append(text)
        return found

    async def by_slack(self, card: Message) -> str:
        """Alice clicks Approve; what she alone is told."""
        click = self.slack.click(self.space, card, "approve", by="U02")
        answer = await self.inbound.handle(click.headers, click.body)
        assert answer.status == 200, answer
        if answer.after is not None:
            await answer.after()
        return answer.refused

    async def opened(self, letter: str) -> Callable[[], Awaitable[httpx.Response]]:
        """Bob opens his link and fills the form in; what sends it."""
        link = LINK.search(letter)
        assert link is not None, letter
        page = await self.pages.get(link[1])
        filled = form_in(page.text, "decide", decision="reject", reason="too much")
        return partial(self.pages.post, link[1], data=filled)

    def told_alice(self) -> list[str]:
        """What Alice alone was told, beside her cards."""
        return [message.text for each in self.space.conversations.values() for message in each.unseen]


@asynccontextmanager
async def office(store: str, folder: Path) -> AsyncIterator[Office]:
    """Everything, started and stopped."""
    (folder / "people.yaml").write_text(
        PEOPLE.replace("slack: T01/U03, ", "").replace(", email: alice@example.com", "")
    )
    people = PeopleFile(folder / "people.yaml")
    with SlackServer() as slack, SmtpServer() as mails:
        space = slack.workspace("T01")
        space.person("U02", "alice")
        cards, letters = SlackHandler([space.token], url=slack.url), EmailHandler(mails.url())
        policies = PolicySet.from_text(POLICY, directory=people)
        governor = Governor(
            policies, store=store, people=people, handlers={"slack": cards, "email": letters}, public_url=PUBLIC
        )
        await governor.open()
        await cards.start(governor.desk)
        await letters.start(governor.desk)

        async def client(team: str) -> Any:
            return cards.client(team)

        urls = (f"http://127.0.0.1:{slack.port}/response/",)
        secrets = SigningSecrets([slack.secret])
        inbound = SlackInbound(governor.desk, client, secrets, patience=60.0, response_urls=urls)
        transport = httpx.ASGITransport(create_app(governor, public_url=PUBLIC, rates=NO_LIMIT))
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC, headers={"Origin": PUBLIC}) as pages:
            here = Office(slack, space, mails, governor, inbound, pages)
            yield here
        await inbound.close()
        await governor.close()


async def ask(here: Office, rounds: int) -> dict[str, str]:
    """So many requests, each told in both channels: the approval's id by its reference."""

    @here.governor.govern()
    async def wire(amount: int, reference: str) -> str:
        here.ran.append(amount)
        return reference

    asked = {}
    for n in range(rounds):
        pending = await wire.ask(amount=n, reference=f"ref-{n}")
        asked[f"ref-{n}"] = pending.approval
    await here.work()
    return asked


class Race:
    """Holds every decision until both have come as far, and lets either of them go first."""

    def __init__(self, governor: Governor) -> None:
        self._decide = governor.desk.decide
        self.barrier = asyncio.Barrier(2)
        governor.desk.decide = self.decide  # type: ignore[method-assign]

    async def decide(self, id: str, decision: Any, **rest: Any) -> Any:
        await self.barrier.wait()
        if (decision.kind == "approve") == self.mail_first:
            await asyncio.sleep(0)
        return await self._decide(id, decision, **rest)

    async def vote(self, here: Office, card: Message, letter: str) -> tuple[str, httpx.Response]:
        """Both have looked at it, and send their decision at the same moment."""
        send = await here.opened(letter)
        self.mail_first = random.random() < 0.5
        refused, page = await asyncio.gather(here.by_slack(card), send())
        return refused, page


def wins(approval: Approval, refused: str, page: httpx.Response) -> str:
    """Who won, after a look at whether both were told so; an empty text when that is not so."""
    call = approval.call
    (vote,) = call.votes
    alice = vote.by == "alice" and call.state is not CallState.REJECTED
    bob = vote.by == "bob" and call.state is CallState.REJECTED
    if alice and not refused and page.status_code == 409 and "alice" in page.text:
        return "alice"
    return "bob" if bob and refused == "already_decided" and page.status_code == 200 else ""


@pytest.mark.parametrize("kind", ["sqlite", "redis", "mongodb"])
async def test_one_wins_all_cards_say_so_and_the_loser_is_told_who(kind: str, tmp_path: Path) -> None:
    """Approve by Slack against reject by mail, at once; nothing that was rejected runs, all that was approved does."""
    rounds = ROUNDS if kind == "sqlite" or os.environ.get("GOVERNOR_NIGHTLY") else ROUNDS // 8
    async with office(KNOWN[kind](tmp_path), tmp_path) as here:
        asked = await ask(here, rounds)
        cards, letters = here.cards(), here.letters()
        assert set(cards) == set(letters) == set(asked)
        won: dict[str, str] = {}
        race = Race(here.governor)
        for name, id in asked.items():
            refused, page = await race.vote(here, cards[name], letters[name][0])
            won[name] = wins(await here.governor.approval(id), refused, page)
        assert set(won.values()) == {"alice", "bob"}, won
        await here.work()
        assert sorted(here.ran) == [int(name[4:]) for name in asked if won[name] == "alice"]
        lost = sum(1 for winner in won.values() if winner == "bob")
        assert sum("rejected by bob" in text.lower() for text in here.told_alice()) == lost
        cards, letters = here.cards(), here.letters()
        for name, winner in won.items():
            outcome = "rejected by bob" if winner == "bob" else "approved by alice"
            assert outcome in str(cards[name].blocks).lower() and "approve" not in _actions(cards[name])
            assert outcome in letters[name][-1].lower() and len(letters[name]) == 2
    print(f"against: store={kind} rounds={rounds} alice={rounds - lost} bob={lost}")


def _actions(card: Message) -> str:
    return str([block for block in card.blocks if block["type"] == "actions"])


async def test_two_winners_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: where a second decision overwrites the first, nobody is told that they lost."""
    right = decisions.decide

    def last_wins(run: Any, n: int, decision: Any, **rest: Any) -> Any:
        call = run.call(n)
        if call.state in (CallState.APPROVED, CallState.REJECTED):
            again = decisions.evolve(call, state=CallState.PENDING, votes=())
            run = decisions.evolve(run.with_call(again), state="waiting", ended=None)
        return right(run, n, decision, **rest)

    monkeypatch.setattr(decisions, "decide", last_wins)
    async with office(KNOWN["sqlite"](tmp_path), tmp_path) as here:
        (id,) = (await ask(here, 1)).values()
        refused, page = await Race(here.governor).vote(here, here.cards()["ref-0"], here.letters()["ref-0"][0])
        assert wins(await here.governor.approval(id), refused, page) == ""
