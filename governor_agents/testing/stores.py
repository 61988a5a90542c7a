"""The store kit: subclass it in a test file, say how to make your store, and pytest runs every promise of the contract.

::

    class TestMyStore(SharedStoreConformance):
        @pytest.fixture
        def new_store(self, tmp_path):
            return lambda **options: MyStore(f"mystore://{tmp_path}/x", **options)

`StoreConformance` is for every store, `SharedStoreConformance` (which includes it) for stores that other processes can
open by URL, and `ClockedStoreConformance` for those that take a ``clock`` option. Nothing is skipped and nothing needs
a plug-in of pytest; coroutines that hang fail after ``time_limit``.
"""

from __future__ import annotations

from governor_agents.testing.store_kit import NewStore, StoreKit
from governor_agents.testing.store_processes import ProcessPromises, SharedKit, SharingPromises
from governor_agents.testing.store_races import ClockPromises, RacePromises, WaitPromises
from governor_agents.testing.store_reads import (
    ContentPromises,
    DuePromises,
    LifePromises,
    ListPromises,
    LoadPromises,
    ScanPromises,
    TenantPromises,
)
from governor_agents.testing.store_samples import Run
from governor_agents.testing.store_writes import (
    CounterPromises,
    DeletePromises,
    InsertPromises,
    SwapPromises,
    TimedSwapPromises,
)

__all__ = [
    "ClockedStoreConformance",
    "NewStore",
    "ProcessPromises",
    "Run",
    "SharedKit",
    "SharedStoreConformance",
    "StoreConformance",
    "StoreKit",
]


class StoreConformance(
    InsertPromises,
    SwapPromises,
    TimedSwapPromises,
    DeletePromises,
    CounterPromises,
    LoadPromises,
    DuePromises,
    ListPromises,
    ContentPromises,
    ScanPromises,
    TenantPromises,
    LifePromises,
    RacePromises,
    WaitPromises,
):
    """What every store promises. Override the fixture ``new_store``."""


class SharedStoreConformance(SharingPromises, ProcessPromises, StoreConformance):
    """What a store promises that other processes can open. Override ``new_store``, and ``opener`` if need be."""


class ClockedStoreConformance(ClockPromises):
    """What a store promises about time when it takes a ``clock``. Override ``new_store``."""
