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
        self._task: asyncio.Task[None] | None = None

    def wrote(self) -> None:
        """A write of our own: the waiter wakes at once."""
        self._written.set()

    async def wait(self, timeout: float) -> bool:
        """True when anything was written since the last call, False after ``timeout`` seconds."""
        if self._task is None or self._task.done():
            self._ready.clear()
            self._task = asyncio.get_running_loop().create_task(self._listen())
        await self._ready.wait()
        try:
            async with asyncio.timeout(timeout):
                await self._written.wait()
            self._written.clear()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End, and wake whoever waits."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._ready.set()
        self._written.set()

    async def _listen(self) -> None:
        while True:
            try:
                await (self._follow() if self._streams else self._look())
            except OperationFailure as error:
                self._streams = self._streams and error.code not in NO_STREAMS
            except (PyMongoError, BSONError):  # away for a moment; whoever is woken looks, and is told what is wrong
                pass
            self._ready.set()
            self._written.set()
            await asyncio.sleep(AGAIN if self._streams else 0)

    async def _follow(self) -> None:
        stream = self._records.watch([{"$project": {"_id": 1}}], max_await_time_ms=LISTEN)
        if hasattr(stream, "__await__"):  # of one of the two drivers
            stream = await stream
        async with stream:  # from here on the server listens
            self._ready.set()
            while stream.alive:
                if await stream.try_next() is not None:
                    self._written.set()

    async def _look(self) -> None:
        seen = await self._mark()
        self._ready.set()
        while True:
            await asyncio.sleep(LOOK)
            if (mark := await self._mark()) != seen:
                seen = mark
                self._written.set()

    async def _mark(self) -> Any:
        found = await self._meta.find_one({"_id": CLOCK}, {"writes": 1})
        return found and found.get("writes")
