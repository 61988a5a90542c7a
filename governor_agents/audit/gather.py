"""Gathering the heads of chains into signed checkpoints, in the store, at a cost that quiet runs do not add to.

**Who changed.** What this process wrote it knows. What others wrote it finds by the minute of the last event, which
stands in the index of keyed runs: one listing per minute since the last look, and the `BACK` minutes before it again,
because a write may arrive later than the moment that it names. Only a full checkpoint reads everything: the first one,
one that is asked for, and one after nobody has looked for a week.

**Who gathers.** Any number of workers may; a checkpoint is one compare-and-set on one record. Whoever loses finds that
another was made, and goes on from there.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence

from governor_agents.audit import checkpoints
from governor_agents.audit.chain import minute
from governor_agents.audit.checkpoints import Checkpoint
from governor_agents.audit.reading import (
    CHECKPOINTS,
    DAY,
    State,
    checkpoints_of,
    day,
    filled,
    halts,
    head_of,
    listed,
    policies,
    removal_days,
    state_of,
    streams,
)
from governor_agents.audit.trail import Head
from governor_agents.core.calls import freeze, sha256
from governor_agents.core.ports import Blob, Record, Store, StoredEvent
from governor_agents.core.records import Run
from governor_agents.errors import ConfigError, GovernorError, SnapshotError, StoreTooNew, StoreUnavailable
from governor_agents.keys import Keys

EVERY = 60.0
"""Seconds between two looks for what changed."""

EVENTS = 100
"""Events of this process after which it makes a checkpoint without waiting for that."""

BACK = 5
"""Minutes that are looked at again."""

WEEK = 7 * 24 * 60
"""Minutes after which a full checkpoint is cheaper than looking at each of them."""

QUIET = 3600.0
"""Seconds after which a checkpoint is made although nothing changed: it says that nothing did."""

NO_KEYS = (
    "checkpoints are signed, and no keys are set: GOVERNOR_KEYS names the key file; put it back from its copy, or, "
    "for a new store, make one: governor-agents keys rotate --file PATH"
)

NEAR = 20
"""How many of the last checkpoints are read to see what they say already."""

_KEPT = 10_000
_TRIES = 20


class Gatherer:
    """Makes the checkpoints of one tenant. Its coroutines run on the governor loop."""

    def __init__(self, store: Store, tenant: str, keys: Keys | None) -> None:
        self._store = store
        self._tenant = tenant
        self._keys = keys
        self._watching = False
        self._wrote: dict[tuple[str, str], Head] = {}
        self._events = 0
        self._pinned: dict[tuple[str, str], int] = {}
        self._caught_up = 0
        self._swept = 0
        self._looked: float | None = None

    def wrote(self, run: Run, v: int, events: int) -> None:
        """Hear of a write of this process. Costs nothing unless it makes checkpoints."""
        if self._watching and events:
            self._wrote["run", run.id] = Head("run", run.id, run.seq, run.chain, v)
            self._events += events

    async def keep(self, every: float = EVERY, events: int = EVENTS) -> Checkpoint | None:
        """The next checkpoint when it is due: ``every`` so many seconds, or after so many ``events`` of this process.

        Call it about once a second. None when it is not due, nothing changed, or there are no keys.
        """
        if self._keys is None:
            return None
        self._watching = True
        now = await self._store.now()
        look = self._looked is None or now - self._looked >= every
        if not look and self._events < events:
            return None
        made = await self.make(look=look)
        if look:
            self._looked = now
        return made

    async def make(self, *, look: bool = True, full: bool = False) -> Checkpoint | None:
        """A checkpoint of what changed since the last one; None when nothing did.

        ``look``: for what other processes wrote, too. Raises `ConfigError` without keys, `StoreError`.
        """
        if self._keys is None:
            raise ConfigError(NO_KEYS)
        for _ in range(_TRIES):
            state = await state_of(self._store, self._tenant)
            now = await self._store.now()
            await self._catch_up(self._keys, state)
            whole = full or not state.number or (look and minute(now) - state.swept > WEEK)
            wrote, events = self._wrote, self._events
            self._wrote, self._events = {}, 0
            try:
                heads = await self._heads(wrote, state, now, look, whole)
                if not heads and not full and now - state.at < QUIET:
                    self._swept = minute(now) if look else self._swept
                    return None
                made = await self._write(self._keys, heads, state, now, look or whole, whole)
            except BaseException:
                self._wrote, self._events = wrote | self._wrote, events + self._events
                raise
            if made is not None:
                self._remember(heads)
                self._caught_up = made.number
                return made
            self._wrote = wrote | self._wrote
        raise StoreUnavailable("other checkpoints were made all the time while one was tried; try again")

    async def last(self) -> Checkpoint | None:
        """The newest checkpoint, None when there is none. Raises `SnapshotError`."""
        state = await state_of(self._store, self._tenant)
        async for found in checkpoints_of(self._store, self._tenant, after=state.number - 1):
            if isinstance(found, GovernorError):
                raise found
            return await filled(self._store, self._tenant, found)
        return None

    async def _heads(
        self, wrote: dict[tuple[str, str], Head], state: State, now: float, look: bool, whole: bool
    ) -> list[Head]:
        """What is to stand in the next checkpoint, by name."""
        found = dict(wrote)
        if whole:
            found |= {head.name: head async for head in self._of(listed(self._store, "run", self._tenant))}
        elif look:
            for each in range(max(state.swept, self._swept) - BACK, minute(now) + 1):
                records = listed(self._store, "run", self._tenant, {"changed": str(each)})
                found |= {head.name: head async for head in self._of(records)}
        if whole or look:
            since = "" if whole else day(60.0 * (max(state.swept, self._swept) - BACK) - DAY)
            days = removal_days(self._store, self._tenant, since=since)
            for others in (*(read(self._store, self._tenant) for read in (halts, policies, streams)), days):
                found |= {head.name: head async for head in self._of(others)}
        heads = [head for head in found.values() if whole or head.seq > self._pinned.get(head.name, 0)]
        return sorted(heads, key=lambda head: head.name)

    async def _catch_up(self, keys: Keys, state: State) -> None:
        """Remember what the last checkpoints have pinned, those of others too: they need not say it again."""
        before, self._caught_up = max(self._caught_up, state.number - NEAR), state.number
        with contextlib.suppress(SnapshotError, ConfigError):  # whoever verifies hears of it
            async for found in checkpoints_of(self._store, self._tenant, after=before):
                if isinstance(found, Checkpoint) and found.said["heads"] <= _KEPT:
                    whole = await filled(self._store, self._tenant, found)
                    if not checkpoints.broken(whole, (keys.signing.public_key(),), self._tenant):
                        self._remember(whole.heads)

    async def _of(self, records: AsyncIterator[Record]) -> AsyncIterator[Head]:
        """Where these records stand. One that cannot be read pins nothing; whoever verifies hears of it."""
        async for record in records:
            try:
                yield head_of(record)
            except (SnapshotError, StoreTooNew):
                continue

    async def _write(
        self, keys: Keys, heads: Sequence[Head], state: State, now: float, looked: bool, whole: bool
    ) -> Checkpoint | None:
        """The checkpoint, durable; None when another one was made meanwhile."""
        made = checkpoints.make(
            heads,
            number=state.number + 1,
            tenant=self._tenant,
            at=now,
            previous=state.last,
            full=whole,
            signing=keys.signing,
        )
        swept = minute(now) if looked else state.swept
        body = freeze({"number": made.number, "last": made.digest, "at": now, "swept": swept})
        record = Record("audit", self._tenant, CHECKPOINTS, body, v=state.v)
        event = StoredEvent(made.number, freeze(checkpoints.to_document(made, pages=False)))
        blobs = tuple(Blob(sha256(page), page) for page in made.pages)
        write = self._store.swap if state.v else self._store.insert
        answer = await write(record, op=secrets.token_hex(8), events=(event,), blobs=blobs)
        return made if answer.won else None

    def _remember(self, heads: Sequence[Head]) -> None:
        for head in heads:
            self._pinned[head.name] = max(head.seq, self._pinned.pop(head.name, 0))
        while len(self._pinned) > _KEPT:
            del self._pinned[next(iter(self._pinned))]
