"""A Redis Cluster that fails over while it is written to: only typed errors, all goes on, each run is run once.

The failover is one that is asked for, in which nothing acknowledged is lost. (In one that a dead master causes, Redis
itself may lose what it had not yet copied: docs/redis.md; then only going on is promised.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from governor_agents.core.ports import Record, StoredEvent
from governor_agents.errors import StoreUnavailable
from governor_agents.stores import open_store
from tests.faults.shop import Shop, working
from tests.servers import RedisCluster, RedisServer, wait_until

pytestmark = pytest.mark.timeout(600)
TURNS = 2


@dataclass
class Pair:
    """A cluster whose first part has two servers, which change places."""

    cluster: RedisCluster
    servers: list[RedisServer]

    @property
    def url(self) -> str:
        return self.cluster.url

    def role(self, server: RedisServer) -> str:
        return str(server.client().role()[0].decode())

    def change(self) -> None:
        """The replica becomes the master; it is one, and the other its replica, when this returns."""
        (replica,) = [server for server in self.servers if self.role(server) == "slave"]
        asked = 0.0

        def took_over() -> bool:
            nonlocal asked
            if self.role(replica) == "master":
                return True
            if time.monotonic() - asked > 6.0:  # a failover that found no majority is given up by itself after 5 s
                asked = time.monotonic()
                replica.client().execute_command("CLUSTER FAILOVER")
            return False

        wait_until(took_over, "the new master")
        wait_until(self.whole, "the old master as a replica")

    def whole(self) -> bool:
        """One master, and a replica that has all of it."""
        roles = {self.role(server): server for server in self.servers}
        return set(roles) == {"master", "slave"} and roles["slave"].client().info()["master_link_status"] == "up"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("cluster")
    settings = {"cluster-node-timeout": "5000"}
    more = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", **settings}
    with RedisCluster(folder, settings=settings) as cluster, RedisServer(folder / "more", settings=more) as replica:
        first, client = cluster.nodes[0], replica.client()
        client.execute_command("CLUSTER MEET", "127.0.0.1", first.port)
        wait_until(lambda: client.cluster("info")["cluster_known_nodes"] == "4", "the replica among the nodes")
        mine = client.execute_command("CLUSTER MYID").decode()
        for node in cluster.nodes:  # who does not know it does not vote for it
            wait_until(lambda node=node: mine in str(node.client().execute_command("CLUSTER NODES")), "the others")
        client.execute_command("CLUSTER REPLICATE", first.client().execute_command("CLUSTER MYID"))
        made = Pair(cluster, [first, replica])
        wait_until(made.whole, "the replica")
        yield made


async def test_writes_go_through_a_failover(pair: Pair) -> None:
    """Writers on all parts of the cluster: every acknowledged write stands, none stands twice, other errors are none."""
    store, stop, met = open_store(f"{pair.url}?timeout=2"), asyncio.Event(), 0
    await store.open()

    async def writes(name: str) -> int:
        nonlocal met
        v = 0
        while not stop.is_set():
            made = Record("run", "t", name, b"%d" % v, v=v)
            write = store.swap if v else store.insert
            while True:
                try:
                    answer = await write(made, op=f"{name} {v}", events=[StoredEvent(v + 1, made.body)])
                    break
                except StoreUnavailable:
                    met += 1
                    await asyncio.sleep(0.02)
            assert answer.won, (name, v, answer)
            v += 1
        return v

    names = [f"writer {n}" for n in range(6)]
    writing = [asyncio.create_task(writes(name)) for name in names]
    for _ in range(TURNS):
        await asyncio.to_thread(pair.change)
        await asyncio.sleep(0)
    stop.set()
    for name, wrote in zip(names, await asyncio.gather(*writing), strict=True):
        record = await store.load("run", "t", name)
        assert record is not None and (record.v, record.body) == (wrote, b"%d" % (wrote - 1))
        assert len(await store.events("run", "t", name, limit=100_000)) == wrote > 0
    await store.close()


async def test_a_worker_goes_through_a_failover(pair: Pair) -> None:
    """Runs that are approved before, while and after the parts change places: each is run once."""
    shop = Shop(f"{pair.url}?timeout=2")
    async with shop.governor, working(shop):
        for turn in range(TURNS):
            runs = [await shop.approved(10 * turn + n) for n in range(3)]
            changing = asyncio.create_task(asyncio.to_thread(pair.change))
            runs += [await shop.approved(10 * turn + 5 + n) for n in range(3)]
            for run in runs:
                assert (await shop.end(run)).status == "completed"
            await changing
    assert sorted(shop.ran) == [10 * turn + n for turn in range(TURNS) for n in (0, 1, 2, 5, 6, 7)]
