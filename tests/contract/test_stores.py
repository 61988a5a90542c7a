"""The store kit over every store of this package."""

from pathlib import Path

import pytest

from governor_agents.keys import Keys
from governor_agents.stores import open_store
from governor_agents.stores.packed import PackedStore
from governor_agents.stores.sealed import SealedStore
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


class TestPackedMemory(StoreConformance, ClockedStoreConformance):
    """Packing around the memory store."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        return lambda **options: PackedStore(open_store("memory://", **options))


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key file that this process, and those it starts, take from the environment."""
    Keys.create(tmp_path / "keys.json")
    monkeypatch.setenv("GOVERNOR_KEYS", str(tmp_path / "keys.json"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.mark.usefixtures("keys")
class TestSealedMemory(StoreConformance, ClockedStoreConformance):
    """Sealing around the memory store."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        return lambda **options: SealedStore(open_store("memory://", **options), Keys.generate())


@pytest.mark.usefixtures("keys")
class TestSealedSQLite(SharedStoreConformance, ClockedStoreConformance):
    """Sealing around the SQLite store, with other processes that read the same key file."""

    @pytest.fixture
    def opener(self) -> str:
        return "sealed_stores:open_sealed"

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> NewStore:
        from sealed_stores import open_sealed

        return lambda **options: open_sealed(f"sqlite:///{tmp_path}/store.db", **options)
