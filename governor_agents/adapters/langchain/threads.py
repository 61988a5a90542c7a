"""Threads in a store: checkpoints and the writes between them, few durable writes, the newest first.

One record holds what became durable together: one or more checkpoints, and the writes of tasks. Records are only ever
added, under ids that sort the newest first, by a number of their own: the clocks of two workers need not agree. What
may wait for the next record is kept here until then; every flush checks the claim it is made under.

A thread's id is the index field ``conversation``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from governor_agents.adapters.langchain.entries import Entry, Found, Place, Saved, Written, body_of, lay, parsed
from governor_agents.adapters.langchain.loops import Loops
from governor_agents.adapters.langchain.values import text
from governor_agents.claims import Claim
from governor_agents.core import execution
from governor_agents.core.calls import Json
from governor_agents.core.ports import Record
from governor_agents.crash import crash_point
from governor_agents.errors import Fenced, GovernorError, NotFound, StoreError
from governor_agents.runs import sent

if TYPE_CHECKING:
    from governor_agents.governor import Governor

log = logging.getLogger("governor_agents.langchain")

LINGER = 0.25
"""Seconds after which a write that waits for the next checkpoint becomes durable by itself."""
PAGE = 50
_NEWEST = 10**12
_MINE = re.compile(r"[0-9a-f]{32}[cw]")


@dataclass(slots=True)
class _Buffer:
    """What waits for the next record of a place."""

    entries: list[Entry] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    lingers: bool = False
    top: int | None = None


class Threads:
    """The threads of one governor. `later` may be called from anywhere, all else runs on the governor loop."""

    def __init__(self, governor: Governor, loops: Loops) -> None:
        self._governor = governor
        self._loops = loops
        self._buffers: dict[Place, _Buffer] = {}
        self._mutex = threading.Lock()

    # -- writing ----------------------------------------------------------------------------------------------------

    def later(self, place: Place, entry: Entry) -> None:
        """Store an entry with the next one, or after a while. Raises `Fenced` for a claim that is known to be over."""
        if entry.claim is not None and entry.claim.lost:
            raise Fenced(entry.claim.stop)
        with self._mutex:
            buffer = self._buffer(place)
            buffer.entries.append(entry)
            lingers, buffer.lingers = buffer.lingers, buffer.lingers or isinstance(entry.what, Written)
        if buffer.lingers and not lingers:
            self._start_lingering(place, buffer)

    async def add(self, place: Place, entry: Entry) -> None:
        """Store an entry: durable on return. Raises `Fenced`, `StoreError`."""
        with self._mutex:
            self._buffer(place).entries.append(entry)
        await self.flush(place)

    def drop(self, place: Place, of: str) -> None:
        """Forget what waits to be stored on a checkpoint that was refused."""
        with self._mutex:
            buffer = self._buffer(place)
            buffer.entries = [entry for entry in buffer.entries if getattr(entry.what, "of", "") != of]

    def waits_for(self, place: Place, id: str) -> bool:
        """True when the checkpoint is an initial one that has not become durable yet."""
        with self._mutex:
            buffer = self._buffers.get(place)
            waiting = [entry.what for entry in buffer.entries] if buffer else []
        return any(isinstance(what, Saved) and what.initial and what.id == id for what in waiting)

    async def flush(self, place: Place) -> None:
        """Make everything of this place durable that was added before, and the checkpoints that it hangs on.

        A graph inside a node is found again by the id of its task, which follows from the outer checkpoint: were that
        lost in a crash, the inner graph would begin anew. Raises `Fenced`, `StoreError`.
        """
        for outer in place.around:
            if self._begins(outer):
                await self.flush(outer)
        buffer = self._buffers.get(place)
        if buffer is None or not (buffer.entries or buffer.lock.locked()):
            return
        async with buffer.lock:
            with self._mutex:
                entries, buffer.entries = buffer.entries, []
            if not entries:
                return
            await self._check(place, entries)
            try:
                await self._write(place, buffer, [entry.what for entry in entries])
            except StoreError:
                with self._mutex:
                    buffer.entries[:0] = entries
                raise

    def _begins(self, place: Place) -> bool:
        """True while a checkpoint waits here for the next one."""
        with self._mutex:
            buffer = self._buffers.get(place)
            return buffer is not None and any(isinstance(entry.what, Saved) for entry in buffer.entries)

    def unsettled(self, thread: str) -> list[Place]:
        """The places of a thread where something waits to become durable."""
        with self._mutex:
            return [place for place, buffer in self._buffers.items() if place.thread == thread and buffer.entries]

    async def settle(self, thread: str) -> None:
        """Make everything of a thread durable."""
        for place in self.unsettled(thread):
            await self.flush(place)

    def _buffer(self, place: Place) -> _Buffer:
        buffer = self._buffers.pop(place, None) or _Buffer()
        self._buffers[place] = buffer
        if len(self._buffers) > 1024:
            idle = (
                at for at, old in self._buffers.items() if not old.entries and not old.lock.locked() and at != place
            )
            if (oldest := next(idle, None)) is not None:
                del self._buffers[oldest]
        return buffer

    def _start_lingering(self, place: Place, buffer: _Buffer) -> None:
        """Look after the buffer in a while; a timer of the caller's loop wakes no other thread until it must."""

        def fire() -> None:
            buffer.lingers = False
            if buffer.entries:
                self._governor.loop.spawn(self._flush_late(place))

        async def wait() -> None:
            await asyncio.sleep(LINGER)
            fire()

        try:
            asyncio.get_running_loop().call_later(LINGER, fire)
        except RuntimeError:
            self._governor.loop.spawn(wait())

    async def _flush_late(self, place: Place) -> None:
        try:
            await self.flush(place)
        except GovernorError as error:
            log.warning("thread %s: %s", place.thread, error)

    async def _check(self, place: Place, entries: Sequence[Entry]) -> None:
        """A worker whose claim is over writes no checkpoints any more."""
        claims = {entry.claim for entry in entries}
        if any(entry.own for entry in entries):
            claims.add(await self._loops.claimed(place.thread))
        for claim in claims - {None}:
            if claim is None or await self._holds(claim):
                continue
            try:
                run = await self._governor.runs.get(claim.run)
                execution.hold(run, owner=claim.owner, fence=claim.fence)
            except (Fenced, NotFound) as error:
                claim.lost = True
                claim.stop = claim.stop or str(error)
                raise

    async def _holds(self, claim: Claim) -> bool:
        """True when what this process wrote last says so: nobody else can take a run before its lease is over."""
        known = self._governor.runs.known(claim.run)
        if known is None or known.lease is None or (known.lease.owner, known.fence) != (claim.owner, claim.fence):
            return False
        return await self._governor.store.now() < known.lease.until

    async def _write(self, place: Place, buffer: _Buffer, entries: Sequence[Saved | Written]) -> None:
        """One record for checkpoints and the writes on them and before them; other writes have records of their own.

        Those come first: written twice, after a failure, they are what they were.
        """
        checkpoints = [entry for entry in entries if isinstance(entry, Saved)]
        near = {id for entry in checkpoints for id in (entry.id, entry.parent)}
        writes = [entry for entry in entries if isinstance(entry, Written)]
        op = secrets.token_hex(8)
        for of in dict.fromkeys(entry.of for entry in writes if entry.of not in near):
            body = body_of(place, [], [entry.to_json() for entry in writes if entry.of == of])
            n = 1
            while not await self._insert(place, f"w{of}.{n:06d}", body, op):
                n += 1
        if not checkpoints:
            return
        saved = [entry.to_json() for entry in checkpoints]
        body = body_of(place, saved, [entry.to_json() for entry in writes if entry.of in near])
        while True:
            if buffer.top is None:
                buffer.top = await self._top(place)
            buffer.top += 1
            if await self._insert(place, f"c{_NEWEST - buffer.top:012d}", body, op):
                return
            buffer.top = None  # somebody else wrote there

    async def _insert(self, place: Place, name: str, body: bytes, op: str) -> bool:
        record = Record("thread", self._governor.tenant, place.prefix + name, body, {"conversation": place.thread})
        crash_point("checkpoint:before")
        won = (await sent(partial(self._governor.store.insert, record, op=op))).won
        crash_point("checkpoint:after")
        return won

    async def _top(self, place: Place) -> int:
        newest = await self._page(place.thread, f"{place.prefix}c", limit=1)
        return _NEWEST - int(newest[0].id[len(place.prefix) + 1 :]) if newest else 0

    # -- reading ----------------------------------------------------------------------------------------------------

    async def _page(self, thread: str, begin: str, *, after: str = "", limit: int = PAGE) -> list[Record]:
        """Records of a thread whose ids begin so."""
        records = await self._governor.store.list(
            "thread", self._governor.tenant, {"conversation": thread}, limit=limit, after=after or begin
        )
        return [record for record in records if record.id.startswith(begin)]

    async def newest(self, place: Place) -> Found | None:
        """The newest checkpoint of a place, with the writes on it."""
        async with contextlib.aclosing(self.scan(place)) as checkpoints:
            async for found in checkpoints:
                return found
        return None

    async def scan(self, place: Place) -> AsyncGenerator[Found]:
        """Every checkpoint of a place with the writes on it, the newest first."""
        await self.flush(place)
        begin, after, limit = f"{place.prefix}c", "", 1
        moved: dict[str, list[Json]] = {}
        while records := await self._page(place.thread, begin, after=after, limit=limit):
            for record in records:
                body = parsed(record)
                own = {entry["id"] for entry in body["checkpoints"]}
                for entry in reversed(body["checkpoints"]):
                    found = Found(place, entry["id"], entry["parent"], entry["checkpoint"], entry["metadata"])
                    mine = [written for written in body["writes"] if written["of"] == found.id]
                    between = await self._writes(place, found.id)
                    for written in (*mine, *between, *moved.pop(found.id, ())):
                        lay(found, written)
                    yield found
                for written in body["writes"]:
                    if written["of"] not in own:
                        moved.setdefault(written["of"], []).append(written)
            after, limit = records[-1].id, PAGE

    async def _writes(self, place: Place, of: str) -> list[Json]:
        begin = f"{place.prefix}w{of}."
        records = page = await self._page(place.thread, begin)
        while len(page) == PAGE:
            page = await self._page(place.thread, begin, after=page[-1].id)
            records += page
        return [written for record in records for written in parsed(record)["writes"] if written["of"] == of]

    async def places(self, thread: str | None) -> list[Place]:
        """The places that have checkpoints: of a thread, or all."""
        found: dict[Place, None] = {}
        async for record in self._records(thread):
            body = parsed(record)
            if body["checkpoints"]:
                found[Place(body["thread"], body["ns"])] = None
        return list(found)

    async def _records(self, thread: str | None) -> AsyncIterator[Record]:
        where = None if thread is None else {"conversation": thread}
        for place in [place for place in self._buffers if thread in (None, place.thread)]:
            await self.flush(place)
        after = ""
        while page := await self._governor.store.list("thread", self._governor.tenant, where, limit=PAGE, after=after):
            for record in page:
                if _MINE.match(record.id):  # the kind holds other things of conversations too
                    yield record
            after = page[-1].id

    # -- removing and copying ---------------------------------------------------------------------------------------

    async def delete(self, thread: str) -> None:
        """Remove a thread."""
        async for record in self._records(thread):
            await self._remove(record)
        for place in [place for place in self._buffers if place.thread == thread]:
            del self._buffers[place]

    async def keep(self, thread: str | None, wanted: Callable[[Place, Json, bool], bool]) -> None:
        """Remove every checkpoint for which ``wanted(place, metadata, newest)`` is false, with the writes on it."""
        seen: set[Place] = set()
        gone: dict[Place, set[str]] = {}
        records = [record async for record in self._records(thread)]
        for record in records:
            body = parsed(record)
            place = Place(body["thread"], body["ns"])
            kept: list[Json] = []
            for entry in reversed(body["checkpoints"]):
                if wanted(place, entry["metadata"], place not in seen):
                    kept.insert(0, entry)
                else:
                    gone.setdefault(place, set()).add(entry["id"])
                seen.add(place)
            if len(kept) < len(body["checkpoints"]):
                await self._shrink(record, place, kept, body["writes"])
        for record in records:
            body = parsed(record)
            lost = gone.get(Place(body["thread"], body["ns"]), set())
            if not body["checkpoints"] and all(written["of"] in lost for written in body["writes"]):
                await self._remove(record)

    async def _shrink(self, record: Record, place: Place, kept: list[Json], writes: list[Json]) -> None:
        if not kept:
            await self._remove(record)
            return
        ids = {entry["id"] for entry in kept}
        body = body_of(place, [text(entry) for entry in kept], [text(w) for w in writes if w["of"] in ids])
        changed = Record(record.kind, record.tenant, record.id, body, record.index, record.due, record.v)
        await sent(partial(self._governor.store.swap, changed, op=secrets.token_hex(8)))

    async def _remove(self, record: Record) -> None:
        await sent(partial(self._governor.store.delete, record.kind, record.tenant, record.id, record.v))

    async def copy(self, source: str, target: str) -> None:
        """Copy a thread under another id."""
        async for record in self._records(source):
            body = parsed(record)
            place = Place(target, body["ns"])
            content = body_of(
                place, [text(entry) for entry in body["checkpoints"]], [text(entry) for entry in body["writes"]]
            )
            await self._insert(place, record.id[len(place.prefix) :], content, secrets.token_hex(8))
