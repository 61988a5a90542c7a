"""The collections of a store: their names, indexes, version, and what is asked of a place before it is used.

``ga_record`` holds the documents of records, ``ga_event`` and ``ga_chunk`` what does not ride in them, ``ga_meta`` the
version of this layout and the clock. Indexes are partial, so a document costs only those that it is found by, and each
of them begins with kind and tenant and ends with the id: every page of a list is one stretch of one index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bson.codec_options import DEFAULT_CODEC_OPTIONS
from pymongo import ASCENDING, IndexModel, ReadPreference, WriteConcern
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from governor_agents.core.ports import INDEX_FIELDS
from governor_agents.errors import StoreError, StoreTooNew
from governor_agents.stores.mongodb.clock import CLOCK
from governor_agents.stores.mongodb.documents import Document
from governor_agents.stores.mongodb.place import Place

VERSION: Final = 1
"""The layout that this version of governor-agents writes."""

LOOK_LIMIT: Final = 10_000
"""Milliseconds that a look at what stands may wait for a majority."""

KEPT_GONE: Final = 7 * 24 * 3600
"""Seconds after which the server itself removes a document whose deletion nobody finished."""

SELECTIVE: Final = ("conversation", "changed", "requester", "pending", "agent", "state")
"""Index fields, the one that usually leaves the fewest records first."""


@dataclass(frozen=True, slots=True)
class Collections:
    """The four collections, with majority writes and reads from the primary whatever URL or client say."""

    record: Any
    firm: Any
    """``record``, read so that what was seen cannot be taken back: what a lost compare-and-set looks at."""
    event: Any
    chunk: Any
    meta: Any

    @classmethod
    def of(cls, client: Any, place: Place, *, replicated: bool) -> Collections:
        """The collections of a place."""
        w, journal = place.concern if place.unsafe else ("majority", True)
        concern = WriteConcern(w, j=journal, wtimeout=place.wtimeout if w == "majority" else None)
        database = client.get_database(place.database)

        def collection(name: str, level: str = "majority") -> Any:
            return database.get_collection(
                f"{place.prefix}_{name}",
                codec_options=DEFAULT_CODEC_OPTIONS,
                read_preference=ReadPreference.PRIMARY,
                write_concern=concern,
                read_concern=ReadConcern(level),
            )

        firm = collection("record", "linearizable" if replicated else "majority")
        return cls(collection("record"), firm, collection("event"), collection("chunk"), collection("meta"))

    async def stands(self, where: Document, shown: Document) -> Document | None:
        """A document as it stands, seen so that nothing can take it back."""
        found: Document | None = await self.firm.find_one(where, shown, max_time_ms=LOOK_LIMIT)
        return found


def _index(name: str, *fields: str, **options: Any) -> IndexModel:
    return IndexModel([(field, ASCENDING) for field in fields], name=name, **options)


def _where(field: str) -> Document:
    return {"partialFilterExpression": {field: {"$exists": True}}}


RECORD_INDEXES: Final = [
    _index("id", "kind", "tenant", "id"),
    _index("due", "kind", "tenant", "due", "id", **_where("due")),
    *(
        _index(field, "kind", "tenant", f"index.{field}", "id", **_where(f"index.{field}"))
        for field in sorted(INDEX_FIELDS)
    ),
    _index("gone", "gone", expireAfterSeconds=KEPT_GONE, **_where("gone")),
]
EVENT_INDEXES: Final = [_index("life", "life", "seq"), _index("ahead", "put", **_where("ahead"))]
CHUNK_INDEXES: Final = [_index("life", "life", "name", "put", "n"), _index("ahead", "put", **_where("ahead"))]


async def prepare(collections: Collections, place: Place) -> None:
    """Refuse a place that is another's or newer, then make what is missing. Any number of processes may race here.

    Raises `StoreError`, `StoreTooNew`.
    """
    await _refuse_foreign(collections, place)
    await _version(collections, place)
    await collections.record.create_indexes(RECORD_INDEXES)
    await collections.event.create_indexes(EVENT_INDEXES)
    await collections.chunk.create_indexes(CHUNK_INDEXES)


async def _refuse_foreign(collections: Collections, place: Place) -> None:
    database = collections.record.database
    names = [each.name for each in (collections.record, collections.event, collections.chunk, collections.meta)]
    listed = await database.command({"listCollections": 1, "filter": {"name": {"$in": names}}})
    for found in listed["cursor"]["firstBatch"]:
        if why := _foreign(found):
            raise StoreError(f"{place.shown}: {found['name']} {why}; name other collections with ?collection=NAME")
    if await collections.meta.find_one({"_id": "schema"}) is None:
        other = await collections.record.find_one({}, {"_id": 1})
        # Looked at again: another process may have begun between the two.
        if other is not None and await collections.meta.find_one({"_id": "schema"}) is None:
            raise StoreError(
                f"{place.shown}: {collections.record.name} holds documents that governor-agents did not write; name "
                "other collections with ?collection=NAME"
            )


def _foreign(found: Mapping[str, Any]) -> str:
    options = found.get("options", {})
    if found.get("type", "collection") != "collection":
        return f"is a {found['type']}"
    if "collation" in options:
        return "has a collation, under which different ids are equal"
    if options.get("capped"):
        return "is capped, and forgets records"
    return ""


async def _version(collections: Collections, place: Place) -> None:
    try:
        await collections.meta.update_one({"_id": "schema"}, {"$setOnInsert": {"version": VERSION}}, upsert=True)
        await collections.meta.update_one({"_id": CLOCK}, {"$setOnInsert": {"floor": 0.0, "writes": 0}}, upsert=True)
    except DuplicateKeyError:  # raced by another process that opens the store
        return await _version(collections, place)
    schema = await collections.meta.find_one({"_id": "schema"})
    version = (schema or {}).get("version")
    if not isinstance(version, (int, float)):
        raise StoreError(
            f"{place.shown}: the document 'schema' in {collections.meta.name} holds no version; restore it"
        )
    if version > VERSION:
        raise StoreTooNew(
            f"{place.shown}: layout {version} is newer than {VERSION}, the newest that this governor-agents knows; "
            "upgrade it, or name another store"
        )
    return None
