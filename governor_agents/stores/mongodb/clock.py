"""The store's time: the server's clock, held at a floor that the server keeps.

The floor is a field of the document ``clock``. Writes raise it, at most once a second for each process, and a write
that came too late raises it at once; so a primary whose clock is behind the last one's takes back at most that second.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

from pymongo import ReturnDocument

from governor_agents.errors import ClockError, StoreError
from governor_agents.stores.mongodb.documents import NOW

CLOCK: Final = "clock"
GRAIN: Final = 1.0
"""Seconds between two raises of the floor by one process that writes all the time."""

DAY: Final = 24 * 3600.0


class Clock:
    """Reads the time of one store, and raises its floor."""

    def __init__(self, meta: Any, shown: str, *, mark: bool) -> None:
        self._meta = meta
        self._shown = shown
        self._mark = mark
        self._highest = 0.0
        self._raised = -math.inf
        self._day = time.monotonic()

    async def read(self) -> float:
        """Epoch seconds; never smaller than any earlier answer of this object."""
        where = [{"$match": {"_id": CLOCK}}, {"$project": {"now": {"$max": ["$floor", NOW]}}}]
        cursor = self._meta.aggregate(where)
        if hasattr(cursor, "__await__"):  # of one of the two drivers
            cursor = await cursor
        return self._told(await cursor.to_list(None))

    async def raise_floor(self) -> float:
        """Keep the time as it is now, so that it holds in every process; the time."""
        self._raised = time.monotonic()
        raised: Any = [{"$set": {"floor": {"$max": ["$floor", NOW]}, "writes": {"$add": ["$writes", 1]}}}]
        found = await self._meta.find_one_and_update({"_id": CLOCK}, raised, return_document=ReturnDocument.AFTER)
        return self._told([] if found is None else [{"now": found["floor"]}])

    async def works(self) -> bool:
        """True when the server looks at its clock inside of a write. Some that speak the protocol do not."""
        proof: Any = [{"$set": {"proof": [{"$lte": [NOW, 1.0]}, {"$lte": [NOW, 1e11]}]}}]
        found = await self._meta.find_one_and_update({"_id": CLOCK}, proof, return_document=ReturnDocument.AFTER)
        return found is not None and found.get("proof") == [False, True]

    async def wrote(self) -> None:
        """Called after each write: raise the floor when it is time, or when others look at the mark of writes."""
        if self._mark or time.monotonic() - self._raised >= GRAIN:
            await self.raise_floor()

    def day_is_over(self) -> bool:
        """True once a day, counted from when the store was opened."""
        over = time.monotonic() - self._day >= DAY
        if over:
            self._day = time.monotonic()
        return over

    def _told(self, found: list[Any]) -> float:
        if not found:
            raise StoreError(f"{self._shown}: the document {CLOCK!r} of the store is gone; close it and open it again")
        now = found[0].get("now")
        if isinstance(now, bool) or not isinstance(now, (int, float)) or not math.isfinite(now):
            raise ClockError(f"{self._shown}: the store's clock says {now!r}")
        self._highest = max(self._highest, float(now))
        return self._highest
