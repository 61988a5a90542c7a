"""What the MongoDB store refuses, what it says, and what it leaves as it is; time; loops, forks and a server alone."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from governor_agents.core.codec import was_refused
from governor_agents.errors import ClockError, SnapshotError, StoreError, StoreTooNew, StoreUnavailable, UnsafeStore
from governor_agents.stores.mongodb import MongoDBStore, clock, documents
from governor_agents.stores.mongodb.schema import _foreign
from governor_agents.testing.store_samples import event, ids, index, put, record
from tests.mongodb import Somewhere
from tests.servers import MongoServer

SHORT = "serverSelectionTimeoutMS=2000&connectTimeoutMS=2000"


async def refused(url: str, kind: type[StoreError]) -> str:
    """Why a store cannot be opened: one line, without the password."""
    store = MongoDBStore(url)
    with pytest.raises(kind) as raised:
        await store.open()
    text = str(raised.value)
    assert type(raised.value) is kind and "\n" not in text and "sesame" not in text and len(text) < 500
    return text


def lift(place: Somewhere, floor: Any) -> None:
    """Raise the floor under the store's time, as a write at that time would have."""
    place["meta"].update_one({"_id": "clock"}, {"$set": {"floor": floor}})


async def test_time_stands_at_the_floor(store: MongoDBStore, place: Somewhere) -> None:
    """A server whose clock is behind what was told before takes nothing back: not now, not what is due, not a deadline."""
    await put(store, record(due=await store.now() + 50))
    assert await store.due("run", "t") == []
    floor = await store.now() + 100
    lift(place, floor)
    assert await store.now() == await store.now() == floor
    assert ids(await store.due("run", "t")) == ["r"]
    late = await store.swap(record(v=1), op="a", not_after=floor - 1)
    assert late.late and late.current is not None and late.current.v == 1
    assert (await store.swap(record(v=1), op="a", not_after=floor)).won


@pytest.mark.parametrize("broken", [False, True])
async def test_deadline_is_compared_inside_the_write(
    store: MongoDBStore, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """A deadline that passes between the look at the time and the write is late; without the server's look it would win."""

    async def long_ago(self: clock.Clock) -> float:
        return 1.0

    sound = documents.swap_update
    if broken:  # the control
        monkeypatch.setattr(
            documents, "swap_update", lambda record, op, parts, not_after: sound(record, op, parts, None)
        )
    await put(store, record())
    deadline = await store.now() - 1
    monkeypatch.setattr(clock.Clock, "read", long_ago)
    answer = await store.swap(record(v=1), op="a", not_after=deadline)
    assert (answer.won, answer.late) == (broken, not broken)


async def test_writes_keep_the_time(store: MongoDBStore, place: Somewhere) -> None:
    """The first write raises the floor; one that came too late raises it at once."""
    lift(place, 0.0)
    before = await store.now()
    await put(store, record())
    assert place["meta"].find_one({"_id": "clock"})["floor"] >= before
    lift(place, 0.0)
    assert (await store.swap(record(v=1), op="a", not_after=before - 1)).late
    assert place["meta"].find_one({"_id": "clock"})["floor"] >= before


async def test_now_of_one_object_never_goes_back(store: MongoDBStore, place: Somewhere) -> None:
    """Even when somebody takes the floor down by hand."""
    lift(place, await store.now() + 100)
    told = await store.now()
    lift(place, 0.0)
    assert await store.now() == told


@pytest.mark.parametrize("floor", ["noon", float("inf"), [1], True])
async def test_a_clock_that_says_no_time_is_refused(store: MongoDBStore, place: Somewhere, floor: Any) -> None:
    """By a time that is none nothing would ever expire."""
    await put(store, record(due=1.0))
    lift(place, floor)
    with pytest.raises(ClockError):
        await store.due("run", "t")


@pytest.mark.parametrize("floor", [float("nan"), None, -1.0])
async def test_a_floor_below_everything_is_none(store: MongoDBStore, place: Somewhere, floor: Any) -> None:
    """The control: then the server's clock alone counts."""
    lift(place, floor)
    assert await store.now() > 1e9


async def test_a_lost_clock_is_told(store: MongoDBStore, place: Somewhere) -> None:
    """Without its document there is no time, and a store that is opened again makes it anew."""
    place["meta"].delete_one({"_id": "clock"})
    with pytest.raises(StoreError, match="clock"):
        await store.now()
    await store.close()
    await store.open()
    assert await store.now() > 1e9


async def test_server_without_time_inside_of_writes_is_refused(
    place: Somewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, a decision that comes too late would win; no option allows it."""
    monkeypatch.setattr(clock, "NOW", {"$literal": 0.5})
    assert "$$NOW" in await refused(place.url + "&unsafe=allow", UnsafeStore)


async def test_newer_layout_is_refused_and_left(store: MongoDBStore, place: Somewhere) -> None:
    """What a newer version wrote is not touched."""
    await put(store, record())
    place["meta"].update_one({"_id": "schema"}, {"$set": {"version": 2}})
    before = list(place["record"].find()), list(place["meta"].find())
    assert "upgrade" in await refused(place.url, StoreTooNew)
    assert (list(place["record"].find()), list(place["meta"].find())) == before
    place["meta"].update_one({"_id": "schema"}, {"$set": {"version": "x"}})
    assert "schema" in await refused(place.url, StoreError)


async def test_collection_of_somebody_else_is_refused_and_left(place: Somewhere) -> None:
    """Documents that are not ours stay as they are; another prefix works beside them."""
    place["record"].insert_one({"_id": 1, "mine": True})
    assert "collection=" in await refused(place.url, StoreError)
    assert place.database.list_collection_names() == ["ga_record"] and place.count("record") == 1
    assert place["record"].index_information().keys() == {"_id_"}
    beside = MongoDBStore(place.url + "&collection=other")
    await beside.open()
    await put(beside, record())
    assert place.count("record") == 1 and place.database["other_record"].count_documents({}) == 1
    await beside.close()


def test_collections_that_would_lie_are_foreign() -> None:
    """Views, collations (under which two ids are one), capped collections."""
    assert "view" in _foreign({"name": "x", "type": "view"})
    assert "collation" in _foreign({"name": "x", "type": "collection", "options": {"collation": {"locale": "de"}}})
    assert "capped" in _foreign({"name": "x", "type": "collection", "options": {"capped": True}})
    assert _foreign({"name": "x", "type": "collection", "options": {}}) == ""


@pytest.mark.parametrize(
    "edit",
    [
        {"v": "one"},
        {"index": [1]},
        {"body": "text"},
        {"tenant": "other"},
        {"large": {"put": 3, "size": 9}},
        {"large": 1},
    ],
    ids=str,
)
async def test_document_edited_by_hand_is_told_and_left(store: MongoDBStore, place: Somewhere, edit: Any) -> None:
    """Reading it raises one line, a list goes on beside it, and no write of ours touches it."""
    await put(store, record("a"), record("r", due=1.0, index=index(state="s")), record("z"))
    place["record"].update_one({"_id": "run/t/r"}, {"$set": edit})
    edited = place["record"].find_one({"_id": "run/t/r"})
    with pytest.raises(SnapshotError) as raised:
        await store.load("run", "t", "r")
    assert "run/t/r" in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(SnapshotError):
        await store.swap(record(v=7), op="a")
    with pytest.raises(SnapshotError):
        await store.insert(record(), op="a")
    listed = {each.id: was_refused(each.body) for each in await store.list("run", "t")}
    assert listed["a"] is listed["z"] is False and listed.get("r", True) is True
    assert place["record"].find_one({"_id": "run/t/r"}) == edited


async def test_edited_lists_in_a_document_stop_no_other(store: MongoDBStore, place: Somewhere) -> None:
    """Events or ops that are no lists: a typed error for this record, nothing for its neighbours."""
    await put(store, record("r"), record("z"))
    place["record"].update_one({"_id": "run/t/r"}, {"$set": {"ops": "x"}})
    with pytest.raises(StoreError):
        await store.swap(record(v=1), op="a", events=[event(1)])
    assert (await store.swap(record("z", v=1), op="a", events=[event(1)])).won


async def test_missing_chunks_are_told(store: MongoDBStore, place: Somewhere) -> None:
    """A body of which a part was lost is not given as if it were whole."""
    await put(store, record(body=b"x" * 3_000_000), record("z"))
    place["chunk"].delete_one({"n": 1})
    with pytest.raises(SnapshotError, match="missing"):
        await store.load("run", "t", "r")
    assert [was_refused(each.body) for each in await store.list("run", "t")] == [True, False]


async def test_unsafe_options_may_be_allowed(place: Somewhere) -> None:
    """Then the store opens and works, and goes on saying what is wrong."""
    url = re.sub(r"[?&]w=[^&]*", "", place.url)
    store = MongoDBStore(url + "&w=1&j=false&unsafe=allow")
    await store.open()
    lines = await store.check()
    assert len(lines) == 2 and "w=majority" in lines[0] and "j=true" in lines[1]
    await put(store, record())
    assert await store.load("run", "t", "r") == record(v=1)
    await store.close()


async def test_indexes_are_there_once(store: MongoDBStore, place: Somewhere) -> None:
    """One for each way of looking, partial where a document need not have the field; opening again makes no more."""
    await store.close()
    await store.open()
    found = place["record"].index_information()
    fields = {"agent", "changed", "conversation", "pending", "requester", "state"}
    assert found.keys() == {"_id_", "id", "due", "gone"} | fields
    for name in fields:
        assert [field for field, _ in found[name]["key"]] == ["kind", "tenant", f"index.{name}", "id"]
        assert found[name]["partialFilterExpression"] == {f"index.{name}": {"$exists": True}}
    assert found["gone"]["expireAfterSeconds"] == 7 * 24 * 3600
    await put(store, record(due=1.0))
    assert "gone" not in place["record"].find_one(), "what waits must never be what the server removes by itself"


async def test_store_of_another_loop_says_so(place: Somewhere) -> None:
    """A client lives on one event loop; used on another it would hang."""
    store = MongoDBStore(place.url)
    await store.open()

    def elsewhere() -> str:
        with pytest.raises(StoreError) as raised:
            asyncio.run(store.now())
        with pytest.raises(StoreError):
            asyncio.run(store.close())
        return str(raised.value)

    assert "event loop" in await asyncio.to_thread(elsewhere)
    assert await store.now() > 0
    await store.close()


@pytest.mark.filterwarnings("ignore:.*fork.*")
async def test_store_of_another_process_says_so(place: Somewhere) -> None:
    """Connections do not survive a fork; the child is told, the parent goes on."""
    store = MongoDBStore(place.url)
    await store.open()
    child = os.fork()
    if child == 0:
        try:
            work = store.now()
            work.send(None)
        except StoreError as error:
            os._exit(0 if "fork" in str(error) else 3)
        os._exit(4)
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1]) == 0
    assert await store.now() > 0
    await store.close()


async def test_closed_store_says_so(place: Somewhere) -> None:
    """Neither before it is opened nor after it is closed does it reach for the server; no password is shown."""
    store = MongoDBStore(place.url.replace("//", "//u:sesame@"))
    for call in (store.now, store.check, lambda: store.wait(1)):
        with pytest.raises(StoreError, match="is not open") as raised:
            await call()
        assert "sesame" not in str(raised.value)


async def test_server_that_is_not_there() -> None:
    """One line, soon."""
    assert "no server answers" in await refused(f"mongodb://u:sesame@127.0.0.1:1/d?{SHORT}", StoreUnavailable)


async def test_tls_is_asked_for_where_there_is_none(place: Somewhere) -> None:
    """A server that knows no TLS does not answer to it; the line says where to look."""
    assert "tls" in await refused(f"{place.url}&tls=true&{SHORT}", StoreUnavailable)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that is no replica set and wants passwords; its URL with those of ``ann``."""
    folder: Path = tmp_path_factory.mktemp("alone")
    with MongoServer(folder, options=["--standalone"]) as server:
        with server.client() as client:
            client.governor.command("createUser", "ann", pwd="sesame", roles=["readWrite"])
        server.signal(signal.SIGTERM)  # in peace: it does not keep its users over a kill
        assert server._process is not None
        server._process.wait(120)
    with MongoServer(folder, port=server.port, options=["--standalone", "--auth"]) as server:
        yield f"mongodb://ann:sesame@127.0.0.1:{server.port}/governor"


async def test_wrong_password(alone: str) -> None:
    """The server's refusal in one line that does not repeat the password; a worker goes on trying."""
    wrong = alone.replace("sesame", "sesame2")
    assert "user or password" in await refused(f"{wrong}?{SHORT}", StoreUnavailable)
    anybody = alone.replace("ann:sesame@", "")
    assert "may not" in await refused(f"{anybody}?{SHORT}", StoreUnavailable)


async def test_server_alone_wakes_by_looking(alone: str) -> None:
    """Without a replica set there is no change stream: a mark is looked at, and another object's write wakes."""
    mine, theirs = MongoDBStore(alone), MongoDBStore(alone)
    await mine.open()
    await theirs.open()
    assert await mine.check() == []
    while await mine.wait(0.1):
        pass
    waiting = asyncio.ensure_future(mine.wait(3600))
    await put(theirs, record())
    assert await waiting is True
    assert await mine.insert(record(body=b"other"), op="x") == await theirs.insert(record(), op="y")
    await mine.close()
    await theirs.close()


async def test_waiting_outlives_a_server_that_goes_away(tmp_path: Path) -> None:
    """Who waits is woken when the line breaks, and by a write after the server has come back."""
    with MongoServer(tmp_path) as server:
        url = f"{server.url}/d?retryWrites=false&serverSelectionTimeoutMS=500"
        mine, theirs = MongoDBStore(url), MongoDBStore(url)
        await mine.open()
        await theirs.open()
        while await mine.wait(0.1):
            pass
        waiting = asyncio.ensure_future(mine.wait(3600))
        server.kill()
        assert await waiting is True
        with pytest.raises(StoreUnavailable):
            await theirs.load("run", "t", "r")
        await asyncio.to_thread(server.start)
        while (await _tried(theirs.insert(record(), op="a"))) is None:
            pass
        while await mine.wait(1.5):
            pass
        waiting = asyncio.ensure_future(mine.wait(3600))
        assert (await theirs.swap(record(v=1), op="b")).won
        assert await waiting is True
        await mine.close()
        await theirs.close()


async def test_waiting_is_over_in_time_though_nobody_answers(tmp_path: Path) -> None:
    """A server that stalls before it listens keeps nobody longer than he meant to wait; later writes wake."""
    with MongoServer(tmp_path) as server:
        url = f"{server.url}/d?retryWrites=false"
        mine, theirs = MongoDBStore(url), MongoDBStore(url)
        await mine.open()
        await theirs.open()
        server.signal(signal.SIGSTOP)
        assert await mine.wait(0.2) is False
        server.signal(signal.SIGCONT)
        assert (await theirs.insert(record(), op="a")).won
        assert await mine.wait(3600) is True
        await mine.close()
        await theirs.close()


async def _tried(work: Any) -> Any:
    """What it gives, None when the server was away."""
    try:
        return await work
    except StoreUnavailable:
        return None
