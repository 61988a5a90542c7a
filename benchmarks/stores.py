"""The stores that are measured, each fresh and alone: its server is started for it, and killed behind it.

SQLite lies on the disk that was named; Redis keeps its log by AOF, synced at each write; MongoDB stands for the server
of `tests.servers` that speaks its protocol. ``GOVERNOR_TEST_REDIS_URL`` and its like name servers of one's own instead.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import MongoServer, RedisCluster, RedisServer
from tests.shared import OWN

STORES = {"sqlite": "SQLite", "redis": "Redis", "redis-cluster": "Redis Cluster", "mongodb": "MongoDB test server"}
"""What they are called in an option and in a table."""


@contextmanager
def server(name: str, place: Path) -> Iterator[str]:
    """The address of a server, or of a SQLite file without its name. Data lies in ``place``."""
    if name == "sqlite":
        yield f"sqlite:///{place.absolute()}"
        return
    if own := os.environ.get(OWN[name]):
        yield own
        return
    kinds = {"redis": RedisServer, "redis-cluster": RedisCluster, "mongodb": MongoServer}
    with kinds[name](place.absolute() / f"{name}-{uuid.uuid4().hex[:8]}") as started:
        yield started.url


def fresh(name: str, address: str) -> str:
    """The URL of a store there that holds nothing."""
    some = f"bench{uuid.uuid4().hex[:12]}"
    head, mark, query = address.partition("?")
    more = f"&{query}" if mark else ""
    if name == "sqlite":
        return f"{address}/{some}.db"
    if name == "mongodb":
        # The server for tests walks through the last 10,000 answers that it kept for a second try at each new write.
        return f"{head.rstrip('/')}/{some}?retryWrites=false{more}"
    return f"{head}?namespace={some}{more}"


@contextmanager
def fresh_store(name: str, place: Path) -> Iterator[str]:
    """The URL of a store that holds nothing, over a server of its own."""
    with server(name, place) as address:
        yield fresh(name, address)
