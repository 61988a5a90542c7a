"""Real servers that do a write whose reply never comes: nothing counts as lost, nothing is done twice, nothing is stuck.

A proxy breaks the line before the server saw the request, after it was done, or in the middle of the reply. First at
every single request of which a write of the contract consists; then at every write of a run's whole life.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import pytest

from governor_agents.core.ports import Blob, Record, Store, StoredEvent, Swapped
from governor_agents.core.records import RunState
from governor_agents.runs import sent
from governor_agents.stores import open_store
from tests.faults.framing import Framing, Mongo, Resp
from tests.faults.life import Traces, life, traces
from tests.faults.proxy import Fault, How, Proxy
from tests.servers import MongoServer, RedisServer

NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))


@dataclass(frozen=True)
class Line:
    """A driver, spoken to in one way: the server's name, the URL behind ``scheme://127.0.0.1:PORT``, and the protocol."""

    server: str
    url: str
    framing: Callable[[], Framing]
    writing: frozenset[str]
    """The requests that change something."""


SCRIPTS = frozenset({"EVAL", "EVALSHA"})
COMMANDS = frozenset({"insert", "update", "delete", "findAndModify"})
LINES = {
    "redis": Line("redis", "redis://127.0.0.1:{port}/0?namespace={name}&protocol=2", Resp, SCRIPTS),
    "redis-resp3": Line("redis", "redis://127.0.0.1:{port}/0?namespace={name}&protocol=3", Resp, SCRIPTS),
    "redis-watch": Line("redis", "redis://127.0.0.1:{port}/0?namespace={name}&scripting=no", Resp, frozenset({"EXEC"})),
    "mongodb": Line(
        "mongodb", "mongodb://127.0.0.1:{port}/{name}?directConnection=true&retryWrites=false", Mongo, COMMANDS
    ),
    "mongodb-retries": Line(
        "mongodb", "mongodb://127.0.0.1:{port}/{name}?directConnection=true&retryWrites=true", Mongo, COMMANDS
    ),
}


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Where the servers listen."""
    folder = tmp_path_factory.mktemp("servers")
    with RedisServer(folder / "redis") as redis, MongoServer(folder / "mongodb") as mongodb:
        yield {"redis": redis.port, "mongodb": mongodb.port}


@asynccontextmanager
async def behind(line: Line, ports: dict[str, int], name: str = "") -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy in front of a server, and the URL of the store of this name behind it; without one, of a fresh store."""
    async with Proxy("127.0.0.1", ports[line.server], line.framing) as proxy:
        yield proxy, line.url.format(port=proxy.port, name=name or f"t{secrets.token_hex(6)}")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """An open store."""
    store = open_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


# -- the contract's writes --------------------------------------------------------------------------------------------

LARGE = 1_200_000
"""More than what any store keeps in one piece with its record."""


def record(id: str, size: int = 10, **rest: Any) -> Record:
    return Record("run", "t", id, b"x" * size, index={"state": "waiting"}, due=5.0, **rest)


def parts(seq: int, size: int) -> dict[str, Any]:
    """An event and a blob."""
    data = os.urandom(size)
    return {"events": [StoredEvent(seq, data)], "blobs": [Blob(sha256(data).hexdigest(), data)]}


Broken = Callable[[], AbstractContextManager[None]]


async def insert(store: Store, id: str, size: int, broken: Broken = nullcontext) -> tuple[Any, Any]:
    made, rest = record(id, size), parts(1, size)
    with broken():
        answer = await sent(lambda: store.insert(made, op="op", **rest))
    return (answer, await stands(store, id, rest)), (Swapped(True, 1), (1, size, 5.0, 1, True))


async def swap(store: Store, id: str, size: int, broken: Broken) -> tuple[Any, Any]:
    await insert(store, id, 10)
    made, rest = record(id, size, v=1), parts(2, size)
    with broken():
        answer = await sent(lambda: store.swap(made, op="swap", **rest))
    return (answer, await stands(store, id, rest)), (Swapped(True, 2), (2, size, 5.0, 2, True))


async def swap_late(store: Store, id: str, size: int, broken: Broken) -> tuple[Any, Any]:
    await insert(store, id, 10)
    made, rest = record(id, size, v=1), parts(2, size)
    with broken():
        answer = await sent(lambda: store.swap(made, op="swap", not_after=1.0, **rest))
    return (answer.won, answer.late, await stands(store, id, rest)), (False, True, (1, 10, 5.0, 1, False))


async def delete(store: Store, id: str, size: int, broken: Broken) -> tuple[Any, Any]:
    _, rest = await insert(store, id, size), parts(2, size)
    with broken():
        gone: Any = await sent(lambda: store.delete("run", "t", id, 1))  # type: ignore[arg-type, return-value]
    return (gone, await stands(store, id, rest)), (True, (0, 0, None, 0, False))


async def add_below(store: Store, id: str, size: int, broken: Broken) -> tuple[Any, Any]:
    async def add(number: int) -> Any:
        adding: Any = partial(store.add_below, "t", id, number, 6, op=f"add {number}")
        return await sent(adding)

    first = await add(1)
    with broken():
        second = await add(2)
    return [first, second, await add(3), await add(4)], [1, 3, 6, None]


async def stands(store: Store, id: str, rest: dict[str, Any]) -> tuple[int, int, float | None, int, bool]:
    """Version, size and due time of what stands under the id; how many events; whether this blob is there, whole."""
    found = await store.load("run", "t", id)
    events = await store.events("run", "t", id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1)), events
    blob = rest["blobs"][0]
    there = await store.blob("run", "t", id, blob.id)
    assert there in (None, blob.data)
    if found is None:
        return 0, 0, None, len(events), there is not None
    return found.v, len(found.body), found.due, len(events), there is not None


Write = Callable[[Store, str, int, Broken], Awaitable[tuple[Any, Any]]]
SMALL: list[Write] = [insert, swap, swap_late, delete, add_below]
WRITES = [(name, write, 10) for name in LINES for write in SMALL]
WRITES += [("mongodb", write, LARGE) for write in SMALL[:-1]] + [("mongodb-retries", swap, LARGE)]
WRITES += [("redis", insert, LARGE)]
"""Large ones are more than one request on MongoDB only."""
HOWS: list[How] = ["after", "before", "half"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "write", "size"), WRITES, ids=lambda each: getattr(each, "__name__", str(each)))
async def test_each_request_of_a_write_may_lose_its_reply(
    name: str, write: Write, size: int, ports: dict[str, int]
) -> None:
    """The answer, the record, its events and its blob are the same, whichever request is hit, and however."""
    together, place = asyncio.Semaphore(8), f"t{secrets.token_hex(6)}"

    async def hit(fault: Fault) -> None:
        async with together, behind(LINES[name], ports, place) as (proxy, url), opened(url) as store:
            found, wanted = await write(store, secrets.token_hex(6), size, lambda: proxy.broken(fault))
        assert found == wanted, fault

    many = 1_000_000
    for _ in range(2):  # the first one may have something to prepare
        none = Fault("after", skip=many)
        await hit(none)
    requests = many - none.skip
    faults = [
        Fault(how, skip=number)
        for number in range(requests)
        for how in (HOWS if NIGHTLY else ("after", HOWS[1 + number % 2]))
    ]
    await asyncio.gather(*(hit(fault) for fault in faults))
    assert sum(len(fault.struck) for fault in faults) >= len(faults) / 2 >= 1, "the control: they were hit"


# -- a run's life -----------------------------------------------------------------------------------------------------


class Armed:
    """A store whose ``nth`` write meets a fault on the line."""

    def __init__(self, inner: Store, proxy: Proxy, nth: int, fault: Fault) -> None:
        self._inner, self._proxy, self._nth, self._fault = inner, proxy, nth, fault
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._armed(found) if name in ("insert", "swap", "delete", "add_below") else found

    def _armed(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def armed(*args: Any, **rest: Any) -> Any:
            self.writes += 1
            if self.writes == self._nth:
                self._proxy.fault = self._fault
            return await write(*args, **rest)

        return armed


async def played(line: Line, ports: dict[str, int], nth: int, fault: Fault) -> tuple[Traces, int]:
    """What a life leaves whose ``nth`` write (from 1; 0 for none) meets this fault, and how many writes it makes."""
    async with behind(line, ports) as (proxy, url):
        store = Armed(open_store(url), proxy, nth, fault)
        async with life(store) as made:  # type: ignore[arg-type]
            return await traces(made, await made.play()), store.writes


LIVES = {"redis": 1, "redis-watch": 1, "mongodb": 1, "mongodb-retries": 3}
"""Every so many writes of a life are hit."""


def faults(line: Line, writes: int, step: int) -> list[tuple[int, Fault]]:
    """Writes that are not answered, once or three times in a row; fewer are hit before, or half answered."""
    hit = range(1, writes + 1, 1 if NIGHTLY else step)
    found = [(nth, Fault("after", line.writing, times=1 if nth % 2 else 3)) for nth in hit]
    rarely = 1 if NIGHTLY else 8 * step
    found += [(nth, Fault("before", line.writing)) for nth in range(1, writes + 1, rarely)]
    found += [(nth, Fault("half", line.writing)) for nth in range(4, writes + 1, rarely)]
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LIVES)
async def test_a_lost_reply_changes_no_life(name: str, ports: dict[str, int]) -> None:
    """Whichever write of a run's life it hits: the same effects, events, states and versions."""
    line = LINES[name]
    wanted, writes = await played(line, ports, 0, Fault("after"))
    assert wanted.effects == ("note", "pay", "odd") and wanted.states[0] == RunState.COMPLETED
    assert writes >= 20
    together = asyncio.Semaphore(4)

    async def disturbed(nth: int, fault: Fault) -> None:
        async with together:
            found, _ = await played(line, ports, nth, fault)
        assert fault.struck, f"write {nth} was not hit"
        assert found == wanted, f"write {nth}, {fault}"

    await asyncio.gather(*(disturbed(nth, fault) for nth, fault in faults(line, writes, LIVES[name])))


@pytest.mark.parametrize("name", ["redis", "redis-watch", "mongodb"])
async def test_a_driver_that_forgets_its_ops_is_found_out(
    name: str, ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a build that marks each try of a write anew takes its own earlier try for somebody else's."""
    line, found = LINES[name], []
    async with behind(line, ports) as (proxy, url), opened(url) as store:
        for module in [
            each
            for each in list(sys.modules.values())
            if each.__name__.startswith(f"governor_agents.stores.{line.server}.")
        ]:
            if hasattr(module, "mark"):
                length = len(module.mark("op"))
                monkeypatch.setattr(module, "mark", lambda op, length=length: secrets.token_bytes(length))
        for write in (insert, swap, add_below):
            fault = Fault("after", line.writing, times=2)
            answer, wanted = await write(store, "r" + write.__name__, 10, lambda fault=fault: proxy.broken(fault))
            if answer != wanted:
                found.append(write.__name__)
    assert found == ["insert", "swap", "add_below"]
