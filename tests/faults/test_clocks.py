"""Clocks that are an hour apart, and clocks that jump by an hour: nothing runs twice, nothing runs after it expired.

Clocks are injected through the ``clock`` option of the stores of one machine, or into whole processes: a server's store has
the server's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, Worker
from governor_agents.core import driving
from governor_agents.core.identity import Voter
from governor_agents.core.records import CallState, RunState
from governor_agents.errors import DeadlinePassed, DecisionRefused
from governor_agents.stores import open_store, sqlite_thread
from governor_agents.testing import MovableClock
from tests.faults.app import ALICE, BOB, change, governed
from tests.faults.skewed import HALF_AN_HOUR, skewed
from tests.stores import STORES, move
from tests.storm.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
HOUR = 3600.0
CALLS = 12


@contextmanager
def worker(url: str, ledger: Ledger, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A worker process whose clock is ahead by so many seconds."""
    command = [sys.executable, "-m", "tests.faults.skewed", url, str(ledger.path), str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(process: subprocess.Popen[str]) -> None:
    """Return when the process has opened the store."""
    assert process.stdout is not None and process.stdout.readline() == "ready\n"


@pytest.mark.timeout(600)
async def test_processes_an_hour_apart_run_each_call_once(tmp_path: Path) -> None:
    """Three workers and two people, an hour behind, right, and an hour ahead: one winner and at most one effect a call."""
    url, ledger = f"sqlite:///{tmp_path}/g.db", Ledger(tmp_path / "ledger")
    async with (
        skewed(url, ledger, 0.0) as right,
        skewed(url, ledger, HOUR) as ahead,
        skewed(url, ledger, -HOUR) as late,
    ):
        governors = (right, ahead, late)
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(worker(url, ledger, seconds)) for seconds in (-HOUR, 0.0, HOUR)]
            for process in processes:
                await asyncio.to_thread(ready, process)
            runs = []
            for n in range(CALLS):
                asked = await governors[n % 3].functions._known["act"].ask(n)
                runs.append(asked.run)
                await asyncio.gather(
                    *(decide(governor, asked.approval, at) for at, governor in enumerate(governors)),
                )
            for id in runs:
                await settled(right, id)
        acted = Counter(line["n"] for line in ledger.lines())
        for n, id in enumerate(runs):
            run = await right.get(id)
            votes, state = run.calls[-1].votes, run.calls[-1].state
            assert len(votes) == 1 and votes[0].at < (run.calls[-1].expires or 0.0)
            assert acted[n] == (state is CallState.SUCCEEDED) or (state is CallState.UNKNOWN and acted[n] <= 1)
            assert state in (CallState.SUCCEEDED, CallState.REJECTED, CallState.UNKNOWN), (
                "none expired by a wrong clock"
            )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in STORES if name != "sqlite"])
async def test_on_a_server_no_clock_but_its_own_counts(name: str, tmp_path: Path) -> None:
    """Workers an hour behind, right, and an hour ahead, deadlines of half an hour: none is over before the server says so.

    Then it says so, and nothing runs any more, whatever a worker's own clock says. (What an hour on the clock that counts
    does, `test_step_while_people_are_asked` shows.)
    """
    url, ledger = STORES[name](tmp_path), Ledger(tmp_path / "ledger")
    async with skewed(url, ledger, 0.0) as right:
        ask = right.functions._known["act"].ask
        with contextlib.ExitStack() as stack:
            for process in [stack.enter_context(worker(url, ledger, seconds)) for seconds in (-HOUR, 0.0, HOUR)]:
                await asyncio.to_thread(ready, process)
            began = await right.loop.bridge(right.runs.now())
            asked = [await ask(n) for n in range(CALLS)]
            for each in asked:
                await right.decide(each.approval, Decision.approve("yes"), by=ALICE)
            for each in asked:
                await settled(right, each.run)
            ended = await right.loop.bridge(right.runs.now())
            late = await ask(CALLS)
            await move(url, ended + HALF_AN_HOUR + 60.0)
            with pytest.raises(DeadlinePassed):
                await right.decide(late.approval, Decision.approve("yes"), by=ALICE)
            await settled(right, late.run)
        states = [(await right.get(each.run)).calls[-1].state for each in (*asked, late)]
    assert states == [CallState.SUCCEEDED] * CALLS + [CallState.EXPIRED]
    assert Counter(line["n"] for line in ledger.lines()) == dict.fromkeys(range(CALLS), 1)
    assert all(began <= line["at"] <= ended for line in ledger.lines())


async def decide(governor: Governor, approval: str, at: int) -> None:
    """One person's word, through the governor with that clock."""
    with contextlib.suppress(DecisionRefused):
        decision = Decision.reject("no") if at == 2 else Decision.approve("yes")
        await governor.decide(approval, decision, by=(ALICE, BOB)[at % 2])


async def settled(governor: Governor, id: str) -> None:
    """Let time pass for a run until it is over, or stands in doubt."""
    while not (run := await change(governor, id, driving.tick)).state.ended and run.state is not RunState.BLOCKED:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


# -- one clock that jumps ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Scene:
    """A governor on a clock that jumps, with a tool that waits."""

    url: str
    clock: MovableClock = field(default_factory=MovableClock)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    effects: int = 0

    def governor(self, *, behind: float = 0.0, deadline: float = 60.0) -> Governor:
        """One more process; its clock is behind by so many seconds."""
        clock = self.clock
        governor = governed(open_store(self.url, clock=lambda: clock() - behind))

        @governor.govern(name="act", deadline=deadline, run_within=600.0)
        async def act() -> str:
            self.effects += 1
            self.began.set()
            await self.may_end.wait()
            return "done"

        return governor

    @staticmethod
    async def ask(governor: Governor) -> Any:
        """A call that waits for people."""
        return await governor.functions._known["act"].ask()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(f"sqlite:///{tmp_path}/g.db")


@asynccontextmanager
async def two(scene: Scene) -> AsyncIterator[tuple[Governor, Governor]]:
    """Two processes on the same clock."""
    async with scene.governor() as one, scene.governor() as other:
        yield one, other


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_step_while_a_tool_runs(scene: Scene, step: float) -> None:
    """Forwards, the lease is over and the late result settles the doubt; backwards, nothing happens. Once, either way."""
    async with two(scene) as (one, other):
        asked = await scene.ask(one)
        await one.decide(asked.approval, Decision.approve("yes"), by=ALICE)
        working = asyncio.create_task(Worker(one).run(once=True))
        await scene.began.wait()
        scene.clock.move(step)
        await Worker(other).run(once=True)
        between = await other.get(asked.run)
        assert between.calls[-1].state is (CallState.UNKNOWN if step > 0 else CallState.EXECUTING)
        scene.may_end.set()
        await working
        await settled(other, asked.run)
        run = await other.get(asked.run)
        assert (run.status, run.output, scene.effects) == ("completed", "done", 1)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_step_while_people_are_asked(scene: Scene, step: float) -> None:
    """Forwards, the deadline has passed; backwards, it stays where it was. Nothing runs that expired."""
    async with two(scene) as (one, other):
        asked = await scene.ask(one)
        before = (await one.approval(asked.approval)).call.expires
        scene.clock.move(step)
        scene.may_end.set()
        if step > 0:
            with pytest.raises(DeadlinePassed):
                await other.decide(asked.approval, Decision.approve("yes"), by=ALICE)
        else:
            await other.decide(asked.approval, Decision.approve("yes"), by=ALICE)
        await Worker(one).run(once=True)
        run = await one.get(asked.run)
        assert run.calls[-1].expires == before
        assert (run.calls[-1].state, scene.effects) == (
            (CallState.EXPIRED, 0) if step > 0 else (CallState.SUCCEEDED, 1)
        )


async def expired_and_set_back(scene: Scene) -> tuple[str, bool]:
    """Somebody comes too late and is told so; the process dies, the clock goes back, and another one comes in time."""
    one = scene.governor()
    asked = await scene.ask(one)
    scene.clock.move(61.0)
    with pytest.raises(DeadlinePassed):
        await one.decide(asked.approval, Decision.approve("yes"), by=ALICE)
    scene.may_end.set()
    async with scene.governor(behind=HOUR) as other:  # beside the first, which never tidies up: as after a kill
        try:
            await other.decide(asked.approval, Decision.approve("yes"), by=BOB)
            counted = True
        except DeadlinePassed:
            counted = False
        await Worker(other).run(once=True)
        state = (await other.get(asked.run)).calls[-1].state
    await one.close()
    return state, counted


async def test_expiry_never_goes_back(scene: Scene) -> None:
    """Who is told that the deadline has passed can rely on it, whatever the clock of the next process says."""
    assert await expired_and_set_back(scene) == (CallState.EXPIRED, False)
    assert scene.effects == 0


async def test_a_build_that_follows_its_clock_back_is_found_out(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without the floor in the file, and without what was told being written, the late vote counts."""
    monkeypatch.setattr(sqlite_thread.StoreTime, "tick", lambda self, connection: self._clock())
    monkeypatch.setattr("governor_agents.core.decisions.pass_deadlines", lambda run, now: driving.Change(run))
    monkeypatch.setattr("governor_agents.core.decisions.people.authorise", _too_late)
    state, counted = await expired_and_set_back(scene)
    assert (state, counted, scene.effects) == (CallState.SUCCEEDED, True, 1)


def _too_late(call: Any, by: Voter, **more: Any) -> str:
    if by.id == ALICE:
        raise DeadlinePassed
    return by.id


async def test_approved_and_not_run_in_time_expires_whatever_the_clock_does(scene: Scene) -> None:
    """``run_within`` is over by the store's clock: a worker whose own clock is behind runs nothing."""
    async with scene.governor() as one, scene.governor(behind=HOUR) as slow:
        asked = await scene.ask(one)
        await one.decide(asked.approval, Decision.approve("yes"), by=ALICE)
        scene.clock.move(700.0)
        await scene.ask(one)  # anything that is written pulls the slow one along
        scene.may_end.set()
        await Worker(slow).run(once=True)
        run = await slow.get(asked.run)
        assert (run.status, run.calls[-1].state, scene.effects) == ("failed", CallState.EXPIRED, 0)


async def test_floor_outlives_a_killed_process(tmp_path: Path) -> None:
    """A process that is an hour ahead writes and is killed: everybody's time goes on from there."""
    url, ledger = f"sqlite:///{tmp_path}/g.db", Ledger(tmp_path / "ledger")
    async with skewed(url, ledger, 0.0) as governor:
        with worker(url, ledger, HOUR) as process:
            await asyncio.to_thread(ready, process)
            asked = await governor.functions._known["act"].ask(1)
            await governor.decide(asked.approval, Decision.approve("yes"), by=ALICE)
            await settled(governor, asked.run)
        (acted,) = ledger.lines()
    assert acted["at"] > time.time() + HOUR - 600.0
    async with skewed(url, ledger, 0.0) as later:
        assert await later.loop.bridge(later.runs.now()) >= acted["at"]
