"""Event loops on threads of their own, and the two bridges to them: one for coroutines, one for plain calls.

The governor keeps two: one owns store, leases and heartbeats; the other drives the synchronous twins. Both start with
their first use, so importing the package, or forking before that, starts no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from governor_agents.errors import WouldBlock

T = TypeVar("T")


class Background:
    """One event loop on one daemon thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():  # a fork does not take the thread along
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._serve, args=(loop,), name=self._name, daemon=True)
                self._thread.start()
                self._loop, self._pid = loop, os.getpid()
            return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()

    @property
    def here(self) -> bool:
        """True when called from this loop's own thread."""
        return self._thread is threading.current_thread()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and block this thread until it is done. Raises `WouldBlock` from its own loop."""
        if self.here:
            work.close()
            raise WouldBlock("a synchronous call from the governor's own loop would never return; await the async one")
        future = asyncio.run_coroutine_threadsafe(work, self._start())
        try:
            return future.result()
        except BaseException:  # an interrupt of the caller ends the work too
            future.cancel()
            raise

    async def bridge(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and await it here."""
        if self.here:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._start()))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start a coroutine there and do not wait."""
        asyncio.run_coroutine_threadsafe(work, self._start())

    def stop(self) -> None:
        """End loop and thread; what still runs there is cancelled. Twice is fine; a later use starts a new one."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            if thread is not threading.current_thread():
                thread.join(timeout=10)
