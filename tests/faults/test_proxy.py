"""The proxy breaks the line where it is told to, and nowhere else: shown with the clients' own libraries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis.asyncio
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.faults.framing import Mongo, Resp
from tests.faults.proxy import Fault, How, Proxy
from tests.servers import MongoServer, RedisServer

HOWS: list[How] = ["before", "after", "half", "silent"]
DONE = {"before": 0, "after": 1, "half": 1, "silent": 1}


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    with MongoServer(tmp_path_factory.mktemp("mongo")) as server:
        yield server


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
async def to_redis(request: pytest.FixtureRequest, redis_server: RedisServer) -> AsyncIterator[tuple[Proxy, Any]]:
    """A client that does not try again by itself, behind the proxy."""
    async with Proxy("127.0.0.1", redis_server.port, Resp) as proxy:
        client = redis.asyncio.Redis(
            port=proxy.port, protocol=request.param, retry=Retry(NoBackoff(), 0), socket_timeout=1
        )
        await client.flushall()
        yield proxy, client
        await client.aclose()


@pytest.mark.parametrize("how", HOWS)
async def test_redis_does_what_is_not_answered(
    how: How,
    to_redis: tuple[Proxy, Any],
) -> None:
    """The client gets an error; the server has done it, or never saw it; the next request goes through."""
    proxy, client = to_redis
    proxy.fault = Fault(how, {"INCRBY"}, skip=1)
    assert await client.incr("a") == 1
    with pytest.raises(RedisError):
        await client.incr("a")
    assert proxy.fault.struck == ["INCRBY"]
    assert await client.incr("a") == 2 + DONE[how]


@pytest.mark.parametrize("how", HOWS)
async def test_redis_transactions_are_cut_as_a_whole(how: How, to_redis: tuple[Proxy, Any]) -> None:
    """The reply of EXEC, with values of every kind before it on the line."""
    proxy, client = to_redis
    await client.hset("h", mapping={"x": "1", "y": b"\r\n$3\r\n"})
    assert await client.hgetall("h") == {b"x": b"1", b"y": b"\r\n$3\r\n"}
    assert await client.get("none") is None
    proxy.fault = Fault(how, {"EXEC"})
    with pytest.raises(RedisError):
        async with client.pipeline(transaction=True) as line:
            await line.incr("b").incr("b").lrange("none", 0, 1).execute()
    assert int(await client.get("b") or 0) == 2 * DONE[how]


async def test_redis_subscriptions_go_through(to_redis: tuple[Proxy, Any]) -> None:
    """What is published arrives, and nothing of that line is taken for a reply."""
    proxy, client = to_redis
    proxy.fault = Fault("after", {"INCRBY"})
    async with client.pubsub() as heard:
        await heard.subscribe("c")
        await client.publish("c", "word")
        async with asyncio.timeout(30):
            while (message := await heard.get_message(timeout=5)) is None or message["type"] != "message":
                pass
    assert message["data"] == b"word" and proxy.fault.struck == []


@pytest.mark.parametrize("how", HOWS)
async def test_mongodb_does_what_is_not_answered(how: How, mongo_server: MongoServer) -> None:
    """The same for MongoDB's protocol."""
    async with Proxy("127.0.0.1", mongo_server.port, Mongo) as proxy:
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true&retryWrites=false&socketTimeoutMS=1000"
        async with AsyncMongoClient[dict[str, Any]](url) as client:
            counts = client[f"proxy_{how}"]["counts"]
            proxy.fault = Fault(how, {"update"}, skip=1)
            await counts.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
            with pytest.raises(PyMongoError):
                await counts.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
            assert proxy.fault.struck == ["update"]
            assert await counts.find_one() == {"_id": 1, "n": 1 + DONE[how]}
