"""A run that is watched while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from governor_agents.core.ports import Emit
from governor_agents.core.records import Run

_END = object()


class Streamed:
    """An agent run as a stream of its framework's own events; ``await streamed.run()`` for how it came to rest.

    Iterating starts the run; leaving the loop early does not stop it.
    """

    def __init__(self, drive: Callable[[Emit], Awaitable[Run]]) -> None:
        self._drive = drive
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._task: asyncio.Task[Run] | None = None

    def _start(self) -> asyncio.Task[Run]:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
        return self._task

    async def _work(self) -> Run:
        try:
            return await self._drive(self._events.put)
        finally:
            self._events.put_nowait(_END)

    async def __aiter__(self) -> AsyncIterator[Any]:
        task = self._start()
        while (event := await self._events.get()) is not _END:
            yield event
        await task

    async def run(self) -> Run:
        """The run as it came to rest. Raises what the framework raised."""
        return await self._start()
