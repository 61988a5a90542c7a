"""The file of the SQLite store: its URL, what cannot be used as one, its schema, its settings."""
# ruff: noqa: ASYNC240

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from governor_agents.core.ports import INDEX_FIELDS, Record
from governor_agents.errors import ConfigError, StoreError, StoreTooNew, StoreUnavailable, UnsafeStore
from governor_agents.stores import sqlite_file
from governor_agents.stores.sqlite import SQLiteStore, fewest, list_statement
from governor_agents.stores.sqlite_file import MIGRATIONS, SQL, Place, network_line, unsafe_lines
from tests.unit.sqlite.connection import Maker, connection_of

RECORD = Record("run", "t", "r", b"body")


# URLs


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///governor.db", "governor.db"),
        ("sqlite:///data/g.db", "data/g.db"),
        ("sqlite:///~/g.db", "~/g.db"),
        ("sqlite:///a%3Fb%25%20%C3%BC.db", "a?b% ü.db"),
    ],
)
def test_url_names_a_file(url: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes: below the current folder. The store's own URL is absolute, so it holds in every process."""
    monkeypatch.chdir(tmp_path)
    place = Place.of(url)
    assert place.path == Path.cwd() / path
    assert place.url.startswith("sqlite:////")
    monkeypatch.chdir("/")
    assert Place.of(place.url) == place


def test_url_with_four_slashes_is_absolute() -> None:
    """Four slashes: from the root."""
    assert Place.of("sqlite:////srv/g.db").path == Path("/srv/g.db")
    assert Place.of("sqlite:////srv/g.db").url == "sqlite:////srv/g.db"


def test_url_keeps_its_options() -> None:
    """The store's own URL opens it again with the same settings."""
    place = Place.of("sqlite:////srv/g.db?synchronous=EXTRA&busy_timeout=50&unsafe=allow")
    assert (place.synchronous, place.busy_timeout, place.unsafe) == ("extra", 50, True)
    assert Place.of(place.url) == place


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://governor.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///a%00b",
        "sqlite:///g.db?mode=ro",
        "sqlite:///g.db?unsafe=yes",
        "sqlite:///g.db?synchronous=sometimes",
        "sqlite:///g.db?busy_timeout=-1",
        "sqlite:///g.db?busy_timeout=long",
    ],
)
def test_url_that_cannot_be_used_is_refused(url: str) -> None:
    """Nothing is guessed and no option ignored."""
    with pytest.raises(ConfigError, match="sqlite://"):
        SQLiteStore(url)


# Files that cannot be used


async def refused(store: SQLiteStore, error: type[StoreError]) -> str:
    """The one line that opening it says."""
    with pytest.raises(StoreError) as caught:
        await store.open()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_open_says_that_the_folder_is_missing(tmp_path: Path) -> None:
    """No folder is made in passing: a mistyped path would become an empty store."""
    line = await refused(SQLiteStore(f"sqlite:///{tmp_path}/none/s.db"), StoreUnavailable)
    assert f"{tmp_path}/none is not a directory; create it" in line


async def test_open_says_that_a_file_stands_in_the_way(tmp_path: Path) -> None:
    """A path below a file cannot be created by anybody."""
    (tmp_path / "file").write_text("x")
    line = await refused(SQLiteStore(f"sqlite:///{tmp_path}/file/s.db"), StoreUnavailable)
    assert f"{tmp_path}/file is not a directory" in line


async def test_open_says_that_it_is_a_directory(tmp_path: Path) -> None:
    """A directory is not a database."""
    assert f"{tmp_path}: is a directory" in await refused(SQLiteStore(f"sqlite:///{tmp_path}"), StoreUnavailable)


async def test_open_says_that_it_is_no_database(file: Path, make: Maker) -> None:
    """A file of something else is refused and left as it was."""
    file.write_bytes(b"something else entirely\n" * 500)
    assert f"{file}: is not a SQLite database" in await refused(make(), StoreUnavailable)
    assert file.read_bytes() == b"something else entirely\n" * 500
    assert [each.name for each in file.parent.iterdir()] == [file.name]


async def test_damage_is_told_as_such(file: Path, make: Maker) -> None:
    """A database with a destroyed page says which file to replace."""
    store = make()
    await store.open()
    for number in range(50):
        await store.insert(replace(RECORD, id=f"r{number}", body=b"x" * 2000), op="a")
    await store.close()
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    store = make()
    with pytest.raises(StoreUnavailable, match=f"{file}: is damaged; move it away"):
        await store.open()
        await store.list("run", "t")


async def test_open_refuses_a_newer_schema_and_leaves_it_alone(file: Path, make: Maker) -> None:
    """An older program neither reads nor changes what a newer one wrote."""
    store = make()
    await store.open()
    await store.close()
    newer = max(MIGRATIONS) + 1
    with sqlite3.connect(file) as connection:
        connection.execute(SQL["migrated"], {"version": newer, "now": 0.0})
    connection.close()
    before = file.read_bytes()
    line = await refused(make(), StoreTooNew)
    assert f"{file}: schema version {newer} is newer than {newer - 1}" in line
    assert "upgrade" in line
    assert file.read_bytes() == before


async def test_open_failed_can_be_tried_again(tmp_path: Path) -> None:
    """Once the reason is gone, the same object opens."""
    store = SQLiteStore(f"sqlite:///{tmp_path}/later/s.db")
    await refused(store, StoreUnavailable)
    (tmp_path / "later").mkdir()
    await store.open()
    assert await store.check() == []
    await store.close()


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (
            lambda path: sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("CREATE TABLE t (c)"),
            "cannot be written",
        ),
        (lambda path: sqlite3.connect(path / "none").execute("SELECT 1"), "cannot be opened"),
        (lambda path: sqlite3.connect(path).execute("SELECT nonsense FROM nowhere"), "no such table"),
    ],
)
def test_errors_of_sqlite_are_told_in_our_words(break_it: Callable[[Path], Any], told: str, file: Path) -> None:
    """Each error that SQLite really raises becomes a line with the path."""
    sqlite3.connect(file).execute("CREATE TABLE t0 (c)")
    with pytest.raises(sqlite3.Error) as caught:
        break_it(file)
    failure = sqlite_file.failure(file, caught.value)
    assert str(failure).startswith(f"{file}: ")
    assert told in str(failure)


# Schema


async def test_migration_keeps_what_was_there(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of an older version is brought up to date once, with its records; any number may try at the same time."""
    store = make()
    await store.open()
    await store.insert(RECORD, op="a")
    await store.close()
    newer = max(MIGRATIONS) + 1
    script = "CREATE TABLE ga_new (c TEXT);\nINSERT INTO ga_new\nVALUES ('one; two');"
    monkeypatch.setitem(MIGRATIONS, newer, script)
    several = [make() for _ in range(8)]
    await asyncio.gather(*(each.open() for each in several))
    assert await several[0].load("run", "t", "r") == replace(RECORD, v=1)
    rows = await connection_of(several[1])(lambda connection: connection.execute("SELECT c FROM ga_new").fetchall())
    assert rows == [("one; two",)]
    assert await connection_of(several[2])(sqlite_file.schema_version) == newer


async def test_migration_gives_blobs_to_their_records(make: Maker, file: Path) -> None:
    """Content that was written when blobs had no owner goes to the records that name it; the rest is left out."""
    with sqlite3.connect(file) as before:
        for number in (1, 2):
            before.executescript(MIGRATIONS[number])
        before.execute(SQL["create_schema"])
        before.execute(SQL["migrated"], {"version": 2, "now": 0.0})
        for kind, id, body in (("run", "r", b"... digest1 ..."), ("run", "r2", b"..."), ("audit", "checkpoints", b"1")):
            before.execute(
                "INSERT INTO ga_record (kind, tenant, id, v, body, ops) VALUES (?, 't', ?, 1, ?, '')", (kind, id, body)
            )
        for digest in ("digest1", "page1"):
            before.execute("INSERT INTO ga_blob VALUES ('t', ?, ?)", (digest, digest.encode()))
    store = make()
    await store.open()
    assert await store.blob("run", "t", "r", "digest1") == b"digest1"
    assert await store.blob("run", "t", "r2", "digest1") is None
    assert await store.blob("audit", "t", "checkpoints", "page1") == b"page1"


async def test_migration_that_fails_changes_nothing(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a migration would be worse than none."""
    store = make()
    await store.open()
    await store.insert(RECORD, op="a")
    await store.close()
    with monkeypatch.context() as patch:
        patch.setitem(MIGRATIONS, max(MIGRATIONS) + 1, "CREATE TABLE ga_new (c);\nCREATE TABLE ga_new (c);")
        await refused(make(), StoreError)
    store = make()
    await store.open()
    assert await store.load("run", "t", "r") == replace(RECORD, v=1)
    tables = await connection_of(store)(
        lambda connection: connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ga_new'").fetchall()
    )
    assert tables == [(0,)]


async def test_open_raced_on_a_new_file_makes_one_store(make: Maker) -> None:
    """Objects of one process that open a new file together share it."""
    several = [make() for _ in range(8)]
    await asyncio.gather(*(each.open() for each in several))
    sums = await asyncio.gather(*(each.add_below("t", "c", 1, 100, op=str(at)) for at, each in enumerate(several)))
    assert sorted(sums) == list(range(1, 9))


async def test_open_at_once_by_several_tasks_opens_once(make: Maker) -> None:
    """Whoever comes second waits until it is open."""
    other = make()
    await asyncio.gather(*(other.open() for _ in range(5)))
    assert await other.load("run", "t", "r") is None


# Safe settings


async def test_new_files_are_for_their_owner_only(store: SQLiteStore, file: Path) -> None:
    """Conversations are nobody else's business, whatever the umask says."""
    before = os.umask(0)
    try:
        await store.insert(RECORD, op="a")
        found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in file.parent.iterdir()}
    finally:
        os.umask(before)
    assert found == {file.name + end: 0o600 for end in ("", "-wal", "-shm")}


async def test_settings_are_the_safe_ones(store: SQLiteStore) -> None:
    """WAL, and a flush for every commit."""

    def settings(connection: sqlite3.Connection) -> dict[str, Any]:
        names = ("journal_mode", "synchronous")
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    assert await connection_of(store)(settings) == {"journal_mode": "wal", "synchronous": 2}
    assert await store.check() == []


@pytest.mark.parametrize("level", ["off", "normal"])
async def test_open_refuses_settings_that_lose_writes(level: str, file: Path, make: Maker) -> None:
    """One line that says what is wrong and the way out; with the explicit word it opens, and ``check`` still tells."""
    line = await refused(make(f"?synchronous={level}"), UnsafeStore)
    assert line.startswith(f"{file}: synchronous is {level}")
    store = make(f"?synchronous={level}&unsafe=allow")
    await store.open()
    assert [line.partition(",")[0] for line in await store.check()] == [f"synchronous is {level}"]


def test_check_finds_another_journal_mode(file: Path) -> None:
    """A file system that refuses WAL shows as another journal mode."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")
    (line,) = unsafe_lines(connection, Place.of(f"sqlite:///{file}"))
    connection.close()
    assert line.startswith("journal_mode is delete")


MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:30 / /mnt/share rw shared:2 master:1 - nfs4 server:/export rw,vers=4.2
23 22 8:2 / /mnt/share/local\\040disk rw - xfs /dev/sdb1 rw
24 21 0:31 / /mnt/stick rw - vfat /dev/sdc1 rw
25 24 0:32 / /mnt/stick rw - fuse.sshfs user@host: rw
26 21 0:33 / /mnt/sharep rw - ext4 /dev/sdd1 rw
27 21 0:34 / /host rw - 9p share rw
"""


@pytest.mark.parametrize(
    ("path", "sort"),
    [
        ("/srv/g.db", ""),
        ("/mnt/share/g.db", "nfs4"),
        ("/mnt/share/deep/down/g.db", "nfs4"),
        ("/mnt/share/local disk/g.db", ""),
        ("/mnt/sharep/g.db", ""),
        ("/mnt/stick/g.db", "fuse.sshfs"),
        ("/host/g.db", "9p"),
    ],
)
def test_check_finds_network_file_systems(path: str, sort: str, tmp_path: Path) -> None:
    """The mount that holds the file decides: the deepest, and of two on one point the later."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    line = network_line(Path(path), mounts)
    assert bool(line) is bool(sort)
    assert f"({sort})" in line or not sort


def test_check_passes_where_nobody_can_say(tmp_path: Path) -> None:
    """Systems without a table of mounts are not refused."""
    assert network_line(tmp_path, tmp_path / "none") == ""


async def test_open_refuses_a_network_file_system_untouched(
    file: Path, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even an empty file is made there; with the explicit word it opens."""
    monkeypatch.setattr(sqlite_file, "network_line", lambda path: "it lies on a network file system (nfs)")
    assert "network file system (nfs)" in await refused(make(), UnsafeStore)
    assert list(file.parent.iterdir()) == []
    store = make("?unsafe=allow")
    await store.open()
    assert await store.check() == ["it lies on a network file system (nfs)"]


# Queries


def test_queries_go_through_indexes(file: Path) -> None:
    """No query walks a table or sorts, whichever fields are asked for: a million records cost what ten do."""
    sqlite_file.connect(Place.of(f"sqlite:///{file}")).close()
    connection = sqlite3.connect(file)
    values = dict.fromkeys(INDEX_FIELDS, "x") | {"kind": "run", "tenant": "t", "id": "r", "limit": 10}
    values |= {"digest": "d", "op": "o", "after_tenant": "t", "now": 9.0, "after_due": 1.0, "after_id": "a"}
    queries = [(SQL[name], 0) for name in ("due", "events", "load", "scan", "blob", "blobs", "counter")]
    for size in range(len(INDEX_FIELDS) + 1):
        queries += [(list_statement(frozenset(fields)), "a") for fields in combinations(sorted(INDEX_FIELDS), size)]
    for query, after in queries:
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + query, values | {"after": after})]
        assert len(plan) == 1, query
        assert plan[0].startswith("SEARCH "), (query, plan)
    for name in sorted(INDEX_FIELDS):
        query = "EXPLAIN QUERY PLAN " + SQL["count"].replace("{field}", name)
        plan = [row[3] for row in connection.execute(query, values | {"after": "a", "most": 10})]
        assert any(line.startswith(f"SEARCH ga_record USING COVERING INDEX ga_record_{name} ") for line in plan), plan
    connection.close()


async def test_a_list_goes_through_the_field_that_leaves_the_fewest(file: Path) -> None:
    """Of many records of one agent a few are blocked: they are found by that, whichever field is the rarer in general."""
    store = SQLiteStore(f"sqlite:///{file}")
    await store.open()
    states = ["blocked"] * 3 + ["waiting"] * 1_100
    records = [
        Record("run", "t", f"r{at:05}", b"", {"agent": "support" if at % 2 else "sales", "state": state})
        for at, state in enumerate(states * 2)
    ]
    await asyncio.gather(*(store.insert(record, op=record.id) for record in records))
    connection = sqlite3.connect(file)
    wanted = {"kind": "run", "tenant": "t", "after": "", "agent": "support", "state": "blocked"}
    names = ("agent", "state")
    assert fewest(connection, names, wanted) == "state"
    assert fewest(connection, names, wanted | {"state": "waiting"}) == "agent", "1,103 of one, 2,200 of the other"
    assert fewest(connection, names, wanted | {"agent": "nobody"}) == "agent"
    connection.close()
    found = await store.list("run", "t", {"agent": "support", "state": "blocked"})
    assert [record.id for record in found] == ["r00001", "r01103", "r01105"]
    await store.close()
