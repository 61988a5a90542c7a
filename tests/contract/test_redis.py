"""The store kit over Redis: a server alone, a cluster of three, the newer protocol, and a server without scripts."""

import secrets
from collections.abc import Callable

import pytest

from governor_agents.stores import open_store
from governor_agents.stores.redis import RedisStore
from governor_agents.testing import SharedStoreConformance
from governor_agents.testing.store_races import RacePromises, WaitPromises
from governor_agents.testing.store_reads import ListPromises, ScanPromises
from governor_agents.testing.store_writes import (
    CounterPromises,
    DeletePromises,
    InsertPromises,
    SwapPromises,
    TimedSwapPromises,
)
from governor_agents.testing.stores import NewStore, SharedKit
from tests import shared


def namespace(server: str, **options: object) -> Callable[..., RedisStore]:
    """Makes store objects over a namespace of its own on one of the session's servers."""
    url = shared.url(server)
    named = "&".join(f"{name}={value}" for name, value in {"namespace": secrets.token_hex(6), **options}.items())

    def make(**rest: object) -> RedisStore:
        store = open_store(f"{url}{'&' if '?' in url else '?'}{named}", **rest)
        assert isinstance(store, RedisStore)
        return store

    return make


class TestRedis(SharedStoreConformance):
    """Plain Redis, as it is used by default."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        return namespace("redis")


class TestRedisCluster(SharedStoreConformance):
    """Three nodes, records over sixteen partitions."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        return namespace("redis-cluster")


class Writes(
    InsertPromises,
    SwapPromises,
    TimedSwapPromises,
    DeletePromises,
    CounterPromises,
    RacePromises,
    ListPromises,
    ScanPromises,
    SharedKit,
):
    """The part of the kit that depends on how the store speaks to the server."""


class TestRedisProtocol3(Writes, WaitPromises):
    """The newer protocol, in which some answers have another shape; and several partitions on one server."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        return namespace("redis", protocol=3, partitions=4)


class TestRedisWithoutScripts(Writes):
    """WATCH and MULTI in place of scripts."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        return namespace("redis", scripting="no")


class TestRedisClusterWithoutScripts(InsertPromises, SwapPromises, CounterPromises, RacePromises, SharedKit):
    """The same on a cluster, where all keys of a transaction must be in one slot."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        return namespace("redis-cluster", scripting="no")
