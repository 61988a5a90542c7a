"""The MongoDB store beside what the kit says: sizes, what rides and what is moved, deletions and processes that stopped."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from governor_agents.core.ports import Held, StoredEvent, Swapped
from governor_agents.errors import StoreError, StoreUnavailable
from governor_agents.stores.mongodb import MongoDBStore
from governor_agents.stores.mongodb.documents import TIDIED
from governor_agents.stores.mongodb.store import _Opened
from governor_agents.testing.store_samples import blob, event, gather, ids, index, put, record
from tests.mongodb import Somewhere

MEGABYTE = 2**20
OLD = datetime.now(UTC) - timedelta(days=2)


def inside(store: MongoDBStore) -> _Opened:
    """What the store works with."""
    assert store._open is not None
    return store._open


async def test_forty_megabytes_meet_no_limit(store: MongoDBStore, place: Somewhere) -> None:
    """A body of 40 MB, a blob and an event of 17: all come back whole, no document is much over 1 MB, nothing is left."""
    body, content = bytes(range(256)) * (160 * 1024), blob(b"\x01" * (17 * MEGABYTE))
    events = [event(1), event(2, b"\x02" * (17 * MEGABYTE)), event(3, b"\x03" * (2 * MEGABYTE))]
    assert (await store.insert(record(body=body), op="a", events=events, blobs=[content])).won
    assert place.largest() < 1.5 * MEGABYTE
    loaded = await store.load("run", "t", "r")
    assert loaded is not None and loaded.body == body
    assert await store.blob("run", "t", "r", content.id) == content.data
    assert await store.events("run", "t", "r") == events
    assert not place.count("chunk", ahead={"$exists": True}) and not place.count("event", ahead={"$exists": True})
    before, shorter = place.count("chunk"), body[: 10 * MEGABYTE]
    assert (await store.swap(record(body=shorter, v=1), op="b", blobs=[content])).won
    assert before - place.count("chunk") == 42 - 11, "the replaced body stayed, or the blob was written twice"
    assert [each.body == shorter for each in await store.list("run", "t")] == [True]
    assert await store.delete("run", "t", "r", 2)
    assert [place.count(name) for name in ("record", "event", "chunk")] == [0, 0, 0]


async def test_large_write_that_lost_leaves_nothing(store: MongoDBStore, place: Somewhere) -> None:
    """What went ahead of a write that lost is taken back; that of the winner stays."""
    large = blob(b"\x01" * MEGABYTE)
    await store.insert(record(), op="a", blobs=[large])
    kept = place.count("chunk")
    losers = [
        store.insert(record(body=b"x" * 2 * MEGABYTE), op="b", events=[event(1)], blobs=[blob(b"\x02" * MEGABYTE)]),
        store.swap(record(v=9), op="c", blobs=[blob(b"\x03" * MEGABYTE)]),
        store.swap(record(v=1), op="d", blobs=[blob(b"\x04" * MEGABYTE)], not_after=1.0),
    ]
    answers = await asyncio.gather(*losers)
    assert [answer.won for answer in answers] == [False, False, False] and answers[2].late
    assert place.count("chunk") == kept and await store.blob("run", "t", "r", large.id) == large.data


async def test_raced_large_writes_leave_one(store: MongoDBStore, place: Somewhere) -> None:
    """Of eight writers with a large body each, one wins, and only its chunks are there."""
    await put(store, record())
    answers = await gather(8, lambda n: store.swap(record(v=1, body=bytes([n]) * 2 * MEGABYTE), op=str(n)))
    [winner] = [n for n, answer in enumerate(answers) if answer.won]
    loaded = await store.load("run", "t", "r")
    assert loaded is not None and loaded.body == bytes([winner]) * 2 * MEGABYTE
    assert len(place["chunk"].distinct("put")) == 1


async def test_body_is_read_whole_while_it_is_replaced(store: MongoDBStore) -> None:
    """A reader between the chunks of the old body and those of the new one looks again."""
    await put(store, record(body=b"0" * 2 * MEGABYTE))
    done = asyncio.Event()

    async def reader() -> int:
        reads = 0
        while not done.is_set():
            loaded = await store.load("run", "t", "r")
            assert loaded is not None and len(set(loaded.body)) == 1
            reads += 1
        return reads

    async def writer() -> None:
        for v in range(1, 5):
            await store.swap(record(v=v, body=str(v).encode() * 2 * MEGABYTE), op=str(v))
        done.set()

    assert (await asyncio.gather(reader(), writer()))[0] > 0


async def test_replaced_bodies_go_with_the_next_move(store: MongoDBStore, place: Somewhere) -> None:
    """A large body that a small one replaced, or whose writer died before it removed it, is listed until it is gone."""
    await put(store, record(body=b"0" * 2 * MEGABYTE))
    await store.swap(record(v=1, body=b"small"), op="a")
    await store.swap(record(v=2, body=b"2" * 2 * MEGABYTE), op="b")
    document = place["record"].find_one()
    assert len(document["dropped"]) == 1 and place.count("chunk", put=document["dropped"][0]) == 3
    await inside(store).writing.tidying.tidy("run/t/r")
    assert place["chunk"].distinct("put") == [document["large"]["put"]] and not place["record"].find_one()["dropped"]
    assert await store.load("run", "t", "r") == record(v=3, body=b"2" * 2 * MEGABYTE)


async def written(store: MongoDBStore, versions: int) -> None:
    """A record with an event and a blob at each version."""
    await store.insert(record(), op="1", events=[event(1)], blobs=[blob(b"1")])
    for v in range(1, versions):
        await store.swap(record(v=v), op=str(v + 1), events=[event(v + 1)], blobs=[blob(str(v + 1).encode())])


async def whole(store: MongoDBStore, versions: int) -> bool:
    """Nothing of `written` is missing or double."""
    events = await store.events("run", "t", "r")
    found = [await store.blob("run", "t", "r", blob(str(v).encode()).id) for v in range(1, versions + 1)]
    [held] = await store.scan("run")
    return (
        events == [event(seq) for seq in range(1, versions + 1)]
        and found == [str(v).encode() for v in range(1, versions + 1)]
        and held.blobs == tuple(sorted(blob(str(v).encode()).id for v in range(1, versions + 1)))
    )


async def test_documents_stay_small(store: MongoDBStore, place: Somewhere) -> None:
    """What rides is moved out before it becomes much, and is found where it went."""
    versions = 3 * TIDIED + 2
    await written(store, versions)
    document = place["record"].find_one()
    assert len(document["events"]) == len(document["fresh"]) == 2 and len(document["moved"]) == 1
    assert place.count("event") == place.count("chunk") == 3 * TIDIED
    assert await whole(store, versions)
    assert [each.seq for each in await store.events("run", "t", "r", after=40, limit=9)] == list(range(41, 50))
    with pytest.raises(StoreError):
        await store.swap(record(v=versions), op="forged", events=[event(3, b"forged")])
    assert (await store.load("run", "t", "r")) == record(v=versions)


async def test_moving_may_be_done_by_several_at_once(store: MongoDBStore, place: Somewhere) -> None:
    """Four processes that tidy one document while it is written lose nothing and double nothing."""
    await written(store, 10)
    tidying = inside(store).writing.tidying
    more = [store.swap(record(v=10), op="11", events=[event(11)], blobs=[blob(b"11")])]
    await asyncio.gather(*(tidying.tidy("run/t/r") for _ in range(4)), *more)
    assert await whole(store, 11)
    await tidying.tidy("run/t/r")
    assert await whole(store, 11) and place.count("event") == place.count("chunk") == 11


async def test_moving_that_stopped_is_done_again(store: MongoDBStore, place: Somewhere) -> None:
    """Killed between the copy and its removal from the document: the copy is recognised."""
    await written(store, 5)
    before = place["record"].find_one()
    tidying = inside(store).writing.tidying
    await tidying.tidy("run/t/r")
    place["record"].replace_one({"_id": "run/t/r"}, before)  # as if the last step had not come
    assert await whole(store, 5)
    await tidying.tidy("run/t/r")
    assert await whole(store, 5) and place.count("event") == place.count("chunk") == 5


async def test_moving_beside_a_deletion_leaves_nothing(store: MongoDBStore, place: Somewhere) -> None:
    """A process that was about to move what rides finds the record deleted and made anew: the new one is untouched."""
    await written(store, 5)
    before = place["record"].find_one()
    assert await store.delete("run", "t", "r", 5)
    await store.insert(record(body=b"new"), op="n", events=[event(1, b"new")])
    tidying = inside(store).writing.tidying
    stale = before["life"]
    await place_rows(tidying, before)
    assert await store.events("run", "t", "r") == [event(1, b"new")]
    assert await store.blob("run", "t", "r", blob(b"1").id) is None
    await tidying._clear(stale)
    assert await store.load("run", "t", "r") == record(body=b"new", v=1)


async def place_rows(tidying: Any, document: dict[str, Any]) -> None:
    """The first half of a move."""
    from governor_agents.stores.mongodb.chunks import insert_rows
    from governor_agents.stores.mongodb.tidying import _event_row

    rows = [_event_row(each, document["life"], "run/t/r") for each in document["events"]]
    await insert_rows(tidying.to.event, rows)
    await tidying._settle_blobs(document, "run/t/r")


def gone(place: Somewhere, since: datetime) -> None:
    """A process marked the record as gone and was killed."""
    place["record"].update_one({"_id": "run/t/r"}, {"$set": {"gone": since}, "$unset": {"due": "", "body": ""}})


async def half_deleted(store: MongoDBStore, place: Somewhere, since: datetime) -> None:
    await store.insert(
        record(due=1.0, index=index(state="s")),
        op="a",
        events=[event(1, b"old")],
        blobs=[blob(b"\x01" * MEGABYTE), blob(b"small")],
    )
    await inside(store).writing.tidying.tidy("run/t/r")
    gone(place, since)


async def test_half_deleted_record_is_not_there(store: MongoDBStore, place: Somewhere) -> None:
    """Not for any way of looking, and deleting it again ends what was begun."""
    await half_deleted(store, place, datetime.now(UTC))
    assert await store.load("run", "t", "r") is None
    assert (
        await store.due("run", "t")
        == await store.list("run", "t")
        == await store.list("run", "t", {"state": "s"})
        == []
    )
    assert await store.scan("run") == [] and await store.events("run", "t", "r") == []
    assert await store.blob("run", "t", "r", blob(b"small").id) is None
    assert await store.swap(record(v=1), op="b") == Swapped(won=False)
    assert place.count("chunk") and place.count("event")
    assert await store.delete("run", "t", "r", 1) is True
    assert [place.count(name) for name in ("record", "event", "chunk")] == [0, 0, 0]


@pytest.mark.parametrize("large", [False, True])
async def test_insert_over_a_half_deleted_record_ends_it_first(
    store: MongoDBStore, place: Somewhere, large: bool
) -> None:
    """The new record owns nothing of the old one, and nobody else's deletion reaches it."""
    await half_deleted(store, place, datetime.now(UTC))
    old = place["record"].find_one()["life"]
    body = b"new" * MEGABYTE if large else b"new"
    assert await store.insert(record(body=body), op="b", events=[event(1)]) == Swapped(won=True, v=1)
    await inside(store).writing.tidying.finish("run/t/r", old)  # the first process wakes up and goes on
    assert await store.load("run", "t", "r") == record(body=body, v=1)
    assert await store.scan("run") == [Held(record(body=body, v=1), ())]
    assert await store.events("run", "t", "r") == [event(1)]
    assert not place.count("chunk", life=old) and not place.count("event", life=old)


async def test_counter_over_a_half_deleted_one_begins_at_nothing(store: MongoDBStore, place: Somewhere) -> None:
    """Counters are records as well."""
    await store.add_below("t", "c", 9, 10, op="a")
    place["record"].update_one({}, {"$set": {"gone": datetime.now(UTC)}})
    assert await store.add_below("t", "c", 9, 10, op="b") == 9


async def test_open_ends_what_dead_processes_left(store: MongoDBStore, place: Somewhere) -> None:
    """Deletions and content whose write never came, a day later; what is young, and what a record names, stays."""
    await half_deleted(store, place, OLD)
    large = blob(b"\x02" * MEGABYTE)
    await store.insert(record("kept"), op="a", blobs=[large])
    stale = ObjectId.from_datetime(OLD)
    for put_id in (stale, ObjectId()):
        about = {"life": ObjectId(), "record": "run/t/never", "put": put_id, "ahead": True}
        place["chunk"].insert_one({"_id": f"{put_id}/0", "name": "body", "n": 0, "of": 1, "data": b"x", **about})
        place["event"].insert_one({"_id": f"{put_id}/1", "seq": 1, "body": b"x", **about})
    named = place["record"].find_one({"_id": "run/t/kept"})["fresh"][0]["put"]
    as_old = ObjectId.from_datetime(OLD - timedelta(seconds=5))
    place["chunk"].update_many({"put": named}, {"$set": {"put": as_old, "ahead": True}})
    place["record"].update_one({"_id": "run/t/kept"}, {"$set": {"fresh.0.put": as_old}})
    other = MongoDBStore(place.url)
    await other.open()
    assert ids(await other.list("run", "t")) == ["kept"] and place.count("record") == 1
    assert await other.blob("run", "t", "kept", large.id) == large.data
    assert [place.count("chunk", ahead={"$exists": True}), place.count("event", ahead={"$exists": True})] == [1, 1]
    assert not place.count("chunk", put=stale) and not place.count("event", put=stale)
    await other.close()


@pytest.mark.parametrize("name", ["life", "events", "fresh", "moved"])
async def test_sweeping_leaves_what_an_edited_document_may_name(
    store: MongoDBStore, place: Somewhere, name: str
) -> None:
    """Somebody took a field out by hand: the store opens, its neighbours are moved on, and nothing of that record is removed."""
    await store.insert(record(), op="a", blobs=[blob(b"\x02" * MEGABYTE)])
    stale = ObjectId.from_datetime(OLD)
    place["chunk"].update_many({}, {"$set": {"put": stale, "ahead": True}})
    place["record"].update_one({"_id": "run/t/r"}, {"$unset": {name: ""}})
    other = MongoDBStore(place.url)
    await other.open()
    assert place.count("chunk", put=stale) and place.count("record") == 1
    await inside(other).writing.tidying.tidy("run/t/r")
    assert (await other.insert(record("beside"), op="b")).won
    await other.close()


async def test_who_stays_open_ends_what_others_left(store: MongoDBStore, place: Somewhere) -> None:
    """Once a day, with a deletion: a worker that is never started anew leaves nothing to a TTL index, which knows no chunks."""
    await half_deleted(store, place, OLD)
    for id in ("first", "second"):
        await store.insert(record(id), op="a")
    assert await store.delete("run", "t", "first", 1) and place.count("chunk")
    inside(store).clock._day -= 24 * 3600
    assert await store.delete("run", "t", "second", 1)
    assert [place.count(name) for name in ("record", "event", "chunk")] == [0, 0, 0]


@pytest.mark.parametrize("swap", [False, True])
async def test_a_large_write_that_was_suspended_is_begun_anew(store: MongoDBStore, swap: bool) -> None:
    """By the store's clock it took two hours: what went ahead may be swept before the document comes, so it does not come."""
    if swap:
        await put(store, record())
    write, given = (
        (store.swap, record(v=1, body=b"b" * 2 * MEGABYTE))
        if swap
        else (store.insert, record(body=b"b" * 2 * MEGABYTE))
    )
    clock, hours = inside(store).clock, iter((0, 2))
    now, read = await clock.read(), clock.read

    async def later() -> float:
        return now + 3600.0 * next(hours)

    clock.read = later  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="more than an hour; try again"):
        await write(given, op="b")
    clock.read = read  # type: ignore[method-assign]
    assert await store.load("run", "t", "r") == (record(v=1) if swap else None)
    assert (await write(given, op="b")).won


async def test_an_unconfirmed_large_write_counts(store: MongoDBStore, place: Somewhere) -> None:
    """A process died right after its compare-and-set: what went ahead counts, since the document names it."""
    body, large, events = b"b" * 2 * MEGABYTE, blob(b"\x01" * MEGABYTE), [event(n, b"e" * 200_000) for n in (1, 2)]
    await store.insert(record(body=body), op="a", events=events, blobs=[large])
    for name in ("chunk", "event"):
        place[name].update_many({}, {"$set": {"ahead": True}})
    assert await store.load("run", "t", "r") == record(body=body, v=1)
    assert await store.blob("run", "t", "r", large.id) == large.data
    assert await store.events("run", "t", "r") == events
    assert (await store.scan("run"))[0].blobs == (large.id,)
    assert await store.insert(record(body=body), op="a", events=events, blobs=[large]) == Swapped(won=True, v=1)


async def test_what_went_ahead_of_no_write_is_not_there(store: MongoDBStore, place: Somewhere) -> None:
    """The control: content that no document names is nobody's."""
    await put(store, record())
    life, lost = place["record"].find_one()["life"], ObjectId()
    about = {"life": life, "record": "run/t/r", "put": lost, "ahead": True}
    place["chunk"].insert_one({"_id": f"{lost}/0", "name": "blob d", "n": 0, "of": 1, "data": b"x", **about})
    place["event"].insert_one({"_id": f"{life}/1/{lost}", "seq": 1, "body": b"x", **about})
    assert await store.blob("run", "t", "r", "d") is None and await store.events("run", "t", "r") == []
    assert (await store.scan("run"))[0].blobs == ()
    assert (await store.swap(record(v=1), op="a", events=[StoredEvent(1, b"true")])).won
    assert await store.events("run", "t", "r") == [StoredEvent(1, b"true")]
