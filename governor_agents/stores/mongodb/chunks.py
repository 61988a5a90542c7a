"""Content that is too large for a document: chunks of under 1 MB each, written before the record that names them.

Not GridFS, for four reasons: it keeps a second document per file that would have to be kept in step with the chunks;
its files are found by a name or id of their own, ours by record and digest; it knows no owner, so deleting a record
could not find them; and its buckets know nothing of "before the record".

A chunk of ``ga_chunk``: ``{_id: PUT/NUMBER, life, name, put, n, of, data, record, ahead}``: the ``n``-th of the ``of``
that hold one piece. A **put** is one attempt of one write. While ``ahead`` stands in a chunk, it counts only when the
record's document names its put; `confirm` takes it away once the record is written, and what nobody confirmed is swept
(`tidying.sweep`). The events of a large write go ahead in the same way, into ``ga_event``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Final

from bson import ObjectId
from pymongo.errors import BulkWriteError

from governor_agents.errors import SnapshotError
from governor_agents.stores.mongodb.documents import BODY, Document, Parts, Piece, blob_name
from governor_agents.stores.mongodb.documents import life as life_of

CHUNK: Final = 1_000_000
"""Bytes in a chunk."""

TOGETHER: Final = 8
"""Chunks sent in one message."""

SLOWEST: Final = 3600.0
"""Seconds that chunks may go ahead of their record: far less than what makes them leftovers (`tidying.STALE`)."""

DUPLICATE: Final = 11000
_FIRST: Final[Document] = {"n": 0, "ahead": {"$exists": False}}
"""The condition for the first chunk of what a put holds for good."""


def put_at(now: float) -> ObjectId:
    """A new put, made at this time of the store, which `sweep` reads from it."""
    return ObjectId(struct.pack(">I", min(int(now), 2**32 - 1)) + os.urandom(8))


def rows_of(pieces: Sequence[Piece], put: ObjectId, life: ObjectId, record: str) -> Iterator[Document]:
    """The chunks of pieces."""
    number = 0
    for piece in pieces:
        of = max(1, -(-len(piece.data) // CHUNK))
        for at in range(of):
            yield {
                "_id": f"{put}/{number}",
                "life": life,
                "name": piece.name,
                "put": put,
                "n": at,
                "of": of,
                "data": piece.data[at * CHUNK : (at + 1) * CHUNK],
                "record": record,
            }
            number += 1


async def insert_rows(collection: Any, rows: Sequence[Document]) -> None:
    """Insert rows of which some, or all, may stand there already."""
    try:
        if rows:
            await collection.insert_many(rows, ordered=False)
    except BulkWriteError as error:
        details = error.details or {}
        clashes = {each.get("code") for each in details.get("writeErrors", ())}
        if clashes != {DUPLICATE} or details.get("writeConcernErrors"):
            raise


@dataclass(frozen=True, slots=True)
class Chunks:
    """The two collections that hold what does not ride in documents."""

    chunks: Any
    events: Any

    async def go_ahead(self, parts: Parts, life: ObjectId, record: str) -> None:
        """Write what must be there before the document; durable when it returns."""
        rows = rows_of(parts.pieces, parts.put, life, record)
        while some := list(islice(rows, TOGETHER)):
            await self.chunks.insert_many([{**row, "ahead": True} for row in some], ordered=False)
        events = iter(parts.rows)
        while some := list(islice(events, 1000)):
            about = {"life": life, "put": parts.put, "record": record, "ahead": True}
            await self.events.insert_many(
                [{"_id": f"{life}/{row['seq']}/{parts.put}", **row, **about} for row in some], ordered=False
            )

    async def confirm(self, parts: Parts, life: ObjectId) -> None:
        """The record names them now: they count for good."""
        where = {"life": life, "put": parts.put}
        if parts.pieces:
            await self.chunks.update_many(where, {"$unset": {"ahead": ""}})
        if parts.rows:
            await self.events.update_many(where, {"$unset": {"ahead": ""}})

    async def withdraw(self, parts: Parts, life: ObjectId) -> None:
        """The write lost: nobody will ever name them."""
        if parts.pieces:
            await self.chunks.delete_many({"life": life, "put": parts.put})
        if parts.rows:
            await self.events.delete_many({"life": life, "put": parts.put})

    async def replace_body(self, life: ObjectId, old: ObjectId) -> None:
        """The body in this put was replaced."""
        await self.chunks.delete_many({"life": life, "name": BODY, "put": old})

    async def body(self, document: Mapping[str, Any]) -> bytes | None:
        """The body of a document that keeps it in chunks; None for one that holds it itself.

        Raises `SnapshotError` when it is not there whole.
        """
        large = document.get("large")
        if large is None:
            return None
        if not isinstance(large, Mapping):
            raise SnapshotError(
                f"the document {document.get('_id')!r} does not say where its body is; restore a backup"
            )
        found = await self._pieces({"life": document.get("life"), "name": BODY, "put": large.get("put")})
        data = found.get(large["put"], b"") if "put" in large else b""
        if len(data) != large.get("size"):
            raise SnapshotError(f"chunks of the body of {document.get('_id')!r} are missing; restore a backup")
        return data

    async def blob(self, document: Mapping[str, Any], digest: str) -> bytes | None:
        """A blob that stands in chunks, of a document loaded with what is fresh in it."""
        named = {each["put"] for each in document.get("fresh", ()) if each["digest"] == digest}
        counts = {"$or": [{"ahead": {"$exists": False}}, {"put": {"$in": list(named)}}]}
        found = await self._pieces({"life": life_of(document), "name": blob_name(digest), **counts})
        return next(iter(found.values()), None)

    async def event(self, life: ObjectId, name: str, put: ObjectId) -> bytes:
        """An event that stands in chunks."""
        found = await self._pieces({"life": life, "name": name, "put": put})
        if put not in found:
            raise SnapshotError(f"chunks of an event ({name}) are missing; restore a backup")
        return found[put]

    async def digests(self, lives: Sequence[ObjectId]) -> dict[ObjectId, set[str]]:
        """The digests of the blobs that each of these lives has in chunks for good."""
        found: dict[ObjectId, set[str]] = {life: set() for life in lives}
        first, behind = blob_name(""), blob_name("")[:-1] + "!"
        wanted = {"life": {"$in": list(lives)}, "name": {"$gte": first, "$lt": behind}, **_FIRST}
        for row in await self.chunks.find(wanted, {"life": 1, "name": 1}).to_list(None):
            found[row["life"]].add(row["name"].removeprefix(first))
        return found

    async def known(self, life: ObjectId, digests: Iterable[str]) -> frozenset[str]:
        """Those of these digests that this life has in chunks for good."""
        names = {blob_name(digest): digest for digest in digests}
        if not names:
            return frozenset()
        wanted = {"life": life, "name": {"$in": list(names)}, **_FIRST}
        return frozenset(names[row["name"]] for row in await self.chunks.find(wanted, {"name": 1}).to_list(None))

    async def _pieces(self, where: Document) -> dict[ObjectId, bytes]:
        """Whole pieces by their put."""
        rows = await self.chunks.find(where).sort([("put", 1), ("n", 1)]).to_list(None)
        found = {}
        for put, group in groupby(rows, key=lambda row: row["put"]):
            parts = list(group)
            if len(parts) == parts[0]["of"]:
                found[put] = b"".join(row["data"] for row in parts)
        return found
