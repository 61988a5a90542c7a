"""A MongoDB database for each test, and a store over it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from governor_agents.stores.mongodb import MongoDBStore
from tests.mongodb import Somewhere, somewhere


@pytest.fixture
def place() -> Iterator[Somewhere]:
    """A database of its own."""
    with somewhere() as place:
        yield place


@pytest.fixture
async def store(place: Somewhere) -> AsyncIterator[MongoDBStore]:
    """An open store."""
    store = MongoDBStore(place.url)
    await store.open()
    yield store
    await store.close()
