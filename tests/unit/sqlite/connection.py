"""What tests of the SQLite store reach into it for."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

from governor_agents.stores.sqlite import SQLiteStore

Maker = Callable[..., SQLiteStore]


def connection_of(store: SQLiteStore) -> Callable[[Callable[[sqlite3.Connection], Any]], asyncio.Future[Any]]:
    """Run something over the store's own connection, on its own thread."""
    assert store._thread is not None
    return store._thread.read
