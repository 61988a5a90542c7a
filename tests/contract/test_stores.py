"""The store kit over every store of this package."""

from pathlib import Path

import pytest

from governor_agents.stores import open_store
from governor_agents.testing import ClockedStoreConformance, SharedStoreConformance, StoreConformance
from governor_agents.testing.stores import NewStore


class TestMemory(StoreConformance, ClockedStoreConformance):
    """The memory store."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        return lambda **options: open_store("memory://", **options)


class TestSQLite(SharedStoreConformance, ClockedStoreConformance):
    """The SQLite store."""

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> NewStore:
        return lambda **options: open_store(f"sqlite:///{tmp_path}/store.db", **options)
