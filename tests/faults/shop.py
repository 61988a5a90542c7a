"""A shop with one governed function, and a worker that says how often it met a store in trouble."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from governor_agents import Decision, Governor, PolicySet, Run, Worker
from governor_agents.errors import StoreError, StoreUnavailable

T = TypeVar("T")
ANN = "local:ann"
LOOKS = 2
"""How often the worker must have met the trouble before it counts as having gone on through it."""


class Shop:
    """One governed function in one process, and what really ran."""

    def __init__(self, store: str | Path, **settings: Any) -> None:
        url = f"sqlite:///{store}" if isinstance(store, Path) else store
        self.governor = Governor(PolicySet(()), store=url, **settings)
        self.ran: list[int] = []
        self.meanwhile: Callable[[], object] = lambda: None

        @self.governor.govern(name="pay", approvers=[ANN])
        async def pay(amount: int) -> str:
            self.ran.append(amount)
            self.meanwhile()
            return f"paid {amount}"

        self.pay = pay

    async def approved(self, amount: int) -> str:
        """A run that a worker may take, from a store that may be away for a moment."""
        pending = await patiently(lambda: self.pay.ask(amount))
        await patiently(lambda: self.governor.decide(pending.approval, Decision.approve(), by=ANN))
        return pending.run

    async def end(self, run: str) -> Run:
        return await patiently(lambda: self.governor.wait(run, timeout=90, until=lambda run: run.state.ended))


async def patiently(step: Callable[[], Awaitable[T]]) -> T:
    """Ask again until the store answers."""
    while True:
        try:
            return await step()
        except StoreUnavailable:
            await asyncio.sleep(0.05)


class Watched(Worker):
    """The worker, which says how often it met a store in trouble."""

    def __init__(self, governor: Governor) -> None:
        super().__init__(governor)
        self.met, self._meets = 0, asyncio.Event()

    def _store_fails(self, governor: Governor, error: StoreError, *work: Any) -> None:
        super()._store_fails(governor, error, *work)
        self.met += 1
        self._meets.set()

    async def trouble(self, times: int) -> None:
        """Until it has met trouble so often."""
        async with asyncio.timeout(90):
            while self.met < times:
                self._meets.clear()
                await self._meets.wait()


@asynccontextmanager
async def working(shop: Shop) -> AsyncIterator[Watched]:
    """A worker at work; it must still be there in the end."""
    stop, worker = asyncio.Event(), Watched(shop.governor)
    task = asyncio.create_task(worker.run(stop=stop))
    try:
        yield worker
        assert not task.done()
    finally:
        stop.set()
        await task


def said(log: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[str]:
    """What the worker complained of, about the store."""
    return [
        record.getMessage()
        for record in log.records
        if record.name == "governor_agents.worker" and record.levelno >= level
    ]
