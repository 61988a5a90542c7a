"""One set of servers for a whole test session, whatever processes it consists of; each is started when first asked for.

Whoever begins the session (pytest's controller, a suite's command line) calls `begin`; workers and children find its folder
in the environment. Whoever needs a server first starts a keeper for it: ``python -m tests.shared NAME FOLDER``, a process
that runs the server, and ends it and removes the folder when the beginner is gone, however it went: the keeper waits for a
lock that the beginner holds, and the kernel ends the server with its keeper.

The server that stands for MongoDB is a beta and can hang. Its keeper looks after it: when a write has no answer in
`PATIENCE` seconds, it is killed and started again, over the same data. `at_fault` says so to a test that failed meanwhile
(`tests/conftest.py` runs such a test once more).

``GOVERNOR_TEST_REDIS_URL``, ``GOVERNOR_TEST_REDIS_CLUSTER_URL`` and ``GOVERNOR_TEST_MONGODB_URI`` name servers of one's own
instead.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tests.servers import MongoServer, NoServer, RedisCluster, RedisServer

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "GOVERNOR_TEST_SERVERS"
SERVERS = {"redis": RedisServer, "redis-cluster": RedisCluster, "mongodb": MongoServer}
OWN = {
    "redis": "GOVERNOR_TEST_REDIS_URL",
    "redis-cluster": "GOVERNOR_TEST_REDIS_CLUSTER_URL",
    "mongodb": "GOVERNOR_TEST_MONGODB_URI",
}
PATIENCE = 30.0
"""Seconds without an answer after which a server hangs: far more than a busy machine needs, far less than a test may take."""
LOOK = 5.0
"""Seconds between two looks."""

_held: list[IO[bytes]] = []
_keepers: list[subprocess.Popen[bytes]] = []


def begin() -> None:
    """Begin a session here, unless this process belongs to one. It ends with this process."""
    if FOLDER in os.environ:
        return
    folder = Path(tempfile.mkdtemp(prefix="governor-agents-servers-"))
    owner = (folder / "owner").open("wb")  # open until the end: the lock goes with it
    fcntl.lockf(owner, fcntl.LOCK_EX)
    _held.append(owner)
    os.environ[FOLDER] = str(folder)
    atexit.register(_end, folder, os.getpid())


def _end(folder: Path, pid: int) -> None:
    """Let the keepers go, and return when they have."""
    if os.getpid() != pid:  # a child that was forked off has this too
        return
    os.environ.pop(FOLDER, None)
    keepers = [(folder / name).open("ab") for name in SERVERS if (folder / name).exists()]
    _held.pop().close()
    for keeper in keepers:
        fcntl.lockf(keeper, fcntl.LOCK_EX)
        keeper.close()
    shutil.rmtree(folder, ignore_errors=True)


def url(name: str) -> str:
    """Where this session's server is: ``redis``, ``redis-cluster``, ``mongodb``. Raises `NoServer`."""
    if own := os.environ.get(OWN[name]):
        return own
    begin()
    folder = Path(os.environ[FOLDER])
    told = folder / f"{name}.json"
    with _alone(folder / f"{name}.asked"):
        if not told.exists():
            _keep(name, folder)
        answer = json.loads(told.read_text())
    if "error" in answer:
        raise NoServer(answer["error"])
    return str(answer["url"])


def revivals() -> int:
    """How often a server of this session hung and was started again."""
    noted = Path(os.environ[FOLDER]) / "revived"
    return len(noted.read_text().splitlines()) if noted.exists() else 0


def note_revival(folder: Path, name: str) -> None:
    """Let every process of this session know of one more."""
    with (folder / "revived").open("a") as noted:
        noted.write(f"{name}\n")


def at_fault(before: int) -> bool:
    """True when a server hung since there were so many `revivals`, also when its keeper has yet to see it.

    It answers again when this returns.
    """
    told = Path(os.environ[FOLDER]) / "mongodb.json"
    answer = json.loads(told.read_text()) if told.exists() else {}
    if "url" in answer and revivals() == before:
        server = MongoServer(told.parent, port=int(answer["url"].rpartition(":")[2]))
        until = time.monotonic() + 4 * PATIENCE
        while server.stuck(PATIENCE) and time.monotonic() < until:
            pass  # each look waits
    return revivals() > before


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One thread of one process at a time."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _keep(name: str, folder: Path) -> None:
    """Start a keeper; it has said where its server is, or why there is none, when this returns."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    said = (folder / f"{name}.log").open("wb")
    with said:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.shared", name, str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,  # an interrupt at the terminal is for the tests
        )
    _keepers.append(keeper)
    assert keeper.stdout is not None
    keeper.stdout.read()  # to the end, which comes when it has said it
    keeper.stdout.close()
    if not (folder / f"{name}.json").exists():
        raise NoServer(f"the keeper of {name} failed: {(folder / f'{name}.log').read_text()[-600:]}")


def keep(name: str, folder: Path) -> None:
    """A keeper: run a server until the beginner of the session is gone."""
    alive = (folder / name).open("wb")
    fcntl.lockf(alive, fcntl.LOCK_EX)  # until this process is gone
    over = threading.Event()
    with contextlib.ExitStack() as ends:
        try:
            server = ends.enter_context(SERVERS[name](folder / f"{name}-data"))
            answer = {"url": server.url}
        except NoServer as error:
            server, answer = None, {"error": str(error)}
        draft = folder / f"{name}.draft"
        draft.write_text(json.dumps(answer))
        draft.replace(folder / f"{name}.json")
        os.close(1)  # whoever waits for the answer reads on
        threading.Thread(target=_await_end, args=(folder / "owner", over.set), daemon=True).start()
        while not over.wait(LOOK):
            if isinstance(server, MongoServer) and server.stuck(PATIENCE):
                note_revival(folder, name)
                server.kill()
                server.start()
    shutil.rmtree(folder, ignore_errors=True)


def _await_end(owner: Path, then: Callable[[], None]) -> None:
    with owner.open("rb+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        then()


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
