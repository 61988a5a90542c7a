"""Where the store's client lives: one event loop of one process. Calls from elsewhere are refused or brought over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from governor_agents.errors import StoreError, StoreUnavailable

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds that a user's loop may be busy with something else before a call gives up."""


class Home:
    """An event loop. A client that the user passed stays on the user's; one of our own on the loop that opened it."""

    def __init__(self, shown: str, *, bridged: bool) -> None:
        self._shown = shown
        self._bridged = bridged
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0

    def settle(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Live on this loop, from now on."""
        self._loop, self._process = loop, os.getpid()

    @property
    def settled(self) -> bool:
        """True when it is known which loop this is."""
        return self._loop is not None

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Call an async function there. Raises `StoreError` when that cannot be."""
        if why := self._elsewhere():
            raise StoreError(f"{self._shown} {why}")
        if self._loop is asyncio.get_running_loop():
            return await work()
        return await self._cross(work)

    def _elsewhere(self) -> str:
        if self._process != os.getpid():
            return "was opened before a fork; open it in the process that uses it"
        if self._loop is None or (self._loop is not asyncio.get_running_loop() and not self._bridged):
            return "was opened on another event loop; use it there, or open another store object here"
        if self._loop.is_closed():
            return "has a client whose event loop has ended; make client and store on the loop that goes on"
        return ""

    async def _cross(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        assert self._loop is not None  # noqa: S101  (for the type checker; `_elsewhere` looked)
        here, begun = asyncio.get_running_loop(), asyncio.Event()

        async def there() -> T:
            here.call_soon_threadsafe(begun.set)
            return await work()

        future = asyncio.run_coroutine_threadsafe(there(), self._loop)
        try:
            async with asyncio.timeout(PATIENCE):
                await begun.wait()
        except BaseException as error:
            future.cancel()
            if isinstance(error, TimeoutError):
                raise StoreUnavailable(
                    f"{self._shown}: the event loop of the client that was passed is busy or has ended; a call that "
                    "blocks it (such as a synchronous twin) cannot use a store whose client lives on it"
                ) from error
            raise
        return await asyncio.wrap_future(future)
