"""Settings that lose acknowledged decisions are refused in one line with the mend, all of them; who insists is audited.

What each of them loses is shown elsewhere: ``test_server_kills.py`` for Redis without its log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from governor_agents.cli.app import run as command_line
from governor_agents.errors import StoreError, StoreUnavailable, UnsafeStore
from governor_agents.stores import sqlite_file
from tests.faults.app import governed
from tests.servers import MongoServer, RedisServer, free_port

pytestmark = pytest.mark.timeout(600)
OVERRIDE = "unsafe=allow"


@dataclass(frozen=True)
class Unsafe:
    """A setting, what is said of it, and a store with it: its URL, which ends in options."""

    name: str
    says: str
    mend: str
    make: Callable[[Path, pytest.MonkeyPatch], AbstractAsyncContextManager[str]]
    opens: bool = True
    """False where no word of ours can make it work: nothing can be written, or nothing would be found."""


def redis(**settings: str) -> Any:
    @asynccontextmanager
    async def made(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[str]:
        names = {name.replace("_", "-"): value for name, value in settings.items()}
        with RedisServer(folder / "redis", settings=names) as server:
            yield f"{server.url}/0?namespace=t"

    return made


@asynccontextmanager
async def replica(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    with RedisServer(folder / "redis", settings={"replicaof": f"127.0.0.1 {free_port()}"}) as server:
        yield f"{server.url}/0?namespace=t"


@asynccontextmanager
async def partitions(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Made with four partitions, and opened as one of sixteen."""
    with RedisServer(folder / "redis") as server:
        async with governed(f"{server.url}/0?partitions=4"):
            pass
        yield f"{server.url}/0?partitions=16"


def mongo(options: str) -> Any:
    @asynccontextmanager
    async def made(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[str]:
        with MongoServer(folder / "mongodb") as server:
            yield f"{server.url}/governor?retryWrites=false&{options}"

    return made


@asynccontextmanager
async def file(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    yield f"sqlite:///{folder}/g.db?synchronous=normal"


@asynccontextmanager
async def share(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A folder that the system's table of mounts calls a share."""
    mounts = folder / "mountinfo"
    mounts.write_text(
        f"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 0:30 / {folder} rw - nfs4 server:/export rw,vers=4.2\n"
    )
    told = sqlite_file.network_line
    patch.setattr(sqlite_file, "network_line", lambda path: told(path, mounts))
    yield f"sqlite:///{folder}/g.db?busy_timeout=30000"


UNSAFE = [
    Unsafe("redis without its log", "appendonly is no", "CONFIG SET appendonly yes", redis(appendonly="no")),
    Unsafe(
        "redis that evicts",
        "maxmemory-policy is allkeys-lru",
        "CONFIG SET maxmemory-policy noeviction",
        redis(maxmemory_policy="allkeys-lru"),
    ),
    Unsafe("a read-only replica", "read-only replica", "name the master", replica, opens=False),
    Unsafe("foreign partitions", "spread over 4 partitions", "write partitions=4", partitions, opens=False),
    Unsafe("mongodb w=0", "w=0 forgets", "write w=majority", mongo("w=0")),
    Unsafe("mongodb w=1", "w=1 forgets", "write w=majority", mongo("w=1")),
    Unsafe("mongodb j=false", "j=false forgets", "write j=true", mongo("j=false")),
    Unsafe("sqlite synchronous", "synchronous is normal", "leave it at full", file),
    Unsafe("sqlite on a share", r"network file system (nfs4)", "local disk", share),
]


@pytest.mark.parametrize("unsafe", UNSAFE, ids=lambda each: each.name)
async def test_unsafe_settings_are_refused(
    unsafe: Unsafe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, with the mend, for the program and on the command line; ``unsafe=allow`` warns, and is audited."""
    async with unsafe.make(tmp_path, monkeypatch) as url:
        with pytest.raises(UnsafeStore) as refused:
            await governed(url).open()
        line = str(refused.value)
        assert unsafe.says in line and unsafe.mend in line and "\n" not in line and len(line) < 400, line
        assert OVERRIDE in line or not unsafe.opens, line
        capsys.readouterr()
        if "sqlite" not in url:  # of a file that is not there yet, the command line says that first
            assert await asyncio.to_thread(command_line, ["--store", url, "inbox", "list"]) == 2
            assert capsys.readouterr().err == f"governor-agents: {line}\n"
        if not unsafe.opens:
            with pytest.raises(StoreError) as still:
                await governed(f"{url}&{OVERRIDE}").open()
            assert isinstance(still.value, (UnsafeStore, StoreUnavailable)) and "\n" not in str(still.value)
            return
        with caplog.at_level(logging.WARNING):
            async with governed(f"{url}&{OVERRIDE}") as governor:
                (event,) = await governor.loop.bridge(governor.audit.newest(security=True, what="store.unsafe"))
                assert unsafe.says in event["detail"]
                assert not (await governor.loop.bridge(governor.audit.verify())).findings
                assert len(await governor.loop.bridge(governor.store.check())) == 1
        (warned,) = [each.getMessage() for each in caplog.records if OVERRIDE in each.getMessage()]
        assert unsafe.says in warned and "\n" not in warned


async def test_safe_settings_are_not_refused(tmp_path: Path) -> None:
    """The control: the same servers and file with nothing wrong open, and say nothing."""
    with RedisServer(tmp_path / "redis") as redis, MongoServer(tmp_path / "mongodb") as mongodb:
        for url in (f"{redis.url}/0", f"{mongodb.url}/governor?retryWrites=false", f"sqlite:///{tmp_path}/g.db"):
            async with governed(url) as governor:
                assert await governor.loop.bridge(governor.store.check()) == []
                assert await governor.loop.bridge(governor.audit.newest(security=True, what="store.unsafe")) == []
