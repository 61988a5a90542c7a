"""How many runs a worker drives at a time, and which it leaves for others meanwhile.

A run that only has to be driven is left alone while all hands are full: another worker may have one free, and who tries
for a run that somebody else takes has read, and perhaps written, for nothing. With sixteen workers on one queue that
was most of their work. A run that also has something to tell people is left for `LEFT` seconds at most. What was left
is at hand for a moment, so that not each hand that gets free costs a look at the store.
"""

from __future__ import annotations

import asyncio

from governor_agents.core.ports import Record
from governor_agents.core.records import Run, RunState
from governor_agents.governor import Governor

LEFT = 10.0
"""Seconds for which a decided run is left to others, though its people have not been told of the decision."""

REMOVED = 50
"""How many runs are removed at a time, at most: they may be many, and have time."""

ENOUGH = 100
"""How many of the runs that were left are at hand."""

Key = tuple[str, str]
Due = tuple[Governor, Record, Run]


class Hands:
    """The hands of one worker."""

    def __init__(self, many: int) -> None:
        self.free = asyncio.Semaphore(many)
        """Taken while a run is driven."""
        self.freed = asyncio.Event()
        """Set when a hand that was full is free again."""
        self._many = many
        self._driving: set[Key] = set()
        self._removing: set[Key] = set()
        self._left: dict[Key, float] = {}
        self._before: dict[Key, float] = {}
        self.left: list[Due] = []
        """What the last look found no free hand for."""

    def look(self, whole: bool) -> None:
        """A look begins. When it is one at all that is due, what was left and is due no more is forgotten."""
        self.freed.clear()
        self.left.clear()
        if whole:
            self._before, self._left = self._left, {}

    @property
    def full(self) -> bool:
        """True when no run more can be driven now."""
        return len(self._driving) >= self._many or self.free.locked()

    def take(self, governor: Governor, record: Record, run: Run, now: float) -> bool:
        """True when something can be done for a run that is due; ``now`` is this process's own steady clock."""
        key = (record.tenant, record.id)
        if run.state not in (RunState.QUEUED, RunState.READY):
            return True
        if not self.full:
            self._driving.add(key)
            return True
        since = self._left[key] = self._left.get(key, self._before.get(key, now))
        if run.outbox and now - since > LEFT:
            return True
        if len(self.left) < ENOUGH:
            self.left.append((governor, record, run))
        return False

    def remove(self, key: Key, run: Run) -> bool:
        """True unless this run only has to be removed, and enough others are being removed."""
        if not run.state.ended or run.outbox:
            return True
        if len(self._removing) < REMOVED:
            self._removing.add(key)
        return key in self._removing

    def drop(self, key: Key) -> None:
        """This worker is done with a run."""
        self._removing.discard(key)
        if key in self._driving:
            self._driving.remove(key)
            self.freed.set()
