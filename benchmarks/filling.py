"""Fills a store with suspended runs, through its driver.

Some are made by the governor, step by step, and can be decided. The others are copies of one of those under fresh ids:
the same record, events and blob, written with one ``insert``. They come in the order of their ids, which are random, so
that what is made later falls between them.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.gates import Gates
from governor_agents.core.ports import Blob, Record, Store, StoredEvent
from governor_agents.nonces import nonce, run_id

SNAPSHOT = 500
"""Bytes of a snapshot: few, so that a million of them fit into the memory of a small machine."""

TASKS = 256
DUE = 200
"""How many of the copies are due now; all others when their deadline is over, in a month."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A run that waits, with all it owns."""

    record: Record
    events: tuple[StoredEvent, ...]
    blobs: tuple[Blob, ...]

    def copy(self, id: str, due: float | None) -> Pattern:
        """The same under another id."""
        old, new = self.record.id.encode(), id.encode()
        record = replace(self.record, id=id, body=self.record.body.replace(old, new), due=due)
        events = tuple(replace(event, body=event.body.replace(old, new)) for event in self.events)
        return Pattern(record, events, self.blobs)

    async def write(self, store: Store) -> None:
        """Into a store that does not hold it."""
        answer = await store.insert(self.record, op=nonce(), events=self.events, blobs=self.blobs)
        if not answer.won:
            raise RuntimeError(f"run {self.record.id} exists already")


async def pattern(gates: Gates) -> Pattern:
    """One run, suspended by the governor, its people asked. On the caller's loop."""
    run = await gates.told(await gates.suspended())
    assert run.snapshot is not None
    governor, key = gates.governor, ("run", run.tenant, run.id)
    store, bridge, digest = governor.store, governor.loop.bridge, run.snapshot.blob
    record, data = await bridge(store.load(*key)), await bridge(store.blob(*key, digest))
    assert record is not None and data is not None
    return Pattern(record, tuple(await bridge(store.events(*key))), (Blob(digest, data),))


async def fill(gates: Gates, size: int, real: int, title: str) -> list[str]:
    """Suspended runs until there are ``size`` of them; the ids of the ``real`` ones, which can be decided."""
    made = await several(gates, real)
    first = await pattern(gates)
    ids = sorted(run_id() for _ in range(size - real - 1))
    progress, store = Progress(title, len(ids)), gates.governor.store
    now = await gates.governor.loop.bridge(store.now())
    every, at = max(len(ids) // DUE, 1), iter(enumerate(ids))

    async def task(rows: Iterator[tuple[int, str]]) -> None:
        for number, id in rows:
            due = now - number / 1e6 if number % every == 0 else first.record.due
            await first.copy(id, due).write(store)
            progress.one()

    async def all_of_them() -> None:
        await asyncio.gather(*(task(at) for _ in range(TASKS)))

    await gates.governor.loop.bridge(all_of_them())
    progress.end()
    return made


async def several(gates: Gates, count: int) -> list[str]:
    """Runs that can be decided: their ids."""
    room = asyncio.Semaphore(16)

    async def one() -> str:
        async with room:
            return (await gates.told(await gates.suspended())).id

    return await asyncio.gather(*(one() for _ in range(count)))


class Progress:
    """A line that says how far it is; on a terminal only."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._begun = self._said = time.monotonic()

    def one(self) -> None:
        """One more."""
        self._done += 1
        if sys.stderr.isatty() and time.monotonic() - self._said > 0.5:
            self._said = time.monotonic()
            rate = self._done / (self._said - self._begun)
            sys.stderr.write(f"\r{self._title}: {self._done:,} of {self._total:,} runs, {rate:,.0f} a second ")
            sys.stderr.flush()

    def end(self) -> None:
        """All of them."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
