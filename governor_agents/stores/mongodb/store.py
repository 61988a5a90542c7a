"""The MongoDB store: one document per record, majority writes with the journal, compare-and-set as one update of it.

No transaction of several documents: what must stand together is in one document (`documents`), what does not fit is
durable before it (`chunks`), and what rides in it is moved out later (`tidying`).

**A lost compare-and-set** is looked at by a linearizable read where there is a replica set: what it sees cannot be
taken back, so "lost" and "won earlier" stay true whatever fails over.

**Loops and forks.** A store opened by URL belongs to the event loop and process that opened it. A client that the user
passes, pymongo's or Motor's, stays on the loop that made the store object, and every call is brought over (`home`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from governor_agents.core.ports import Blob, Held, Record, StoredEvent, Swapped
from governor_agents.errors import ConfigError, StoreError, UnsafeStore
from governor_agents.stores.arguments import check_count, check_fields, check_key, check_write
from governor_agents.stores.mongodb.chunks import Chunks
from governor_agents.stores.mongodb.clock import Clock
from governor_agents.stores.mongodb.documents import key
from governor_agents.stores.mongodb.failure import translated
from governor_agents.stores.mongodb.home import Home
from governor_agents.stores.mongodb.place import Place
from governor_agents.stores.mongodb.reading import Reading
from governor_agents.stores.mongodb.safety import server_of, unsafe_lines
from governor_agents.stores.mongodb.schema import VERSION, Collections, prepare
from governor_agents.stores.mongodb.tidying import Tidying
from governor_agents.stores.mongodb.waking import Waking
from governor_agents.stores.mongodb.writing import Writing

T = TypeVar("T")

DEFAULTS: Final[Mapping[str, Any]] = {
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 30_000,
    "appname": "governor-agents",
}
"""Options of the driver where the URL does not name them: a worker tries again, so no call waits for minutes."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """What there is while a store is open."""

    client: Any
    clock: Clock
    reading: Reading
    writing: Writing
    waking: Waking


class MongoDBStore:
    """A `Store` in a database of MongoDB. What the URL may say: see `Place.of`.

    ``client`` is an ``AsyncMongoClient`` or a Motor client of yours: then of the URL only database and our own options
    count here, and the client is not closed with the store. Make the store object on the event loop that the client
    lives on; made where no loop runs, it takes the one on which it is opened.
    """

    shared = True
    schema = VERSION

    def __init__(self, url: str, *, client: Any = None) -> None:
        self.url = url
        self._place = Place.of(url)
        self._given = client
        self._home = Home(self._place.shown, bridged=client is not None)
        if client is not None:
            self._home.settle(_running_loop())
        self._gate = asyncio.Lock()
        self._open: _Opened | None = None
        self._waiting = False

    def __repr__(self) -> str:
        return f"MongoDBStore({self._place.shown!r})"

    async def open(self) -> None:
        """Connect, look at the server's settings, make what is missing.

        Raises `StoreUnavailable`, `StoreTooNew`, `UnsafeStore`, and `StoreError` for collections of somebody else.
        """
        async with self._gate:
            if self._open is None:
                if self._given is None or not self._home.settled:
                    self._home.settle(asyncio.get_running_loop())
                self._open = await self._home.run(self._connect)

    async def _connect(self) -> _Opened:
        place = self._place
        self._refuse(list(place.lines))
        client = _client(place) if self._given is None else self._given
        try:
            with translated(place.shown):
                server = server_of(await client.admin.command("hello"), place.shown)
                self._refuse(await unsafe_lines(client, place))
                to = Collections.of(client, place, replicated=server.replicated)
                await prepare(to, place)
                opened = _joined(client, to, place, streams=server.replicated)
                await self._refuse_timeless(opened.clock)
                await opened.writing.tidying.sweep(await opened.clock.read())
                return opened
        except BaseException:
            if self._given is None:
                await client.close()
            raise

    async def _refuse_timeless(self, clock: Clock) -> None:
        """Late writes would win, so this is not for ``unsafe=allow`` to allow."""
        if not await clock.works():
            raise UnsafeStore(
                f"{self._place.shown}: the server does not look at its clock inside of a write ($$NOW), so a decision "
                "could come too late and win; use MongoDB 5.0 or newer"
            )

    def _refuse(self, lines: list[str]) -> None:
        if lines and not self._place.unsafe:
            raise UnsafeStore(f"{self._place.shown}: {'; '.join(lines)} (or add unsafe=allow to the URL)")

    async def close(self) -> None:
        """Let go of everything; a client that was passed goes on."""
        async with self._gate:
            if self._open is not None:
                await self._home.run(self._leave)

    async def _leave(self) -> None:
        opened, self._open = self._opened(), None
        await opened.waking.stop()
        if self._given is None:
            await opened.client.close()

    async def check(self) -> list[str]:
        """One line per setting that could lose an acknowledged write."""
        return await self._there(lambda opened: unsafe_lines(opened.client, self._place))

    async def now(self) -> float:
        """The server's clock over the floor that it keeps."""
        return await self._there(lambda opened: opened.clock.read())

    async def insert(
        self, record: Record, *, op: str, events: Sequence[StoredEvent] = (), blobs: Sequence[Blob] = ()
    ) -> Swapped:
        """Write a record that must not exist yet."""
        check_write(record, op, events, blobs)
        return await self._there(lambda opened: opened.writing.insert(record, op, events, blobs))

    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        """The record, or None. Raises `SnapshotError` for a document that was edited by hand."""
        check_key(kind, tenant, id)
        return await self._there(lambda opened: opened.reading.load(key(kind, tenant, id)))

    async def swap(
        self,
        record: Record,
        *,
        op: str,
        events: Sequence[StoredEvent] = (),
        blobs: Sequence[Blob] = (),
        not_after: float | None = None,
    ) -> Swapped:
        """Replace the record whose version is ``record.v``. An op that stands already is not written twice."""
        check_write(record, op, events, blobs)
        return await self._there(lambda opened: opened.writing.swap(record, op, events, blobs, not_after))

    async def delete(self, kind: str, tenant: str, id: str, v: int) -> bool:
        """Remove the record at this version, with its events and blobs."""
        check_key(kind, tenant, id)
        return await self._there(lambda opened: opened.writing.delete(key(kind, tenant, id), v))

    async def due(
        self, kind: str, tenant: str, *, limit: int = 100, after: tuple[float, str] | None = None
    ) -> list[Record]:
        """What has come due, by (due, id)."""
        return await self._there(lambda opened: opened.reading.due(kind, tenant, limit, after))

    async def scan(self, kind: str, *, limit: int = 100, after: tuple[str, str] | None = None) -> list[Held]:
        """Every record of a kind, of all tenants, by (tenant, id)."""
        return await self._there(lambda opened: opened.reading.scan(kind, limit, after))

    async def blob(self, kind: str, tenant: str, id: str, digest: str) -> bytes | None:
        """The content that this record owns under this digest, or None."""
        check_key(kind, tenant, id)
        return await self._there(lambda opened: opened.reading.blob(key(kind, tenant, id), digest))

    async def events(self, kind: str, tenant: str, id: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """The record's events with seq > after, in order."""
        check_key(kind, tenant, id)
        return await self._there(lambda opened: opened.reading.events(key(kind, tenant, id), after, limit))

    async def wait(self, timeout: float) -> bool:
        """True after a write since the last ``wait``, False after ``timeout`` seconds. One waiter at a time.

        A write of another process is noticed by a change stream; without a replica set within about 250 ms.
        """
        opened = self._opened()
        if self._waiting:
            raise StoreError("another task waits on this store object; one waiter at a time")
        self._waiting = True
        try:
            return await self._there(lambda opened: opened.waking.wait(timeout)) and self._open is opened
        finally:
            self._waiting = False

    async def add_below(self, tenant: str, id: str, amount: int, limit: int, *, op: str) -> int | None:
        """Add to a counter: the record ("counter", tenant, id), whose body is the sum in decimal digits."""
        check_count(("counter", tenant, id), amount, limit, op)
        return await self._there(lambda opened: opened.writing.add_below(tenant, id, amount, limit, op))

    # Last, because from here on `list` means this method wherever the class is read.
    async def list(
        self, kind: str, tenant: str, where: Mapping[str, str] | None = None, *, limit: int = 100, after: str = ""
    ) -> list[Record]:
        """Records whose index fields equal ``where``, by id."""
        fields = dict(where or {})
        check_fields(fields)
        return await self._there(lambda opened: opened.reading.listed(kind, tenant, fields, limit, after))

    async def _there(self, do: Callable[[_Opened], Awaitable[T]]) -> T:
        """Do it where the client lives, and say what went wrong in our words."""
        opened = self._opened()

        async def work() -> T:
            with translated(self._place.shown):
                return await do(opened)

        return await self._home.run(work)

    def _opened(self) -> _Opened:
        if self._open is None:
            raise StoreError(f"{self._place.shown} is not open")
        return self._open


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _client(place: Place) -> AsyncMongoClient[dict[str, Any]]:
    options = {name: value for name, value in DEFAULTS.items() if name.lower() not in place.given}
    try:
        return AsyncMongoClient(place.driver, **options)
    except (PyMongoError, ValueError, TypeError, OSError):
        # Not the driver's own words, nor as the cause: some of them repeat the URL.
        raise ConfigError(f"{place.shown}: the driver does not take the options of this URL; correct them") from None


def _joined(client: Any, to: Collections, place: Place, *, streams: bool) -> _Opened:
    chunks = Chunks(to.chunk, to.event)
    clock = Clock(to.meta, place.shown, mark=not streams)
    reading = Reading(to, chunks, clock)
    waking = Waking(to.record, to.meta, streams=streams)
    writing = Writing(to, chunks, clock, reading, Tidying(to, chunks), waking)
    return _Opened(client, clock, reading, writing, waking)
