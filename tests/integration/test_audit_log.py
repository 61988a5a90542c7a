"""Checkpoints as workers make them: when, of what, at what cost, by one at a time; and verification while others write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, Worker
from governor_agents.audit.checkpoints import Checkpoint
from governor_agents.audit.gather import BACK, EVENTS, QUIET, WEEK
from governor_agents.audit.log import AuditLog, Report
from governor_agents.audit.security import KEPT_DAYS, stream_of
from governor_agents.core import driving
from governor_agents.core.ports import Record, Swapped
from governor_agents.core.records import Run, RunState
from governor_agents.errors import ConfigError
from governor_agents.keys import Keys
from governor_agents.runs import Runs
from governor_agents.stores.sqlite import SQLiteStore
from governor_agents.testing import MovableClock
from tests.stores import Time

pytestmark = pytest.mark.anyio
KEYS = Keys.generate()
ANN = "local:ann"


class Process:
    """One process on a store, as far as memory goes: its runs and its audit log."""

    def __init__(self, store: Any, keys: Keys | None = KEYS) -> None:
        self.store = store
        self.log = AuditLog(store, "t", keys, lambda work: work.close())
        self.runs = Runs(store, "t", None if keys is None else keys.audit)
        self.runs.wrote = self.log.checkpoints.wrote

    async def begin(self, *names: str) -> None:
        """New runs, one event each."""
        for name in names:
            run = Run("t", name, "a", "x", "r", RunState.QUEUED, 0.0, max_attempts=10_000)
            now = await self.runs.now()
            await self.runs.create(driving.queue(run, now), now)

    async def stir(self, name: str) -> None:
        """Three events more."""
        fence = (
            await self.runs.change(name, lambda run, now: driving.claim(run, now, owner="w", lease=60.0))
        ).run.fence
        await self.runs.change(
            name, lambda run, now: driving.release(run, now, owner="w", fence=fence, error="it broke")
        )

    async def make(self, **how: Any) -> list[str] | None:
        """The ids that the next checkpoint pins; None when there is none."""
        made = await self.log.checkpoints.make(**how)
        return None if made is None else ids(made)


def ids(made: Checkpoint) -> list[str]:
    return [head.id for head in made.heads]


@asynccontextmanager
async def processes(url: str, count: int = 2, clock: Time | None = None) -> AsyncIterator[list[Process]]:
    """So many processes on one store, at one time."""
    clock = clock or Time(url)
    stores = [clock.store() for _ in range(count)]
    for store in stores:
        await store.open()
    try:
        yield [Process(store) for store in stores]
    finally:
        for store in stores:
            await store.close()


async def test_a_checkpoint_holds_what_changed_since_the_last_one(url: str) -> None:
    """The first holds all; then only changed runs, whoever wrote them; a full one everything; none when nothing did."""
    clock = Time(url)
    async with processes(url, clock=clock) as (one, other):
        await one.begin("a", "b")
        await other.begin("c")
        assert await one.make() == ["a", "b", "c"]
        assert await one.make() is None
        await other.stir("b")
        assert await one.make() == ["b"]
        assert await other.make() is None  # it sees what the other one pinned
        await other.begin("d")
        assert await other.make() == ["d"]
        clock.move(600.0)
        await other.stir("c")
        assert await one.make() == ["c"]
        assert await one.make(full=True) == ["a", "b", "c", "d"]
        report = await one.log.verify()
        assert (report.findings, report.checkpoints) == ([], 5)


async def test_a_write_that_comes_late_is_still_found(url: str) -> None:
    """It names the minute in which it was decided; the minutes before the last look are looked at again."""
    clock = Time(url)
    async with processes(url, clock=clock) as (one, other):
        await one.begin("a")
        assert await one.make() == ["a"]
        clock.move((BACK - 1) * 60.0)
        await other.begin("b")
        written = clock()
        clock.move(60.0)
        assert await one.make() == ["b"]
        run = Run("t", "late", "a", "x", "r", RunState.QUEUED, 0.0)
        await other.runs.create(driving.queue(run, written - 60.0), written - 60.0)
        assert await one.make() == ["late"]


async def test_nobody_looks_for_a_week_and_then_everything_is_looked_at(url: str) -> None:
    """One listing per minute would cost more than one of everything."""
    clock = Time(url)
    async with processes(url, clock=clock) as (one, other):
        await one.begin("a", "b")
        await one.make()
        clock.move((WEEK + 2) * 60.0)
        await other.stir("b")
        made = await one.log.checkpoints.make()
        assert made is not None and made.said["full"] and ids(made) == ["a", "b"]


async def test_a_quiet_store_says_so_once_an_hour(url: str) -> None:
    """An empty checkpoint: whoever keeps them outside sees that nothing changed, not that nobody looked."""
    clock = Time(url)
    async with processes(url, 1, clock) as (one,):
        await one.begin("a")
        await one.make()
        made = []
        for _ in range(240):
            clock.move(60.0)
            made.append(await one.log.checkpoints.keep())
        said = [each for each in made if each is not None]
        assert [ids(each) for each in said] == [[]] * 4
        assert QUIET == 3600.0 and (await one.log.verify()).findings == []


async def test_a_worker_is_never_more_than_100_events_or_a_minute_behind(url: str) -> None:
    """Its own events by their count, those of other processes by the clock."""
    clock = Time(url)
    async with processes(url, clock=clock) as (worker, other):
        keep = worker.log.checkpoints.keep
        await worker.begin("a")
        assert await keep() is not None  # from now on it counts
        unpinned = 0
        for _ in range(200):
            await worker.stir("a")
            unpinned += 3
            if await keep() is not None:
                unpinned = 0
            assert unpinned < EVENTS
        await other.begin("b")
        clock.move(59.0)
        await keep()
        clock.move(1.0)
        made = await keep()
        assert made is not None and "b" in ids(made)
        report = await worker.log.verify()
        assert report.findings == [] and report.events == 602


async def test_workers_that_gather_at_once_make_one_row(url: str) -> None:
    """A checkpoint is one compare-and-set: numbers without gaps, each behind the other, nothing lost."""
    async with processes(url, 4) as several:
        await several[0].begin("start")
        for at in range(5):
            for number, process in enumerate(several):
                await process.begin(f"r{at}{number}")
            await asyncio.gather(*(process.log.checkpoints.make() for process in several))
        report = await several[0].log.verify()
        assert report.findings == [] and report.checkpoints >= 5
        assert report.trails == 21
        assert await several[1].make() is None


class Counting(SQLiteStore):
    """Counts what is read."""

    records = 0

    async def list(self, kind: str, tenant: str, where: Mapping[str, str] | None = None, **rest: Any) -> Any:
        found = await super().list(kind, tenant, where, **rest)
        self.records += len(found)
        return found

    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        self.records += 1
        return await super().load(kind, tenant, id)


async def test_quiet_runs_cost_a_checkpoint_nothing(tmp_path: Path) -> None:
    """What it reads grows with what changed, not with what there is."""
    read = []
    for quiet in (10, 400):
        clock = MovableClock()
        store = Counting(f"sqlite:///{tmp_path / str(quiet)}.db", clock=clock)
        await store.open()
        one = Process(store)
        await one.begin(*(f"quiet{at}" for at in range(quiet)))
        await one.make()
        clock.move(600.0)
        assert await one.make() is None
        clock.move(600.0)
        other = Process(store)
        await other.begin("loud")
        store.records = 0
        assert await one.make() == ["loud"]
        read.append(store.records)
        await store.close()
    assert read[0] == read[1] < 10


class Losing(SQLiteStore):
    """A store that says "lost" to a checkpoint as often as it is told to."""

    lose = 0

    async def swap(self, record: Record, **rest: Any) -> Swapped:
        if record.kind == "audit" and self.lose:
            self.lose -= 1
            return Swapped(won=False, current=record)
        return await super().swap(record, **rest)


async def test_a_lost_checkpoint_is_made_again(tmp_path: Path) -> None:
    """What this process wrote since is in the next one."""
    store = Losing(f"sqlite:///{tmp_path / 'a.db'}", clock=MovableClock())
    await store.open()
    one = Process(store)
    await one.begin("a")
    await one.log.checkpoints.keep()
    await one.stir("a")
    store.lose = 3
    assert await one.make(look=False) == ["a"]
    await store.close()


async def test_without_keys_there_are_no_checkpoints(url: str) -> None:
    """One line says how to make keys; a worker does not try."""
    async with processes(url, 1) as (keyed,):
        plain = Process(keyed.store, None)
        await plain.begin("a")
        assert await plain.log.checkpoints.keep() is None
        with pytest.raises(ConfigError, match="governor-agents keys rotate --file PATH"):
            await plain.log.checkpoints.make()
        report = await plain.log.verify()
        assert (report.findings, report.unkeyed, report.checkpoints) == ([], 1, 0)
        await keyed.stir("a")  # keys were set meanwhile
        report = await keyed.log.verify()
        assert (report.findings, report.unkeyed) == ([], 0)
        await keyed.make()
        with pytest.raises(ConfigError, match="no key to check them with"):
            await plain.log.verify()


async def test_verification_accuses_nobody_who_writes_meanwhile(url: str) -> None:
    """A trail that grows while it is looked at is read again."""
    async with processes(url) as (one, other):
        await one.begin("a", "b")
        await one.make()
        stop = asyncio.Event()

        async def busy() -> None:
            while not stop.is_set():
                await other.stir("a")
                await other.make()

        task = asyncio.create_task(busy())
        reports: list[Report] = []
        while len(reports) < 30 or reports[-1].events < 30:
            reports.append(await one.log.verify())
        stop.set()
        await task
        assert [report.findings for report in reports] == [[]] * len(reports)


async def test_a_worker_makes_checkpoints_beside_its_work(url: str) -> None:
    """Under keys, through the sealed store, and one more when it ends; what it did is pinned."""
    async with Governor(store=url, keys=KEYS) as governor:

        @governor.govern(name="pay", approvers=[ANN])
        def pay(amount: int) -> int:
            return amount

        asked = [(await pay.ask(amount=at)) for at in range(3)]
        for each in asked:
            await governor.decide(each.approval, Decision.approve(), by=ANN)
        await Worker(governor).run(once=True)
        for each in asked:
            assert (await governor.get(each.run)).status == "completed"
        last = await governor.loop.bridge(governor.audit.checkpoints.last())
        assert last is not None
        heads = {head.id: head for head in last.heads}
        for each in asked:
            run = await governor.get(each.run)
            assert (heads[run.id].seq, heads[run.id].head) == (run.seq, run.chain)
        report = await governor.loop.bridge(governor.audit.verify())
        assert report.findings == [] and report.trails == 3


async def test_a_worker_that_runs_on_makes_them_as_it_goes(url: str) -> None:
    """After so many events, without waiting for its end."""
    stop = asyncio.Event()
    async with Governor(store=url, keys=KEYS) as governor, Governor(store=url, keys=KEYS) as web:

        @governor.govern(name="pay", approvers=[ANN])
        def pay(amount: int) -> int:
            return amount

        work = asyncio.create_task(Worker(governor, checkpoint_events=5).run(stop=stop))
        asked = await pay.ask(amount=1)
        await web.decide(asked.approval, Decision.approve(), by=ANN)
        await governor.wait(asked.run, timeout=60.0, until=lambda run: run.state.ended)
        ended = await governor.get(asked.run)
        pinned = 0
        while pinned < ended.seq - 5:
            last = await governor.loop.bridge(governor.audit.checkpoints.last())
            pinned = max([head.seq for head in last.heads if head.id == ended.id] if last else [], default=pinned)
            await asyncio.sleep(0.01)
        stop.set()
        await work


async def test_halts_have_a_trail_too(url: str) -> None:
    """Who stopped what, and who let it go: listed, pinned, verified, for the tenant and for all tenants."""
    async with Governor(store=url, keys=KEYS) as governor:
        await governor.halt("tool:pay", by=ANN, reason="odd")
        await governor.halt("everything", by=ANN)
        await governor.lift("tool:pay", by=ANN)
        audit = governor.audit
        lines = await governor.loop.bridge(audit.newest(what="halt."))
        assert sorted((line["halt"], line["what"], line["seq"]) for line in lines) == [
            ("everything", "halt.set", 1), ("tenant", "halt.lifted", 2), ("tenant", "halt.set", 1),
        ]  # fmt: skip
        made = await governor.loop.bridge(audit.checkpoints.make())
        assert made is not None
        assert [(head.kind, head.id, head.seq) for head in made.heads] == [
            ("halt", "everything", 1),
            ("halt", "tenant", 2),
        ]
        report = await governor.loop.bridge(audit.verify())
        assert (report.findings, report.trails, report.events, report.unkeyed) == ([], 2, 3, 0)
        record = await governor.loop.bridge(governor.store.load("halt", "default", "tenant"))
        assert record is not None
        await governor.loop.bridge(governor.store.delete("halt", "default", "tenant", record.v))
        report = await governor.loop.bridge(audit.verify())
        assert [finding.means for finding in report.findings] == [
            "the whole halt is gone; checkpoint 1 has it with 2 events"
        ]


async def test_the_stream_of_refused_requests_is_pinned_for_as_long_as_it_is_kept(url: str) -> None:
    """A day that is gone is a finding; once days of that age are removed anyway, it is none."""
    clock = Time(url)
    async with processes(url, 1, clock) as (one,):
        one.log.refusals.note("decide", "not_found", "run_1.1", by="local:eve")
        await one.log.refusals.flush()
        day = stream_of(clock())
        assert await one.make() == [day]
        report = await one.log.verify()
        assert (report.findings, report.trails, report.events) == ([], 1, 1)
        assert await one.store.delete("audit", "t", day, 1)
        report = await one.log.verify()
        assert [(finding.code, finding.id) for finding in report.findings] == [("gone", day)]
        clock.move((KEPT_DAYS + 1) * 86_400.0)
        assert (await one.log.verify()).findings == []
