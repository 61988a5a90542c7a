"""Retention: ended runs go when they were kept for as long as is said of their outcome, and nothing else ever does.

**When.** The write that ends a run gives it `keep_until`, and the record is due then; workers find it as they find all
that is due. What is said may change: the word of the worker that is about to remove a run counts. Once a day, and when
it says something else than the last time, a worker goes through all ended runs (`sweep`), those too that were ended by
a process that did not know, such as the command line.

**How.** First the audit is told (`audit.removals`), then what belongs to its conversation goes if no other run of it
is left, then the record with its events and contents, at the version that the audit was told of. Whoever dies in
between leaves a run that is due, and the next worker begins anew; the last entry of the account counts.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

from governor_agents.audit.log import AuditLog
from governor_agents.conversations import Conversations
from governor_agents.core.calls import freeze, thaw
from governor_agents.core.codec import decode_run
from governor_agents.core.ports import Record
from governor_agents.core.records import Change, Run, RunState
from governor_agents.core.settling import expired, kept
from governor_agents.crash import crash_point
from governor_agents.errors import ArgumentsError, StoreUnavailable
from governor_agents.runs import Runs, sent

log = logging.getLogger(__name__)

SWEPT = "retention"
"""The record of the kind ``worker`` that says by which words all runs were looked at last, and when."""

DAY = 86_400.0

LOOK = 600.0
"""Seconds between two looks of a process whether a sweep is due."""

_NOTHING = "{}"


class Retention:
    """Removes the runs of one tenant. Its coroutines run on the governor loop."""

    def __init__(
        self, runs: Runs, conversations: Conversations, audit: AuditLog, spans: Callable[[], Mapping[str, float]]
    ) -> None:
        self._runs = runs
        self._conversations = conversations
        self._audit = audit
        self._spans = spans
        self._looked: float | None = None

    async def remove(self, id: str) -> bool:
        """Remove a run whose time has come, or note that its time is another; False when nothing was to be done.

        Raises `SnapshotError` for one that cannot be read, `StoreError`.
        """
        store, tenant = self._runs.store, self._runs.tenant
        record = await store.load("run", tenant, id)
        if record is None:
            return False
        run, now = decode_run(record.body), await store.now()
        if kept(run, self._spans()) is not run:
            after = (await self._runs.change(id, self._keep, point="run.kept")).run
            return not expired(after, now) or await self.remove(id)
        if not expired(run, now):
            return False
        crash_point("removal:before")
        await self._audit.removals.note(run, record.v)
        crash_point("removal:noted")
        await self._conversations.forget(run)
        crash_point("removal:forgotten")
        gone = await self._runs.remove(id, record.v)
        crash_point("removal:after")
        if gone:
            log.info("run %s is removed: it was %s, and was kept for as long as that is", id, run.state)
        return gone

    def _keep(self, run: Run, now: float) -> Change:
        return Change(kept(run, self._spans()))

    @property
    def rests(self) -> bool:
        """True when it is too early to ask whether a sweep is due."""
        return self._looked is not None and time.monotonic() - self._looked < LOOK

    async def sweep(self) -> int:
        """Look at all ended runs, if that is due; how many were removed, or are kept for another time now."""
        self._looked = time.monotonic()
        try:
            return await self._sweep()
        except StoreUnavailable:  # as soon as it answers again
            self._looked = None
            raise

    async def _sweep(self) -> int:
        now, said = await self._runs.now(), freeze(dict(self._spans())).decode()
        seen = await self._runs.store.load("worker", self._runs.tenant, SWEPT)
        before, at = _swept(seen)
        if said == before and (said == _NOTHING or now - at < DAY):
            return 0
        changed = 0
        async for run in self._ended():
            if kept(run, self._spans()) is not run or expired(run, now):
                changed += await self.remove(run.id)
        body = freeze({"said": said, "at": now})
        fresh = Record("worker", self._runs.tenant, SWEPT, body, v=seen.v if seen else 0)
        write = self._runs.store.swap if seen else self._runs.store.insert
        await sent(partial(write, fresh, op=secrets.token_hex(8)))  # lost: another worker has done the same
        return changed

    async def _ended(self) -> AsyncIterator[Run]:
        for state in RunState:
            if state.ended:
                async for run in self._runs.every({"state": state.value}):
                    yield run


def _swept(record: Record | None) -> tuple[str, float]:
    """By which words, and when, all runs were looked at last. What cannot be read says nothing."""
    if record is None:
        return _NOTHING, 0.0
    try:
        said = thaw(record.body)
        return str(said["said"]), float(said["at"])
    except (ArgumentsError, KeyError, TypeError, ValueError):
        return "", 0.0
