"""A store that is away: how long it is left alone before it is asked again, and what is said of it.

One line when it goes, one when it fails in another way, one when it is back; nothing in between, however long it takes.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Set

from governor_agents.errors import StoreError

log = logging.getLogger("governor_agents.worker")

FIRST, LONGEST = 1.0, 10.0
"""Seconds for which a store that failed is left alone, doubled each time it fails again, up to the second number."""


class Absence:
    """What a worker knows of one store. Times are seconds of any steady clock.

    A store is back when it answers again and none of the works that it failed are still due: one that can be read and
    not written is not back.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._tries = 0
        self._since = 0.0
        self._until = 0.0
        self.error: StoreError | None = None
        """What it last failed with, while it is away."""
        self._owed: set[Hashable] = set()

    def fails(self, error: StoreError, now: float, work: Hashable = None) -> None:
        """The store failed, while it did this ``work``. Works that were under way together count once."""
        if work is not None:
            self._owed.add(work)
        if type(error) is not type(self.error):
            log.error("the store %s: %s; trying again, at most %g s apart", self._store, error, LONGEST)
        if self.error is None:
            self._since = now
        self.error = error
        if not self.lasts(now):
            self._until = now + min(LONGEST, FIRST * 2.0**self._tries)
            self._tries += 1

    def lasts(self, now: float) -> bool:
        """True while the store is to be left alone."""
        return now < self._until

    def done(self, work: Hashable) -> None:
        """This work, which may have failed before, met no trouble with the store."""
        self._owed.discard(work)

    def answers(self, due: Set[Hashable], now: float) -> None:
        """The store said which works are due."""
        self._owed &= due
        if self.error is not None and not self._owed:
            log.warning("the store %s answers again, after %.0f s", self._store, now - self._since)
            self.error, self._tries, self._until = None, 0, 0.0
