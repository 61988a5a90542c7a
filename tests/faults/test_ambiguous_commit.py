"""A write whose answer is lost, at every write of a run's life: nothing counts as lost, nothing happens twice.

The life that is played has every kind of write: a new run and its conversation, an allowed call, a pause, notices, a
decision, a claim, a heartbeat, an intent, a result, the end, a halt and its lifting, a doubt and its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, OutcomeUnknown, Worker
from governor_agents.core import doubts, driving
from governor_agents.core.calls import Tool
from governor_agents.core.ports import Segment, Store
from governor_agents.core.records import Call, CallState, Run, RunState
from governor_agents.errors import GovernorError, StoreUnavailable
from governor_agents.runs import UNANSWERED
from governor_agents.stores import open_store, sqlite_thread
from governor_agents.testing import MovableClock
from tests.faults.app import ALICE, call, change, governed, here, run_tool
from tests.faults.lost_answers import Fault, Forgetful, ForgetsOps, bad_disk
from tests.stores import STORES

NOTE, PAY, ODD = Tool("note"), Tool("pay"), Tool("odd")
LEASE = 30.0


@dataclass(slots=True)
class Life:
    """One life of a run over one store, and what really happened in it."""

    governor: Governor
    effects: list[str] = field(default_factory=list)

    async def agent(self, begun: Any, calls: Sequence[Call]) -> Segment:
        """Notes, asks to pay and to do something odd, and ends once both are decided."""
        if not calls:
            await run_tool(self.governor, call("note", "c1", text="begun"), NOTE, self.note)
            asked = (call("pay", "c2", amount=5), call("odd", "c3"))
            return Segment(False, snapshot=b"{}", pending=asked)
        paid = await run_tool(self.governor, call("pay", "c2", amount=5), PAY, self.pay)
        odd = await run_tool(self.governor, call("odd", "c3"), ODD, self.odd)
        return Segment(True, output=[paid.value, odd.text])

    async def note(self) -> str:
        self.effects.append("note")
        return "noted"

    async def pay(self) -> str:
        """Takes so long that the lease is renewed meanwhile."""
        self.effects.append("pay")
        claim = here()

        def renew(run: Run, now: float) -> Any:
            return driving.renew(run, now + 1.0, owner=claim.owner, fence=claim.fence, lease=LEASE)

        await change(self.governor, claim.run, renew)
        return "paid"

    async def odd(self) -> str:
        self.effects.append("odd")
        raise OutcomeUnknown("the line was cut")

    async def play(self) -> Run:
        """From the first message to the end."""
        governor = self.governor
        run = await governor.run("a", "go", conversation="c")
        await self.work()
        await governor.halt("tool:pay", by=ALICE, reason="wait")
        for approval in run.approvals:
            await governor.decide(approval.id, Decision.approve("fine"), by=ALICE)
        await self.work()
        await governor.lift("tool:pay", by=ALICE)
        await self.work()
        return await self.answer(run.id)

    async def work(self) -> None:
        """What a worker does until nothing is due."""
        await Worker(self.governor).run(once=True)

    async def answer(self, id: str) -> Run:
        """An operator settles every doubt; the worker drives the run to its end."""
        for doubt in (await self.governor.get(id)).having(CallState.UNKNOWN):

            def resolve(run: Run, now: float, n: int = doubt.n) -> Any:
                return doubts.resolve(run, n, now, how="happened", by=ALICE, evidence="seen")

            await change(self.governor, id, resolve)
        await self.work()
        return await self.governor.get(id)


@asynccontextmanager
async def life(store: Store) -> AsyncIterator[Life]:
    """A life over this store; it is closed afterwards."""
    made = Life(governed(store, lease=LEASE))
    loop = governed(store, made.agent)
    made.governor.agents, made.governor._prepared = loop.agents, loop._prepared
    try:
        yield made
    finally:
        await made.governor.close()


@dataclass(frozen=True, slots=True)
class Traces:
    """What a life leaves that can be compared with that of another one."""

    effects: tuple[str, ...]
    events: tuple[str, ...]
    states: tuple[str, ...]
    runs: int
    v: int
    pointer: bool
    halts: int


async def traces(played: Life, run: Run) -> Traces:
    """Everything the life left in the store, and outside of it."""
    governor = played.governor
    record = await governor.loop.bridge(governor.store.load("run", "default", run.id))
    pointer = await governor.loop.bridge(governor.store.load("thread", "default", "conversation:c"))
    halts = await governor.loop.bridge(governor.store.events("halt", "default", "tenant"))
    assert record is not None and pointer is not None
    return Traces(
        effects=tuple(played.effects),
        events=tuple(event["what"] for event in await governor.timeline(run.id)),
        states=(run.state, *(call.state for call in await governor.calls(run.id))),
        runs=len(await governor.list_runs()),
        v=record.v,
        pointer=pointer.body.decode() == run.id,
        halts=len(halts),
    )


async def undisturbed(url: str) -> tuple[Traces, int]:
    """What a life leaves when all goes well, and how many writes it makes."""
    fault = Fault()
    async with life(Forgetful(open_store(url), fault)) as played:  # type: ignore[arg-type]
        return await traces(played, await played.play()), fault.writes


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize(("when", "times"), [("before", 1), ("after", 1), ("after", 3)])
async def test_a_lost_answer_changes_nothing(name: str, when: str, times: int, tmp_path: Path) -> None:
    """Whichever write it hits, once or three times in a row: the same effects, events, states and versions."""
    wanted, writes = await undisturbed(STORES[name](tmp_path))
    assert wanted.effects == ("note", "pay", "odd") and wanted.states[0] == RunState.COMPLETED
    assert writes >= 20

    async def disturbed(fault: Fault) -> None:
        async with life(Forgetful(open_store(STORES[name](tmp_path)), fault)) as played:  # type: ignore[arg-type]
            assert await traces(played, await played.play()) == wanted, f"write {fault.nth}"
        assert fault.struck == times

    await asyncio.gather(*(disturbed(Fault(nth, when, times)) for nth in range(1, writes + 1)))


async def test_a_store_that_forgets_its_writes_is_found_out(tmp_path: Path) -> None:
    """The control: without op ids a lost answer reads as lost, or is written twice, and the comparison shows it."""
    wanted, writes = await undisturbed(STORES["sqlite"](tmp_path))
    found = 0
    for nth in range(1, writes + 1, 4):
        store = Forgetful(ForgetsOps(open_store(STORES["sqlite"](tmp_path))), Fault(nth))  # type: ignore[arg-type]
        async with life(store) as played:  # type: ignore[arg-type]
            try:
                found += await traces(played, await played.play()) != wanted
            except GovernorError:
                found += 1
    assert found >= 2


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_error_of_the_disk_at_commit_changes_nothing(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's COMMIT fails with an I/O error, before or after the commit stands: the same, through the real thread."""
    wanted, writes = await undisturbed(STORES["sqlite"](tmp_path))
    sound = sqlite_thread.connect
    for nth in range(1, writes + 1):
        fault = Fault(nth, when)
        monkeypatch.setattr(sqlite_thread, "connect", bad_disk(fault))
        async with life(open_store(STORES["sqlite"](tmp_path))) as played:
            assert await traces(played, await played.play()) == wanted, f"commit {nth}"
        assert fault.struck == 1
        monkeypatch.setattr(sqlite_thread, "connect", sound)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_store_that_stays_away_leaves_nothing_stuck(when: str, tmp_path: Path) -> None:
    """No answer at all to one write: its caller is told so, and once time has passed the run ends, each effect once."""
    _, writes = await undisturbed(STORES["sqlite"](tmp_path))
    await asyncio.gather(*(stays_away(tmp_path, Fault(nth, when, UNANSWERED)) for nth in range(1, writes + 1)))


async def stays_away(folder: Path, fault: Fault) -> None:
    """One life in which one write is given up."""
    clock, told = MovableClock(), ""
    async with life(Forgetful(open_store(STORES["sqlite"](folder), clock=clock), fault)) as played:  # type: ignore[arg-type]
        governor = played.governor
        try:
            await played.play()
        except StoreUnavailable as error:
            told = str(error)
        for _ in range(6):
            clock.move(2 * LEASE)
            await governor.lift("tool:pay", by=ALICE)
            for approval in await governor.inbox():
                await governor.decide(approval.id, Decision.approve("fine"), by=ALICE)
            for run in await governor.list_runs():
                await played.answer(run.id)
        for run in await governor.list_runs():
            assert run.state is RunState.COMPLETED or (run.state.ended and told), (fault.nth, run.status, run.blocked)
        assert all(played.effects.count(effect) <= 1 for effect in ("note", "pay", "odd")), (fault.nth, played.effects)
        assert fault.struck == UNANSWERED
