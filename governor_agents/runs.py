"""Runs in a store: load one, apply a pure transition, compare-and-set, and again when somebody else was faster.

Every method runs on the governor loop. A transition that loses is applied anew to what stands now, so it sees every
earlier decision; each write carries an op id, so a write whose answer was lost is recognised and not made twice.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from governor_agents.audit import chain
from governor_agents.core.calls import sha256
from governor_agents.core.codec import decode_calls, decode_run, encode_calls, encode_run
from governor_agents.core.driving import Closed, closing
from governor_agents.core.ports import Blob, Record, Store, Swapped
from governor_agents.core.records import Call, Change, Run
from governor_agents.core.settling import due, kept, pending_flag
from governor_agents.core.telling import moved
from governor_agents.core.urls import shown
from governor_agents.crash import crash_point
from governor_agents.errors import Fenced, IllegalTransition, NotFound, SnapshotError, StoreTooNew, StoreUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")
Step = Callable[[Run, float], Change]

MAX_TRIES = 1000
"""How often a transition is applied anew because somebody else was faster."""

MAX_KEPT = 65_536
"""Contents up to this many bytes are remembered by the process that wrote or read them."""

UNANSWERED = 5
"""How often a write is sent again, under its op id, when the store did not answer."""


def blob(data: bytes) -> Blob:
    """Content under its SHA-256."""
    return Blob(sha256(data), data)


def to_record(run: Run, v: int) -> Record:
    """A run as the store keeps it."""
    index = {
        "state": run.state.value,
        "agent": run.agent,
        "requester": run.requester,
        "conversation": run.conversation,
        "pending": pending_flag(run),
    }
    if run.keyed:  # then checkpoints look for it
        index["changed"] = str(chain.minute(run.chained))
    return Record("run", run.tenant, run.id, encode_run(run), index, due(run), v)


class Runs:
    """The runs of one tenant in one store. With an ``audit_key`` their trails are keyed."""

    def __init__(self, store: Store, tenant: str, audit_key: bytes | None = None) -> None:
        self.store = store
        self.tenant = tenant
        self.audit_key = audit_key
        self.wrote: Callable[[Run, int, int], None] = lambda run, v, events: None
        """Hears of each write of this process: the run, its version, how many events it brought."""
        self.retention: Callable[[], Mapping[str, float]] = dict
        """By outcome, for how many seconds ended runs are kept."""
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._known: dict[str, tuple[int, Run]] = {}
        self._contents: dict[str, bytes] = {}

    @asynccontextmanager
    async def _alone(self, id: str) -> AsyncIterator[None]:
        """One transition of a run at a time in this process: fewer lost compare-and-sets."""
        lock, users = self._locks.get(id, (asyncio.Lock(), 0))
        self._locks[id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[id]
            if users == 1:
                del self._locks[id]
            else:
                self._locks[id] = (lock, users - 1)

    async def now(self) -> float:
        """The store's clock."""
        return await self.store.now()

    async def create(self, change: Change, now: float, blobs: Sequence[Blob] = ()) -> Run:
        """Write a new run. Raises `Fenced` when a run of this id exists already."""
        if not change.events:
            raise IllegalTransition(f"run {change.run.id} may not begin without an audit event")
        run, events = chain.append(kept(change.run, self.retention()), change.events, now, self.audit_key)
        op = secrets.token_hex(8)
        record = to_record(run, 0)
        insert = partial(self.store.insert, record, op=op, events=events, blobs=blobs)
        answer = await _answered(insert, _point(change))
        if not answer.won:
            raise Fenced(f"a run {run.id} exists already")
        self._remember(answer.v, run)
        self._keep(blobs)
        self.wrote(run, answer.v, len(events))
        return run

    async def get(self, id: str) -> Run:
        """The run as it stands. Raises `NotFound`."""
        return (await self._load(id))[1]

    async def find(self, id: str) -> Run | None:
        """The run as it stands, or None."""
        try:
            return (await self._load(id))[1]
        except NotFound:
            return None

    async def _load(self, id: str) -> tuple[int, Run]:
        record = await self.store.load("run", self.tenant, id)
        if record is None:
            raise NotFound(f"no run {id} (in tenant {self.tenant}, store {shown(self.store.url)})")
        run = decode_run(record.body)
        self._remember(record.v, run)
        return record.v, run

    async def change(
        self, id: str, step: Step, *, blobs: Sequence[Blob] = (), fresh: bool = True, point: str = "run.written"
    ) -> Change:
        """Apply a transition and make it durable; the run in the answer is as it stands then.

        Whatever ``step`` raises, nothing is written; when it changes nothing, neither.
        ``fresh=False`` tries the copy this process wrote last, first: the compare-and-set tells when it is old. A
        write that comes after the change's ``not_after`` is not made; the step then decides anew, at the later time.
        ``point`` is what `crash` calls a write that leaves no event.
        Raises `NotFound`.
        """
        async with self._alone(id):
            op = secrets.token_hex(8)
            v, run = (self._known.get(id) or await self._load(id)) if not fresh else await self._load(id)
            for _ in range(MAX_TRIES):
                now = await self.store.now()
                try:
                    change = step(run, now)
                except Exception:
                    if not fresh:  # an old copy may refuse what the record as it stands allows
                        fresh, (v, run) = True, await self._load(id)
                        continue
                    raise
                if change.run is run and fresh:
                    return change
                if change.run is run:  # nothing to do on an old copy proves nothing
                    fresh, (v, run) = True, await self._load(id)
                    continue
                if not change.events and moved(run, change.run):
                    raise IllegalTransition(f"run {id} may not change without an audit event")
                stays = kept(change.run, self.retention())
                written, events = chain.append(stays, change.events, now, self.audit_key)
                record = to_record(written, v)
                swap = partial(self.store.swap, record, op=op, events=events, blobs=blobs, not_after=change.not_after)
                answer = await _answered(swap, _point(change, point))
                if answer.won:
                    if answer.v == v + 1:
                        self._remember(answer.v, written)
                        self._keep(blobs)
                        self.wrote(written, answer.v, len(events))
                        return Change(written, change.events)
                    # Ours stood earlier, its answer was lost, and others have written since: what stands now counts.
                    self._known.pop(id, None)
                    return Change((await self._load(id))[1], change.events)
                fresh, (v, run) = True, await self._load(id)
            raise StoreUnavailable(f"run {id} changed {MAX_TRIES} times while one write was tried; try again")

    async def remove(self, id: str, v: int) -> bool:
        """Remove a run at this version, with its events and contents; False when it stands at another."""
        self._known.pop(id, None)
        return await self.store.delete("run", self.tenant, id, v)

    def known(self, id: str) -> Run | None:
        """The run as this process wrote it last; perhaps old, which a compare-and-set would tell."""
        known = self._known.get(id)
        return known[1] if known else None

    def _remember(self, v: int, run: Run) -> None:
        self._known.pop(run.id, None)
        if not run.state.ended:
            self._known[run.id] = (v, run)
            if len(self._known) > 256:
                del self._known[next(iter(self._known))]

    async def due(
        self, limit: int = 100, after: tuple[float, str] | None = None
    ) -> list[tuple[Record, Run | Exception]]:
        """Runs that somebody must look at now, oldest first; an unreadable one comes with its error."""
        found: list[tuple[Record, Run | Exception]] = []
        for record in await self.store.due("run", self.tenant, limit=limit, after=after):
            try:
                found.append((record, decode_run(record.body)))
            except (SnapshotError, StoreTooNew) as error:
                found.append((record, error))
        return found

    async def select(
        self,
        where: dict[str, str] | None = None,
        *,
        limit: int = 100,
        after: str = "",
        skipped: Callable[[str], None] = log.error,
    ) -> list[Run]:
        """Runs by index fields, by id; those that cannot be read are left out, and ``skipped`` hears of them."""
        return self._readable(await self.store.list("run", self.tenant, where, limit=limit, after=after), skipped)

    def _readable(self, records: Sequence[Record], skipped: Callable[[str], None]) -> list[Run]:
        found: list[Run] = []
        for record in records:
            try:
                found.append(decode_run(record.body))
            except (SnapshotError, StoreTooNew) as error:
                why = str(error)  # which names the run when it is the seal that is broken
                skipped(why if why.startswith(f"run {record.id}: ") else f"run {record.id}: {why}")
        return found

    async def page(
        self, where: dict[str, str], after: str = "", skipped: Callable[[str], None] = log.error
    ) -> tuple[list[Run], str]:
        """Some runs by index fields, and after which id more may come: empty when there are no more."""
        records = await self.store.list("run", self.tenant, where, after=after)
        return self._readable(records, skipped), records[-1].id if records else ""

    async def every(self, where: dict[str, str]) -> AsyncIterator[Run]:
        """All runs by index fields, page after page; those that cannot be read are left out, and said in the log."""
        found, after = await self.page(where)
        while after:
            for run in found:
                yield run
            found, after = await self.page(where, after)

    async def events(self, id: str) -> list[dict[str, Any]]:
        """The whole audit trail of a run."""
        found: list[dict[str, Any]] = []
        last = 0
        while page := await self.store.events("run", self.tenant, id, after=last):
            found += chain.read(page)
            last = page[-1].seq
        return found

    async def blob(self, run: str, digest: str) -> bytes:
        """Content of a run by its digest, checked. Raises `SnapshotError` when it is missing or changed."""
        if digest in self._contents:
            return self._contents[digest]
        data = await self.store.blob("run", self.tenant, run, digest)
        if data is None:
            raise SnapshotError(f"the store has lost the content {digest[:12]} of run {run}")
        if sha256(data) != digest:
            raise SnapshotError(f"the content {digest[:12]} of run {run} was changed in the store")
        self._keep((Blob(digest, data),))
        return data

    def _keep(self, blobs: Sequence[Blob]) -> None:
        """Remember a few small contents: what one process writes it often reads next. Content never changes."""
        for made in blobs:
            if len(made.data) <= MAX_KEPT:
                self._contents[made.id] = made.data
                if len(self._contents) > 64:
                    del self._contents[next(iter(self._contents))]

    async def call(self, run: Run, n: int) -> Call | None:
        """The run's call with this number, of a closed generation too."""
        return run.call(n) or next((call for call in await self.all_calls(run) if call.n == n), None)

    async def all_calls(self, run: Run) -> tuple[Call, ...]:
        """Every call of a run, those of closed generations too, by number."""
        calls = [call for id in run.closed for call in decode_calls(await self.blob(run.id, id))]
        return tuple(sorted((*calls, *run.calls), key=lambda call: call.n))


def closing_blob(run: Run) -> tuple[Closed, Blob] | None:
    """Where the next pause puts the calls that are over, and the content; None when there are none."""
    calls = closing(run)
    if not calls:
        return None
    content = blob(encode_calls(calls))
    return Closed(content.id, frozenset(call.n for call in calls)), content


def _point(change: Change, otherwise: str = "run.written") -> str:
    return change.events[0].what if change.events else otherwise


async def _answered(write: Callable[[], Awaitable[Swapped]], point: str) -> Swapped:
    """Send a write until the store answers; its op id makes that safe."""
    crash_point(f"{point}:before")
    answer = await sent(write)
    if answer.won:
        crash_point(f"{point}:after")
    return answer


async def sent(write: Callable[[], Awaitable[T]]) -> T:
    """Send a write until the store answers; its op id makes that safe. Raises `StoreUnavailable` after a few tries."""
    for left in reversed(range(UNANSWERED)):
        try:
            return await write()
        except StoreUnavailable:
            if not left:
                raise
            await asyncio.sleep(0.05 * (UNANSWERED - left))
    raise StoreUnavailable("the store does not answer")
