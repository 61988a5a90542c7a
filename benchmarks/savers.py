"""LangGraph's checkpoint savers and ours, each on the terms of all, and what a conversation weighs in each store."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import aiosqlite
import redis
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from pymongo import MongoClient

from benchmarks.gates import governor_over
from benchmarks.measure import PRAGMAS
from benchmarks.stores import fresh, server
from governor_agents.adapters.langchain import GovernorSaver


class DoesNotStart(RuntimeError):
    """A saver cannot be used with this server; the message is its own."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A saver over a store that holds nothing else, and a way to weigh that store."""

    saver: Any
    weigh: Callable[[], dict[str, int]]


@asynccontextmanager
async def ours(name: str, place: Path) -> AsyncIterator[Kept]:
    """`GovernorSaver` over one of our stores."""
    with server(name, place) as address:
        url = fresh(name, address)
        async with governor_over(url) as governor:
            yield Kept(GovernorSaver(governor), lambda: WEIGHTS[name](url))


@asynccontextmanager
async def sqlite(place: Path) -> AsyncIterator[Kept]:
    """`AsyncSqliteSaver`, with the settings of our store."""
    with server("sqlite", place) as address:
        url = fresh("sqlite", address)
        async with aiosqlite.connect(_path(url)) as connection:
            saver = AsyncSqliteSaver(connection)
            await saver.setup()
            for pragma in PRAGMAS:
                await connection.execute(pragma)
            yield Kept(saver, lambda: weigh_sqlite(url))


@asynccontextmanager
async def mongodb(place: Path) -> AsyncIterator[Kept]:
    """`MongoDBSaver`, asked for a majority and the journal. Raises `DoesNotStart`."""
    try:
        saver_of = import_module("langgraph.checkpoint.mongodb").MongoDBSaver
    except ImportError as error:
        raise DoesNotStart(f"it is not installed: {error}") from error
    with server("mongodb", place) as address:
        url = fresh("mongodb", address)
        with MongoClient[Any](f"{url}&w=majority&journal=true") as client:
            yield Kept(saver_of(client, url.partition("?")[0].rpartition("/")[2]), lambda: weigh_mongodb(url))


@asynccontextmanager
async def plain_redis(place: Path) -> AsyncIterator[Kept]:
    """`AsyncRedisSaver` over a Redis without modules. Raises `DoesNotStart`."""
    try:
        saver_of = import_module("langgraph.checkpoint.redis.aio").AsyncRedisSaver
    except ImportError as error:
        raise DoesNotStart(f"it is not installed: {error}") from error
    with server("redis", place) as address:
        try:
            async with saver_of.from_conn_string(address) as saver:
                await saver.asetup()
                yield Kept(saver, lambda: weigh_redis(address))
        except redis.RedisError as error:
            raise DoesNotStart(str(error)) from error
        except Exception as error:
            if type(error).__module__.startswith("redisvl."):
                raise DoesNotStart(str(error)) from error
            raise


# -- weights ---------------------------------------------------------------------------------------------------------


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///").partition("?")[0])


def weigh_sqlite(url: str) -> dict[str, int]:
    """The database's pages that hold anything."""
    connection = sqlite3.connect(_path(url))
    try:
        pages, free, size = (
            connection.execute(f"PRAGMA {pragma}").fetchone()[0]
            for pragma in ("page_count", "freelist_count", "page_size")
        )
    finally:
        connection.close()
    return {"file": (pages - free) * size}


def weigh_redis(url: str) -> dict[str, int]:
    """The memory of all keys, and the length of their log since the server's start."""
    with redis.Redis.from_url(url.partition("?")[0]) as client:
        memory = sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(count=1000))
        return {"memory": memory, "log": int(client.info("persistence").get("aof_current_size", 0))}


def weigh_mongodb(url: str) -> dict[str, int]:
    """The documents as BSON, and their indexes."""
    with MongoClient[Any](url) as client:
        base = client.get_default_database()
        stats = [base.command("collStats", name) for name in base.list_collection_names()]
    return {
        key: sum(int(one[field]) for one in stats)
        for key, field in (("documents", "size"), ("indexes", "totalIndexSize"))
    }


WEIGHTS = {"sqlite": weigh_sqlite, "redis": weigh_redis, "mongodb": weigh_mongodb}
