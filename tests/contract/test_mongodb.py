"""The store kit over MongoDB: by URL, and over a Motor client of the user's."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from governor_agents.stores import open_store
from governor_agents.testing import SharedStoreConformance
from governor_agents.testing.stores import NewStore
from tests import shared


def fresh_url(name: str) -> str:
    """A database of its own, on the server of this session."""
    server, _, options = shared.url("mongodb").partition("?")
    where = "/".join(server.split("/")[:3])
    # The server for tests walks the answers that it keeps for repeated writes, at each write.
    return f"{where}/{name}?{options or 'retryWrites=false'}"


def remove(url: str, name: str) -> None:
    """Leave nothing behind."""
    with MongoClient(url) as client:
        client.drop_database(name)


@pytest.fixture
def url() -> Iterator[str]:
    """A fresh place, removed afterwards."""
    name = f"governor_test_{uuid.uuid4().hex[:12]}"
    url = fresh_url(name)
    assert parse_uri(url)["database"] == name
    yield url
    remove(url, name)


class TestMongoDB(SharedStoreConformance):
    """The MongoDB store."""

    @pytest.fixture
    def new_store(self, url: str) -> NewStore:
        return lambda **options: open_store(url, **options)


class TestMotor(SharedStoreConformance):
    """The MongoDB store over a Motor client, in this process and in others."""

    @pytest.fixture
    def opener(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.syspath_prepend(str(Path(__file__).parent))
        return "mongodb_stores:open_motor"

    @pytest.fixture
    def new_store(self, url: str) -> NewStore:
        from tests.contract.mongodb_stores import open_motor

        return lambda **options: open_motor(url, **options)
