"""What a store holds, past the package: how somebody with write access to the database reads and changes it.

Here for the stores that need one file and no server; seals and audit stand above all stores alike.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.stores import STORES


@dataclass(frozen=True)
class Row:
    """A record as it is stored. ``rest`` is what else the store keeps with it, to be put back with it."""

    kind: str
    tenant: str
    id: str
    v: Any
    due: Any
    index: dict[str, Any]
    body: Any
    rest: dict[str, Any] = field(default_factory=dict)


class SQLiteRows:
    """The tables of a SQLite store. Use it while no store has the file open."""

    INDEX = ("state", "agent", "requester", "conversation", "pending", "changed")

    def __init__(self, url: str) -> None:
        self._path = url.removeprefix("sqlite:///")

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = OFF")  # whoever tampers does not wait for the disk
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def rows(self, kind: str = "run") -> list[Row]:
        """All records of a kind."""
        with self._database() as database:
            found = [dict(row) for row in database.execute("SELECT * FROM ga_record WHERE kind = ?", [kind])]
        return [
            Row(
                **{name: row.pop(name) for name in ("kind", "tenant", "id", "v", "due", "body")},
                index={name: row.pop(name) for name in self.INDEX},
                rest=row,
            )
            for row in found
        ]

    def remove(self, *rows: Row) -> None:
        """Remove records."""
        with self._database() as database:
            database.executemany(
                "DELETE FROM ga_record WHERE kind = ? AND tenant = ? AND id = ?",
                [(row.kind, row.tenant, row.id) for row in rows],
            )

    def put(self, *rows: Row) -> None:
        """Write records as they are given, in the place of those of their names."""
        self.remove(*rows)
        with self._database() as database:
            for row in rows:
                values = {"kind": row.kind, "tenant": row.tenant, "id": row.id, "v": row.v, "due": row.due}
                values |= {"body": row.body, "ops": ""} | row.index | row.rest
                marks = ", ".join(f":{name}" for name in values)
                database.execute(f"INSERT INTO ga_record ({', '.join(values)}) VALUES ({marks})", values)

    def events(self, id: str) -> list[tuple[int, bytes]]:
        """The events of a run, by seq."""
        with self._database() as database:
            return [
                tuple(row) for row in database.execute("SELECT seq, body FROM ga_event WHERE id = ? ORDER BY seq", [id])
            ]

    def put_event(self, id: str, seq: int, body: Any) -> None:
        """Change an event."""
        with self._database() as database:
            database.execute("UPDATE ga_event SET body = ? WHERE id = ? AND seq = ?", [body, id, seq])

    def set_events(self, id: str, events: Sequence[tuple[int, bytes]], kind: str = "run") -> None:
        """Put these in the place of all events of a record."""
        with self._database() as database:
            database.execute("DELETE FROM ga_event WHERE id = ?", [id])
            database.executemany(
                "INSERT INTO ga_event (kind, tenant, id, seq, body) VALUES (?, 'default', ?, ?, ?)",
                [(kind, id, seq, body) for seq, body in events],
            )

    def cut_events(self, id: str, behind: int) -> None:
        """Remove the events of a run with a higher seq."""
        with self._database() as database:
            database.execute("DELETE FROM ga_event WHERE id = ? AND seq > ?", [id, behind])

    def blobs(self) -> list[tuple[str, str, bytes]]:
        """Tenant, id and data of all blobs."""
        with self._database() as database:
            return [tuple(row) for row in database.execute("SELECT tenant, digest, data FROM ga_blob")]

    def put_blob(self, tenant: str, id: str, data: Any) -> None:
        """Change a blob."""
        with self._database() as database:
            database.execute("UPDATE ga_blob SET data = ? WHERE tenant = ? AND digest = ?", [data, tenant, id])


ROWS: dict[str, Callable[[str], SQLiteRows]] = {"sqlite": SQLiteRows}
REACHED = [name for name in STORES if name in ROWS]
"""The stores that the suites run on and that can be reached past the package."""


def flipped(data: bytes, at: int) -> bytes:
    """The same bytes with one bit changed in one of them."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def swapped(rows: Sequence[Row], name: str) -> list[tuple[Row, Any]]:
    """Each row with the field of its neighbour."""
    return [(row, getattr(rows[at - 1], name)) for at, row in enumerate(rows)]
