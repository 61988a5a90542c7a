"""Waking up when somebody wrote: a change stream where there is a replica set, a look at a mark elsewhere. A hint."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from bson.errors import BSONError
from pymongo.errors import OperationFailure, PyMongoError

from governor_agents.stores.mongodb.clock import CLOCK

LOOK: Final = 0.25
"""Seconds between two looks at the mark of writes, where there are no change streams."""

AGAIN: Final = 1.0
"""Seconds until a stream that broke is opened again."""

LISTEN: Final = 1000
"""Milliseconds that a server holds an answer back while nothing changes."""

NO_STREAMS: Final = frozenset({13, 40573, 40324, 59, 115, 136, 20})
"""Codes of a server, or of a user's rights, under which there are no change streams."""


class Waking:
    """Tells one waiter of writes by any process. Lives on the loop of the client."""

    def __init__(self, records: Any, meta: Any, *, streams: bool) -> None:
        self._records = records
        self._meta = meta
        self._streams = streams
        self._written = asyncio.Event()
        self._ready = asyncio.Event()
        self._missed = False
        self._task: asyncio.Task[None] | None = None

    def wrote(self) -> None:
        """A write of our own: the waiter wakes at once."""
        self._written.set()

    async def wait(self, timeout: float) -> bool:
        """True when anything was written since the last call, False after ``timeout`` seconds."""
        if self._task is None or self._task.done():
            self._missed |= self._task is not None
            self._ready.clear()
            self._task = asyncio.get_running_loop().create_task(self._listen())
        try:
            async with asyncio.timeout(timeout):
                await self._ready.wait()
                await self._written.wait()
            self._written.clear()
        except TimeoutError:
            self._missed |= not self._ready.is_set()  # what is written until it listens, nobody will tell
            return False
        return True

    async def stop(self) -> None:
        """End, and wake whoever waits."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()  # again and again: a driver may take it for the end of one of its own requests
            await asyncio.wait({task}, timeout=0.1)
        self._ready.set()
        self._written.set()

    async def _listen(self) -> None:
        while True:
            try:
                await (self._follow() if self._streams else self._look())
            except (PyMongoError, BSONError) as error:
                if self._streams and isinstance(error, OperationFailure) and error.code in NO_STREAMS:
                    self._streams = False
                    continue
            # Away for a moment: whoever waits is woken, looks, and is told what is wrong.
            self._missed = True
            self._heard()
            await asyncio.sleep(AGAIN)

    def _heard(self) -> None:
        """It listens (again). What was written while it did not, nobody would tell."""
        self._ready.set()
        if self._missed:
            self._written.set()

    async def _follow(self) -> None:
        stream = self._records.watch([{"$project": {"_id": 1}}], max_await_time_ms=LISTEN)
        if hasattr(stream, "__await__"):  # of one of the two drivers
            stream = await stream
        async with stream:  # from here on the server listens
            self._heard()
            while stream.alive:
                if await stream.try_next() is not None:
                    self._written.set()

    async def _look(self) -> None:
        seen = await self._mark()
        self._heard()
        while True:
            await asyncio.sleep(LOOK)
            if (mark := await self._mark()) != seen:
                seen = mark
                self._written.set()

    async def _mark(self) -> Any:
        found = await self._meta.find_one({"_id": CLOCK}, {"writes": 1})
        return found and found.get("writes")
