"""The hint that somebody wrote: one subscription, read by a task that holds no reference to its store.

Writes are told of under the namespace's channel, with the writer's own mark, so that nobody is woken by himself through
the server. While there is no subscription (none yet, a lost connection, a user who may not subscribe) the waiter is
woken now and then instead, and looks for himself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from governor_agents.stores.redis.failure import KNOWN
from governor_agents.stores.redis.wire import Connect

LOOK: Final = 0.5
"""Seconds between two looks where nothing is heard."""

QUIET: Final = 15.0
"""Seconds of silence after which the server is asked whether it is still there."""


class Waking:
    """Whether anything was written since it was last asked."""

    def __init__(self, connect: Callable[[], Awaitable[Connect]], channel: bytes, writer: bytes) -> None:
        self._connect = connect
        self._channel = channel
        self._writer = writer
        self._written = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._closed = False

    def wrote(self) -> None:
        """This store object wrote."""
        self._written.set()

    async def wait(self, timeout: float) -> bool:
        """True when anything was written since the last call, False after ``timeout`` seconds or when it is closed."""
        if self._listening is None or self._listening.done():  # a library that it uses may end it
            self._listening = asyncio.create_task(self._listen())
        try:
            async with asyncio.timeout(timeout):
                await self._written.wait()
        except TimeoutError:
            return False
        self._written.clear()
        return not self._closed

    def stop(self) -> None:
        """Hear nothing more; whoever waits is let go."""
        self._closed = True
        self._written.set()
        if self._listening is not None:
            self._listening.cancel()

    async def close(self) -> None:
        """The same, and wait for the end of it."""
        self.stop()
        while self._listening is not None and not self._listening.done():
            self._listening.cancel()  # again, should what it waited for have ended at that very moment
            await asyncio.wait([self._listening], timeout=LOOK)

    async def _listen(self) -> None:
        while True:
            connection: Any = None
            try:
                connection = (await self._connect())()
                await self._hear(connection)
            except Exception:  # whatever it is, whoever reads or writes will be told of it
                self._written.set()  # and something may have been written meanwhile
            finally:
                if connection is not None:
                    with contextlib.suppress(*KNOWN):
                        await connection.disconnect(nowait=True)
            await asyncio.sleep(LOOK)

    async def _hear(self, connection: Any) -> None:
        async with asyncio.timeout(QUIET):
            await connection.connect()
            await connection.send_command("SUBSCRIBE", self._channel)
            await connection.read_response()
        self._written.set()  # what was written before nobody told us
        asked = False
        while True:
            said = await connection.read_response(timeout=QUIET, disconnect_on_error=False)
            if said is None and asked:
                return
            if asked := said is None:
                await connection.send_command("PING")
            elif said[0] == b"message" and said[2] != self._writer:
                self._written.set()
