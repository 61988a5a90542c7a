"""Work that kills whoever does it: a governed function, or an agent's model. In children of a fork server."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from agents import Agent, RunConfig

from governor_agents import Governor, PolicySet, Worker, idempotency_key
from governor_agents.adapters.functions import Governed
from governor_agents.stores import open_store
from governor_agents.testing import MovableClock
from tests.integration.openai_agents_app import Scripted, Table
from tests.stores import clocked

POISON = "poison"
LEASE = 2.0


class Deadly(Scripted):
    """A model that dies of one message, until it is cured."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
        taste(self._folder, str(input))
        return await super().get_response(system_instructions, input, *args, **kwargs)


def taste(folder: Path, what: str) -> None:
    """Kill this process if this is the poison and nobody has mended it."""
    if POISON in what and not (folder / "cured").exists():
        os.kill(os.getpid(), signal.SIGKILL)


class App:
    """A governor with a function and an agent, as each process builds it. ``at`` is the time of its clock, or 0."""

    def __init__(self, folder: str, url: str, at: float = 0.0) -> None:
        self.folder = Path(folder)
        options = {"clock": MovableClock(at)} if clocked(url) and at else {}
        self.governor = Governor(PolicySet([Table()]), store=open_store(url, **options), secret=b"secret", lease=LEASE)
        self.ship = self._ship()
        self.governor.agent("clerk")(self._clerk)

    def _ship(self) -> Governed:
        folder = self.folder

        @self.governor.govern(name="ship", retry="idempotent", approvers=["boss@example.com"], exclude_requester=False)
        async def ship(what: str) -> str:
            with (folder / "ledger").open("a") as file:
                file.write(f"{what} {idempotency_key()}\n")
            taste(folder, what)
            return f"shipped {what}"

        return ship

    def _clerk(self) -> Any:
        agent: Agent[Any] = Agent(name="Clerk", model=Deadly(self.folder))
        return agent, {"run_config": RunConfig(tracing_disabled=True)}


def work(folder: str, url: str, at: float) -> int:
    """In a child: a worker that does one thing at a time, until nothing is due or it is killed."""

    async def run() -> None:
        async with App(folder, url, at).governor as governor:
            await Worker(governor, concurrency=1).run(once=True)

    asyncio.run(run())
    return 0
