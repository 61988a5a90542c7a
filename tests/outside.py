"""What tests do to a store on a server past its driver: raise the floor under its time, drop all that it holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC
from functools import cache
from typing import Any

import redis
from pymongo import MongoClient

from governor_agents.stores.redis.keys import Keys
from governor_agents.stores.redis.namespace import _SPREAD as SPREAD
from governor_agents.stores.redis.place import Place

HIGHER = """
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
"""


def clock(url: str) -> float:
    """The server's own clock, epoch seconds."""
    return _of(url)[0](url)


def lift(url: str, to: float) -> None:
    """Let no answer of the store's clock be below this."""
    _of(url)[1](url, to)


def drop(url: str) -> None:
    """Throw away a database of MongoDB."""
    database = _mongodb(url)
    database.client.drop_database(database.name)


def _redis_clock(url: str) -> float:
    client = _redis(Place.of(url))
    where = {"target_nodes": client.get_default_node()} if isinstance(client, redis.RedisCluster) else {}
    seconds, micros = client.execute_command("TIME", **where)
    return float(seconds) + float(micros) / 1e6


def _redis_lift(url: str, to: float) -> None:
    place = Place.of(url)
    client, keys = _redis(place), Keys(place.namespace)
    spread = client.hget(keys.store, "partitions") or place.partitions or SPREAD.get(place.form, 1)
    for at in range(int(spread)):
        client.eval(HIGHER, 1, keys.clock(at), f"{to * 1e6:.0f}")


def _redis(place: Place) -> Any:
    host, port = place.addresses[0]
    who = {"username": place.username or None, "password": place.password or None, "ssl": place.tls}
    if place.form == "cluster":
        return _client(os.getpid(), redis.RedisCluster, host=host, port=port, **who)
    return _client(os.getpid(), redis.Redis, host=host, port=port, db=place.db, **who)


def _mongodb_clock(url: str) -> float:
    now: float = _mongodb(url).command("hello")["localTime"].replace(tzinfo=UTC).timestamp()
    return now


def _mongodb_lift(url: str, to: float) -> None:
    made = {"$max": {"floor": to}, "$setOnInsert": {"writes": 0}}
    _mongodb(url)["ga_meta"].update_one({"_id": "clock"}, made, upsert=True)


def _mongodb(url: str) -> Any:
    server, _, rest = url.rpartition("/")
    database, _, options = rest.partition("?")
    return _client(os.getpid(), MongoClient, host=f"{server}/?{options}")[database]


@cache
def _client(process: int, make: Callable[..., Any], **where: Any) -> Any:
    """One client for each server and process."""
    return make(**where)


def _of(url: str) -> tuple[Callable[[str], float], Callable[[str, float], None]]:
    return (_mongodb_clock, _mongodb_lift) if url.startswith("mongodb") else (_redis_clock, _redis_lift)
