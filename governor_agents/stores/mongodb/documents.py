"""Records as documents, and back. Pure: nothing here asks the server.

A document of ``ga_record``::

    _id      KIND/TENANT/ID, with % and / of the tenant quoted     ops     marks of the last op ids
    kind, tenant, id, v, due, index: {state, agent, …}             events  its newest events: {seq, body}
    life     one per insert: events and chunks belong to it        fresh   its newest blobs: {digest, put, data}
    body     bytes; or count (a counter); or large: {put, size}    moved   the events in ga_event: {from, to, put}
    gone     since when it is being deleted                        dropped puts of bodies that were replaced

What is small rides in the document and is written by the compare-and-set itself; `tidying` moves it out before it
becomes much. What is large is written before, under a `put`, and the document names the put (`chunks`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from bson import Int64, ObjectId

from governor_agents.core.codec import refused
from governor_agents.core.ports import INDEX_FIELDS, OPS_KEPT, Blob, Record, StoredEvent
from governor_agents.errors import SnapshotError, StoreError

Document = dict[str, Any]

LARGE: Final = 1_000_000
"""Bytes from which on a body, or one event, is kept in chunks."""

RIDES: Final = 64 * 1024
"""Bytes up to which a blob rides in the document."""

RIDE_TOGETHER: Final = 256 * 1024
"""Bytes of events, and of blobs, that one write may let ride."""

MUCH: Final = 32 * 1024
"""Bytes of one write after which its document is tidied at once."""

TIDIED: Final = 16
"""After how many versions a document is tidied in any case."""

NOW: Final = {"$divide": [{"$toLong": "$$NOW"}, 1000]}
"""The server's clock in epoch seconds, as an expression."""

HERE: Final[Document] = {"gone": {"$exists": False}}
"""The condition for documents that are not being deleted."""


def key(kind: str, tenant: str, id: str) -> str:
    """The ``_id`` of a record's document."""
    return f"{kind}/{tenant.replace('%', '%25').replace('/', '%2F')}/{id}"


def life(document: Mapping[str, Any]) -> ObjectId:
    """What the events and chunks of a document belong to. Raises `SnapshotError`."""
    found = document.get("life")
    if not isinstance(found, ObjectId):
        raise _edited(document.get("_id"), "life is not an ObjectId")
    return found


def ops(document: Mapping[str, Any]) -> Sequence[bytes]:
    """The marks of the ops that a document keeps."""
    found = document.get("ops")
    return found if isinstance(found, list) else ()


def mark(op: str) -> bytes:
    """An op id at fixed length, as documents keep it."""
    return blake2b(op.encode(), digest_size=12).digest()


@dataclass(frozen=True, slots=True)
class Piece:
    """Content that is too large to ride. ``name`` tells it from the others of its record."""

    name: str
    data: bytes = field(repr=False)


BODY: Final = "body"


def blob_name(digest: str) -> str:
    """The name of a blob's piece."""
    return f"blob {digest}"


def event_name(seq: int) -> str:
    """The name of an event's piece."""
    return f"event {seq}"


@dataclass(frozen=True, slots=True)
class Parts:
    """A write taken apart: what rides in the document, and what is written before it under ``put``."""

    put: ObjectId
    content: Document
    events: list[Document]
    fresh: list[Document]
    moved: list[Document]
    pieces: list[Piece]
    rows: list[Document]
    """Events that go ahead; without ``life``, which the writer knows."""

    @property
    def ahead(self) -> bool:
        """True when something must be written before the document."""
        return bool(self.pieces or self.rows)

    @property
    def much(self) -> bool:
        """True when so much of it rides that it is moved out at once."""
        return sum(len(each.get("body", each.get("data", b""))) for each in [*self.events, *self.fresh]) > MUCH


def taken_apart(
    record: Record, events: Sequence[StoredEvent], blobs: Sequence[Blob], put: ObjectId, known: frozenset[str]
) -> Parts:
    """Decide what rides and what goes ahead. ``known`` are digests that the record owns already."""
    pieces: list[Piece] = []
    content = _content(record, put, pieces)
    riding, fresh = 0, []
    for blob in {blob.id: blob for blob in reversed(blobs) if blob.id not in known}.values():
        entry: Document = {"digest": blob.id, "put": put}
        if len(blob.data) <= RIDES and riding + len(blob.data) <= RIDE_TOGETHER:
            riding += len(blob.data)
            entry |= {"put": ObjectId(), "data": blob.data}
        else:
            pieces.append(Piece(blob_name(blob.id), blob.data))
        fresh.append(entry)
    told: list[Document] = [
        {"seq": event.seq, "body": event.body} for event in sorted(events, key=lambda event: event.seq)
    ]
    if sum(len(event.body) for event in events) <= RIDE_TOGETHER:
        return Parts(put, content, told, fresh, [], pieces, [])
    pieces += [Piece(event_name(each["seq"]), each["body"]) for each in told if len(each["body"]) > LARGE]
    rows = [each if len(each["body"]) <= LARGE else {"seq": each["seq"], "large": put} for each in told]
    moved = [{**span, "put": put} for span in spans(each["seq"] for each in told)]
    return Parts(put, content, [], fresh, moved, pieces, rows)


def needs_ahead(record: Record, events: Sequence[StoredEvent], blobs: Sequence[Blob]) -> bool:
    """True when not all of a write can ride."""
    return (
        len(record.body) > LARGE
        or sum(len(event.body) for event in events) > RIDE_TOGETHER
        or sum(len(blob.data) for blob in blobs) > RIDE_TOGETHER
        or any(len(blob.data) > RIDES for blob in blobs)
    )


def _content(record: Record, put: ObjectId, pieces: list[Piece]) -> Document:
    if record.kind == "counter" and _decimal(record.body):
        return {"count": Int64(record.body)}
    if len(record.body) <= LARGE:
        return {"body": record.body}
    pieces.append(Piece(BODY, record.body))
    return {"large": {"put": put, "size": len(record.body)}}


def _decimal(body: bytes) -> bool:
    return len(body) < 19 and body.removeprefix(b"-").isdigit() and str(int(body)).encode() == body


def spans(seqs: Iterable[int]) -> list[Document]:
    """Numbers as spans ``{from, to}``, in order."""
    return merged({"from": seq, "to": seq} for seq in seqs)


def merged(found: Iterable[Mapping[str, int]]) -> list[Document]:
    """Spans, in order, each as long as it can be."""
    whole: list[Document] = []
    for span in sorted(found, key=lambda span: span["from"]):
        if whole and span["from"] <= whole[-1]["to"] + 1:
            whole[-1]["to"] = max(span["to"], whole[-1]["to"])
        else:
            whole.append({"from": span["from"], "to": span["to"]})
    return whole


def new_document(record: Record, op: str, parts: Parts, life: ObjectId) -> Document:
    """The document of a record that is inserted."""
    return {
        "_id": key(record.kind, record.tenant, record.id),
        "kind": record.kind,
        "tenant": record.tenant,
        "id": record.id,
        "v": Int64(record.v or 1),
        "life": life,
        **parts.content,
        **({} if record.due is None else {"due": float(record.due)}),
        "index": dict(record.index),
        "ops": [mark(op)],
        "events": parts.events,
        "fresh": parts.fresh,
        "moved": parts.moved,
    }


def swap_filter(record: Record, op: str, events: Sequence[StoredEvent]) -> Document:
    """The document that this swap may replace: at its version, without this op, without these events."""
    where: Document = {
        "_id": key(record.kind, record.tenant, record.id),
        "v": record.v,
        **HERE,
        "ops": {"$ne": mark(op)},
    }
    if events:
        where["events.seq"] = {"$nin": [event.seq for event in events]}
    apart = [
        {"moved": {"$not": {"$elemMatch": {"from": {"$lte": span["to"]}, "to": {"$gte": span["from"]}}}}}
        for span in spans(event.seq for event in events)
    ]
    return where | (apart[0] if len(apart) == 1 else {"$and": apart} if apart else {})


def swap_update(record: Record, op: str, parts: Parts, not_after: float | None) -> list[Document]:
    """What a swap makes of the document: a new one, in which nothing of the old record shines through.

    The server looks at its clock while it writes: behind ``not_after`` the document stays as it is.
    """
    new: Document = dict.fromkeys(("_id", "kind", "tenant", "id", "life"))
    new = {name: f"${name}" for name in new}
    new |= {"v": Int64(record.v + 1), **{name: {"$literal": value} for name, value in parts.content.items()}}
    new["index"] = {"$literal": dict(record.index)}
    if record.due is not None:
        new["due"] = float(record.due)
    new["ops"] = {"$slice": [_longer("ops", [mark(op)]), -OPS_KEPT]}
    new |= {name: _longer(name, getattr(parts, name)) for name in ("events", "fresh", "moved")}
    replaced = {"$cond": [{"$eq": [{"$type": "$large"}, "object"]}, ["$large.put"], []]}
    new["dropped"] = {"$concatArrays": [{"$ifNull": ["$dropped", []]}, replaced]}
    intime = {"$lte": [NOW, not_after]}
    return [{"$replaceWith": new if not_after is None else {"$cond": [intime, new, "$$ROOT"]}}]


def _longer(name: str, added: Sequence[Any]) -> Any:
    """A list of the document, with these behind it."""
    return {"$concatArrays": [{"$ifNull": [f"${name}", []]}, {"$literal": list(added)}]}


def clashing(document: Mapping[str, Any], events: Sequence[StoredEvent]) -> int:
    """The seq of an event that exists already; 0 when none does."""
    there = {each["seq"] for each in document.get("events", ())}
    for event in events:
        if event.seq in there or any(span["from"] <= event.seq <= span["to"] for span in document.get("moved", ())):
            return event.seq
    return 0


def refuse_double(record: Record, events: Sequence[StoredEvent]) -> None:
    """Raises `StoreError` when one write brings two events with one seq."""
    if len({event.seq for event in events}) < len(events):
        raise exists_already(record)


def exists_already(record: Record) -> StoreError:
    """The error for an event that would be written over."""
    return StoreError(f"{record.kind} {record.id}: an event with this seq exists already; events never change")


def record_of(document: Mapping[str, Any], body: bytes | None) -> Record:
    """The record in a document. ``body`` is its content when that is kept in chunks.

    Raises `SnapshotError` for a document that was not written by this store, or edited since.
    """
    at = document.get("_id")
    due, v, index = document.get("due"), document.get("v"), document.get("index")
    names = tuple(document.get(name) for name in ("kind", "tenant", "id"))
    if not all(isinstance(name, str) for name in names) or key(*map(str, names)) != at:
        raise _edited(at, "kind, tenant and id are not those in its _id")
    if isinstance(v, bool) or not isinstance(v, (int, float)) or not math.isfinite(v) or v != int(v) or v < 1:
        raise _edited(at, "v is not a version")
    if due is not None and (isinstance(due, bool) or not isinstance(due, (int, float)) or not math.isfinite(due)):
        raise _edited(at, "due is not a time")
    if not isinstance(index, Mapping) or not all(
        name in INDEX_FIELDS and isinstance(value, str) for name, value in index.items()
    ):
        raise _edited(at, "index holds what cannot be listed by")
    kind, tenant, id = map(str, names)
    content = _body(document) if body is None else body
    return Record(kind, tenant, id, content, dict(index), None if due is None else float(due), int(v))


def _body(document: Mapping[str, Any]) -> bytes:
    count, body = document.get("count"), document.get("body")
    if "count" in document and isinstance(count, int) and not isinstance(count, bool):
        return str(int(count)).encode()
    if not isinstance(body, bytes):
        raise _edited(document.get("_id"), "body is not bytes")
    return body


def _edited(at: object, what: str) -> SnapshotError:
    return SnapshotError(
        f"the document {at!r} is not as this store writes it: {what}; restore it from a backup, or delete it"
    )


def given(document: Mapping[str, Any], body: bytes | SnapshotError | None) -> Record:
    """Like `record_of`, for lists: what is refused is given with the reason for a body, so that others go on."""
    try:
        if isinstance(body, SnapshotError):
            raise body
        return record_of(document, body)
    except SnapshotError as error:
        names = [document.get(name) for name in ("kind", "tenant", "id")]
        kind, tenant, id = (name if isinstance(name, str) else repr(name) for name in names)
        v, due = document.get("v"), document.get("due")
        return Record(
            kind,
            tenant,
            id,
            body=refused(str(error)),
            due=float(due) if isinstance(due, (int, float)) else None,
            v=int(v) if isinstance(v, (int, float)) and math.isfinite(v) else 0,
        )
