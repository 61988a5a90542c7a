"""Bringing the entries of one place into a store, so that it can be stopped at any point and simply be done again.

Both sides come in the same order, so they are walked side by side. Nothing is ever overwritten: what the target holds
must be what the source holds, else nothing is written at all (`in_the_way`); what is there already is passed over
(`fill`); and in the end both are read whole and compared (`first_difference`).

**Op ids are not copied.** A store keeps them so that a write whose answer was lost is known when it is sent again. Who
could send it again is a process that runs, and none does. (An op of `fill` is made of the entry's digest.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial

from governor_agents.backup.entries import Entry, Key, entries, held, key_of, named
from governor_agents.backup.files import Seen
from governor_agents.backup.lines import Tally, digest
from governor_agents.core.ports import Store
from governor_agents.crash import crash_point
from governor_agents.errors import StoreError
from governor_agents.runs import sent

BATCH = 32
"""Records that are written at the same time: a store may share one commit among them."""

BATCH_BYTES = 8 * 1024 * 1024

Source = Callable[[], AsyncIterator[Entry]]
"""Gives the entries from the first one on, as often as it is asked."""

Stage = Callable[[str], Seen]
"""Hears in words what is counted from now on."""


@dataclass(slots=True)
class Brought:
    """What came of it. ``refused``: nothing was written, and why; ``differs``: the first record that is not the same.

    ``written`` records were missing; ``here`` and ``there`` are what the two sides hold.
    """

    refused: str = ""
    differs: str = ""
    written: int = 0
    here: Tally = field(default_factory=Tally)
    there: Tally = field(default_factory=Tally)


async def bring(source: Source, target: Store, stage: Stage) -> Brought:
    """Bring everything into a store that is empty, or holds a part of it, and read both sides again to compare them."""
    made = Brought(refused=await in_the_way(source(), target))
    if not made.refused:
        made.written = await fill(source(), target, stage("records written"))
        made.differs = await first_difference(
            source(), entries(target), made.here, made.there, stage("records compared")
        )
    return made


async def in_the_way(source: AsyncIterator[Entry], target: Store) -> str:
    """The first thing in the target that is not in the source just so, in words; empty when there is none."""
    ahead: Entry | None = None
    async for there in entries(target):
        while ahead is None or ahead.key < there.key:
            ahead = await anext(source, None)
            if ahead is None:
                break
        if ahead is None or ahead.key != there.key:
            return f"{there.name} is there, and does not come from here"
        if digest(ahead) != digest(there):
            return f"{there.name} is there, and is not what it is here"
    return ""


async def fill(source: AsyncIterator[Entry], target: Store, seen: Seen) -> int:
    """Write what the target does not hold yet; how many records that were. ``seen`` hears of all of them."""
    there = _keys(target)
    ahead = await anext(there, None)
    batch: list[Entry] = []
    size = written = passed = 0
    async for entry in source:
        while ahead is not None and ahead < entry.key:
            ahead = await anext(there, None)
        if ahead == entry.key:
            passed += 1
            continue
        batch.append(entry)
        size += entry.size
        if len(batch) == BATCH or size >= BATCH_BYTES:
            written += await _put(batch, target)
            batch, size = [], 0
            seen(written + passed)
    return written + await _put(batch, target)


async def _keys(store: Store) -> AsyncIterator[Key]:
    async for each in held(store):
        yield key_of(each.record)


async def _put(batch: list[Entry], target: Store) -> int:
    crash_point("backup.put:before")
    await asyncio.gather(*(_insert(entry, target) for entry in batch))
    crash_point("backup.put:after")
    return len(batch)


async def _insert(entry: Entry, target: Store) -> None:
    op = f"copy-{digest(entry)[:40]}"
    answer = await sent(partial(target.insert, entry.record, op=op, events=entry.events, blobs=entry.blobs))
    if not answer.won:
        raise StoreError(f"{entry.name} was written by somebody else meanwhile; nobody may write to either side")
    crash_point("backup.inserted")


async def first_difference(
    source: AsyncIterator[Entry], target: AsyncIterator[Entry], here: Tally, there: Tally, seen: Seen
) -> str:
    """Read both sides whole, each into its tally; the first record that is not the same, in words, else empty."""
    ours, theirs = await anext(source, None), await anext(target, None)
    while ours is not None or theirs is not None:
        if ours is None or (theirs is not None and theirs.key < ours.key):
            return f"{named(theirs.key) if theirs else ''} is only in the copy"
        if theirs is None or ours.key < theirs.key:
            return f"{ours.name} is not in the copy"
        if here.add(ours) != there.add(theirs):
            return f"{ours.name} is not the same in the copy"
        seen(here.records)
        ours, theirs = await anext(source, None), await anext(target, None)
    return ""
