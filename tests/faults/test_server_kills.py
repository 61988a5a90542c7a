"""A server that is killed while people decide: what was acknowledged stands, nobody is told two things, and all goes on.

One line is printed for each server; the time until decisions are taken again is part of it, and no machine's speed is
asserted: a store that does not come back ends in a time-out.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from governor_agents import Decision, Governor, PolicySet
from governor_agents.core.records import Vote
from governor_agents.errors import AlreadyDecided, NotFound, StoreUnavailable
from tests.faults.voters import kind, voter
from tests.servers import MongoServer, Process, RedisServer

NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))
KILLS = 8
VOTERS, GOVERNORS, AT_ONCE = 8, 4, 16
PATIENCE = 90.0
"""Seconds after which a store that takes no decision again is stuck, on a machine of any speed."""

NAMES = ", ".join(voter(n) for n in range(VOTERS))
POLICY = f"version: 1\napprovals: {{channels: [terminal], approvers: [{NAMES}]}}"


@dataclass(slots=True)
class Poll:
    """Approvals, each of which two people decide in opposite ways, and what each of them was told."""

    url: str
    governors: list[Governor] = field(default_factory=list)
    approvals: list[str] = field(default_factory=list)
    told: dict[tuple[str, int], str] = field(default_factory=dict)
    back: list[float] = field(default_factory=list)
    again: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, count: int) -> None:
        """Make the approvals."""

        async def pay(n: int) -> None:
            raise AssertionError("no worker runs here")

        asking = self.governors[0].govern(name="pay")(pay)
        room = asyncio.Semaphore(AT_ONCE)

        async def one(n: int) -> str:
            async with room:
                return (await asking.ask(n)).approval

        self.approvals = await asyncio.gather(*(one(n) for n in range(count)))

    async def vote(self, kill: Callable[[], object], start: Callable[[], object]) -> None:
        """Everybody votes, while the server is killed and started again so many times."""
        votes = [(approval, (n + way) % VOTERS) for n, approval in enumerate(self.approvals) for way in (0, 1)]
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, approval: str, n: int) -> None:
            async with room:
                self.told[approval, n] = await self._answer(self.governors[number % GOVERNORS], approval, n)
                self.again.set()

        voting = asyncio.gather(*(one(number, *each) for number, each in enumerate(votes)))
        voting.add_done_callback(lambda _: self.again.set())
        for turn in range(1, KILLS + 1):
            await self._until(len(votes) * turn // (KILLS + 1), voting)
            await asyncio.to_thread(kill)
            began = time.monotonic()
            await asyncio.to_thread(start)
            self.again.clear()
            if not voting.done():
                await asyncio.wait_for(self.again.wait(), PATIENCE)
            self.back.append(time.monotonic() - began)
        await asyncio.wait_for(voting, 10 * PATIENCE)

    async def _until(self, count: int, voting: asyncio.Future[object]) -> None:
        """Until so many were told. Raises what a voter met that is no answer."""
        async with asyncio.timeout(10 * PATIENCE):
            while len(self.told) < count:
                if voting.done():
                    voting.result()
                self.again.clear()
                await self.again.wait()

    async def _answer(self, governor: Governor, approval: str, n: int) -> str:
        """What a person is told who asks until there is an answer."""
        decision = Decision.reject("no") if n % 2 else Decision.approve("yes")
        while True:
            try:
                await governor.decide(approval, decision, by=voter(n))
                return f"{voter(n)} counts"
            except AlreadyDecided as error:
                return next(f"{voter(who)} counts" for who in range(VOTERS) if f"by {voter(who)} at" in str(error))
            except NotFound:
                return "there is no such approval"
            except StoreUnavailable:
                await asyncio.sleep(0.05)

    async def wrong(self) -> tuple[list[str], list[str]]:
        """Decisions that were acknowledged and do not stand; approvals of which two things were told."""
        lost, contradictory = [], []
        for approval in self.approvals:
            said = {told for (about, _), told in self.told.items() if about == approval}
            votes = await self._votes(approval)
            stands = {f"{vote.by} counts" for vote in votes}
            if len(said) != 1:
                contradictory.append(f"{approval}: {said}")
            if said - stands or len(votes) != 1 or votes[0].kind != kind(int(votes[0].by.removeprefix("local:voter"))):
                lost.append(f"{approval}: told {said}, stands {stands}")
        return lost, contradictory

    async def _votes(self, approval: str) -> tuple[Vote, ...]:
        try:
            return (await self.governors[0].approval(approval)).call.votes
        except NotFound:
            return ()


async def polled(server: Process, options: str, decisions: int) -> tuple[Poll, list[str], list[str]]:
    """A whole poll on a server that is killed meanwhile."""
    poll = Poll(f"{server.url}{options}")
    async with AsyncExitStack() as stack:
        for _ in range(GOVERNORS):
            made = Governor(PolicySet.from_text(POLICY), store=poll.url)
            poll.governors.append(await stack.enter_async_context(made))
        await poll.ask(decisions // 2)
        await poll.vote(server.kill, server.start)
        lost, contradictory = await poll.wrong()
    return poll, lost, contradictory


CASES = {
    "redis": (RedisServer, "/0", 1500),
    "mongodb": (MongoServer, "/governor?retryWrites=false", 1500 if NIGHTLY else 300),
}
"""Fewer on MongoDB in the short form: the server that stands for it takes 20 times as long for each."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CASES)
async def test_no_acknowledged_decision_is_lost(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed eight times: every decision that was acknowledged stands, and both people were told the same winner."""
    kind, options, decisions = CASES[name]
    with kind(tmp_path / name) as server:
        poll, lost, contradictory = await polled(server, options, decisions)
    with capsys.disabled():
        print(
            f"\nserver kills: store={name} kills={len(poll.back)} decisions={len(poll.told)} lost={len(lost)} "
            f"contradictory={len(contradictory)} back_within={max(poll.back):.2f}s"
        )
    assert (lost, contradictory) == ([], [])
    assert len(poll.told) == decisions // 2 * 2 and len(poll.back) == KILLS


@pytest.mark.timeout(600)
async def test_a_server_that_keeps_nothing_is_found_out(tmp_path: Path) -> None:
    """The control: without its log, which is refused unless one insists, Redis forgets what it acknowledged."""
    with RedisServer(tmp_path / "redis", settings={"appendonly": "no"}) as server:
        _, lost, _ = await polled(server, "/0?unsafe=allow", 90)
    assert len(lost) >= 10
