"""A write whose answer is lost, at every write of a run's life: nothing counts as lost, nothing happens twice.

The life that is played (`life`) has every kind of write. Lost on the way from a real server: ``test_lost_replies.py``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from governor_agents import Decision
from governor_agents.core.records import RunState
from governor_agents.errors import GovernorError, StoreUnavailable
from governor_agents.runs import UNANSWERED
from governor_agents.stores import open_store, sqlite_thread
from governor_agents.testing import MovableClock
from tests.faults.app import ALICE
from tests.faults.life import LEASE, Traces, life, traces
from tests.faults.lost_answers import Fault, Forgetful, ForgetsOps, bad_disk
from tests.stores import STORES


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
    sound, unstruck = sqlite_thread.connect, 0
    for nth in range(1, writes + 1):
        fault = Fault(nth, when)
        monkeypatch.setattr(sqlite_thread, "connect", bad_disk(fault))
        async with life(open_store(STORES["sqlite"](tmp_path))) as played:
            assert await traces(played, await played.play()) == wanted, f"commit {nth}"
        assert fault.struck <= 1
        unstruck += 1 - fault.struck
        monkeypatch.setattr(sqlite_thread, "connect", sound)
    assert unstruck <= writes // 10, (
        "writes that come at the same moment share a commit, so there may be fewer of these"
    )


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
