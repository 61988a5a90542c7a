"""Which calls are under way: a plain tool node lets siblings run on after one of them paused it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from governor_agents.claims import Claim


class Flights:
    """Counts the calls under way for each claim."""

    def __init__(self) -> None:
        self._flying: dict[Claim, int] = {}
        self._changed = threading.Condition()

    @contextmanager
    def flying(self, claim: Claim) -> Iterator[None]:
        """A call is under way inside the block."""
        with self._changed:
            self._flying[claim] = self._flying.get(claim, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                left = self._flying[claim] - 1
                self._flying[claim] = left
                if not left:
                    del self._flying[claim]
                    self._changed.notify_all()

    async def landed(self, claim: Claim) -> None:
        """Return when no call is under way any more."""
        if claim in self._flying:
            await asyncio.to_thread(self._wait, claim)

    def _wait(self, claim: Claim) -> None:
        with self._changed:
            self._changed.wait_for(lambda: claim not in self._flying)
