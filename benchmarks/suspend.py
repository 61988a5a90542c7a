"""What the benchmarks of suspend and resume share: how commits are counted and named, and what is reported."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Cost, Log, Party, Written, interleave, ratio, timed
from benchmarks.report import Report
from governor_agents.core.ports import Blob, Record, StoredEvent, Swapped
from governor_agents.stores.sqlite import SQLiteStore

ROUNDS = 60

NAMES = {
    "run.started": "create",
    "run.paused": "pause",
    "call.approved": "decide",
    "run.claimed": "claim",
    "call.executing": "intent",
    "call.succeeded": "result",
    "run.completed": "finish",
    "notice.delivered": "notice",
}
"""What a durable write is called, by an audit event that stands in it."""


class NamingStore(SQLiteStore):
    """Our store, with a list of the durable writes it was asked for: the name of each, and the bytes of its parts."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.writes: list[dict[str, Any]] = []

    async def insert(
        self, record: Record, *, op: str, events: Sequence[StoredEvent] = (), blobs: Sequence[Blob] = ()
    ) -> Swapped:
        self._note(record, events, blobs)
        return await super().insert(record, op=op, events=events, blobs=blobs)

    async def swap(
        self,
        record: Record,
        *,
        op: str,
        events: Sequence[StoredEvent] = (),
        blobs: Sequence[Blob] = (),
        not_after: float | None = None,
    ) -> Swapped:
        self._note(record, events, blobs)
        return await super().swap(record, op=op, events=events, blobs=blobs, not_after=not_after)

    def _note(self, record: Record, events: Sequence[StoredEvent], blobs: Sequence[Blob]) -> None:
        happened = [json.loads(event.body)["what"] for event in events]
        name = next((NAMES[what] for what in happened if what in NAMES), "")
        self.writes.append(
            {
                "name": name or {"thread": "checkpoint"}.get(record.kind, record.kind),
                "record": len(record.body),
                "events": sum(len(event.body) for event in events),
                "blobs": sum(len(blob.data) for blob in blobs),
            }
        )


@dataclass(frozen=True, slots=True)
class Way:
    """One way to suspend and resume a gated call, over a database of its own."""

    name: str
    database: Path
    once: Callable[[], Awaitable[None]]

    async def party(self) -> Cost:
        """One round."""
        return await timed(lambda _: self.once())

    async def count(self) -> Written:
        """The commits of one suspend and resume, and the bytes of log they wrote."""
        await self.once()
        with Log(self.database).counting() as written:
            await self.once()
        return written[0]


async def compare(report: Report, part: str, ways: Sequence[Way], effort: float) -> dict[str, list[Cost]]:
    """Count the commits of all ways, then time them, taking turns."""
    for way in ways:
        written = await way.count()
        report.count(part, f"commits: {way.name}", written.commits, note=f"{written.bytes / 1024:.0f} KiB of log")
    parties: dict[str, Party] = {way.name: way.party for way in ways}
    samples = await interleave(parties, max(3, int(ROUNDS * effort)))
    for way in ways:
        report.party(part, way.name, samples)
    return samples


def target(
    report: Report, part: str, samples: dict[str, list[Cost]], ours: str, theirs: str, most: float | None
) -> None:
    """The ratio of two ways."""
    report.ratio(part, f"{ours} / {theirs}", ratio(samples, ours, theirs), most)
