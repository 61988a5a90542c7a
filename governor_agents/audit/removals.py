"""The account of runs that retention removed: without an entry here, a run that is gone has vanished.

Each day (UTC) has a record of its own, whose events are chained, keyed and checkpointed like those of a run. An entry
is written before its run goes, and says where the run's chain ended, so it vouches for that run as it was and for no
other. Entries are kept as long as the checkpoints are that know those runs: for ever. They hold an id, an outcome and
hashes, and no word of a run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from governor_agents.audit import chain
from governor_agents.audit.reading import REMOVED, day, events_of, head_of, removal_days
from governor_agents.audit.trail import Finding, Head, Pin
from governor_agents.core.calls import freeze, sha256
from governor_agents.core.ports import Record, Store, StoredEvent
from governor_agents.core.records import Run
from governor_agents.errors import SnapshotError, StoreTooNew, StoreUnavailable

WHAT = "run.removed"
_TRIES = 100


def stream_of(at: float) -> str:
    """The id of the record that takes what is removed on that day."""
    return REMOVED + day(at)


@dataclass(frozen=True, slots=True)
class Removal:
    """An entry: where the run stood when it was removed, and how it had ended."""

    head: Head
    outcome: str

    def vouches(self, pins: Iterable[Pin]) -> bool:
        """True when all that checkpoints say of the run fits to what was removed: nothing had been cut off before."""
        return all(
            pin.head.v <= self.head.v
            and (pin.head.seq < self.head.seq or (pin.head.seq, pin.head.head) == (self.head.seq, self.head.head))
            for pin in pins
        )


def entry(event: StoredEvent, key: bytes | None) -> Removal | None:
    """The entry in an event; None for what is none, or with a ``key`` at hand was not written with it."""
    line = chain.parse(event.body)
    if line is None or line.get("what") != WHAT or (key is not None and line.get("mac") != chain.mac(line, key)):
        return None
    id, events, head, v = (line.get(name) for name in ("removed", "events", "head", "v"))
    if not (isinstance(id, str) and type(events) is int and isinstance(head, str) and type(v) is int):
        return None
    return Removal(Head("run", id, events, head, v), str(line.get("outcome")))


class Account:
    """Entries by run, as they were read; the last one of a run counts. ``key`` is the audit key, if it is at hand."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._found: dict[str, Removal] = {}
        self.read: dict[str, int] = {}
        """How far each day was read."""

    def hear(self, day: str, events: Iterable[StoredEvent]) -> None:
        """Take entries of a day in."""
        for event in events:
            self.read[day] = event.seq
            if (found := entry(event, self._key)) is not None:
                self._found[found.head.id] = found

    def explains(self, id: str, findings: Sequence[Finding], pins: Sequence[Pin]) -> bool:
        """True when all that is found of a run is that it is gone, and that is because it was removed as it stood."""
        found = self._found.get(id)
        gone = all((finding.kind, finding.code) == ("run", "gone") for finding in findings)
        return gone and found is not None and found.vouches(pins)


class Removals:
    """The account of one tenant. Its coroutines run on the governor loop."""

    def __init__(self, store: Store, tenant: str, key: bytes | None) -> None:
        self._store = store
        self._tenant = tenant
        self._key = key
        self._writing = asyncio.Lock()

    async def note(self, run: Run, v: int) -> None:
        """Write down that this run is removed at version ``v``: durable on return. Raises `StoreError`."""
        said = {
            "what": WHAT,
            "removed": run.id,
            "outcome": run.state.value,
            "ended": run.ended,
            "events": run.seq,
            "head": run.chain,
            "v": v,
        }
        async with self._writing:
            for _ in range(_TRIES):
                if await self._write(said, await self._store.now()):
                    return
        raise StoreUnavailable("the account of removed runs was written to all the time; try again")

    async def _write(self, said: dict[str, Any], now: float) -> bool:
        id = stream_of(now)
        record = await self._store.load("audit", self._tenant, id)
        head = Head("audit", id, 0, "", 0) if record is None else head_of(record)
        line = {**said, "stream": id, "at": float(now)}
        seq, last, events = chain.extend([line], head.seq, head.head, self._key)
        fresh = Record("audit", self._tenant, id, freeze({"seq": seq, "chain": last}), v=head.v)
        write = self._store.insert if record is None else self._store.swap
        # Two workers that remove one run at the same time, or one that died and begins anew, make one entry.
        op = sha256(freeze([said["removed"], said["v"]]))[:16]
        return (await write(fresh, op=op, events=events)).won

    async def read(self, account: Account) -> None:
        """What an account has not read yet. What cannot be read vouches for nothing; whoever verifies hears of it."""
        async for record in removal_days(self._store, self._tenant):
            with contextlib.suppress(SnapshotError, StoreTooNew):
                if head_of(record).seq > (known := account.read.get(record.id, 0)):
                    account.hear(record.id, await events_of(self._store, "audit", self._tenant, record.id, known))
