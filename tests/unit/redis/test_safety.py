"""The start-up check of the Redis store, on real servers: what it refuses, and that the command it names mends it."""

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Governor
from governor_agents.core.ports import Record
from governor_agents.errors import StoreError, StoreTooNew, StoreUnavailable, UnsafeStore
from governor_agents.stores import open_store
from governor_agents.stores.redis import RedisStore
from tests.servers import RedisCluster, RedisServer

RECORD = Record("run", "t", "r", b"body")


@pytest.fixture
def settings(server: RedisServer) -> Iterator[RedisServer]:
    """The server; its settings are those of before when the test ends."""
    yield server
    with contextlib.closing(server.client()) as client:
        for name in ("appendonly", "appendfsync", "maxmemory-policy"):
            client.config_set(name, server.SAFE[name])
        client.execute_command("REPLICAOF", "NO", "ONE")


def fresh(server: RedisServer, **options: object) -> str:
    """A URL of a namespace that nobody used."""
    return f"{server.url}?" + "&".join(f"{k}={v}" for k, v in {"namespace": secrets.token_hex(6), **options}.items())


async def opened(url: str) -> list[str]:
    """Open a store, check it, close it."""
    store = open_store(url)
    try:
        await store.open()
        return await store.check()
    finally:
        await store.close()


async def test_safe_settings_are_safe(server: RedisServer) -> None:
    """The control: what all other tests begin with is let in."""
    assert await opened(fresh(server)) == []


UNSAFE = {
    ("appendonly", "no"): "a crash loses what was answered",
    ("maxmemory-policy", "allkeys-lru"): "throws approvals away",
    ("maxmemory-policy", "volatile-ttl"): "throws approvals away",
    ("appendfsync", "no"): "a power cut takes back",
}


@pytest.mark.parametrize("setting", UNSAFE)
async def test_unsafe_setting_is_refused_with_its_mend(settings: RedisServer, setting: tuple[str, str]) -> None:
    """One line says which setting, why, and the very command that makes it safe."""
    with contextlib.closing(settings.client()) as client:
        client.config_set(*setting)
        with pytest.raises(UnsafeStore, match=UNSAFE[setting]) as caught:
            await opened(fresh(settings))
        line = str(caught.value)
        assert "\n" not in line and f"{setting[0]} is {setting[1]}" in line and "unsafe=allow" in line
        [command] = re.findall(r"CONFIG SET [a-z-]+ [a-z]+", line)
        client.execute_command(*command.split())
    assert await opened(fresh(settings)) == []


async def test_everysec_is_let_in_unless_the_url_asks_for_more(settings: RedisServer) -> None:
    """It loses nothing when the server is killed; who minds a power cut says so."""
    with contextlib.closing(settings.client()) as client:
        client.config_set("appendfsync", "everysec")
        assert await opened(fresh(settings)) == []
        with pytest.raises(UnsafeStore, match="the URL asks for always; CONFIG SET appendfsync always"):
            await opened(fresh(settings, appendfsync="always"))
        client.config_set("appendfsync", "always")
        assert await opened(fresh(settings, appendfsync="always")) == []


async def test_always_is_always(settings: RedisServer) -> None:
    """A setting that rests the flushing while the file is rewritten is refused by who asks for always."""
    with contextlib.closing(settings.client()) as client:
        client.config_set("no-appendfsync-on-rewrite", "yes")
        try:
            assert await opened(fresh(settings)) == []
            with pytest.raises(UnsafeStore, match="CONFIG SET no-appendfsync-on-rewrite no"):
                await opened(fresh(settings, appendfsync="always"))
        finally:
            client.config_set("no-appendfsync-on-rewrite", "no")
    assert await opened(fresh(settings, appendfsync="always")) == []


async def test_where_config_is_forbidden_info_is_enough(settings: RedisServer) -> None:
    """Managed servers let nobody read their configuration; what INFO says is checked all the same."""
    with contextlib.closing(settings.client()) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-config")
        url = fresh(settings).replace("redis://", "redis://app:pw@")
        assert await opened(url) == []
        with pytest.raises(UnsafeStore, match="appendfsync cannot be seen"):
            await opened(f"{url}&appendfsync=always")
        client.config_set("appendonly", "no")
        with pytest.raises(UnsafeStore, match="appendonly is no"):
            await opened(url)


async def test_replica_is_refused(settings: RedisServer, tmp_path: Path) -> None:
    """It would take no write, and show yesterday's records."""
    with RedisServer(tmp_path) as replica, contextlib.closing(replica.client()) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", settings.port)
        with pytest.raises(UnsafeStore, match="role is slave, a read-only replica"):
            await opened(fresh(replica))
        client.execute_command("REPLICAOF", "NO", "ONE")
        assert await opened(fresh(replica)) == []


async def test_all_that_is_unsafe_is_said_at_once(settings: RedisServer) -> None:
    """Nobody has to start four times to find four settings."""
    with contextlib.closing(settings.client()) as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-random")
    with pytest.raises(UnsafeStore, match=r"appendonly is no.*; maxmemory-policy is allkeys-random"):
        await opened(fresh(settings))


async def test_refused_store_was_not_touched(settings: RedisServer) -> None:
    """Not a key is written to a server that is refused."""
    with contextlib.closing(settings.client()) as client:
        client.config_set("appendonly", "no")
        before = client.dbsize()
        with pytest.raises(UnsafeStore):
            await opened(fresh(settings))
        assert client.dbsize() == before


async def noted(governor: Governor) -> list[dict[str, Any]]:
    """What the audit log says of unsafe stores."""
    events = governor.audit.newest(security=True, what="store.unsafe")
    found: list[dict[str, Any]] = await governor.loop.bridge(events)
    return found


async def test_unsafe_allow_goes_on_and_is_audited(settings: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """On somebody's word: with a warning, a line of ``check`` for each setting, and an event in the audit log."""
    with contextlib.closing(settings.client()) as client:
        client.config_set("appendonly", "no")
    url = fresh(settings, unsafe="allow")
    [line] = await opened(url)
    assert line.startswith("appendonly is no")
    governor = Governor(store=url)
    with caplog.at_level(logging.WARNING, "governor_agents"):
        await governor.open()
    [event] = await noted(governor)
    await governor.close()
    assert "appendonly is no" in event["detail"]
    assert any("unsafe=allow" in record.getMessage() for record in caplog.records)


async def test_safe_store_is_not_audited_as_unsafe(server: RedisServer) -> None:
    """The control: the event says something."""
    governor = Governor(store=fresh(server, unsafe="allow"))
    await governor.open()
    assert await noted(governor) == []
    await governor.close()


@contextlib.asynccontextmanager
async def older(server: RedisServer, version: bytes) -> AsyncIterator[int]:
    """A port behind which the server says that it is of this version."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                found = re.search(rb"redis_version:(\S+)", data) if change else None
                if found is not None:
                    data = data.replace(found[1], version.ljust(len(found[1]))[: len(found[1])], 1)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, back, False), pump(there, writer, True))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        yield proxy.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("version", "good"), [(b"5.0.9", False), (b"6.0.9", False), (b"6.2.1", True), (b"7.2.4", True)]
)
async def test_old_server_is_refused(server: RedisServer, version: bytes, good: bool) -> None:
    """It lacks commands that we use; nothing makes up for that."""
    async with older(server, version) as port:
        url = fresh(server, unsafe="allow").replace(str(server.port), str(port))
        if good:
            assert await opened(url) == []
        else:
            with pytest.raises(StoreUnavailable, match=rf"{version.decode()}.*6\.2 is the oldest"):
                await opened(url)


async def test_partitions_are_those_of_the_first_day(server: RedisServer) -> None:
    """Another count would look for records where they are not; not even ``unsafe=allow`` opens that."""
    url = fresh(server, partitions=4)
    store = open_store(url)
    await store.open()
    await store.insert(RECORD, op="a")
    await store.close()
    with pytest.raises(UnsafeStore, match="spread over 4 partitions; write partitions=4, or leave it out"):
        await opened(url.replace("partitions=4", "partitions=8&unsafe=allow"))
    plain = open_store(url.replace("&partitions=4", ""))
    await plain.open()
    assert await plain.load("run", "t", "r") is not None
    await plain.close()


async def test_newer_layout_is_refused(server: RedisServer) -> None:
    """What a newer version wrote is left to it."""
    url = fresh(server)
    await opened(url)
    key = f"{{{url.partition('namespace=')[2]}:0}}:store"
    with contextlib.closing(server.client()) as client:
        client.hset(key, "schema", "2")
        with pytest.raises(StoreTooNew, match=r"layout 2 .* newer than 1"):
            await opened(url)
        assert client.hget(key, "schema") == b"2"


@pytest.mark.parametrize("foreign", [("set", "x"), ("rpush", "x"), ("hset", "name", "x")])
async def test_foreign_namespace_is_refused(server: RedisServer, foreign: tuple[str, ...]) -> None:
    """Where something else lies, nothing of ours is put beside it."""
    url = fresh(server)
    key = f"{{{url.partition('namespace=')[2]}:0}}:store"
    with contextlib.closing(server.client()) as client:
        client.execute_command(foreign[0], key, *foreign[1:])
        before = client.dump(key)
        with pytest.raises(StoreError, match="namespace"):
            await opened(url)
        assert client.dump(key) == before


async def test_every_node_of_a_cluster_is_checked(tmp_path: Path) -> None:
    """One unsafe node among three is found and named; a node spoken to as a server alone is found out."""
    with RedisCluster(tmp_path) as cluster:
        last = cluster.nodes[2]
        assert await opened(cluster.url) == []
        with contextlib.closing(last.client()) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(UnsafeStore, match=rf"127\.0\.0\.1:{last.port}: maxmemory-policy is allkeys-lru"):
            await opened(cluster.url)
        with pytest.raises(UnsafeStore, match=r"begin the URL with redis\+cluster"):
            await opened(cluster.nodes[0].url)


async def test_a_server_alone_is_no_cluster(server: RedisServer) -> None:
    """Asked as one, it is refused with the mend."""
    with pytest.raises(StoreUnavailable, match="no node of a cluster; begin the URL with redis"):
        await opened(f"redis+cluster://127.0.0.1:{server.port}")


async def test_check_of_an_open_store_sees_a_change(settings: RedisServer) -> None:
    """Somebody may spoil the settings later; ``check`` asks anew."""
    store = open_store(fresh(settings))
    assert isinstance(store, RedisStore)
    await store.open()
    with contextlib.closing(settings.client()) as client:
        client.config_set("appendonly", "no")
    [line] = await store.check()
    assert line.startswith("appendonly is no")
    await store.close()
