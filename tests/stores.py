"""The stores that the suites run on: name to a function that makes a fresh store's URL in a folder.

A new store joins every suite (crash, storm, model, faults) by one line here. ``GOVERNOR_TEST_STORES`` narrows the list
(``GOVERNOR_TEST_STORES=sqlite,redis``). Servers are started when a test asks for a store on one (`tests.shared`).

Time is moved by hand everywhere: stores of one machine take a clock; a server keeps a floor under its time, and where that
was raised, time stands still.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from governor_agents.core.ports import Store
from governor_agents.stores import open_store
from governor_agents.testing import MovableClock
from tests import outside, shared

DAY = 86_400.0


def _sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/{uuid.uuid4().hex}.db"


def _redis(folder: Path) -> str:
    return _with(shared.url("redis"), namespace=_fresh())


def _redis_cluster(folder: Path) -> str:
    return _with(shared.url("redis-cluster"), namespace=_fresh(), partitions="4")  # fewer than usual: each has a floor


def _mongodb(folder: Path) -> str:
    url = urlsplit(shared.url("mongodb"))
    # The test server keeps the answers of retryable writes and walks them at each write.
    made = _with(urlunsplit(url._replace(path=f"/{_fresh()}")), retryWrites="false")
    _made.append(made)
    return made


_made: list[str] = []
"""What was made here and slows its server down as long as it is there."""


def _fresh() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


def _with(url: str, **options: str) -> str:
    """The URL with these options."""
    parts = urlsplit(url)
    query = "&".join([*([parts.query] if parts.query else []), *(f"{name}={value}" for name, value in options.items())])
    return urlunsplit(parts._replace(query=query))


KNOWN: dict[str, Callable[[Path], str]] = {
    "sqlite": _sqlite,
    "redis": _redis,
    "redis-cluster": _redis_cluster,
    "mongodb": _mongodb,
}


def chosen(names: str = "") -> dict[str, Callable[[Path], str]]:
    """These stores, by names with commas between; all when there is none. Raises `ValueError` for an unknown one."""
    wanted: Sequence[str] = [name.strip() for name in names.split(",") if name.strip()] or list(KNOWN)
    for name in wanted:
        if name not in KNOWN:
            raise ValueError(f"no store for tests is called {name!r}; known: {', '.join(KNOWN)}")
    return {name: KNOWN[name] for name in wanted}


STORES: dict[str, Callable[[Path], str]] = chosen(os.environ.get("GOVERNOR_TEST_STORES", ""))


def clocked(url: str) -> bool:
    """True for stores that take ``clock=``; the time of others is a server's."""
    return url.partition("://")[0] in ("memory", "sqlite")


def drop(url: str) -> None:
    """A store that nobody needs any more."""
    if url in _made:
        _made.remove(url)
        outside.drop(url)


def drop_all() -> None:
    """Nobody needs any that was made so far."""
    for url in list(_made):
        drop(url)


@contextmanager
def stalled(path: Path) -> Iterator[None]:
    """Another process writes and does not come to an end: every write to this SQLite file waits."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def move(url: str, to: float) -> None:
    """Let a server's time be at least this, for everybody: from then on it stands still until the server's clock is there."""
    await asyncio.to_thread(outside.lift, url, to)


class Time:
    """A store's time, moved by hand. A server's is stopped first, about a day ahead of its clock, at the same hour always.

    Several objects may be made for one URL, in any processes; with ``stopped=False`` the server's time was stopped before.
    """

    def __init__(self, url: str, *, stopped: bool = True) -> None:
        self.url = url
        self.clock = MovableClock()
        self._given = clocked(url)
        if not self._given and stopped:
            self.clock.time = (outside.clock(url) // DAY + 1) * DAY + self.clock.time % DAY
            outside.lift(url, self.clock.time)

    def store(self) -> Store:
        """The store, under this time."""
        return open_store(self.url, **({"clock": self.clock} if self._given else {}))

    def __call__(self) -> float:
        """The time now, epoch seconds."""
        return self.clock()

    def until(self, at: float) -> None:
        """Go on to this time, if it is not past."""
        self.clock.time = max(self.clock.time, at)
        if not self._given:
            outside.lift(self.url, self.clock.time)

    def move(self, seconds: float) -> float:
        """Go on; the new time."""
        self.until(self.clock.time + seconds)
        return self.clock.time
