"""Moving what rides in a document to where it stays, finishing deletions, sweeping up after processes that died.

Each step may be done twice, by any number of processes, and may stop anywhere: a document lists what rides in it until
the copy elsewhere is durable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bson import ObjectId

from governor_agents.stores.mongodb.chunks import Chunks, insert_rows
from governor_agents.stores.mongodb.documents import BODY, HERE, Document, blob_name, merged, spans
from governor_agents.stores.mongodb.schema import Collections

STALE: Final = 24 * 3600
"""Seconds after which chunks that no record names, or a deletion that did not end, belong to a process that died."""

SWEPT_AT_ONCE: Final = 200
"""How many leftovers one sweep looks at."""


@dataclass(frozen=True, slots=True)
class Tidying:
    """Keeps documents small and the collections free of leftovers."""

    to: Collections
    chunks: Chunks

    async def tidy(self, key: str) -> None:
        """Move the events and blobs that ride in a document out of it."""
        document = await self.to.record.find_one({"_id": key, **HERE}, _RIDING)
        if document is None or not _ours(document):
            return
        life, moved = document["life"], document["moved"]
        events = [each for each in document["events"] if "seq" in each]
        await insert_rows(self.to.event, [_event_row(each, life, key) for each in events])
        await self._settle_blobs(document, key)
        if dropped := document.get("dropped"):
            await self.to.chunk.delete_many({"life": life, "name": BODY, "put": {"$in": dropped}})
        still = {"_id": key, "life": life, "moved": moved, **HERE, **_first(events, document["fresh"])}
        done = await self.to.record.update_one(still, _moved_out(document, events))
        if done.matched_count:
            return
        if await self.to.stands({"_id": key, "life": life, **HERE}, {"_id": 1}) is None:
            await self._clear(life)  # it was deleted meanwhile: what was just written would stay for ever

    async def _settle_blobs(self, document: Mapping[str, Any], key: str) -> None:
        life, fresh = document["life"], document["fresh"]
        riding = {each["digest"]: each for each in fresh if "data" in each}
        known = await self.chunks.known(life, riding)
        new = [_chunk_row(each, life, key) for digest, each in riding.items() if digest not in known]
        await insert_rows(self.to.chunk, new)
        puts = [each["put"] for each in fresh if "data" not in each]
        puts += [span["put"] for span in document["moved"] if "put" in span]
        if puts:
            for collection in (self.to.chunk, self.to.event):
                where = {"life": life, "put": {"$in": puts}, "ahead": {"$exists": True}}
                await collection.update_many(where, {"$unset": {"ahead": ""}})

    async def finish(self, key: str, life: ObjectId) -> None:
        """Remove all that belongs to a document that is being deleted, then the document."""
        await self._clear(life)
        await self.to.record.delete_one({"_id": key, "life": life, "gone": {"$exists": True}})

    async def _clear(self, life: ObjectId) -> None:
        await self.to.chunk.delete_many({"life": life})
        await self.to.event.delete_many({"life": life})

    async def sweep(self, now: float) -> int:
        """Finish what processes left that died a day ago: deletions, and content whose write never came. How many."""
        before = datetime.fromtimestamp(now - STALE, UTC)
        half = self.to.record.find({"gone": {"$lt": before}}, {"life": 1}).hint("gone").limit(SWEPT_AT_ONCE)
        leftovers = 0
        for document in await half.to_list(None):
            if isinstance(life := document.get("life"), ObjectId):
                await self.finish(document["_id"], life)
                leftovers += 1
        return leftovers + await self._sweep_puts(ObjectId.from_datetime(before))

    async def _sweep_puts(self, before: ObjectId) -> int:
        ahead = {"put": {"$lt": before}, "ahead": {"$exists": True}}
        found: dict[ObjectId, tuple[ObjectId, str]] = {}
        for collection in (self.to.chunk, self.to.event):
            rows = collection.find(ahead, {"life": 1, "put": 1, "record": 1}).hint("ahead").limit(SWEPT_AT_ONCE)
            found |= {row["put"]: (row["life"], row["record"]) for row in await rows.to_list(None)}
        for put, (life, record) in found.items():
            document = await self.to.stands({"_id": record}, _RIDING)
            if document is not None and not _ours(document):
                continue  # what it names can no longer be told, so nothing of it is swept
            named = document is not None and document["life"] == life and put in _puts(document)
            for collection in (self.to.chunk, self.to.event):
                where = {"life": life, "put": put}
                if named:
                    await collection.update_many(where, {"$unset": {"ahead": ""}})
                else:
                    await collection.delete_many(where)
        return len(found)


_RIDING: Final[Document] = dict.fromkeys(("life", "events", "fresh", "moved", "dropped", "large"), 1)


def _ours(document: Mapping[str, Any]) -> bool:
    """False for a document that somebody edited so that it does not tell what rides in it; it is left as it is."""
    lists = [document.get(name) for name in ("events", "fresh", "moved")]
    told = all(isinstance(each, list) and all(isinstance(entry, Mapping) for entry in each) for each in lists)
    return isinstance(document.get("life"), ObjectId) and told


def _puts(document: Mapping[str, Any]) -> set[ObjectId]:
    """Which puts a document names."""
    entries = [*document.get("fresh", ()), *document.get("moved", ()), document.get("large") or {}]
    return {each["put"] for each in entries if "put" in each}


def _event_row(event: Mapping[str, Any], life: ObjectId, key: str) -> Document:
    return {"_id": f"{life}/{event['seq']}", "life": life, "record": key, **event}


def _chunk_row(fresh: Mapping[str, Any], life: ObjectId, key: str) -> Document:
    about = {"name": blob_name(fresh["digest"]), "put": fresh["put"], "n": 0, "of": 1, "data": fresh["data"]}
    return {"_id": f"{fresh['put']}/0", "life": life, "record": key, **about}


def _first(events: list[Document], fresh: list[Document]) -> Document:
    """The condition that nobody else moved them: who moves takes the oldest along."""
    condition: Document = {}
    if events:
        condition["events.seq"] = events[0]["seq"]
    if fresh:
        condition["fresh.put"] = fresh[0]["put"]
    return condition


def _moved_out(document: Mapping[str, Any], events: list[Document]) -> Document:
    """The update that takes moved entries out of a document."""
    seqs, moved = [each["seq"] for each in events], document["moved"]
    stood = [span for span in moved if "put" not in span]
    return {
        "$set": {"moved": [*merged([*stood, *spans(seqs)]), *(span for span in moved if "put" in span)]},
        "$pull": {
            "events": {"seq": {"$in": seqs}},
            "fresh": {"put": {"$in": [each["put"] for each in document["fresh"]]}},
            "dropped": {"$in": document.get("dropped", [])},
        },
    }
