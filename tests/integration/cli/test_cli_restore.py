"""Backups by the servers' own means, put back as docs/backup.md says: what was approved then does not run again."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Shop
from tests.integration.cli.test_cli_store import asked, work
from tests.servers import MongoServer, RedisServer, wait_until

pytestmark = pytest.mark.timeout(600)


def goes_on(shop: Shop, url: str, *, quarantined: bool) -> None:
    """Bring a restored store back to work; the call ran once before, and only the quarantine keeps it from running."""
    assert shop.ledger == ["0 120 "]
    if quarantined:
        told = shop("store", "quarantine", "--epoch", "restored", "--json", "--store", url)
        assert told.code == 0 and [(each["runs"], each["asked"]) for each in told.json] == [(1, 1)]
    assert shop("store", "check", "--store", url).code == 0
    work(url)
    assert shop.ledger == ["0 120 "] * (1 if quarantined else 2)


@pytest.mark.parametrize("how", ["backup", "vacuum into"])
def test_a_sqlite_file_is_backed_up_while_it_is_used(shop: Shop, how: str) -> None:
    """``.backup`` and ``VACUUM INTO`` of a live file; it goes back without the WAL of the one that was."""
    url = "sqlite:///a.db"
    asked(url, 1, approved=True)
    with sqlite3.connect("a.db") as live, sqlite3.connect("backup.db") as kept:
        if how == "backup":
            live.backup(kept)
        else:
            live.execute("VACUUM INTO 'backup.db'")
    work(url)
    for left in ("a.db", "a.db-wal", "a.db-shm"):
        Path(left).unlink(missing_ok=True)
    shutil.copy("backup.db", "a.db")
    shutil.copy("backup.db", "b.db")
    goes_on(shop, url, quarantined=True)
    goes_on(shop, "sqlite:///b.db", quarantined=False)


@pytest.mark.parametrize("quarantined", [True, False], ids=["quarantined", "not quarantined"])
def test_redis_is_backed_up_by_bgsave(shop: Shop, tmp_path: Path, quarantined: bool) -> None:
    """The RDB file is read by a server that begins without its log, which is then turned on."""
    with RedisServer(tmp_path / "first") as server:
        asked(server.url, 1, approved=True)
        client = server.client()
        client.bgsave()
        wait_until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], "the snapshot")
        work(server.url)
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(tmp_path / "first" / "dump.rdb", restored)
    with RedisServer(restored, settings={"appendonly": "no"}) as server:
        client = server.client()
        client.config_set("appendonly", "yes")
        wait_until(lambda: _logs(client), "the log")
        server.kill()
        server.settings["appendonly"] = "yes"
        server.start()
        goes_on(shop, server.url, quarantined=quarantined)


def _logs(client: object) -> bool:
    found = client.info("persistence")  # type: ignore[attr-defined]
    busy = found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"]
    return bool(found["aof_enabled"]) and not busy and found["aof_last_bgrewrite_status"] == "ok"


def test_a_redis_that_begins_with_its_log_reads_no_snapshot(shop: Shop, tmp_path: Path) -> None:
    """Why the page says so: it comes up empty, and would be taken for a store in which nothing ever was."""
    with RedisServer(tmp_path / "first") as server:
        asked(server.url, 1)
        server.client().save()
    (tmp_path / "restored").mkdir()
    shutil.copy(tmp_path / "first" / "dump.rdb", tmp_path / "restored")
    with RedisServer(tmp_path / "restored") as server:
        assert server.client().dbsize() == 0


@pytest.mark.parametrize("quarantined", [True, False], ids=["quarantined", "not quarantined"])
def test_the_mongodb_server_is_backed_up_by_its_files(shop: Shop, tmp_path: Path, quarantined: bool) -> None:
    """Those of a server that stands still, as a snapshot of its disk would hold them."""
    server = MongoServer(tmp_path / "server")
    url = f"{server.url}/governor?retryWrites=false"
    with server:
        asked(url, 1, approved=True)
    shutil.copytree(tmp_path / "server" / "data", tmp_path / "backup")
    with server:
        work(url)
    shutil.rmtree(tmp_path / "server" / "data")
    shutil.copytree(tmp_path / "backup", tmp_path / "server" / "data")
    with server:
        goes_on(shop, url, quarantined=quarantined)
