"""A primary that steps down, a majority that does not confirm, a line that breaks: at each command of each write.

The server is told to fail the next command of a sort (``failCommand``): before it is done, after it is done, or without a word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from governor_agents.core.ports import Swapped
from governor_agents.errors import StoreUnavailable
from governor_agents.stores.mongodb import MongoDBStore
from governor_agents.testing.store_samples import blob, event, put, record
from tests.servers import MongoServer

OPTIONS = "heartbeatFrequencyMS=500&serverMonitoringMode=poll&serverSelectionTimeoutMS=60000"
LARGE = b"x" * 1_200_000

FAULTS: dict[str, dict[str, Any]] = {
    "steps down": {"errorCode": 10107},
    "no majority": {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
    "line breaks": {"closeConnection": True},
}
Write = Callable[[MongoDBStore], Awaitable[Any]]
WRITES: dict[str, tuple[str, Write, Any]] = {
    "insert": ("insert", lambda store: store.insert(record("new"), op="a", events=[event(1)]), Swapped(won=True, v=1)),
    "large insert": (
        "insert",
        lambda store: store.insert(record("new", body=LARGE), op="a", events=[event(1)]),
        Swapped(won=True, v=1),
    ),
    "swap": ("update", lambda store: store.swap(record(v=1), op="a", events=[event(1)]), Swapped(won=True, v=2)),
    "large swap": (
        "update",
        lambda store: store.swap(record(v=1, body=LARGE), op="a", events=[event(1)], blobs=[blob(LARGE)]),
        Swapped(won=True, v=2),
    ),
    "large swap, ahead": (
        "insert",
        lambda store: store.swap(record(v=1, body=LARGE), op="a", events=[event(1)], blobs=[blob(LARGE)]),
        Swapped(won=True, v=2),
    ),
    "delete": ("update", lambda store: store.delete("run", "t", "r", 1), True),
    "delete, second half": ("delete", lambda store: store.delete("run", "t", "r", 1), True),
    "add": ("findAndModify", lambda store: store.add_below("t", "c", 3, 10, op="a"), 4),
    "first add": ("insert", lambda store: store.add_below("t", "other", 3, 10, op="a"), 3),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server that fails when it is told to."""
    with MongoServer(tmp_path_factory.mktemp("failing"), options=["--enable-test-commands"]) as server:
        yield server


@pytest.fixture
async def store(server: MongoServer) -> AsyncIterator[MongoDBStore]:
    """An open store whose driver repeats nothing by itself, with a record and a counter."""
    with server.client() as client:
        client.drop_database("d")
    store = MongoDBStore(f"{server.url}/d?retryWrites=false&{OPTIONS}")
    await store.open()
    await put(store, record())
    await store.add_below("t", "c", 1, 10, op="begin")
    yield store
    await store.close()


def fail(server: MongoServer, command: str, fault: dict[str, Any], times: int = 1) -> None:
    """Let the next command of this sort fail."""
    with server.client() as client:
        data = {"failCommands": [command], **fault}
        client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data})


def heal(server: MongoServer) -> None:
    """Let it fail no more."""
    with server.client() as client:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_met_a_failover_is_done_once(
    store: MongoDBStore, server: MongoServer, write: str, fault: str
) -> None:
    """It says that it does not know; sent again under its op it is recognised or done, and nothing is there twice."""
    command, do, answer = WRITES[write]
    fail(server, command, FAULTS[fault])
    with pytest.raises(StoreUnavailable) as refused:
        await do(store)
    assert "\n" not in str(refused.value) and "configured" not in str(refused.value)
    assert await do(store) == answer
    if "swap" in write or "insert" in write:
        id = "r" if "swap" in write else "new"
        loaded = await store.load("run", "t", id)
        assert loaded is not None and loaded.v == answer.v
        assert loaded.body == (LARGE if "large" in write else b"body")
        assert await store.events("run", "t", id) == [event(1)]
    elif "delete" in write:
        with server.client() as client:
            assert client["d"]["ga_record"].count_documents({"kind": "run"}) == 0
    else:
        assert await do(store) == answer


@pytest.mark.parametrize("fault", ["steps down", "line breaks"])
async def test_the_driver_may_repeat_by_itself(server: MongoServer, store: MongoDBStore, fault: str) -> None:
    """With ``retryWrites`` on, the caller hears of nothing, and the write stands once."""
    repeating = MongoDBStore(f"{server.url}/d?retryWrites=true&{OPTIONS}")
    await repeating.open()
    fail(server, "update", FAULTS[fault])
    assert await repeating.swap(record(v=1), op="a", events=[event(1)]) == Swapped(won=True, v=2)
    assert await repeating.swap(record(v=1), op="a", events=[event(1)]) == Swapped(won=True, v=2)
    await repeating.close()


async def test_what_follows_a_write_may_fail(server: MongoServer, store: MongoDBStore) -> None:
    """The floor of the time, moving what rides: when that meets a failover, the write stands and says so."""
    for v in range(1, 15):
        await store.swap(record(v=v), op=str(v), events=[event(v)], blobs=[blob(b"%d" % v)])
    fail(server, "insert", FAULTS["steps down"], times=100)
    assert (await store.swap(record(v=15), op="15", events=[event(15)])).won
    heal(server)
    for v in range(16, 32):
        await store.swap(record(v=v), op=str(v), events=[event(v)], blobs=[blob(b"%d" % v)])
    assert [each.seq for each in await store.events("run", "t", "r")] == list(range(1, 32))
    assert await store.blob("run", "t", "r", blob(b"3").id) == b"3"
    with server.client() as client:
        assert len(client["d"]["ga_record"].find_one({"_id": "run/t/r"})["events"]) < 16
