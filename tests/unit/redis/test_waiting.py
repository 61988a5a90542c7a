"""The hint of the Redis store: who is woken, by what, and what a store leaves behind that nobody closed."""

import asyncio
import contextlib
import gc
import os
import secrets
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from governor_agents.core.ports import Record
from governor_agents.errors import StoreError
from governor_agents.stores.redis import RedisStore
from tests.servers import RedisServer, wait_until

RECORD = Record("run", "t", "r", b"body")
FAR = 3600.0


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    """An open store that listens."""
    store = RedisStore(f"{server.url}?namespace={secrets.token_hex(6)}")
    await store.open()
    assert await store.wait(FAR)
    yield store
    await store.close()


def listeners(server: RedisServer) -> int:
    """How many connections listen."""
    with contextlib.closing(server.client()) as client:
        return sum(int(count) for _, count in client.pubsub_numsub(*client.pubsub_channels()))


async def test_wait_hears_another_object(store: RedisStore) -> None:
    """A write through another object wakes by the subscription."""
    other = RedisStore(store.url)
    await other.open()
    while await store.wait(0):
        pass
    waiting = asyncio.ensure_future(store.wait(FAR))
    await other.insert(RECORD, op="a")
    assert await waiting is True
    await other.close()


async def test_own_write_wakes_once(store: RedisStore) -> None:
    """What this object wrote wakes it at once, and not a second time when the server tells of it."""
    other = RedisStore(store.url)
    await other.open()
    await store.insert(RECORD, op="a")
    assert await store.wait(FAR) is True
    assert await store.wait(0) is False
    await other.insert(replace(RECORD, id="theirs"), op="a")  # told of behind the other one
    assert await store.wait(FAR) is True
    assert await store.wait(0) is False
    await other.close()


async def test_one_waiter_at_a_time(store: RedisStore) -> None:
    """A second one would take the first one's wake-up."""
    waiting = asyncio.ensure_future(store.wait(FAR))
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="one waiter at a time"):
        await store.wait(0)
    await store.insert(RECORD, op="a")
    assert await waiting is True


async def test_close_lets_the_waiter_go(store: RedisStore, server: RedisServer) -> None:
    """With False, and nothing listens any more."""
    before = listeners(server)
    waiting = asyncio.ensure_future(store.wait(FAR))
    await asyncio.sleep(0)
    await store.close()
    assert await waiting is False
    await asyncio.to_thread(wait_until, lambda: listeners(server) == before - 1, "the end of the subscription")


async def test_lost_subscription_wakes_and_is_made_anew(store: RedisStore, server: RedisServer) -> None:
    """What was written while nobody listened wakes too: whoever waits looks once the line is back."""
    with contextlib.closing(server.client()) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    assert await store.wait(FAR) is True
    await asyncio.to_thread(wait_until, lambda: listeners(server) == 1, "the new subscription")


async def test_whoever_listens_and_ended_is_followed(store: RedisStore) -> None:
    """A task that ended, by a fault of whatever it uses, does not leave the store deaf."""
    assert store._client is not None and store._client.waking._listening is not None
    ended = store._client.waking._listening
    ended.cancel()
    await asyncio.wait([ended])
    assert await store.wait(FAR) is True


async def test_forgotten_store_listens_no_longer(server: RedisServer) -> None:
    """An object that nobody closed lets go of its subscription and its connections when it is gone."""
    store = RedisStore(f"{server.url}?namespace={secrets.token_hex(6)}")
    await store.open()
    assert await store.wait(FAR)
    gone, before = weakref.ref(store), listeners(server)
    del store
    gc.collect()
    assert gone() is None
    await asyncio.to_thread(wait_until, lambda: listeners(server) == before - 1, "the end of the subscription")


FORGETFUL = """
import asyncio, sys
from governor_agents.core.ports import Record
from governor_agents.stores import open_store

async def main():
    global store
    store = open_store(sys.argv[1])
    await store.open()
    await store.wait(3600)
    await store.insert(Record("run", "t", "r", b"body"), op="a")
    print((await store.load("run", "t", "r")).v)

asyncio.run(main())
"""


def test_forgotten_store_lets_the_interpreter_end(server: RedisServer) -> None:
    """A program that never closed its store ends at once, says nothing about it, and what it wrote is there."""
    url = f"{server.url}?namespace={secrets.token_hex(6)}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", FORGETFUL, url], env=env, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
