"""An application in processes that share nothing but the store: one asks and dies, others go on with what was asked.

``any_process_app.py create|work KIND STORE LEDGER COUNT``. ``create`` starts that many runs, each to its pause, and kills
its own process. ``work`` resumes what is decided. ``idle`` is a worker that does not know the agent.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from governor_agents import Governor, Worker


def openai(store: str, ledger: Path) -> Governor:
    """The application on the OpenAI Agents SDK."""
    from tests.integration.openai_agents_app import make_app

    return make_app(store, ledger, [("refund", {"order": "4711"})])[0]


def langchain(store: str, ledger: Path) -> Governor:
    """The application on LangChain."""
    from tests.integration.langchain_app import App
    from tests.integration.ledger import Ledger

    return App(store, Ledger(ledger), [[("pay", {"amount": 50})]]).governor


KINDS: dict[str, Any] = {"openai": openai, "langchain": langchain}
DECIDES = {"openai": "boss@example.com", "langchain": "local:ann"}


async def create(governor: Governor, count: int) -> None:
    """Start runs; when all of them wait for people, die as a machine does."""
    for _ in range(count):
        run = await governor.run("support", "go")
        assert run.status == "waiting", run
    os.kill(os.getpid(), signal.SIGKILL)


async def work(governor: Governor) -> None:
    """One look of a worker, which goes on until nothing is due."""
    async with governor:
        await Worker(governor).run(once=True)


if __name__ == "__main__":
    what, kind, store, ledger, count = sys.argv[1:]
    made = KINDS[kind](store, Path(ledger))
    if what == "idle":
        made.agents.clear()
    asyncio.run(create(made, int(count)) if what == "create" else work(made))
