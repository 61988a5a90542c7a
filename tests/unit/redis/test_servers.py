"""The Redis store follows its records: over a cluster that moves its slots or fails over, and behind Sentinels."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from governor_agents.core.ports import Record, Swapped
from governor_agents.errors import StoreUnavailable, UnsafeStore
from governor_agents.stores import open_store
from governor_agents.stores.redis import RedisStore
from tests.servers import NoServer, RedisCluster, RedisServer, redis_binary, wait_until
from tests.unit.redis.stored import RECORD, store_at

AT_ONCE = {"repl-diskless-sync-delay": "0"}


async def until_won(store: RedisStore, v: int, op: str) -> Swapped:
    """The answer of a swap that is sent again under its op until the store is there."""
    while True:
        try:
            return await store.swap(replace(RECORD, v=v), op=op)
        except StoreUnavailable:
            await asyncio.sleep(0.02)


async def insisted(store: RedisStore, record: Record, op: str) -> None:
    """Write the next version of a record, under one op until there is an answer, which must be that it stands."""
    while True:
        try:
            answer = await (store.swap(record, op=op) if record.v else store.insert(record, op=op))
        except StoreUnavailable:
            await asyncio.sleep(0.02)
        else:
            assert answer == Swapped(won=True, v=record.v + 1)
            return


# A cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster of this file's own."""
    with RedisCluster(tmp_path_factory.mktemp("cluster"), settings=AT_ONCE) as cluster:
        yield cluster


class Moving:
    """One slot on its way from the node that has it to another."""

    def __init__(self, cluster: RedisCluster, key: bytes) -> None:
        self.slot = key_slot(key)
        self.nodes = [node.client() for node in cluster.nodes]
        self.ports = [node.port for node in cluster.nodes]
        self.ids = [client.execute_command("CLUSTER", "MYID").decode() for client in self.nodes]
        [self.of] = [at for at, client in enumerate(self.nodes) if self._counts(client) is not None]
        self.to = (self.of + 1) % 3

    def _counts(self, client: Any) -> int | None:
        slots = client.execute_command("CLUSTER", "SLOTS")
        rows = slots if isinstance(slots, list) else [[*span, [*row["primary"]]] for span, row in slots.items()]
        mine = client.execute_command("CLUSTER", "MYID").decode()
        for row in rows:
            first, last, (*_, name) = int(row[0]), int(row[1]), row[2][:3]
            if first <= self.slot <= last:
                return 1 if (name.decode() if isinstance(name, bytes) else name) == mine else None
        return None

    def begin(self) -> None:
        """From now on keys that are not there any more are asked for at the other node."""
        self._set(self.to, "IMPORTING", self.ids[self.of])
        self._set(self.of, "MIGRATING", self.ids[self.to])

    def move(self, *keys: bytes) -> None:
        """Take these keys over, or all."""
        found = keys or self.nodes[self.of].execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, 1000)
        self.nodes[self.of].execute_command("MIGRATE", "127.0.0.1", self.ports[self.to], "", 0, 5000, "KEYS", *found)

    def end(self) -> None:
        """The other node has the slot."""
        for at in (self.to, self.of, 3 - self.to - self.of):
            self._set(at, "NODE", self.ids[self.to])

    def _set(self, at: int, *words: str) -> None:
        self.nodes[at].execute_command("CLUSTER", "SETSLOT", self.slot, *words)


@pytest.mark.parametrize("scripting", ["auto", "no"])
async def test_store_follows_a_slot_that_moves(cluster: RedisCluster, scripting: str) -> None:
    """While its keys are on two nodes a record can be read and not written; then all goes on, each write once."""
    async with store_at(cluster.url, partitions=1, scripting=scripting) as store:
        assert store._client is not None
        keys = store._client.keys
        moving = Moving(cluster, keys.clock(0))
        moving.begin()
        moving.move(keys.record("run", "t", "r"))
        assert await store.load("run", "t", "r") == replace(RECORD, v=1)
        with pytest.raises(StoreUnavailable, match="moving these keys"):
            await store.swap(replace(RECORD, v=1), op="b")
        moving.move()
        moving.end()
        assert await store.swap(replace(RECORD, v=1), op="b") == Swapped(won=True, v=2)
        assert [each.v for each in await store.list("run", "t", {"state": "s"})] == [2]


def take_over(node: RedisServer, whole: RedisCluster, of: RedisServer, *how: str) -> None:
    """Make a replica the master in place of another node: in good order, or by a ``TAKEOVER`` that asks nobody.

    In good order what was answered is not lost; but the others vote for one such change in half a minute only.
    """
    with contextlib.closing(node.client()) as client, contextlib.closing(of.client()) as old:
        mine = client.execute_command("CLUSTER", "MYID").decode()

        def known(each: RedisServer) -> bool:
            with contextlib.closing(each.client()) as asked:
                told = asked.cluster("nodes").values()
            return any(one["node_id"] == mine and "slave" in one["flags"] for one in told)

        def taken() -> bool:
            if client.info("replication")["role"] == "master":
                return old.info("replication")["role"] == "slave"
            client.execute_command("CLUSTER", "FAILOVER", *how)
            until = time.monotonic() + 6  # after five seconds the replica gives it up, and is asked again
            with contextlib.suppress(NoServer):
                wait_until(
                    lambda: client.info("replication")["role"] == "master",
                    "the new master",
                    lambda: "not this time" if time.monotonic() > until else "",
                )
            return False

        for each in whole.nodes:  # who does not know it yet would not vote for it
            wait_until(lambda each=each: each is node or known(each), "the others")
        wait_until(taken, "the failover")


@contextlib.contextmanager
def replica_of(cluster: RedisCluster, at: int, folder: Path, settings: dict[str, str]) -> Iterator[RedisServer]:
    """A fourth node that follows one of the three; it leaves the cluster again."""
    of = cluster.nodes[at]
    more = {**of.settings, **settings}
    with RedisServer(folder, settings=more) as node, contextlib.closing(node.client()) as client:
        name = of.client().execute_command("CLUSTER", "MYID").decode()
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", of.port)
        wait_until(lambda: name in str(client.execute_command("CLUSTER", "NODES")), "the meeting")
        wait_until(lambda: bool(client.execute_command("CLUSTER", "REPLICATE", name)), "the replica's place")
        wait_until(lambda: client.info("replication").get("master_link_status") == "up", "the replica")
        try:
            yield node
        finally:
            mine = client.execute_command("CLUSTER", "MYID").decode()
            with contextlib.closing(of.client()) as old:
                wait_until(lambda: old.info("replication").get("master_link_status") == "up", "the old master")
            take_over(of, cluster, node, "TAKEOVER")
    for each in cluster.nodes:
        each.client().execute_command("CLUSTER", "FORGET", mine)
    wait_until(cluster.ready, "the cluster")


async def test_store_follows_a_failover(cluster: RedisCluster, tmp_path: Path) -> None:
    """A replica takes over while one writes: every write counts once, in order, and none is lost that was answered."""
    with replica_of(cluster, 0, tmp_path, {}) as replica:
        async with store_at(cluster.url) as store:
            over = asyncio.ensure_future(asyncio.to_thread(take_over, replica, cluster, cluster.nodes[0]))
            written = 0
            while written < 60 or not over.done():
                id = f"r{written:05}"
                for v in range(3):
                    await insisted(store, replace(RECORD, id=id, v=v), f"{id} {v}")
                written += 1
            await over
            for number in range(written):
                current = await store.load("run", "t", f"r{number:05}")
                assert current is not None and current.v == 3
            assert len(await store.list("run", "t", {"state": "s"}, limit=10_000)) == written + 1


async def test_unsafe_server_that_takes_over_is_refused(cluster: RedisCluster, tmp_path: Path) -> None:
    """Its settings are looked at before it is written to, though the store has been open for long."""
    with replica_of(cluster, 0, tmp_path, {"maxmemory-policy": "allkeys-lru"}) as replica:
        async with store_at(cluster.url) as store:
            take_over(replica, cluster, cluster.nodes[0], "TAKEOVER")
            with pytest.raises(UnsafeStore, match=rf"{replica.port}: maxmemory-policy is allkeys-lru"):
                for number in range(200):
                    with contextlib.suppress(StoreUnavailable):
                        await store.insert(replace(RECORD, id=f"r{number}"), op="a")


async def test_a_node_that_is_away_is_unavailable(cluster: RedisCluster) -> None:
    """What it has can neither be read nor written, the rest can; when it is back all goes on."""
    async with store_at(cluster.url) as store:
        names = [f"r{number}" for number in range(30)]
        for id in names:
            await store.insert(replace(RECORD, id=id), op="a")
        cluster.kill(1)
        answers = await asyncio.gather(*(store.load("run", "t", id) for id in names), return_exceptions=True)
        assert {type(each) for each in answers} == {Record, StoreUnavailable}
        with pytest.raises(StoreUnavailable):
            await store.list("run", "t")
        cluster.start(1)
        assert len(await store.list("run", "t")) == 31


# Sentinels


class Sentinel(RedisServer):
    """A Sentinel that watches one master and changes it soon."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(folder)
        self.master = master

    def command(self) -> Sequence[str]:
        lines = (
            f"bind 127.0.0.1\nport {self.port}\nsentinel monitor mymaster 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n"
        )
        (self.folder / "sentinel.conf").write_text(lines)
        return [redis_binary(), str(self.folder / "sentinel.conf"), "--sentinel"]


@pytest.mark.timeout(240)
async def test_store_follows_the_sentinels(tmp_path: Path) -> None:
    """The master is killed, the Sentinel names the replica: the same store object goes on, and wakes, with it."""
    with contextlib.ExitStack() as servers:
        one = servers.enter_context(RedisServer(tmp_path / "one", settings=AT_ONCE))
        following = {**AT_ONCE, "replicaof": f"127.0.0.1 {one.port}"}
        two = servers.enter_context(RedisServer(tmp_path / "two", settings=following))
        with contextlib.closing(two.client()) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica")
        (tmp_path / "sentinel").mkdir()
        sentinel = servers.enter_context(Sentinel(tmp_path / "sentinel", one))
        asked = sentinel.client()
        wait_until(lambda: len(asked.sentinel_slaves("mymaster")) == 1, "the Sentinel's list of replicas")
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}"
        with pytest.raises(StoreUnavailable, match="know no master called other"):
            await open_store(f"{url}/other").open()
        async with store_at(f"{url}/mymaster", min_replicas=1, timeout=2) as store:
            before = await store.now()
            one.kill()
            with pytest.raises(StoreUnavailable):
                await store.load("run", "t", "r")
            wait_until(lambda: asked.sentinel_get_master_addr_by_name("mymaster")[1] == two.port, "the failover")
            with contextlib.closing(two.client()) as client:
                wait_until(lambda: client.info("replication")["role"] == "master", "the new master")
            one.start()  # as a replica of the other, by the Sentinel's word
            assert await until_won(store, 1, "b") == Swapped(won=True, v=2)
            assert await store.now() >= before
            async with store_at_same(store) as other:
                while await store.wait(0.1):
                    pass
                waiting = asyncio.ensure_future(store.wait(3600))
                await until_won(other, 2, "c")
                assert await waiting is True


@contextlib.asynccontextmanager
async def store_at_same(store: RedisStore) -> AsyncIterator[RedisStore]:
    """A second object over the same records."""
    other = RedisStore(store.url)
    await other.open()
    yield other
    await other.close()
