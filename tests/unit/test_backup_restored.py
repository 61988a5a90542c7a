"""The sweep of a quarantine: which runs are of the old copy, whatever the clocks say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from governor_agents import Decision, Governor
from governor_agents.backup.entries import entries
from governor_agents.backup.moving import bring
from governor_agents.backup.restored import Swept, done_before, sweep, tenants
from governor_agents.core.ports import Record
from governor_agents.core.records import CallState
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import SnapshotError
from governor_agents.stores import open_store
from governor_agents.testing import MovableClock

ASK = Verdict("require_approval", "p", "1", stages=(Stage(("ops",), ("alice",)),))
DAY = 86_400.0


class Desk:
    """A governor on a store, and a function of it that waits for people."""

    def __init__(self, governor: Governor) -> None:
        self.governor = governor

        @governor.govern(name="pay")
        async def pay(amount: int) -> None:
            raise AssertionError("nobody runs it")

        self._pay = pay

    async def ask(self) -> str:
        """One more approval that waits."""
        return (await self._pay.ask(amount=5)).approval

    async def sweep(self, epoch: str = "e1") -> Swept:
        """As the command does it."""
        runs = self.governor.runs
        return await self.governor.loop.bridge(sweep(runs, epoch, by="op", seen=lambda count: None))

    async def state(self, id: str) -> CallState:
        """Where an approval stands."""
        return (await self.governor.approval(id)).call.state

    async def approve(self, id: str) -> None:
        """A person approves."""
        await self.governor.decide(id, Decision.approve(), by="alice")


@asynccontextmanager
async def desk(url: str, clock: MovableClock, tenant: str = "default") -> AsyncIterator[Desk]:
    """A desk, open meanwhile."""
    async with Governor([lambda call: ASK], store=open_store(url, clock=clock), tenant=tenant) as governor:
        yield Desk(governor)


async def test_what_began_after_it_is_none_of_the_copy(tmp_path: Path) -> None:
    """Nor does the same epoch touch what people decided since; another one does."""
    clock = MovableClock()
    async with desk(f"sqlite:///{tmp_path}/a.db", clock) as here:
        old = await here.ask()
        await here.approve(old)
        assert (await here.sweep()).asked == 1
        clock.move(1.0)
        fresh = await here.ask()
        await here.approve(old)
        await here.approve(fresh)
        again = await here.sweep()
        assert again.runs == 0 and again.earlier is not None and again.earlier.by == "op"
        assert [await here.state(id) for id in (old, fresh)] == [CallState.APPROVED] * 2
        assert (await here.sweep("e2")).asked == 2


async def test_a_clock_that_was_ahead_hides_no_run(tmp_path: Path) -> None:
    """The copy was written under a clock a day ahead of that of the store into which it is brought."""
    ahead, right = MovableClock(), MovableClock()
    ahead.move(DAY)
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("a", "b")]
    async with desk(urls[0], ahead) as there:
        id = await there.ask()
        await there.approve(id)
    source, target = (open_store(url, clock=clock) for url, clock in zip(urls, (ahead, right), strict=True))
    await source.open()
    await target.open()
    assert not (await bring(lambda: entries(source), target, lambda what: lambda count: None)).differs
    await source.close()
    await target.close()
    async with desk(urls[1], right) as here:
        assert (await here.sweep()).asked == 1
        assert await here.state(id) is CallState.PENDING
        await here.sweep()
        clock_is = await here.governor.loop.bridge(here.governor.runs.now())
        mark = await here.governor.loop.bridge(done_before(here.governor.store, "default", "e1"))
        assert mark is not None and mark.at > clock_is


async def test_each_tenant_is_found_once(tmp_path: Path) -> None:
    """Whatever its runs are called."""
    clock, url = MovableClock(), f"sqlite:///{tmp_path}/a.db"
    for tenant in ("acme", "acme2", "ümlaut", "\U0010ffff"):
        async with desk(url, clock, tenant) as here:
            await here.ask()
            await here.ask()
    store = open_store(url, clock=clock)
    await store.open()
    await store.insert(Record("run", "acme", "\U0010ffff" * 9, b""), op="x")
    assert [tenant async for tenant in tenants(store)] == ["acme", "acme2", "ümlaut", "\U0010ffff"]
    await store.close()


async def test_a_mark_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """It could say that all was done."""
    async with desk(f"sqlite:///{tmp_path}/a.db", MovableClock()) as here:
        mark = Record("halt", "default", "quarantine:e1", b'{"done":true}')
        await here.governor.loop.bridge(here.governor.store.insert(mark, op="x"))
        with pytest.raises(SnapshotError, match="name another epoch"):
            await here.sweep()
