"""Waking up when the store changed, for any number of waiters with one watcher.

A wake-up is a hint: who is woken looks at the store and may wait again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from governor_agents.core.ports import Store
from governor_agents.errors import StoreError

T = TypeVar("T")

LOOK = 5.0
"""Seconds after which whoever waits looks again, whether or not anybody was heard."""

IDLE = 3
"""Rounds of one second, or wake-ups, for which the watcher outlives its last waiter."""


class Watch:
    """Shares one `Store.wait` among all waiters of a process. Lives on the governor loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Event()
        self._waiting = 0
        self.version = 0
        self._task: asyncio.Task[None] | None = None

    async def changed(self, timeout: float, since: int) -> bool:
        """True soon after a write by anybody, False after ``timeout`` seconds.

        ``since`` is the ``version`` read before the caller last looked at the store: a write that came after that
        look counts, although nobody was waiting when it came.
        """
        if self.version != since:
            return True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())
        self._waiting += 1
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    async def until(self, look: Callable[[], Awaitable[T]], holds: Callable[[T], bool], timeout: float) -> T:
        """What ``look`` gives as soon as it ``holds``; whatever it gives after ``timeout`` seconds."""
        end = asyncio.get_running_loop().time() + timeout
        while True:
            seen = self.version
            found = await look()
            left = end - asyncio.get_running_loop().time()
            if holds(found) or left <= 0:
                return found
            await self.changed(min(left, LOOK), seen)

    async def _watch(self) -> None:
        idle = 0
        while idle < IDLE or self._waiting:  # ends a while after the last waiter left; the next one starts it again
            idle = 0 if self._waiting else idle + 1
            try:
                woken = await self._store.wait(1.0)
            except StoreError:  # away for a moment; whoever waits looks for itself when its time is over
                await asyncio.sleep(1.0)
                continue
            if woken:
                self._wake()

    def _wake(self) -> None:
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def stop(self) -> None:
        """End the watcher and wake whoever waits. Twice is fine."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._wake()
