"""Records as documents: what rides, what goes ahead, which names meet, and what a document is refused for."""

import itertools
from typing import Any

import pytest
from bson import Int64, ObjectId

from governor_agents.core.codec import was_refused
from governor_agents.core.ports import Blob, Record, StoredEvent
from governor_agents.errors import SnapshotError, StoreError
from governor_agents.stores.mongodb import documents
from governor_agents.stores.mongodb.chunks import CHUNK, rows_of
from governor_agents.stores.mongodb.documents import LARGE, RIDE_TOGETHER, RIDES, Parts, Piece

PUT, LIFE = ObjectId(), ObjectId()


def apart(record: Record, events: Any = (), blobs: Any = (), known: frozenset[str] = frozenset()) -> Parts:
    return documents.taken_apart(record, events, blobs, PUT, known)


def run(body: bytes = b"body", **rest: Any) -> Record:
    return Record("run", "t", "r", body=body, **rest)


def test_keys_of_different_names_differ() -> None:
    """Wherever a tenant ends and an id begins, and whatever characters stand in them."""
    names = ["a", "a/", "/a", "a/b", "b", "%2F", "%", "%25", "a%2Fb", "\x00", "run", "ü"]
    keys = {documents.key(kind, tenant, id) for kind, tenant, id in itertools.product(("run", "thread"), names, names)}
    assert len(keys) == 2 * len(names) ** 2


def test_small_writes_ride_whole() -> None:
    """Body, events and blobs of an ordinary write are in the document: one write, nothing ahead of it."""
    parts = apart(run(), [StoredEvent(2, b"two"), StoredEvent(1, b"one")], [Blob("d", b"data"), Blob("d", b"data")])
    assert not parts.ahead and parts.content == {"body": b"body"}
    assert [each["seq"] for each in parts.events] == [1, 2]
    assert [(each["digest"], each["data"]) for each in parts.fresh] == [("d", b"data")]


@pytest.mark.parametrize(
    ("body", "events", "blobs"),
    [
        (b"x" * (LARGE + 1), [], []),
        (b"", [], [Blob("d", b"x" * (RIDES + 1))]),
        (b"", [], [Blob(str(at), b"x" * RIDES) for at in range(1 + RIDE_TOGETHER // RIDES)]),
        (b"", [StoredEvent(at + 1, b"x" * RIDES) for at in range(1 + RIDE_TOGETHER // RIDES)], []),
        (b"", [StoredEvent(1, b"x" * (LARGE + 1))], []),
    ],
)
def test_large_writes_go_ahead(body: bytes, events: list[StoredEvent], blobs: list[Blob]) -> None:
    """What does not ride is known before, so that an ordinary write reads nothing; the document stays small."""
    record = run(body)
    parts = apart(record, events, blobs)
    assert parts.ahead and documents.needs_ahead(record, events, blobs)
    riding = [*parts.events, *parts.fresh, parts.content]
    assert sum(len(each.get("body", each.get("data", b""))) for each in riding) <= RIDE_TOGETHER
    names = [piece.name for piece in parts.pieces]
    assert len(set(names)) == len(names)
    named = {entry.get("put") for entry in [*parts.fresh, *parts.moved, parts.content.get("large", {})]}
    assert PUT in named


def test_edges_of_size_ride() -> None:
    """The control: exactly as much as may ride does."""
    events = [StoredEvent(1, b"x" * RIDE_TOGETHER)]
    blobs = [Blob(str(at), b"x" * RIDES) for at in range(RIDE_TOGETHER // RIDES)]
    record = run(b"x" * LARGE)
    assert not documents.needs_ahead(record, events, blobs) and not apart(record, events, blobs).ahead


def test_known_blobs_are_not_written_again() -> None:
    """A record that owns a digest already is not given it a second time."""
    parts = apart(run(), (), [Blob("old", b"x" * RIDES * 2), Blob("new", b"y")], frozenset({"old"}))
    assert [each["digest"] for each in parts.fresh] == ["new"] and not parts.pieces


def test_chunks_hold_pieces_whole_and_stay_small() -> None:
    """Each chunk is at most a megabyte, also at the edges; an empty piece is one chunk."""
    for size in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK):
        data = bytes(size % 251 for _ in range(1)) * size
        rows = list(rows_of([Piece("a", data), Piece("b", b"x")], PUT, LIFE, "run/t/r"))
        first = [row for row in rows if row["name"] == "a"]
        assert b"".join(row["data"] for row in first) == data
        assert all(len(row["data"]) <= CHUNK and row["of"] == len(first) for row in first)
        assert [row["n"] for row in first] == list(range(len(first)))
        assert len({row["_id"] for row in rows}) == len(rows)


def test_spans_join_what_touches() -> None:
    """Numbers and spans become as few spans as possible, in order, and lose none."""
    assert documents.spans([5, 1, 2, 3, 9, 10, 2]) == [
        {"from": 1, "to": 3},
        {"from": 5, "to": 5},
        {"from": 9, "to": 10},
    ]
    assert documents.merged([{"from": 4, "to": 9}, {"from": 1, "to": 3}, {"from": 6, "to": 7}]) == [
        {"from": 1, "to": 9}
    ]
    assert documents.spans([]) == []


@pytest.mark.parametrize("seq", [1, 3, 5, 8])
def test_clashing_events_are_found_where_they_stand(seq: int) -> None:
    """In the document or moved out of it."""
    document = {"events": [{"seq": 8}], "moved": [{"from": 1, "to": 3}, {"from": 5, "to": 5, "put": PUT}]}
    assert documents.clashing(document, [StoredEvent(99, b""), StoredEvent(seq, b"")]) == seq
    assert not documents.clashing(document, [StoredEvent(4, b""), StoredEvent(6, b""), StoredEvent(9, b"")])


def test_counters_are_numbers_in_documents() -> None:
    """So that the server adds; anything that is no plain number stays as bytes."""
    for body in (b"0", b"7", b"-3", b"9007199254740992"):
        assert apart(Record("counter", "t", "c", body=body)).content == {"count": Int64(body)}
    for body in (b"", b"-", b"01", b"+1", b"1.0", b"x", b"-0", b"9" * 30):
        assert apart(Record("counter", "t", "c", body=body)).content == {"body": body}
    assert apart(run(b"7")).content == {"body": b"7"}


def whole() -> dict[str, Any]:
    record = run(b"\x00\xff", index={"state": "s"}, due=1.5)
    return documents.new_document(record, "op", apart(record, [StoredEvent(1, b"e")]), LIFE)


def test_record_comes_back_as_it_went() -> None:
    """A document as it was written is a record again; numbers that a shell rewrote as doubles are the same numbers."""
    assert documents.record_of(whole(), None) == run(b"\x00\xff", index={"state": "s"}, due=1.5, v=1)
    assert documents.record_of(whole() | {"v": 4.0, "due": 3}, None).v == 4


EDITS: list[dict[str, Any]] = [
    {"v": "1"},
    {"v": None},
    {"v": 1.5},
    {"v": 0},
    {"v": True},
    {"v": float("nan")},
    {"due": "soon"},
    {"due": float("inf")},
    {"due": True},
    {"index": None},
    {"index": {"state": 3}},
    {"index": {"$where": "x"}},
    {"kind": "thread"},
    {"tenant": "other"},
    {"id": 7},
    {"body": "text"},
    {"body": None},
    {"_id": "run/t/x"},
]


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_edited_document_is_refused_and_listed_as_such(edit: dict[str, Any]) -> None:
    """One line that names the document; in a list it stands with the reason for a body, so that others go on."""
    document = whole() | edit
    with pytest.raises(SnapshotError) as refused:
        documents.record_of(document, None)
    assert str(document["_id"]) in str(refused.value) and "\n" not in str(refused.value)
    assert was_refused(documents.given(document, None).body)
    assert not was_refused(documents.given(whole(), None).body)


def test_a_write_with_one_event_twice_is_refused() -> None:
    """Events never change, also not within one write."""
    with pytest.raises(StoreError):
        documents.refuse_double(run(), [StoredEvent(1, b"a"), StoredEvent(1, b"a")])
    documents.refuse_double(run(), [StoredEvent(1, b"a"), StoredEvent(2, b"a")])
