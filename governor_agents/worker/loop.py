"""The built-in loop: wait for due work, do it, several runs at a time, until told to stop.

Agents run in the loop of whoever calls `Worker.run`. A wake-up is a hint; what is due in the store is the truth, and
it is looked at every second in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from typing import Any

from governor_agents.audit.gather import EVENTS, EVERY
from governor_agents.clearing import Clearing
from governor_agents.core.ports import Record
from governor_agents.core.records import Run, RunState
from governor_agents.core.urls import shown
from governor_agents.errors import PoliciesUnavailable, StoreError, StoreUnavailable
from governor_agents.governor import Governor
from governor_agents.worker.absence import Absence
from governor_agents.worker.delivery import DELIVER, Delivery
from governor_agents.worker.hands import Hands, Key
from governor_agents.worker.steps import drive, expire, look, mine

log = logging.getLogger("governor_agents.worker")

LOOK = 1.0
"""Seconds between two looks at the store when nothing wakes the worker."""

PAGE = 100

AGAIN = 2.0
"""Seconds until a run is tried again after an error."""

PUT_OFF = 30.0
"""Seconds until a run is looked at again that nothing could be done for, unless somebody changes it before."""

BUSY = 0.2
"""Seconds between two looks when all hands are full, unless one is free before: time and people do not need more."""


class Worker:
    """Works for one or more governors (tenants). ``concurrency`` bounds the runs driven at a time.

    With keys it makes a checkpoint of the audit trail every ``checkpoint_every`` seconds, or after so many
    ``checkpoint_events`` of its own, and one when it ends. Runs that were kept for long enough go (`retention`).
    """

    def __init__(
        self,
        *governors: Governor,
        concurrency: int = 4,
        drain: float = 30.0,
        checkpoint_every: float = EVERY,
        checkpoint_events: int = EVENTS,
    ) -> None:
        self._governors: Sequence[Governor] = governors
        self._hands = Hands(concurrency)
        self._delivery = Delivery()
        self._drain = drain
        self._busy: dict[Key, asyncio.Task[bool]] = {}
        self._put_off: dict[Key, tuple[int, float]] = {}
        self._whole = float("-inf")
        self._complained: dict[str, float] = {}
        self._absences = {governor: Absence(shown(governor.store.url)) for governor in governors}
        self._said: set[str] = set()
        self._checkpoint_every = checkpoint_every
        self._checkpoint_events = checkpoint_events
        self._gathering: dict[Governor, asyncio.Task[None]] = {}
        self._sweeping: dict[Governor, asyncio.Task[int]] = {}

    async def run(self, *, once: bool = False, stop: asyncio.Event | None = None) -> int:
        """Work until ``stop`` is set; with ``once`` until nothing is due. The number of steps that did something.

        When stopped, runs in hand are driven to their rest for ``drain`` seconds, then given back. A store that cannot
        be opened, or goes away, is waited for; with ``once`` that raises `StoreError`.
        """
        stop = stop or asyncio.Event()
        done = 0
        self._put_off.clear()
        for governor in self._governors if once else ():
            await governor.open()
            done += await self._sweep(governor)
        while not stop.is_set():
            seen = [governor.watch.version for governor in self._governors]
            started = await self._look_around(once)
            self._gather()
            if once:
                if not started:
                    break
                done += sum(await asyncio.gather(*started))
                continue
            await self._rest(stop, seen)
        await self._finish()
        await self._delivery.finish(min(self._drain, DELIVER))
        for sweep in self._sweeping.values():
            sweep.cancel()
        await asyncio.gather(*self._sweeping.values(), return_exceptions=True)
        await asyncio.gather(*self._gathering.values())
        for governor in self._governors:
            if not self._is_away(governor):
                await self._checkpoint(governor, 0.0)
        for absence in self._absences.values() if once else ():
            if absence.error is not None:
                raise absence.error
        return done

    async def _look_around(self, once: bool) -> list[asyncio.Task[bool]]:
        """Look at all stores: at the first pages, while hands are full, and at all that is due every `LOOK` seconds.

        Where that takes long, because very many runs wait for a hand, a tenth of the time is spent on it.
        """
        begun = asyncio.get_running_loop().time()
        whole = once or begun >= self._whole
        self._hands.look(whole)
        started = [task for governor in self._governors for task in await self._look(governor, once, whole)]
        if whole:
            ended = asyncio.get_running_loop().time()
            self._whole = ended + max(LOOK, 10 * (ended - begun))
        return started

    async def _look(self, governor: Governor, once: bool, whole: bool) -> list[asyncio.Task[bool]]:
        """Start a task for each run that is due and not in hand. The store is opened first, when it is not yet.

        The order within a page is by chance, so that workers who look at the same time do not try for the same runs.
        """
        started: list[asyncio.Task[bool]] = []
        after: tuple[float, str] | None = None
        due: set[Key] = set()
        while not self._is_away(governor):
            try:
                await governor.open()
                page = await governor.loop.bridge(governor.runs.due(PAGE, after))
            except StoreError as error:
                self._store_fails(governor, error)
                break
            due.update((record.tenant, record.id) for record, _ in page)
            if len(page) < PAGE:  # that is all of it: before the works begin, which may meet new trouble
                self._absences[governor].answers(due, asyncio.get_running_loop().time())
            last = page[-1][0] if page else None
            random.shuffle(page)
            for record, run in page:
                task = self._take(governor, record, run, once)
                if task is not None:
                    started.append(task)
            if last is None or len(page) < PAGE or (self._hands.full and not whole):
                break
            after = (last.due or 0.0, last.id)
        return started

    def _gather(self) -> None:
        """See to it, beside the work, that checkpoints and sweeps are made when they are due."""
        for governor in self._governors:
            busy = governor in self._gathering and not self._gathering[governor].done()
            if governor.keys is not None and not busy and not self._is_away(governor):
                work = self._checkpoint(governor, self._checkpoint_every)
                self._gathering[governor] = asyncio.get_running_loop().create_task(work)
            sweeps = governor in self._sweeping and not self._sweeping[governor].done()
            if not governor.keeping.rests and not sweeps and not self._is_away(governor):
                self._sweeping[governor] = asyncio.get_running_loop().create_task(self._sweep(governor))

    async def _sweep(self, governor: Governor) -> int:
        """See to it that ended runs are kept for as long as is said now, and what channels leave behind no longer."""
        try:
            swept = await governor.loop.bridge(governor.keeping.sweep())
            return swept + await governor.loop.bridge(Clearing(governor.runs).sweep())
        except StoreUnavailable as error:
            self._store_fails(governor, error)
            return 0
        except Exception as error:  # runs go on, and it is tried again
            self._complain(f"the retention of tenant {governor.tenant}", error)
            return 0

    async def _checkpoint(self, governor: Governor, every: float) -> None:
        try:
            await governor.loop.bridge(governor.audit.checkpoints.keep(every, self._checkpoint_events))
        except Exception as error:  # runs go on, whatever is wrong with the trail of others
            self._complain(f"the audit checkpoint of tenant {governor.tenant}", error)

    def _take(self, governor: Governor, record: Record, run: Run | Exception, once: bool) -> asyncio.Task[bool] | None:
        key = (record.tenant, record.id)
        if isinstance(run, Exception):
            self._complain(f"run {record.id}", run)
            return None
        if key in self._busy or self._is_put_off(key, record) or not self._hands.remove(key, run):
            return None
        loop = asyncio.get_running_loop()
        if not once and not self._hands.take(governor, record, run, loop.time()):
            return None
        task = loop.create_task(self._work(governor, run, key, record.v, once))
        self._busy[key] = task
        task.add_done_callback(lambda _: self._done(key))
        return task

    def _done(self, key: Key) -> None:
        self._busy.pop(key, None)
        self._hands.drop(key)

    def _is_put_off(self, key: Key, record: Record) -> bool:
        v, until = self._put_off.get(key, (0, 0.0))
        return v == record.v and asyncio.get_running_loop().time() < until

    async def _work(self, governor: Governor, run: Run, key: Key, v: int, once: bool) -> bool:
        """One run: what time and people need at once, then its loop when there is room for it."""
        wait = PUT_OFF
        if self._is_away(governor):  # another run met it a moment ago
            return False
        try:
            tended, now = await look(governor, run)
            lanes, again = self._delivery.begin(governor, tended, now)
            wait = min(wait, again)
            did = (once and any(await asyncio.gather(*lanes))) or tended.seq != run.seq
            if once and lanes:
                tended, now = await look(governor, await governor.get(run.id))
            did = did or await expire(governor, tended)
            if mine(governor, tended, now):
                async with self._hands.free:
                    did = await drive(governor, tended) or did
            else:
                self._say_unknown(governor, tended)
        except StoreUnavailable as error:
            self._store_fails(governor, error, key)
            did, wait = False, 2 * AGAIN  # longer than the store is first left alone: should it be this run, others go
        except PoliciesUnavailable as error:  # every run's trouble, until somebody publishes anew
            self._complain(f"tenant {governor.tenant}", error)
            self._absences[governor].done(key)
            did, wait = False, AGAIN
        except Exception as error:  # one run's trouble is its own: the others go on
            self._complain(f"run {run.id}", error)
            self._absences[governor].done(key)
            did, wait = False, AGAIN
        else:
            self._unless_lanes_fail(governor, key, lanes)
        if did:
            self._put_off.pop(key, None)
        else:  # not ours, or not to be helped now: leave it until somebody changes it, or for a while
            self._put_off[key] = (v, asyncio.get_running_loop().time() + wait)
        return did

    def _unless_lanes_fail(self, governor: Governor, key: Key, lanes: Sequence[asyncio.Task[bool]]) -> None:
        """The run met no trouble with the store, once all that is told of it beside has met none."""
        if not lanes:
            self._absences[governor].done(key)
            return

        def over(lane: asyncio.Task[bool]) -> None:
            error = None if lane.cancelled() else lane.exception()
            if isinstance(error, StoreUnavailable):
                failed.append(error)
                self._store_fails(governor, error, key)
            elif not failed and all(each.done() for each in lanes):
                self._absences[governor].done(key)

        failed: list[StoreUnavailable] = []
        for lane in lanes:
            lane.add_done_callback(over)

    def _store_fails(self, governor: Governor, error: StoreError, work: Key | None = None) -> None:
        """The store's trouble is not one run's: it is said once, and the store left alone for a while."""
        self._absences[governor].fails(error, asyncio.get_running_loop().time(), work)

    def _is_away(self, governor: Governor) -> bool:
        return self._absences[governor].lasts(asyncio.get_running_loop().time())

    def _say_unknown(self, governor: Governor, run: Run) -> None:
        """Say once of a run that waits for another worker: one that knows its agent, one of its environment."""
        if run.state not in (RunState.QUEUED, RunState.READY) or run.id in self._said:
            return
        if run.env != governor.env:
            why = f"it was made in environment {run.env!r} and this is {governor.env!r}"
        elif run.single or run.agent in governor.agents:
            return
        else:
            known = ", ".join(sorted(governor.agents)) or "none"
            why = f"no agent {run.agent!r} is registered here (known: {known})"
        self._said.add(run.id)
        log.warning("run %s is %s, but %s", run.id, run.state, why)

    def _complain(self, what: str, error: Exception) -> None:
        """Say once a minute what is wrong, not in a loop."""
        now = asyncio.get_running_loop().time()
        if now - self._complained.get(what, -60.0) >= 60.0:
            self._complained[what] = now
            log.error("%s: %s", what, error if str(error) else type(error).__name__)

    async def _rest(self, stop: asyncio.Event, seen: Sequence[int]) -> None:
        """Until something changed, somebody says stop, or the next look is due."""
        waits: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._changed(governor, since))
            for governor, since in zip(self._governors, seen, strict=True)
        }
        waits |= {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._use_hands())}
        _, left = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in left:
            wait.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _use_hands(self) -> None:
        """Let each hand that gets free take what the last look left; until there is nothing more, or that is old."""
        loop = asyncio.get_running_loop()
        old = loop.time() + BUSY
        while loop.time() < old:
            await self._hands.freed.wait()
            self._hands.freed.clear()
            left, self._hands.left = self._hands.left, []
            for due in left:
                self._take(*due, once=False)
            if not self._hands.full:
                return

    async def _changed(self, governor: Governor, since: int) -> None:
        if self._hands.full:
            await asyncio.sleep(BUSY)
        await governor.loop.bridge(governor.watch.changed(LOOK, since))

    async def _finish(self) -> None:
        if self._busy:
            log.info("stopping: %d runs in hand", len(self._busy))
            _, left = await asyncio.wait(set(self._busy.values()), timeout=self._drain)
            for task in left:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*left, return_exceptions=True)
