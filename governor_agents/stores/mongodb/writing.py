"""The writes of a MongoDB store: each is one write of one document, which decides who wins."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bson import Int64, ObjectId
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from governor_agents.core.ports import OPS_KEPT, Blob, Record, StoredEvent, Swapped
from governor_agents.errors import StoreError, StoreUnavailable
from governor_agents.stores.mongodb import documents
from governor_agents.stores.mongodb.chunks import SLOWEST, Chunks, put_at
from governor_agents.stores.mongodb.clock import Clock
from governor_agents.stores.mongodb.documents import HERE, TIDIED, Document, Parts
from governor_agents.stores.mongodb.reading import Reading
from governor_agents.stores.mongodb.schema import Collections
from governor_agents.stores.mongodb.tidying import Tidying
from governor_agents.stores.mongodb.waking import Waking

TRIES: Final = 20
"""How often a write is begun anew because others deleted and made its record meanwhile."""

Events = Sequence[StoredEvent]
Blobs = Sequence[Blob]


@dataclass(frozen=True, slots=True)
class Writing:
    """The writes of a store."""

    to: Collections
    chunks: Chunks
    clock: Clock
    reading: Reading
    tidying: Tidying
    waking: Waking

    async def insert(self, record: Record, op: str, events: Events, blobs: Blobs) -> Swapped:
        """Write a record that must not exist yet."""
        documents.refuse_double(record, events)
        for _ in range(TRIES):
            if (answer := await self._insert(record, op, events, blobs)) is not None:
                return answer
        raise StoreUnavailable(f"{record.kind} {record.id} came and went while one write was tried; try again")

    async def _insert(self, record: Record, op: str, events: Events, blobs: Blobs) -> Swapped | None:
        """One try; None when what stood in the way is gone."""
        key, life = documents.key(record.kind, record.tenant, record.id), ObjectId()
        if documents.needs_ahead(record, events, blobs):
            stands = await self.to.stands({"_id": key}, _STANDS)
            if stands is not None:
                return await self._in_the_way(key, stands, op)
        parts = await self._go_ahead(record, events, blobs, life, frozenset())
        try:
            await self.to.record.insert_one(documents.new_document(record, op, parts, life))
        except DuplicateKeyError:
            await self.chunks.withdraw(parts, life)
            stands = await self.to.stands({"_id": key}, _STANDS)
            return None if stands is None else await self._in_the_way(key, stands, op)
        await self._won(key, parts, life, record.v or 1)
        return Swapped(won=True, v=record.v or 1)

    async def _in_the_way(self, key: str, stands: Document, op: str) -> Swapped | None:
        if "gone" in stands:
            await self.tidying.finish(key, documents.life(stands))
            return None
        return await self._lost(stands, op)

    async def swap(self, record: Record, op: str, events: Events, blobs: Blobs, not_after: float | None) -> Swapped:
        """Replace the record whose version is ``record.v``."""
        documents.refuse_double(record, events)
        where, old = documents.swap_filter(record, op, events), None
        life, known = ObjectId(), frozenset[str]()
        if documents.needs_ahead(record, events, blobs):
            stands = await self.to.stands({"_id": where["_id"], **HERE}, _STANDS)
            if stands is None or stands.get("v") != record.v or documents.mark(op) in documents.ops(stands):
                return Swapped(won=False) if stands is None else await self._lost(stands, op)
            life, known, old = documents.life(stands), await self._known(stands, blobs), stands.get("large")
            where["life"] = life
        if not_after is not None and await self.clock.read() > not_after:
            return await self._not_swapped(record, op, events, not_after)  # the server's clock may be behind the floor
        parts = await self._go_ahead(record, events, blobs, life, known)
        done = await self.to.record.update_one(where, documents.swap_update(record, op, parts, not_after))
        if not done.modified_count:
            await self.chunks.withdraw(parts, life)
            return await self._not_swapped(record, op, events, not_after)
        await self._won(where["_id"], parts, life, record.v + 1, old)
        return Swapped(won=True, v=record.v + 1)

    async def _known(self, stands: Document, blobs: Blobs) -> frozenset[str]:
        """Digests of blobs that need not be written again."""
        settled = await self.chunks.known(documents.life(stands), [blob.id for blob in blobs])
        return settled | {each["digest"] for each in stands.get("fresh", ())}

    async def _go_ahead(
        self, record: Record, events: Events, blobs: Blobs, life: ObjectId, known: frozenset[str]
    ) -> Parts:
        """Take the write apart, and write what must be there before it."""
        ahead = documents.needs_ahead(record, events, blobs)
        began = await self.clock.read() if ahead else 0.0
        put = put_at(began) if ahead else ObjectId()
        parts = documents.taken_apart(record, events, blobs, put, known)
        await self.chunks.go_ahead(parts, life, documents.key(record.kind, record.tenant, record.id))
        # By the store's clock: that of a machine that was suspended has not moved.
        if ahead and await self.clock.read() - began > SLOWEST:
            raise StoreUnavailable(f"writing the chunks of {record.kind} {record.id} took more than an hour; try again")
        return parts

    async def _won(
        self, key: str, parts: Parts, life: ObjectId, v: int, old: Mapping[str, ObjectId] | None = None
    ) -> None:
        """What follows a write that stands. Should it fail, the write stands all the same, and others do it later."""
        self.waking.wrote()
        with contextlib.suppress(PyMongoError, StoreError):
            if parts.ahead:
                await self.chunks.confirm(parts, life)
            if old is not None:
                await self.chunks.replace_body(life, old["put"])
            if parts.much or v % TIDIED == 0:
                await self.tidying.tidy(key)
            await self.clock.wrote()

    async def _not_swapped(self, record: Record, op: str, events: Events, not_after: float | None) -> Swapped:
        """Why a swap did not find what it may replace."""
        key = documents.key(record.kind, record.tenant, record.id)
        stands = await self.to.stands({"_id": key, **HERE}, {"fresh": 0, "events.body": 0})
        if stands is None:
            return Swapped(won=False)
        if stands.get("v") != record.v or documents.mark(op) in documents.ops(stands):
            return await self._lost(stands, op)
        if documents.clashing(stands, events):
            raise documents.exists_already(record)
        # Kept at once, so that late stays late in every process.
        if not_after is None or await self.clock.raise_floor() <= not_after:
            raise StoreUnavailable(f"{record.kind} {record.id} was made anew while one write was tried; try again")
        return Swapped(won=False, current=await self.reading.whole(stands), late=True)

    async def _lost(self, stands: Document, op: str) -> Swapped:
        """The answer of a write that changed nothing: another op's, or this op's own earlier one."""
        if documents.mark(op) in documents.ops(stands):
            return Swapped(won=True, v=int(stands["v"]))
        return Swapped(won=False, current=await self.reading.whole(stands))

    async def delete(self, key: str, v: int) -> bool:
        """Mark the document as gone, and with that it is; then remove all that belonged to it."""
        await self.to.record.update_one(
            {"_id": key, "v": v, **HERE}, {"$currentDate": {"gone": True}, "$unset": _EMPTIED}
        )
        stands = await self.to.stands({"_id": key}, {"life": 1, "gone": 1})
        if stands is None or "gone" not in stands:
            return stands is None
        self.waking.wrote()
        await self.tidying.finish(key, documents.life(stands))
        with contextlib.suppress(PyMongoError, StoreError):
            await self.clock.wrote()
            if self.clock.day_is_over():
                await self.tidying.sweep(await self.clock.read())
        return True

    async def add_below(self, tenant: str, id: str, amount: int, limit: int, op: str) -> int | None:
        """Add to a counter."""
        key, mark = documents.key("counter", tenant, id), documents.mark(op)
        adds = {
            "$inc": {"count": Int64(amount), "v": Int64(1)},
            "$push": {"ops": {"$each": [mark], "$slice": -OPS_KEPT}},
        }
        where = {"_id": key, **HERE, "ops": {"$ne": mark}, "count": {"$lte": limit - amount}}
        for _ in range(TRIES):
            found = await self.to.record.find_one_and_update(
                where, adds, projection={"count": 1}, return_document=ReturnDocument.AFTER
            )
            if found is not None:
                self.waking.wrote()
                with contextlib.suppress(PyMongoError, StoreError):
                    await self.clock.wrote()
                return int(found["count"])
            stands = await self.to.stands({"_id": key}, {"count": 1, "ops": 1, "gone": 1, "life": 1})
            if stands is not None and "gone" not in stands:
                total = _count_of(key, stands)
                if mark in documents.ops(stands):
                    return total
                if total > limit - amount:
                    return None
            elif stands is not None:
                await self.tidying.finish(key, documents.life(stands))
            elif amount > limit:
                return None
            else:
                begun = await self.insert(Record("counter", tenant, id, body=str(amount).encode()), op, (), ())
                if begun.won and begun.v == 1:
                    return amount
        raise StoreUnavailable(f"counter {id} changed {TRIES} times while one write was tried; try again")


_STANDS: Final = {"events": 0, "fresh.data": 0, "moved": 0}
_EMPTIED: Final = dict.fromkeys(
    ("body", "large", "count", "due", "index", "ops", "events", "fresh", "moved", "dropped"), ""
)


def _count_of(key: str, stands: Document) -> int:
    count = stands.get("count")
    if isinstance(count, bool) or not isinstance(count, int):
        raise StoreError(f"the document {key!r} is no counter: what stands in it is no number")
    return int(count)
