"""What is asked of a MongoDB store. Every page of a list is one stretch of one index."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from governor_agents.core.ports import Held, Record, StoredEvent
from governor_agents.errors import SnapshotError
from governor_agents.stores.mongodb import documents
from governor_agents.stores.mongodb.chunks import Chunks
from governor_agents.stores.mongodb.clock import Clock
from governor_agents.stores.mongodb.documents import HERE, Document
from governor_agents.stores.mongodb.schema import SELECTIVE, Collections

TRIES: Final = 20
"""How often a record is read anew because its body was replaced meanwhile."""

COUNTED: Final = (1_000, 10_000)
"""How far records are counted to choose an index."""

_NOT_RIDING: Final[Document] = {"events": 0, "fresh": 0, "moved": 0, "ops": 0}
_WITH_BLOBS: Final[Document] = {"events": 0, "fresh.data": 0, "moved": 0, "ops": 0}


@dataclass(frozen=True, slots=True)
class Reading:
    """The reads of a store."""

    to: Collections
    chunks: Chunks
    clock: Clock

    async def load(self, key: str) -> Record | None:
        """The record of a document, None when there is none."""
        document = await self.to.record.find_one({"_id": key, **HERE}, _NOT_RIDING)
        return None if document is None else await self.whole(document)

    async def whole(self, document: Document) -> Record | None:
        """The record of a document that was read, with its body; None when it was deleted meanwhile."""
        for _ in range(TRIES):
            try:
                return documents.record_of(document, await self.chunks.body(document))
            except SnapshotError:
                again = await self.to.record.find_one({"_id": document["_id"], **HERE}, _NOT_RIDING)
                if again is None:
                    return None
                if again.get("v") == document.get("v"):
                    raise
                document = again  # its body was replaced, and the old one removed, between the two reads
        raise SnapshotError(f"the document {document['_id']!r} changed at each of {TRIES} reads")

    async def due(self, kind: str, tenant: str, limit: int, after: tuple[float, str] | None) -> list[Record]:
        """What has come due, by (due, id)."""
        now = await self.clock.read()
        of = _of(kind, tenant)
        stretches: list[Document] = [{**of, "due": {"$lte": now}}]
        if after is not None:
            due, id = after
            same = [{**of, "due": due, "id": {"$gt": id}}] if due <= now else []
            stretches = [*same, {**of, "due": {"$gt": due, "$lte": now}}]
        return await self._records(await self._page(stretches, [("due", 1), ("id", 1)], "due", limit, _NOT_RIDING))

    async def listed(self, kind: str, tenant: str, fields: Mapping[str, str], limit: int, after: str) -> list[Record]:
        """Records whose index fields equal ``fields``, by id."""
        of = {**_of(kind, tenant), "id": {"$gt": after}}
        where = of | {f"index.{name}": value for name, value in fields.items()}
        index = await self._fewest(of, fields)
        return await self._records(await self._page([where], [("id", 1)], index, limit, _NOT_RIDING))

    async def _fewest(self, of: Document, fields: Mapping[str, str]) -> str:
        """The index of the field that leaves the fewest records, as far as they are counted; the usual one beyond."""
        names = [name for name in SELECTIVE if name in fields]
        if len(names) > 1 and names[0] != "conversation":  # of which each has few
            for most in COUNTED:
                wheres = [(name, {**of, f"index.{name}": fields[name]}) for name in names]
                asked = [self.to.record.count_documents(where, limit=most, hint=name) for name, where in wheres]
                counts = await asyncio.gather(*asked)
                if min(counts) < most:
                    return names[counts.index(min(counts))]
        return names[0] if names else ""

    async def scan(self, kind: str, limit: int, after: tuple[str, str] | None) -> list[Held]:
        """Every record of a kind with the digests of its blobs, by (tenant, id)."""
        stretches: list[Document] = [{"kind": {"$eq": kind}}]
        if after is not None:
            tenant, id = after
            stretches = [{**_of(kind, tenant), "id": {"$gt": id}}, {"kind": {"$eq": kind}, "tenant": {"$gt": tenant}}]
        rows = await self._page(stretches, [("tenant", 1), ("id", 1)], "", limit, _WITH_BLOBS)
        owned = await self.chunks.digests([documents.life(row) for row in rows])
        return [
            Held(record, tuple(sorted(owned[documents.life(row)] | {each["digest"] for each in row.get("fresh", ())})))
            for row in rows
            if (record := await self._given(row)) is not None
        ]

    async def _page(
        self, stretches: list[Document], order: list[tuple[str, int]], index: str, limit: int, shown: Document
    ) -> list[Document]:
        """Documents of one stretch of an index after the other, until there are enough. No ``index``: no choice."""
        found: list[Document] = []
        for where in stretches:
            if len(found) < limit:
                rows = self.to.record.find({**where, **HERE}, shown).sort(order)
                rows = rows.hint(index) if index else rows
                found += await rows.limit(limit - len(found)).to_list(None)
        return found

    async def _records(self, found: list[Document]) -> list[Record]:
        given = [await self._given(document) for document in found]
        return [record for record in given if record is not None]

    async def _given(self, document: Document) -> Record | None:
        if "large" not in document:
            return documents.given(document, None)
        try:
            return await self.whole(document)
        except SnapshotError as error:
            return documents.given(document, error)

    async def blob(self, key: str, digest: str) -> bytes | None:
        """The content that a record owns under a digest, or None."""
        only = {"life": 1, "fresh": {"$elemMatch": {"digest": digest}}}
        document = await self.to.record.find_one({"_id": key, **HERE}, only)
        if document is None:
            return None
        for each in document.get("fresh", ()):
            if "data" in each:
                data: bytes = each["data"]
                return data
        return await self.chunks.blob(document, digest)

    async def events(self, key: str, after: int, limit: int) -> list[StoredEvent]:
        """A record's events with seq > after, in order: those that ride, and those that were moved out."""
        document = await self.to.record.find_one({"_id": key, **HERE}, {"life": 1, "events": 1, "moved": 1})
        if document is None or limit < 1:
            return []
        found: dict[int, Mapping[str, Any]] = {
            each["seq"]: each for each in document.get("events", ()) if each["seq"] > after
        }
        moved = document.get("moved", ())
        if any(span["to"] > after for span in moved):
            puts = [None, *(span["put"] for span in moved if "put" in span)]
            where = {"life": documents.life(document), "seq": {"$gt": after}, "put": {"$in": puts}}
            rows = self.to.event.find(where).sort([("seq", 1)]).limit(limit)
            found |= {row["seq"]: row for row in await rows.to_list(None)}
        return [StoredEvent(seq, await self._event(found[seq], document)) for seq in sorted(found)[:limit]]

    async def _event(self, row: Mapping[str, Any], document: Mapping[str, Any]) -> bytes:
        if "large" in row:
            return await self.chunks.event(documents.life(document), documents.event_name(row["seq"]), row["large"])
        body = row.get("body")
        # What is something else is nobody's event: whoever verifies the chain finds it.
        return body if isinstance(body, bytes) else repr(body).encode("utf-8", "backslashreplace")


def _of(kind: str, tenant: str) -> Document:
    """One tenant's records of a kind. As ``$eq``, so that nothing a caller hands over is read as an operator."""
    return {"kind": {"$eq": kind}, "tenant": {"$eq": tenant}}
