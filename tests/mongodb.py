"""Places for tests on the session's MongoDB server, and what stands in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bson import encode
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from tests import shared


@dataclass(frozen=True)
class Somewhere:
    """A database of its own: its URL, and the driver's view of it."""

    url: str
    database: Any

    def __getitem__(self, name: str) -> Any:
        """One of the store's collections: ``record``, ``event``, ``chunk``, ``meta``."""
        return self.database[f"ga_{name}"]

    def count(self, name: str, **where: Any) -> int:
        """How many documents stand in one of them."""
        return int(self[name].count_documents(where))

    def largest(self) -> int:
        """Bytes of the largest document in any of them."""
        return max(len(encode(each)) for name in ("record", "event", "chunk") for each in self[name].find())


def fresh_url() -> str:
    """A database of its own, on the server of this session."""
    server, _, options = shared.url("mongodb").partition("?")
    where = "/".join(server.split("/")[:3])
    # The server for tests walks the answers that it keeps for repeated writes, at each write.
    return f"{where}/governor_test_{uuid.uuid4().hex[:12]}?{options or 'retryWrites=false'}"


@contextmanager
def somewhere() -> Iterator[Somewhere]:
    """A fresh place, removed afterwards."""
    url = fresh_url()
    with MongoClient(url) as client:
        name = parse_uri(url)["database"]
        yield Somewhere(url, client[name])
        client.drop_database(name)
