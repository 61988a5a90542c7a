"""The SQLite store at work: failing writes, waiting, its thread, its time."""
# ruff: noqa: ASYNC221, ASYNC240

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from governor_agents.core.ports import OPS_KEPT, Record, StoredEvent, Swapped
from governor_agents.errors import StoreError, StoreUnavailable
from governor_agents.stores import sqlite as sqlite_store
from governor_agents.stores import sqlite_thread
from governor_agents.stores.sqlite import SQLiteStore
from governor_agents.stores.sqlite_thread import StoreTime
from governor_agents.testing import MovableClock
from tests.unit.sqlite.connection import Maker, connection_of

RECORD = Record("run", "t", "r", b"body")
FAR = 3600.0


# Writes that fail


async def test_write_says_who_keeps_it_waiting(file: Path, make: Maker) -> None:
    """A lock that somebody holds for too long becomes one clear error; reading goes on, and so does life afterwards."""
    store = make("?busy_timeout=20")
    await store.open()
    await store.insert(RECORD, op="a")
    stuck = sqlite3.connect(file, isolation_level=None)
    stuck.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=f"{file}: another process keeps it locked"):
        await store.swap(replace(RECORD, v=1), op="b")
    assert await store.load("run", "t", "r") == replace(RECORD, v=1)
    stuck.execute("ROLLBACK")
    stuck.close()
    assert await store.swap(replace(RECORD, v=1), op="b") == Swapped(won=True, v=2)


async def test_write_without_room_leaves_nothing_behind(store: SQLiteStore, file: Path) -> None:
    """A full disk fails the writes that do not fit, each told so; the next ones that fit are as good as ever."""
    await store.insert(RECORD, op="a")
    limit = "PRAGMA max_page_count = {}"
    run = connection_of(store)
    await run(lambda connection: connection.execute(limit.format(64)).fetchall())
    large = replace(RECORD, body=b"x" * 1_000_000)
    answers = await asyncio.gather(
        store.swap(replace(large, v=1), op="b", events=[StoredEvent(1, b"e")]),
        store.insert(replace(large, id="r2"), op="a"),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
    assert str(answers[0]).startswith(f"{file}: there is no room left; free some")
    assert await store.list("run", "t") == [replace(RECORD, v=1)]
    assert await store.events("run", "t", "r") == []
    assert await store.swap(replace(RECORD, v=1), op="b") == Swapped(won=True, v=2)
    await run(lambda connection: connection.execute(limit.format(2**30)).fetchall())
    assert await store.swap(replace(large, v=2), op="c") == Swapped(won=True, v=3)


async def test_write_notices_a_replaced_file(store: SQLiteStore, file: Path) -> None:
    """What would be written into a file that nobody can open any more is refused."""
    await store.insert(RECORD, op="a")
    file.rename(file.with_name("moved.db"))
    with pytest.raises(StoreUnavailable, match=f"{file}: was moved or replaced while it was open"):
        await store.swap(replace(RECORD, v=1), op="b")
    file.write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="was moved or replaced"):
        await store.swap(replace(RECORD, v=1), op="b")
    file.unlink()


async def test_answer_lost_behind_the_commit_is_found_again(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When anything breaks between the commit and the answer, repeating the op tells the truth."""
    await store.insert(RECORD, op="a")
    commit = sqlite_thread.DatabaseThread._commit

    def commit_and_break(self: Any, connection: sqlite3.Connection, jobs: list[Any]) -> Any:
        outcomes, changed = commit(self, connection, jobs)
        return [outcome._replace(error=StoreUnavailable("the answer was lost")) for outcome in outcomes], changed

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_thread.DatabaseThread, "_commit", commit_and_break)
        with pytest.raises(StoreUnavailable):
            await store.swap(replace(RECORD, v=1), op="b", events=[StoredEvent(1, b"e")])
    assert await store.swap(replace(RECORD, v=1), op="b", events=[StoredEvent(1, b"e")]) == Swapped(won=True, v=2)
    assert await store.events("run", "t", "r") == [StoredEvent(1, b"e")]


async def test_ops_are_forgotten_in_the_end(store: SQLiteStore) -> None:
    """A record does not grow with its history: an op behind the last ones kept is a stranger's."""
    await store.insert(RECORD, op="first")
    for v in range(1, OPS_KEPT + 1):
        await store.swap(replace(RECORD, v=v), op=str(v))
    assert (await store.insert(RECORD, op="first")).won is False
    ((length,),) = await connection_of(store)(
        lambda connection: connection.execute("SELECT length(ops) FROM ga_record").fetchall()
    )
    assert length == sqlite_store._MARK * OPS_KEPT


# Waiting


async def test_wait_serves_one_waiter(store: SQLiteStore) -> None:
    """A second waiter would take the first one's wake-up, so it is refused."""
    waiting = asyncio.ensure_future(store.wait(FAR))
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="one waiter at a time"):
        await store.wait(0)
    await store.insert(RECORD, op="a")
    assert await waiting is True


async def test_wait_ends_when_the_store_is_closed(store: SQLiteStore) -> None:
    """Nobody waits on a closed store."""
    waiting = asyncio.ensure_future(store.wait(FAR))
    await asyncio.sleep(0)
    await store.close()
    assert await waiting is False


async def test_writes_that_lose_wake_nobody(store: SQLiteStore, make: Maker) -> None:
    """A lost write changes nothing in the file, so other processes sleep on."""
    await store.insert(RECORD, op="a")
    other = make()
    await other.open()
    while await other.wait(0):
        pass
    assert (await store.swap(replace(RECORD, v=9), op="b")).won is False
    assert (await store.insert(RECORD, op="c")).won is False
    assert await store.delete("run", "t", "r", 9) is False
    assert await other.wait(0.1) is False


async def test_nobody_waiting_costs_nothing(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is looked at only while somebody waits: afterwards the thread sleeps until it is asked."""
    looks: list[None] = []
    look = sqlite_thread.DatabaseThread._look
    monkeypatch.setattr(
        sqlite_thread.DatabaseThread,
        "_look",
        lambda self, connection: (looks.append(None), look(self, connection))[1],
    )
    monkeypatch.setattr(sqlite_thread, "POLL", 0.001)
    assert await store.wait(0.1) is False
    assert len(looks) > 1
    await store.now()
    for _ in range(3):
        await store.load("run", "t", "r")
    seen = len(looks)
    assert store._thread is not None
    assert store._thread._watching is False
    for _ in range(20):
        await store.load("run", "t", "r")
    assert len(looks) <= seen + 1


# The thread


_earlier: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def earlier() -> None:
    """The stores that other tests of this process left open are not ours to count."""
    _earlier.clear()
    _earlier.update(threading.enumerate())


def threads() -> list[threading.Thread]:
    """The threads of the stores that this test opened."""
    return [each for each in threading.enumerate() if each.name.startswith("governor-store") and each not in _earlier]


async def test_writes_of_the_same_moment_share_a_commit(store: SQLiteStore) -> None:
    """What waits while the thread is busy is committed together."""
    said: list[str] = []
    begun, free = threading.Event(), threading.Event()
    run = connection_of(store)
    await run(lambda connection: connection.set_trace_callback(said.append))
    busy = run(lambda connection: (begun.set(), free.wait(60))[1])
    await asyncio.to_thread(begun.wait, 60)
    writes = [asyncio.ensure_future(store.insert(replace(RECORD, id=str(n)), op="a")) for n in range(50)]
    await asyncio.sleep(0)
    free.set()
    assert await asyncio.gather(*writes) == [Swapped(won=True, v=1)] * 50
    assert await busy is True
    await run(lambda connection: connection.set_trace_callback(None))
    assert said.count("COMMIT") == 1


async def test_log_is_begun_anew_under_load(store: SQLiteStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write-ahead log does not grow for ever; somebody who reads for long only puts it off."""
    monkeypatch.setattr(sqlite_thread, "LONG_LOG", 1)
    log = file.with_name(file.name + "-wal")

    async def write(names: range) -> None:
        for name in names:
            await store.insert(replace(RECORD, id=f"{name:04}"), op="a")
        await store.load("run", "t", "r")  # behind whatever the last commit left to do

    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM ga_record").fetchall()
    await write(range(64))
    assert log.stat().st_size > 0
    reader.execute("COMMIT")
    reader.close()
    await write(range(64, 128))
    assert log.stat().st_size == 0
    assert len(await store.list("run", "t", limit=1000)) == 128


async def test_close_ends_the_thread(store: SQLiteStore) -> None:
    """Nothing is left running."""
    (thread,) = threads()
    await store.close()
    thread.join(60)
    assert not thread.is_alive()


async def test_close_finishes_what_was_begun(store: SQLiteStore, make: Maker) -> None:
    """Writes that were asked for before the end are done, and answered."""
    writes = [asyncio.ensure_future(store.insert(replace(RECORD, id=str(n)), op="a")) for n in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*writes) == [Swapped(won=True, v=1)] * 20
    again = make()
    await again.open()
    assert len(await again.list("run", "t")) == 20


async def test_forgotten_store_ends_its_thread(file: Path) -> None:
    """A store object that nobody closed does not keep a thread alive for ever."""
    store = SQLiteStore(f"sqlite:///{file}")
    await store.open()
    (thread,) = threads()
    del store
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


def test_store_opens_on_one_loop_after_the_other(file: Path) -> None:
    """Each program run has its own loop; a store that was left open on an ended loop harms nobody."""

    async def use(id: str) -> list[str]:
        store = SQLiteStore(f"sqlite:///{file}")
        await store.open()
        await store.insert(replace(RECORD, id=id), op="a")
        return [each.id for each in await store.list("run", "t")]

    assert asyncio.run(use("a")) == ["a"]
    assert asyncio.run(use("b")) == ["a", "b"]


FORGETFUL = """
import asyncio, sys
from governor_agents.core.ports import Record
from governor_agents.stores import open_store

async def main():
    store = open_store(sys.argv[1])
    await store.open()
    asyncio.ensure_future(store.wait(3600))
    await store.insert(Record("run", "t", "r", b"body"), op="a")
    print("written")
    return store

kept = asyncio.run(main())
"""


async def test_process_that_forgets_to_close_ends(file: Path, make: Maker) -> None:
    """Neither the thread nor somebody who waits holds up the end of a process, and nothing written is lost."""
    paths = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", FORGETFUL, f"sqlite:///{file}"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "written\n", "")
    store = make()
    await store.open()
    assert await store.load("run", "t", "r") == replace(RECORD, v=1)


async def test_store_refuses_to_work_behind_a_fork(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread and its locks stayed in the other process."""
    monkeypatch.setattr(sqlite_store.os, "getpid", lambda: -1)
    for call in (store.load("run", "t", "r"), store.now(), store.insert(RECORD, op="a")):
        with pytest.raises(StoreError, match="opened before a fork"):
            await call


# Time


async def test_time_holds_over_a_restart(make: Maker) -> None:
    """The highest time that anything was written at, or told in good order, is the floor of the next process."""
    clock = MovableClock()
    store = make(clock=clock)
    await store.open()
    await store.insert(RECORD, op="a")
    clock.move(50)
    told = await store.now()
    await store.close()
    clock.move(-3600)
    again = make(clock=clock)
    await again.open()
    assert await again.now() == told


async def test_time_is_shared_with_processes_whose_clocks_are_wrong(make: Maker) -> None:
    """Who is ahead pulls all along, at the next write; nobody pulls back."""
    right, ahead = MovableClock(), MovableClock()
    ahead.move(3600)
    one, two = make(clock=right), make(clock=ahead)
    await one.open()
    await two.open()
    assert await one.now() == right()
    await two.insert(replace(RECORD, due=ahead()), op="a")
    assert await one.now() == ahead()
    assert [each.id for each in await one.due("run", "t")] == ["r"]
    assert (await one.swap(replace(RECORD, v=1), op="b", not_after=right() + 10)).late


async def test_time_goes_on_while_the_clock_is_behind(store: SQLiteStore) -> None:
    """A clock that is set back by an hour: leases still end, at half the pace, and it catches up."""
    clock, steady = MovableClock(), MovableClock(0.0)
    time = StoreTime(clock, steady)
    assert store._reader is not None
    begun = time.tick(store._reader)
    clock.move(-3600)
    for seconds in (0, 10, 20):
        steady.move(10 if seconds else 0)
        assert time.tick(store._reader) == begun + seconds / 2
    clock.move(3700)
    steady.move(3700)
    assert time.tick(store._reader) == begun + 10 + 1850
    clock.move(3600)
    steady.move(3600)
    assert time.tick(store._reader) == clock()


async def test_late_stays_late_over_a_restart(make: Maker) -> None:
    """A refusal that was told binds the next process, even when nothing else was written at that time."""
    clock = MovableClock()
    store = make(clock=clock)
    await store.open()
    await store.insert(RECORD, op="a")
    deadline = clock() + 10
    clock.move(11)
    assert (await store.swap(replace(RECORD, v=1), op="b", not_after=deadline)).late
    # As after a kill: what this object knows of the time dies with it.
    other = make(clock=MovableClock(clock() - 3600))
    await other.open()
    assert (await other.swap(replace(RECORD, v=1), op="c", not_after=deadline)).late


async def test_now_asks_the_thread_when_it_cannot_read(store: SQLiteStore) -> None:
    """The short way round the thread is only a short way."""
    assert store._reader is not None
    store._reader.close()
    first = await store.now()
    assert await store.now() >= first
