"""What the tests of the store kit, and the other processes in them, have in common: sample records and a runner."""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeVar

from governor_agents.core.ports import Blob, Record, Store, StoredEvent, Swapped

T = TypeVar("T")


class Run:
    """Runs coroutines on one event loop per test; what takes longer than the limit fails."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._runner = asyncio.Runner()

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result."""
        return self._runner.run(asyncio.wait_for(coroutine, self._limit))

    def close(self) -> None:
        """End the loop."""
        self._runner.close()


def record(id: str = "r", *, v: int = 0, body: bytes = b"body", **rest: Any) -> Record:
    """A record with what a test does not care about filled in: kind ``run``, tenant ``t``."""
    return Record(**{"kind": "run", "tenant": "t", "id": id, "body": body, "v": v, **rest})


def event(seq: int, body: bytes = b"event") -> StoredEvent:
    """An event."""
    return StoredEvent(seq, body)


async def put(store: Store, *records: Record) -> None:
    """Insert records that must not exist yet."""
    for each in records:
        assert await store.insert(each, op=f"put {each.kind} {each.tenant} {each.id}") == Swapped(won=True, v=1)


def add(store: Store, amount: int, limit: int, id: str = "c", tenant: str = "t") -> Coroutine[Any, Any, int | None]:
    """Add to a counter, under an op of its own."""
    return store.add_below(tenant, id, amount, limit, op=secrets.token_hex(8))


def ids(records: Sequence[Record]) -> list[str]:
    """The ids of records, in their order."""
    return [each.id for each in records]


def index(**fields: str) -> Mapping[str, str]:
    """Index fields."""
    return fields


def blob(data: bytes) -> Blob:
    """A blob under the digest of its content."""
    return Blob(sha256(data).hexdigest(), data)


async def gather(count: int, make: Callable[[int], Coroutine[Any, Any, T]]) -> list[T]:
    """Run ``make(0)`` … ``make(count - 1)`` at the same time."""
    return await asyncio.gather(*(make(number) for number in range(count)))
