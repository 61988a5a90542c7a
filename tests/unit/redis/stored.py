"""A Redis store with something in it."""

import contextlib
import secrets
from collections.abc import AsyncIterator

from governor_agents.core.ports import Record
from governor_agents.stores import open_store
from governor_agents.stores.redis import RedisStore

RECORD = Record("run", "t", "r", b"body", index={"state": "s"}, due=1.0)


@contextlib.asynccontextmanager
async def store_at(url: str, **options: object) -> AsyncIterator[RedisStore]:
    """An open store over a namespace of its own, with one record in it."""
    given = {"namespace": secrets.token_hex(6), **options}
    store = open_store(url + "?" + "&".join(f"{name}={value}" for name, value in given.items()))
    assert isinstance(store, RedisStore)
    await store.open()
    await store.insert(RECORD, op="a")
    yield store
    await store.close()
