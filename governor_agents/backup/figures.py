"""What a store holds, in numbers."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from governor_agents.backup.entries import entries
from governor_agents.backup.files import Seen
from governor_agents.core.codec import decode_run
from governor_agents.core.ports import Record, Store
from governor_agents.core.records import CallState, RunState
from governor_agents.errors import SnapshotError, StoreTooNew

LARGEST = 5


@dataclass(slots=True)
class Figures:
    """Of one kind of record of one tenant: how many, what is due, and bytes as they are stored.

    ``states`` counts runs by state, ``waiting`` those with approvals that wait for people, ``largest`` are the runs
    with the most bytes.
    """

    tenant: str
    kind: str
    records: int = 0
    due: int = 0
    bodies: int = 0
    events: int = 0
    event_bytes: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    states: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    largest: list[tuple[int, str]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As a plain object."""
        plain: dict[str, Any] = {
            "tenant": self.tenant,
            "kind": self.kind,
            "records": self.records,
            "due": self.due,
            "bytes": {"bodies": self.bodies, "events": self.event_bytes, "blobs": self.blob_bytes},
            "events": self.events,
            "blobs": self.blobs,
        }
        if self.kind == "run":
            plain["states"] = {state.value: self.states[state.value] for state in RunState}
            plain["runs_waiting"] = self.waiting
            plain["largest"] = [{"id": id, "bytes": size} for size, id in sorted(self.largest, reverse=True)]
        return plain


@dataclass(slots=True)
class Waiting:
    """The approvals of a tenant that wait for people: how many, since when the oldest (epoch seconds).

    ``unreadable`` counts waiting runs that could not be read.
    """

    approvals: int = 0
    oldest: float | None = None
    unreadable: int = 0


async def measure(store: Store, seen: Seen) -> list[Figures]:
    """The figures of a store, by tenant and kind. Reads all of it."""
    now = await store.now()
    found: dict[tuple[str, str], Figures] = {}
    count = 0
    async for entry in entries(store):
        record = entry.record
        name = (record.tenant, record.kind)
        figures = found.setdefault(name, Figures(*name))
        figures.records += 1
        figures.due += record.due is not None and record.due <= now
        figures.bodies += len(record.body)
        figures.events += len(entry.events)
        figures.event_bytes += sum(len(event.body) for event in entry.events)
        figures.blobs += len(entry.blobs)
        figures.blob_bytes += sum(len(blob.data) for blob in entry.blobs)
        if record.kind == "run":
            _of_run(figures, record, entry.size)
        count += 1
        seen(count)
    return [found[name] for name in sorted(found)]


def _of_run(figures: Figures, record: Record, size: int) -> None:
    figures.states[record.index.get("state", "")] += 1
    figures.waiting += record.index.get("pending") == "yes"
    heapq.heappush(figures.largest, (size, record.id))
    if len(figures.largest) > LARGEST:
        heapq.heappop(figures.largest)


async def waiting(store: Store, tenant: str) -> Waiting:
    """What waits for people in a tenant. ``store`` gives records as they were written (opened with the keys)."""
    found, after = Waiting(), ""
    while page := await store.list("run", tenant, {"pending": "yes"}, after=after):
        after = page[-1].id
        for record in page:
            try:
                run = decode_run(record.body)
            except (SnapshotError, StoreTooNew):
                found.unreadable += 1
                continue
            asked = [call.created for call in run.having(CallState.PENDING)]
            found.approvals += len(asked)
            found.oldest = min([*asked, *([] if found.oldest is None else [found.oldest])], default=None)
    return found
