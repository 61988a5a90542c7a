"""The SQLite store: one file on a local disk, for any number of processes of one machine.

WAL, ``synchronous=FULL`` and ``BEGIN IMMEDIATE``: what was answered survives a power cut, and writers queue instead of
failing. All statements stand in ``sqlite.sql``; they run on one thread that shares commits (``sqlite_thread``).

**Time.** The file keeps the highest time it was ever written at, and every time is read against it: by all processes,
after any restart, whatever their clocks say. (A time that was told, but that nothing was written after, is forgotten
when its process is killed.) While the machine's clock is behind that, the store's goes on at half its pace.

**Fork.** Open the store after a fork, never before: SQLite connections and threads do not survive it. A store object
that finds itself in another process refuses to work.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from hashlib import blake2b
from typing import Any, Final

from governor_agents.core.ports import OPS_KEPT, Blob, Held, Record, StoredEvent, Swapped
from governor_agents.errors import ConfigError, StoreError
from governor_agents.stores.arguments import check_count, check_fields, check_key, check_write
from governor_agents.stores.sqlite_file import MIGRATIONS, SQL, Place, connect_reader, unsafe_lines
from governor_agents.stores.sqlite_thread import DatabaseThread, StoreTime, Wrote

_FIELDS: Final = ("agent", "changed", "conversation", "pending", "requester", "state")
_SELECTIVE: Final = ("conversation", "changed", "requester", "pending", "agent", "state")
"""Index fields, the one that usually leaves the fewest records first."""

_COUNTED: Final = (1_000, 10_000)
"""How far records are counted to choose an index: a twentieth of a millisecond, then half of one."""

_MARK: Final = 25


def _mark(op: str) -> str:
    """An op id at fixed length, so that SQL can find it in the text of those kept and cut the text off."""
    return blake2b(op.encode(), digest_size=(_MARK - 1) // 2).hexdigest() + ","


@cache
def list_statement(fields: frozenset[str], through: str = "") -> str:
    """The statement that lists by these index fields, which must be checked names.

    One goes ``through`` its index, by default the one that is usually the most selective; a plus sign keeps SQLite,
    which has no statistics, off the others.
    """
    through = through or next((name for name in _SELECTIVE if name in fields), "")
    where = "".join(f" AND {'' if name == through else '+'}{name} = :{name}" for name in sorted(fields))
    return SQL["list"].replace("{where}", where)


def fewest(connection: sqlite3.Connection, fields: Sequence[str], wanted: Mapping[str, Any]) -> str:
    """Which of these index fields leaves the fewest records; empty where all of them leave very many.

    Counted as far as the numbers in `_COUNTED`, in the indexes alone. Where three of an agent's million runs are
    blocked, a list of its blocked runs must not look at the million.
    """
    for most in _COUNTED:
        counts = {}
        for name in fields:
            statement = SQL["count"].replace("{field}", name)
            (counts[name],) = connection.execute(statement, {**wanted, "most": most}).fetchone()
        least = min(fields, key=lambda name: counts[name])
        if counts[least] < most:
            return least
    return ""


class SQLiteStore:
    """A `Store` in a SQLite file. Options of the URL: see `Place.of`."""

    shared = True
    schema = max(MIGRATIONS)

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._place = Place.of(url)
        self.url = self._place.url
        self._time = StoreTime(clock, time.monotonic) if clock is time.time else StoreTime(clock)
        self._gate = asyncio.Lock()
        self._thread: DatabaseThread | None = None
        self._reader: sqlite3.Connection | None = None
        self._process = 0
        self._waiting = False
        self._forgotten: weakref.finalize[[], SQLiteStore] | None = None

    @staticmethod
    def missing(url: str) -> str:
        """Why nothing can be stored there yet: there is no such file. Raises `ConfigError` when that cannot be seen."""
        path = Place.of(url).path
        try:
            return "" if path.exists() else f"there is no store at {path}"
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be looked at ({error.strerror}): mend the mode of its directory"
            ) from None

    async def open(self) -> None:
        """Open the file, made with mode 0600 when it is new. Raises `UnsafeStore` when `check` finds something."""
        async with self._gate:
            if self._thread is not None:
                return
            thread = DatabaseThread(self._place, self._time)
            try:
                await thread.opened
                self._reader = connect_reader(self._place)
            except BaseException:
                thread.stop()
                raise
            self._process = os.getpid()
            self._thread = thread
            self._forgotten = weakref.finalize(self, thread.stop)

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        async with self._gate:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            if self._reader is not None:
                # The thread's connection must be the last one: the last one tidies up, which takes time.
                self._reader.close()
            if self._forgotten is not None:
                self._forgotten.detach()
            thread.stop()
            await thread.closed

    async def check(self) -> list[str]:
        """One line per setting that could lose an acknowledged write."""
        return await self._opened().read(partial(unsafe_lines, place=self._place))

    async def now(self) -> float:
        """The store's clock. Read here and not on the thread: it takes microseconds, and never waits for a commit."""
        thread = self._opened()
        if self._reader is not None:
            try:
                return self._time.tick(self._reader)
            except sqlite3.Error:  # locked for a moment, or worse: the thread waits for it, or says what it is
                pass
        return await thread.read(self._time.tick)

    async def insert(
        self, record: Record, *, op: str, events: Sequence[StoredEvent] = (), blobs: Sequence[Blob] = ()
    ) -> Swapped:
        """Write a record that must not exist yet."""
        check_write(record, op, events, blobs)
        answer: Swapped = await self._opened().write(partial(_insert, row=_row(record, op), events=events, blobs=blobs))
        return answer

    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        """The record, or None."""
        check_key(kind, tenant, id)
        return await self._opened().read(partial(_load, key={"kind": kind, "tenant": tenant, "id": id}))

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
        row = _row(record, op) | {"not_after": not_after}
        answer: Swapped = await self._opened().write(partial(_swap, row=row, events=events, blobs=blobs))
        return answer

    async def delete(self, kind: str, tenant: str, id: str, v: int) -> bool:
        """Remove the record at this version, with its events and blobs."""
        check_key(kind, tenant, id)
        key = {"kind": kind, "tenant": tenant, "id": id, "v": v}
        gone: bool = await self._opened().write(partial(_delete, key=key))
        return gone

    async def due(
        self, kind: str, tenant: str, *, limit: int = 100, after: tuple[float, str] | None = None
    ) -> list[Record]:
        """What has come due, by (due, id)."""
        due, id = after or (float("-inf"), "")
        wanted = {"kind": kind, "tenant": tenant, "after_due": due, "after_id": id, "limit": max(limit, 0)}

        def select(connection: sqlite3.Connection) -> list[Record]:
            return _records(connection, SQL["due"], wanted | {"now": self._time.tick(connection)})

        return await self._opened().read(select)

    async def scan(self, kind: str, *, limit: int = 100, after: tuple[str, str] | None = None) -> list[Held]:
        """Every record of a kind, of all tenants, by (tenant, id)."""
        tenant, id = after or ("", "")
        wanted = {"kind": kind, "after_tenant": tenant, "after_id": id, "limit": max(limit, 0)}

        def select(connection: sqlite3.Connection) -> list[Held]:
            return [_held(connection, record) for record in _records(connection, SQL["scan"], wanted)]

        return await self._opened().read(select)

    async def blob(self, kind: str, tenant: str, id: str, digest: str) -> bytes | None:
        """The content that this record owns under this digest, or None."""
        wanted = {"kind": kind, "tenant": tenant, "id": id, "digest": digest}

        def select(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute(SQL["blob"], wanted).fetchone()
            return None if row is None else _bytes(row[0])

        return await self._opened().read(select)

    async def events(self, kind: str, tenant: str, id: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """The record's events with seq > after, in order."""
        wanted = {"kind": kind, "tenant": tenant, "id": id, "after": after, "limit": max(limit, 0)}

        def select(connection: sqlite3.Connection) -> list[StoredEvent]:
            return [StoredEvent(seq, _bytes(body)) for seq, body in connection.execute(SQL["events"], wanted)]

        return await self._opened().read(select)

    async def wait(self, timeout: float) -> bool:
        """True after a write since the last ``wait``, False after ``timeout`` seconds. One waiter at a time.

        A write of another process is noticed within about 40 ms.
        """
        thread = self._opened()
        if self._waiting:
            raise StoreError("another task waits on this store object; one waiter at a time")
        self._waiting = True
        try:
            return await thread.wait(timeout) and self._thread is thread
        finally:
            self._waiting = False

    async def add_below(self, tenant: str, id: str, amount: int, limit: int, *, op: str) -> int | None:
        """Add to a counter."""
        key = ("counter", tenant, id)
        check_count(key, amount, limit, op)
        wanted = _row(Record(*key, b""), op) | {"amount": amount, "limit": limit}
        total: int | None = await self._opened().write(partial(_add_below, wanted=wanted))
        return total

    # Last, because from here on `list` means this method wherever the class is read.
    async def list(
        self, kind: str, tenant: str, where: Mapping[str, str] | None = None, *, limit: int = 100, after: str = ""
    ) -> list[Record]:
        """Records whose index fields equal ``where``, by id."""
        fields = dict(where or {})
        check_fields(fields)
        wanted = fields | {"kind": kind, "tenant": tenant, "after": after, "limit": max(limit, 0)}
        names = [name for name in _SELECTIVE if name in fields]

        def select(connection: sqlite3.Connection) -> list[Record]:
            through = fewest(connection, names, wanted) if len(names) > 1 else ""
            return _records(connection, list_statement(frozenset(names), through), wanted)

        return await self._opened().read(select)

    def _opened(self) -> DatabaseThread:
        if self._thread is None:
            raise StoreError(f"{self.url} is not open")
        if self._process != os.getpid():
            raise StoreError(f"{self.url} was opened before a fork; open it in the process that uses it")
        return self._thread


def _row(record: Record, op: str) -> dict[str, Any]:
    return {
        "kind": record.kind,
        "tenant": record.tenant,
        "id": record.id,
        "v": record.v,
        "due": record.due,
        "body": record.body,
        "op": _mark(op),
        "ops_length": _MARK * OPS_KEPT,
        **{name: record.index.get(name) for name in _FIELDS},
    }


def _records(connection: sqlite3.Connection, statement: str, wanted: Mapping[str, Any]) -> list[Record]:
    return [
        Record(
            kind=kind,
            tenant=tenant,
            id=id,
            v=v,
            due=due,
            body=_bytes(body),
            index={name: value for name, value in zip(_FIELDS, fields, strict=True) if value is not None},
        )
        for kind, tenant, id, v, due, body, *fields in connection.execute(statement, wanted)
    ]


def _bytes(stored: Any) -> bytes:
    """What stands in a column of bytes. SQLite keeps anything anywhere: what is something else is nobody's body."""
    return stored if isinstance(stored, bytes) else repr(stored).encode("utf-8", "backslashreplace")


def _held(connection: sqlite3.Connection, record: Record) -> Held:
    key = {"kind": record.kind, "tenant": record.tenant, "id": record.id}
    return Held(record, tuple(digest for (digest,) in connection.execute(SQL["blobs"], key)))


def _load(connection: sqlite3.Connection, key: Mapping[str, Any]) -> Record | None:
    found = _records(connection, SQL["load"], key)
    return found[0] if found else None


def _lost(connection: sqlite3.Connection, row: Mapping[str, Any]) -> Swapped:
    """The answer of a write that changed nothing: another op's, or this op's own earlier one."""
    current = _load(connection, row)
    if current is None:
        return Swapped(won=False)
    ((mine,),) = connection.execute(SQL["has_op"], row).fetchall()
    return Swapped(won=True, v=current.v) if mine else Swapped(won=False, current=current)


def _insert(
    connection: sqlite3.Connection,
    now: float,
    row: Mapping[str, Any],
    events: Sequence[StoredEvent],
    blobs: Sequence[Blob],
) -> Wrote:
    if not connection.execute(SQL["insert"], row).rowcount:
        return Wrote(_lost(connection, row), changed=False)
    _append(connection, row, events, blobs)
    return Wrote(Swapped(won=True, v=row["v"] or 1), changed=True)


def _swap(
    connection: sqlite3.Connection,
    now: float,
    row: Mapping[str, Any],
    events: Sequence[StoredEvent],
    blobs: Sequence[Blob],
) -> Wrote:
    if connection.execute(SQL["swap"], {**row, "now": now}).rowcount:
        connection.execute(SQL["move"], row)
        connection.execute(SQL["relabel"], row)
        connection.execute(SQL["date"], row)
        _append(connection, row, events, blobs)
        return Wrote(Swapped(won=True, v=row["v"] + 1), changed=True)
    answer = _lost(connection, row)
    if answer.current is None or answer.current.v != row["v"]:
        return Wrote(answer, changed=False)
    # Only the time stood against it. The floor is committed, so that late stays late over a restart.
    return Wrote(Swapped(won=False, current=answer.current, late=True), changed=True)


def _append(
    connection: sqlite3.Connection, row: Mapping[str, Any], events: Sequence[StoredEvent], blobs: Sequence[Blob]
) -> None:
    key = {"kind": row["kind"], "tenant": row["tenant"], "id": row["id"]}
    for event in events:
        try:
            connection.execute(SQL["add_event"], {**key, "seq": event.seq, "body": event.body})
        except sqlite3.IntegrityError as error:
            raise StoreError(
                f"{row['kind']} {row['id']}: event {event.seq} exists already; events never change"
            ) from error
    for blob in blobs:
        connection.execute(SQL["add_blob"], {**key, "digest": blob.id, "data": blob.data})


def _delete(connection: sqlite3.Connection, now: float, key: Mapping[str, Any]) -> Wrote:
    if not connection.execute(SQL["delete"], key).rowcount:
        return Wrote(_load(connection, key) is None, changed=False)
    connection.execute(SQL["delete_events"], key)
    connection.execute(SQL["delete_blobs"], key)
    return Wrote(True, changed=True)


def _add_below(connection: sqlite3.Connection, now: float, wanted: Mapping[str, Any]) -> Wrote:
    added = connection.execute(SQL["add_to_counter"], wanted).rowcount
    added = added or connection.execute(SQL["start_counter"], wanted).rowcount
    for total, mine in connection.execute(SQL["counter"], wanted).fetchall():
        return Wrote(total if mine else None, changed=bool(added))
    return Wrote(None, changed=False)
