"""What channels leave in the store and nobody needs any more goes: links, counters, cards.

A link goes a week after its time, a counter with its window, a card when the runs that it showed are gone. Each is
removed at the version that was looked at, so what somebody uses meanwhile stays.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial

from governor_agents import limits
from governor_agents.cards import KEPT, shown_by
from governor_agents.core.ports import Record
from governor_agents.core.records import split_approval_id
from governor_agents.errors import SnapshotError
from governor_agents.runs import Runs, sent

PAGE = 100


class Clearing:
    """Clears up behind the channels of one tenant. Its coroutines run on the governor loop."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._store = runs.store

    async def sweep(self) -> int:
        """Remove what is over; how many rows went. Raises `StoreError`."""
        return await self._tokens() + await self._counters() + await self._cards()

    async def _tokens(self) -> int:
        gone = 0
        while page := await self._store.due("token", self._runs.tenant, limit=PAGE):
            for record in page:
                gone += await self._remove(record)
        return gone

    async def _counters(self) -> int:
        gone, now, after = 0, await self._runs.now(), limits.PREFIX
        while page := await self._store.list("counter", self._runs.tenant, limit=PAGE, after=after):
            for record in page:
                if not limits.over(record.id, now):  # they come in the order in which they end
                    return gone
                gone += await self._remove(record)
            after = page[-1].id
        return gone

    async def _cards(self) -> int:
        """Every row that is due either goes or is due a week later, so the loop ends."""
        gone = 0
        while page := await self._store.due("card", self._runs.tenant, limit=PAGE):
            for record in page:
                if await self._is_needed(record):
                    later = replace(record, due=await self._runs.now() + KEPT)
                    await sent(partial(self._store.swap, later, op=secrets.token_hex(8)))
                else:
                    gone += await self._remove(record)
        return gone

    async def _is_needed(self, record: Record) -> bool:
        try:
            shown = shown_by(record)
        except SnapshotError:  # nobody can read it, so it shows nothing
            return False
        if isinstance(shown, str):
            return bool(shown) and await self._store.load("card", self._runs.tenant, shown) is not None
        runs = {parts[0] for parts in map(split_approval_id, shown) if parts is not None}
        return any([await self._store.load("run", self._runs.tenant, run) is not None for run in runs])

    async def _remove(self, record: Record) -> bool:
        return await self._store.delete(record.kind, record.tenant, record.id, record.v)
