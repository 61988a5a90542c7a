"""A store that writes and does not say so, or says that it could not and has not written."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from governor_agents.core.ports import Record, Store, Swapped
from governor_agents.errors import StoreUnavailable
from governor_agents.stores import sqlite_thread


class Fault:
    """Which write is hit: the ``nth`` (from 1), before or after it is made, ``times`` in a row. 0 hits none."""

    def __init__(self, nth: int = 0, when: str = "after", times: int = 1) -> None:
        self.nth, self.when, self.times = nth, when, times
        self.writes = 0
        self.struck = 0

    def strikes(self) -> bool:
        """Count a write; True when it is to be hit."""
        if self.nth and self.writes + 1 == self.nth and self.struck < self.times:
            self.struck += 1
            return True
        self.writes += 1
        return False


class Forgetful:
    """A store in whose place the fault strikes."""

    def __init__(self, inner: Store, fault: Fault) -> None:
        self._inner, self._fault = inner, fault

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._hit(found) if name in ("insert", "swap", "delete") else found

    def _hit(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def hit(*args: Any, **rest: Any) -> Any:
            strikes = self._fault.strikes()
            if strikes and self._fault.when == "before":
                raise StoreUnavailable("the connection was refused")
            answer = await write(*args, **rest)
            if strikes:
                raise StoreUnavailable("the connection was lost")
            return answer

        return hit


class ForgetsOps:
    """A store that does not know its own earlier writes again: the fault that the tests must find."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def insert(self, record: Record, *, op: str, **rest: Any) -> Swapped:
        return await self._inner.insert(record, op=secrets.token_hex(8), **rest)

    async def swap(self, record: Record, *, op: str, **rest: Any) -> Swapped:
        return await self._inner.swap(record, op=secrets.token_hex(8), **rest)


class BadDisk:
    """A SQLite connection whose COMMIT fails as a disk does: before, or after everything is written."""

    def __init__(self, inner: sqlite3.Connection, fault: Fault) -> None:
        self._inner, self._fault = inner, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def execute(self, statement: str, *rest: Any) -> Any:
        strikes = statement == "COMMIT" and self._fault.strikes()
        if not strikes or self._fault.when == "after":
            answer = self._inner.execute(statement, *rest)
        if strikes:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return answer


def bad_disk(fault: Fault) -> Callable[..., BadDisk]:
    """What stands in the place of `sqlite_file.connect` on the store's thread."""
    sound = sqlite_thread.connect
    return lambda place: BadDisk(sound(place), fault)
