"""Stores over one SQLite file."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from governor_agents.stores.sqlite import SQLiteStore
from tests.unit.sqlite.connection import Maker


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def make(file: Path) -> AsyncIterator[Maker]:
    """Makes stores over the file, closed after the test."""
    made: list[SQLiteStore] = []

    def make(options: str = "", **rest: Any) -> SQLiteStore:
        made.append(SQLiteStore(f"sqlite:///{file}{options}", **rest))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
async def store(make: Maker) -> SQLiteStore:
    store = make()
    await store.open()
    return store
