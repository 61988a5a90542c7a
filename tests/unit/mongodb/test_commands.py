"""What the MongoDB store says to the server: concerns that no URL and no client can weaken, and how few commands it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.monitoring import CommandListener, CommandStartedEvent

from governor_agents.stores.mongodb import MongoDBStore, clock, documents
from governor_agents.stores.mongodb.place import Place
from governor_agents.testing.store_samples import blob, event, index, put, record
from tests.mongodb import Somewhere

WRITES = {"insert", "update", "delete", "findAndModify", "createIndexes"}
READS = {"find", "aggregate"}


class Heard(CommandListener):
    """Remembers every command that was sent."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append(dict(event.command) | {"name": event.command_name})

    def succeeded(self, event: object) -> None:
        """Nothing to remember."""

    def failed(self, event: object) -> None:
        """Nothing to remember."""

    def names(self) -> list[str]:
        """The names of the commands since the last call."""
        names, self.commands = [each["name"] for each in self.commands], []
        return names


@pytest.fixture
def heard() -> Heard:
    """What the client of `store` sends."""
    return Heard()


@pytest.fixture
async def store(place: Somewhere, heard: Heard) -> AsyncIterator[MongoDBStore]:
    """A store over a client whose own settings are as weak as can be."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        Place.of(place.url).driver,
        event_listeners=[heard],
        w=1,
        journal=False,
        readPreference="secondaryPreferred",
        readConcernLevel="local",
    )
    store = MongoDBStore(place.url, client=client)
    await store.open()
    yield store
    await store.close()
    await client.close()


async def everything(store: MongoDBStore) -> None:
    """Each way of writing and reading, small and large, won and lost."""
    large = blob(b"\x01" * 200_000)
    await store.insert(record(body=b"x" * 1_200_000, due=1.0, index=index(state="s")), op="a", blobs=[large])
    await store.insert(record(), op="b")
    for v in range(1, 18):
        await store.swap(record(v=v), op=str(v), events=[event(v)], blobs=[blob(str(v).encode())])
    await store.swap(record(v=3), op="lost")
    await store.swap(record(v=18), op="late", not_after=1.0)
    await store.swap(record(v=18), op="in time", not_after=1e11, events=[event(99)])
    await store.add_below("t", "c", 1, 10, op="a")
    await store.add_below("t", "c", 100, 10, op="b")
    await store.load("run", "t", "r")
    await store.due("run", "t")
    await store.list("run", "t", {"state": "s", "agent": "a"})
    await store.scan("run")
    await store.blob("run", "t", "r", large.id)
    await store.events("run", "t", "r")
    await store.now()
    await store.delete("run", "t", "r", 19)


def weak(command: dict[str, Any]) -> str:
    """What is wrong with the concerns of a command; empty when nothing is."""
    if command["name"] in WRITES:
        concern = command.get("writeConcern", {})
        return "" if (concern.get("w"), concern.get("j")) == ("majority", True) else f"writeConcern {concern}"
    if command["name"] in READS:
        level = command.get("readConcern", {}).get("level")
        preference = command.get("$readPreference", {"mode": "primary"})["mode"]
        sound = level in ("majority", "linearizable") and preference == "primary"
        return "" if sound else f"readConcern {level} from {preference}"
    return ""


async def test_no_client_weakens_a_command(store: MongoDBStore, heard: Heard) -> None:
    """Every write waits for a majority and the journal, every read is a majority's, from the primary."""
    await everything(store)
    assert {each["name"] for each in heard.commands} >= WRITES | READS
    assert [(each["name"], weak(each)) for each in heard.commands if weak(each)] == []
    assert not [each["name"] for each in heard.commands if "startTransaction" in each or "autocommit" in each]


async def test_a_weak_command_would_be_noticed(store: MongoDBStore, heard: Heard, place: Somewhere) -> None:
    """The control: the same client, used by itself, sends commands that the test above refuses."""
    assert store._open is not None
    collection = store._open.client[place.database.name]["x"]
    heard.names()
    await collection.insert_one({})
    await collection.find_one({})
    assert [bool(weak(each)) for each in heard.commands] == [True, True]
    assert collection.read_preference != ReadPreference.PRIMARY


async def test_lost_writes_are_looked_at_linearizably(store: MongoDBStore, heard: Heard) -> None:
    """Nothing that a failover could take back decides what a loser is told."""
    await put(store, record())
    heard.commands.clear()
    assert not (await store.swap(record(v=7), op="a")).won
    assert not (await store.insert(record(), op="b")).won
    assert [each["readConcern"]["level"] for each in heard.commands if each["name"] == "find"] == ["linearizable"] * 2


async def test_an_ordinary_transition_is_one_command(
    store: MongoDBStore, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its events and a small blob; with a deadline the floor of the time is read before. Reading is one, too."""
    monkeypatch.setattr(clock, "GRAIN", 3600.0)
    await put(store, record("first"))
    heard.names()
    await store.insert(record(), op="a", events=[event(1)], blobs=[blob(b"x")])
    assert heard.names() == ["insert"]
    await store.swap(record(v=1), op="b", events=[event(2)], blobs=[blob(b"y")])
    assert heard.names() == ["update"]
    await store.swap(record(v=2), op="c", not_after=1e11)
    assert heard.names() == ["aggregate", "update"]
    await store.load("run", "t", "r")
    assert heard.names() == ["find"]
    await store.due("run", "t")
    assert heard.names() == ["aggregate", "find"]
    await store.blob("run", "t", "r", blob(b"x").id)
    assert heard.names() == ["find"]
    await store.delete("run", "t", "r", 3)
    assert heard.names() == ["update", "find", "delete", "delete", "delete"]


async def test_the_cost_of_many_versions_stays_flat(
    store: MongoDBStore, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moving out what rides takes a fixed number of commands every sixteenth version, however long the history is."""
    monkeypatch.setattr(clock, "GRAIN", 3600.0)
    await put(store, record())
    costs, version = [], 1
    for _ in range(3):
        heard.names()
        for _ in range(documents.TIDIED):
            await store.swap(record(v=version), op=str(version), events=[event(version)], blobs=[blob(b"%d" % version)])
            version += 1
        costs.append(len(heard.names()))
    assert costs[0] == costs[1] == costs[2] <= documents.TIDIED + 6


async def test_nothing_handed_over_is_an_operator(store: MongoDBStore) -> None:
    """Names that are operators of MongoDB's in disguise find nothing of anybody's."""
    await put(store, record(due=1.0))
    anything: Any = {"$gt": ""}
    assert await store.due("run", anything) == await store.list("run", anything) == []
    assert await store.list(anything, "t") == await store.due(anything, "t") == await store.scan(anything) == []
    for call in (
        store.load("run", anything, "r"),
        store.load("run", "t", anything),
        store.blob("run", "t", anything, "d"),
    ):
        with pytest.raises((ValueError, TypeError)):
            await call
    with pytest.raises(ValueError):
        await store.list("run", "t", {"state": anything})
    assert [each.id for each in await store.list("run", "t")] == ["r"]
