"""One bare compare-and-set of each server, through its own client and nothing else: what all ratios are multiples of.

As durable as the store's own writes: SQLite commits with ``synchronous=FULL``; Redis answers when its log is synced, by
its own setting; MongoDB is asked for a majority and its journal.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio
from pymongo import AsyncMongoClient, WriteConcern
from redis.asyncio.cluster import RedisCluster

from benchmarks.measure import Cost, Party, connect, timed

Compare = Callable[[str, int, bytes], Awaitable[object]]
"""Replaces the row of this id whose version is this; false when it stood at another."""

SCRIPT = """
if redis.call('HGET', KEYS[1], 'v') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[1] + 1, 'body', ARGV[2])
return 1
"""


def party(insert: Callable[[str, bytes], Awaitable[object]], compare: Compare, size: int, times: int) -> Party:
    """Rounds of ``times`` compare-and-sets of a row of this size."""

    async def once() -> Cost:
        id = f"bare{uuid.uuid4().hex}"
        await insert(id, os.urandom(size))
        bodies = [os.urandom(size) for _ in range(times)]

        async def one(at: int) -> None:
            if not await compare(id, at + 1, bodies[at]):
                raise RuntimeError("a bare compare-and-set was lost to nobody")

        return await timed(one, times)

    return once


@asynccontextmanager
async def bare(name: str, url: str, size: int, times: int = 1) -> AsyncIterator[Party]:
    """The bare compare-and-set of the server behind a store's URL."""
    ways = {"sqlite": _sqlite, "redis": _redis, "redis-cluster": _redis, "mongodb": _mongodb}
    async with ways[name](url) as (insert, compare):
        yield party(insert, compare, size, times)


@asynccontextmanager
async def _sqlite(url: str) -> AsyncIterator[tuple[Any, Compare]]:
    """A file of its own beside the store's. Its log is as long as it gets: one that grows is slower to flush."""
    path = Path(url.removeprefix("sqlite:///").partition("?")[0])
    connection = connect(path.with_name(f"bare-{path.name}"))
    connection.execute("CREATE TABLE IF NOT EXISTS row (id TEXT PRIMARY KEY, v INTEGER, body BLOB)")
    connection.execute("INSERT INTO row VALUES ('long', 1, zeroblob(5000000))")
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    async def insert(id: str, body: bytes) -> None:
        connection.execute("INSERT INTO row VALUES (?, 1, ?)", (id, body))

    async def compare(id: str, v: int, body: bytes) -> bool:
        connection.execute("BEGIN IMMEDIATE")
        done = connection.execute("UPDATE row SET v = v + 1, body = ? WHERE id = ? AND v = ?", (body, id, v))
        connection.execute("COMMIT")
        return done.rowcount == 1

    try:
        yield insert, compare
    finally:
        connection.close()


@asynccontextmanager
async def _redis(url: str) -> AsyncIterator[tuple[Any, Compare]]:
    """EVALSHA through redis.asyncio."""
    client: Any
    address = url.partition("?")[0]
    if address.startswith("redis+cluster://"):
        client = RedisCluster.from_url(address.replace("redis+cluster://", "redis://"))
        shas = {await client.script_load(SCRIPT)}
    else:
        client = redis.asyncio.Redis.from_url(address)
        shas = {await client.script_load(SCRIPT)}
    (sha,) = shas

    async def insert(id: str, body: bytes) -> None:
        await client.hset(id, mapping={"v": 1, "body": body})

    async def compare(id: str, v: int, body: bytes) -> bool:
        return bool(await client.evalsha(sha, 1, id, v, body))

    try:
        yield insert, compare
    finally:
        await client.aclose()


@asynccontextmanager
async def _mongodb(url: str) -> AsyncIterator[tuple[Any, Compare]]:
    """One ``find_one_and_update``, asked for as the store asks."""
    client: AsyncMongoClient[Any] = AsyncMongoClient(url)
    rows = client.get_default_database().get_collection("bare", write_concern=WriteConcern("majority", j=True))

    async def insert(id: str, body: bytes) -> None:
        await rows.insert_one({"_id": id, "v": 1, "body": body})

    async def compare(id: str, v: int, body: bytes) -> bool:
        change = {"$set": {"body": body}, "$inc": {"v": 1}}
        return await rows.find_one_and_update({"_id": id, "v": v}, change) is not None

    try:
        yield insert, compare
    finally:
        await client.close()
