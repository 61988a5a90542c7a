"""The database file of the SQLite store: its URL, opening, schema, safe settings, and what its errors mean."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import parse_qsl, quote, unquote

from governor_agents.errors import ConfigError, StoreError, StoreTooNew, StoreUnavailable, UnsafeStore

# fmt: off
NETWORK_FILE_SYSTEMS: Final = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs2", "fuse.gcsfuse",
    "fuse.glusterfs", "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre",
    "ncpfs", "nfs", "nfs4", "orangefs", "smb", "smb2", "smb3", "smbfs",
})
# fmt: on
"""File systems of other machines: their locks and their shared memory do not hold what WAL needs."""

_SYNCHRONOUS: Final = ("off", "normal", "full", "extra")
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_text: Final = partial(str, encoding="utf-8", errors="backslashreplace")
"""A text as it is read. One that is not UTF-8 must not keep the rows beside it from being read."""

T = TypeVar("T")


def _read_sql() -> tuple[dict[str, str], dict[int, str]]:
    text = (files("governor_agents.stores") / "sqlite.sql").read_text("utf-8")
    statements: dict[str, str] = {}
    migrations: dict[int, str] = {}
    for part in re.split(r"^-- (?=(?:name|migration): )", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        sort, _, name = title.partition(": ")
        code = "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip()
        if sort == "name":
            statements[name] = code
        else:
            migrations[int(name)] = code
    return statements, migrations


SQL, MIGRATIONS = _read_sql()


@dataclass(frozen=True, slots=True)
class Place:
    """What a SQLite URL says. ``path`` is absolute, so that ``url`` means the same file in any process."""

    path: Path
    url: str
    synchronous: str = "full"
    busy_timeout: int = 30_000
    unsafe: bool = False

    @classmethod
    def of(cls, url: str) -> Place:
        """Read a URL. Raises `ConfigError`.

        ``sqlite:///relative.db``, ``sqlite:////absolute/path.db``; a ``%`` or ``?`` in a name is written ``%25``,
        ``%3F``; ``~`` is an ordinary character. Options: ``busy_timeout`` (milliseconds), ``synchronous``, and
        ``unsafe=allow`` to open a store whose settings could lose acknowledged decisions.
        """
        location, _, query = url.removeprefix("sqlite://").partition("?")
        name = unquote(location[1:])
        if not url.startswith("sqlite://") or not location.startswith("/") or not name or "\0" in name:
            raise ConfigError(f"{url}: write sqlite:///relative.db or sqlite:////absolute/path.db")
        if name == ":memory:":
            raise ConfigError(f"{url}: several connections cannot share this; use memory://")
        path = Path(name).absolute()
        found = dict(parse_qsl(query, keep_blank_values=True))
        place = cls(
            path=path,
            url=f"sqlite:///{quote(str(path))}{'?' if query else ''}{query}",
            synchronous=found.pop("synchronous", "full").lower(),
            busy_timeout=_milliseconds(url, found.pop("busy_timeout", "30000")),
            unsafe=_allowed(url, found.pop("unsafe", "")),
        )
        if found:
            raise ConfigError(f"{url}: unknown option {next(iter(found))}; use busy_timeout, synchronous or unsafe")
        if place.synchronous not in _SYNCHRONOUS:
            raise ConfigError(f"{url}: synchronous is one of {', '.join(_SYNCHRONOUS)}")
        return place


def _milliseconds(url: str, text: str) -> int:
    if not text.isdecimal() or int(text) > 3_600_000:
        raise ConfigError(f"{url}: busy_timeout is a number of milliseconds, at most an hour")
    return int(text)


def _allowed(url: str, text: str) -> bool:
    if text not in ("", "allow"):
        raise ConfigError(f"{url}: write unsafe=allow, or leave it out")
    return text == "allow"


def connect(place: Place) -> sqlite3.Connection:
    """Open the file, check its settings, bring its schema up to date. Raises only `StoreError` and its children."""
    if (line := network_line(place.path)) and not place.unsafe:
        raise _unsafe(place, [line])
    connection = None
    try:
        _create(place.path)
        _refuse_read_only(place.path)
        connection = sqlite3.connect(
            place.path, timeout=place.busy_timeout / 1000, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = _text
        _refuse_newer(connection, place)
        _configure(connection, place)
        if (lines := unsafe_lines(connection, place)) and not place.unsafe:
            raise _unsafe(place, lines)
        _migrate(connection, place)
        connection.execute("PRAGMA busy_timeout = 0")  # from here on `patiently` waits
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise failure(place.path, error) from error
        raise
    return connection


def connect_reader(place: Place) -> sqlite3.Connection:
    """A second connection, which only reads and never waits for a lock."""
    try:
        connection = sqlite3.connect(place.path, timeout=0, isolation_level=None, check_same_thread=False)
        connection.text_factory = _text
        connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error as error:
        raise failure(place.path, error) from error
    return connection


def _create(path: Path) -> None:
    # SQLite would create the file readable for everybody. Only a new file may be opened and closed here: closing any
    # descriptor of a database drops the locks that another connection of this process holds on it (POSIX).
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if path.is_dir():
            raise StoreUnavailable(f"{path}: is a directory; name a file in it") from None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreUnavailable(f"{path}: {path.parent} is not a directory; create it or name another file") from error
    except OSError as error:
        why = error.strerror or error
        raise StoreUnavailable(f"{path}: cannot be created ({why}); make {path.parent} writable") from error


def _refuse_read_only(path: Path) -> None:
    """SQLite opens such a file without a word, and says so at the first write. Its log lies beside it."""
    effective = os.access in os.supports_effective_ids
    if not all(os.access(each, os.W_OK, effective_ids=effective) for each in (path, path.parent)):
        raise StoreUnavailable(f"{path}: {_FORBIDDEN}")


def _refuse_newer(connection: sqlite3.Connection, place: Place) -> None:
    version = schema_version(connection)
    if version > max(MIGRATIONS):
        raise StoreTooNew(
            f"{place.path}: schema version {version} is newer than {max(MIGRATIONS)}, the newest that this "
            "governor-agents knows; upgrade it, or name another store"
        )


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of our schema in this database, 0 when there is none."""
    if not connection.execute(SQL["has_schema"]).fetchone()[0]:
        return 0
    return int(connection.execute(SQL["version"]).fetchone()[0])


def patiently(place: Place, do: Callable[[], T]) -> T:
    """Try again while another process has the lock, as long as ``busy_timeout`` says.

    SQLite's own waiting sleeps up to 100 ms between two tries and lets whoever is awake go first: with four busy
    processes one write in a hundred took longer than that. Short sleeps of random length bring it to a quarter.
    """
    began = time.monotonic()
    while True:
        try:
            return do()
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - began
            code = getattr(error, "sqlite_errorcode", None)  # the module raises some of its own, without one
            if code is None or (code & 0xFF) not in _BUSY or waited > place.busy_timeout / 1000:
                raise
            time.sleep(random.random() * min(0.01, 0.001 + waited / 10))  # noqa: S311


def _configure(connection: sqlite3.Connection, place: Place) -> None:
    # SQLite does not wait for this lock by itself when several processes open a new file at once.
    patiently(place, lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
    connection.execute(f"PRAGMA synchronous = {place.synchronous}")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: a plain fsync leaves the data in the disk's own cache
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute(f"PRAGMA journal_size_limit = {64 * 2**20}")


def _migrate(connection: sqlite3.Connection, place: Place) -> None:
    if schema_version(connection) == max(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(SQL["create_schema"])
        _refuse_newer(connection, place)
        version = schema_version(connection)
        for number in sorted(number for number in MIGRATIONS if number > version):
            for statement in _statements(MIGRATIONS[number]):
                connection.execute(statement)
            connection.execute(SQL["migrated"], {"version": number, "now": time.time()})
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    found, rest = [], ""
    for line in script.splitlines():
        rest += line + "\n"
        if sqlite3.complete_statement(rest):
            found.append(rest)
            rest = ""
    return found


def unsafe_lines(connection: sqlite3.Connection, place: Place) -> list[str]:
    """One line per setting that could lose an acknowledged write."""
    lines = []
    (level,) = connection.execute("PRAGMA synchronous").fetchone()
    if level < _SYNCHRONOUS.index("full"):
        name = _SYNCHRONOUS[level]
        lines.append(f"synchronous is {name}, so a power cut can take back what was answered; leave it at full")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        lines.append(f"journal_mode is {mode}: the file system refuses WAL; put the database on a local disk")
    if line := network_line(place.path):
        lines.append(line)
    return lines


def network_line(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """What is wrong when the path lies on a network file system; empty when it does not, or nobody can say."""
    try:
        rows = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    best, sort = -1, ""
    target = path.resolve()
    for row in rows:
        left, _, right = row.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4])
        # Of two mounts on the same point the later one hides the earlier one.
        if target.is_relative_to(point) and len(point) >= best:
            best, sort = len(point), right.split()[0]
    if sort not in NETWORK_FILE_SYSTEMS:
        return ""
    return f"it lies on a network file system ({sort}), whose locks do not hold; put it on a local disk"


def _unsafe(place: Place, lines: list[str]) -> UnsafeStore:
    return UnsafeStore(f"{place.path}: {'; '.join(lines)} (or add unsafe=allow to the URL)")


_LOCKED: Final = "another process keeps it locked; look which one is stuck (fuser shows them), then try again"
_FORBIDDEN: Final = "cannot be written; mend the owner and mode of it and of its directory"
_MEANINGS: Final = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_READONLY: _FORBIDDEN,
    sqlite3.SQLITE_PERM: _FORBIDDEN,
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; mend the owner and mode of it and of its directory",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database; name another file, or move this one away",
    sqlite3.SQLITE_CORRUPT: "is damaged; move it away and restore a backup",
    sqlite3.SQLITE_FULL: "there is no room left; free some on its disk",
    sqlite3.SQLITE_IOERR: "the disk does not read or write; look at the system's log, then try again",
    sqlite3.SQLITE_NOMEM: "there is no memory left; free some",
}


def failure(path: Path, error: sqlite3.Error) -> StoreError:
    """The error of ours that says what this one of SQLite's means, in one line, with the mend."""
    code = getattr(error, "sqlite_errorcode", None)
    meaning = _MEANINGS.get(code & 0xFF) if code is not None else None
    if meaning is None:
        return StoreError(f"{path}: {error}")
    return StoreUnavailable(f"{path}: {meaning} (SQLite: {error})")
