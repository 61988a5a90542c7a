"""The one thread that talks to a SQLite database, and how it saves commits.

A commit costs one flush of the disk, whatever it holds. So the thread takes all writes that wait for it and commits
them together; each stands in a savepoint of its own, so that one that fails takes nothing with it, and nobody gets an
answer before the commit is done. Reads go first: they see only what is committed.

Other processes are noticed by ``PRAGMA data_version``, read every `POLL` seconds while somebody waits and never else.
The thread knows nothing of records. It holds no reference to its store, so a forgotten store ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from governor_agents.errors import StoreError, StoreUnavailable
from governor_agents.stores.arguments import told
from governor_agents.stores.sqlite_file import SQL, Place, connect, failure, patiently

POLL: Final = 0.035
"""Seconds between two looks for writes of other processes; each look costs about 0.1 ms of a core."""

BATCH: Final = 256
"""The most writes that share a commit, so that nobody waits behind an endless one."""

LONG_LOG: Final = 8 * 2**20
"""Bytes from which on the write-ahead log is begun anew."""

T = TypeVar("T")


class Wrote(NamedTuple):
    """What a write answers, and whether there is anything to commit."""

    answer: Any
    changed: bool


class _Job(NamedTuple):
    write: bool
    do: Callable[..., Any]
    future: asyncio.Future[Any]


class _Outcome(NamedTuple):
    future: asyncio.Future[Any]
    answer: Any = None
    error: Exception | None = None


class StoreTime:
    """The store's clock: this machine's, but never below the database's floor or an earlier answer.

    A machine's clock that was set back must not stop the store's: leases and deadlines would not end until it has
    caught up. Until then the store's clock goes on at half the pace of ``steady``, which nobody can set.
    """

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float] = lambda: 0.0) -> None:
        self._clock = clock
        self._steady = steady
        self._highest = 0.0
        self._seen = steady()
        self._lock = threading.Lock()  # the loop and the thread both ask

    def tick(self, connection: sqlite3.Connection) -> float:
        """The time now, by this connection's view of the floor."""
        ((floor,),) = connection.execute(SQL["floor"]).fetchall()
        with self._lock:
            steady = self._steady()
            slowly = self._highest + (steady - self._seen) / 2
            self._seen = steady
            self._highest = max(floor, slowly, told(self._clock))
            return self._highest

    @property
    def highest(self) -> float:
        """The latest time ever answered here."""
        return self._highest


class DatabaseThread:
    """Runs functions over the connection, in a thread of its own, for one event loop."""

    def __init__(self, place: Place, time: StoreTime) -> None:
        self._place = place
        self._time = time
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._stopped = False
        self._watching = False
        self._data_version = 0
        self._commits = 0
        self._inode: tuple[int, int] | None = None
        self.written = asyncio.Event()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a process that forgot to close its store still ends, and what was answered is on the disk.
        threading.Thread(target=self._run, name=f"governor-store {place.path.name}", daemon=True).start()

    def read(self, do: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run a function that only reads."""
        return self._ask(_Job(False, do, self._loop.create_future()))

    def write(self, do: Callable[[sqlite3.Connection, float], Wrote]) -> asyncio.Future[Any]:
        """Run a function that writes, given the store's time; the answer comes after the commit."""
        return self._ask(_Job(True, do, self._loop.create_future()))

    def stop(self) -> None:
        """Finish what was asked, then end. ``closed`` tells when."""
        self._stopped = True
        self._queue.put(None)

    async def wait(self, timeout: float) -> bool:
        """True when anything was written since the last call, here or in another process."""
        self._watching = True
        try:
            await self.read(self._look)
            async with asyncio.timeout(timeout):
                await self.written.wait()
            self.written.clear()
        except TimeoutError:
            return False
        finally:
            self._watching = False
        return True

    def _ask(self, job: _Job) -> asyncio.Future[Any]:
        if self._stopped:
            raise StoreError(f"{self._place.url} is not open")
        self._queue.put(job)
        return job.future

    def _run(self) -> None:
        try:
            connection = connect(self._place)
            self._inode = self._file()
            (self._data_version,) = connection.execute("PRAGMA data_version").fetchone()
        except Exception as error:
            self._stopped = True
            self._post([_Outcome(self.opened, error=_told(error, self._place.path)), _Outcome(self.closed)])
            return
        self._post([_Outcome(self.opened)])
        try:
            while self._serve(connection):
                pass
        finally:
            self._leave(connection)

    def _leave(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            # Keep the time that was told but not written with; not at the price of waiting for a stuck process.
            connection.execute("PRAGMA busy_timeout = 500")
            connection.execute(SQL["raise_floor"], {"now": self._time.highest})
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        self._stopped = True
        self._post([*self._left_over(), _Outcome(self.closed)], changed=True)

    def _left_over(self) -> list[_Outcome]:
        """Should the thread ever break, whoever waits for it is told."""
        outcomes = []
        while not self._queue.empty():
            if job := self._queue.get():
                outcomes.append(_Outcome(job.future, error=StoreError(f"{self._place.url} is not open")))
        return outcomes

    def _post(self, outcomes: list[_Outcome], changed: bool = False) -> None:
        def deliver() -> None:
            for future, answer, error in outcomes:
                if future.done():  # its task was cancelled
                    continue
                if error is None:
                    future.set_result(answer)
                else:
                    future.set_exception(error)
            if changed:
                self.written.set()

        try:
            self._loop.call_soon_threadsafe(deliver)
        except RuntimeError:  # the loop is gone, and with it everybody who could want the answers
            self._watching = False

    def _serve(self, connection: sqlite3.Connection) -> bool:
        """Take what waits and do it. False when that was the last."""
        jobs, going = self._take(connection)
        reads = [
            _outcome(job, lambda job: patiently(self._place, lambda: job.do(connection)), self._place.path)
            for job in jobs
            if not job.write
        ]
        if reads:
            self._post(reads)
        writes = [job for job in jobs if job.write]
        if writes:
            outcomes, changed = self._commit(connection, writes)
            self._post(outcomes, changed)
            self._shorten_log(connection)
        return going

    def _take(self, connection: sqlite3.Connection) -> tuple[list[_Job], bool]:
        jobs: list[_Job] = []
        while len(jobs) < BATCH:
            try:
                job = self._queue.get(not jobs, POLL if self._watching else None)
            except queue.Empty:
                if jobs:
                    break
                self._look(connection)
                continue
            if job is None:
                return jobs, False
            jobs.append(job)
        return jobs, True

    def _look(self, connection: sqlite3.Connection) -> None:
        try:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            version = -1  # waiting is only a hint: whoever wakes up now and reads will be told what is wrong
        if version != self._data_version:
            self._data_version = version
            self._post([], changed=True)

    def _commit(self, connection: sqlite3.Connection, jobs: list[_Job]) -> tuple[list[_Outcome], bool]:
        """Do all writes in one transaction."""
        try:
            if self._inode != self._file():
                raise StoreUnavailable(f"{self._place.path}: was moved or replaced while it was open; restart")
            patiently(self._place, lambda: connection.execute("BEGIN IMMEDIATE"))
            now = self._time.tick(connection)
            # A write that is alone needs no savepoint: when it fails, nothing has changed, and all is rolled back.
            do = _in_savepoint if len(jobs) > 1 else _alone
            outcomes = []
            for job in jobs:
                outcomes.append(_outcome(job, lambda job: do(connection, job, now), self._place.path))
                if not connection.in_transaction:
                    # SQLite gave up the whole transaction (a full disk, say): nothing of it may be told as done.
                    raise outcomes[-1].error or StoreUnavailable(f"{self._place.path}: the transaction was lost")
            changed = any(outcome.error is None and outcome.answer.changed for outcome in outcomes)
            if changed:
                connection.execute(SQL["raise_floor"], {"now": now})
            connection.execute("COMMIT" if changed else "ROLLBACK")
        except Exception as error:
            with contextlib.suppress(sqlite3.Error):  # there may be none any more, or the disk is gone
                connection.execute("ROLLBACK")
            return [_Outcome(job.future, error=_told(error, self._place.path)) for job in jobs], False
        return [_Outcome(future, answer and answer.answer, error) for future, answer, error in outcomes], changed

    def _shorten_log(self, connection: sqlite3.Connection) -> None:
        """Begin the log anew when it has become long.

        SQLite does that by itself only at a moment when nobody reads. Under load there is none: the log would grow
        without end, and every commit would flush the database too.
        """
        self._commits += 1
        if self._commits % 64 or _size(self._place.path.with_name(self._place.path.name + "-wal")) < LONG_LOG:
            return
        with contextlib.suppress(sqlite3.Error):  # somebody else is at it, or reads for long: another time, then
            connection.execute("PRAGMA busy_timeout = 100")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA busy_timeout = 0")

    def _file(self) -> tuple[int, int] | None:
        try:
            found = self._place.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _outcome(job: _Job, do: Callable[[_Job], Any], path: Path) -> _Outcome:
    try:
        return _Outcome(job.future, do(job))
    except Exception as error:
        return _Outcome(job.future, error=_told(error, path))


def _told(error: Exception, path: Path) -> Exception:
    if isinstance(error, sqlite3.Error):
        told = failure(path, error)
        told.__cause__ = error
        return told
    return error


def _alone(connection: sqlite3.Connection, job: _Job, now: float) -> Wrote:
    answer: Wrote = job.do(connection, now)
    return answer


def _in_savepoint(connection: sqlite3.Connection, job: _Job, now: float) -> Wrote:
    connection.execute("SAVEPOINT one")
    try:
        answer: Wrote = job.do(connection, now)
    except Exception:
        if connection.in_transaction:
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
        raise
    connection.execute("RELEASE one")
    return answer
