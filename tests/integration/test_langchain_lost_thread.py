"""A run that made calls, and whose thread is not as it left it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool

from governor_agents import Governor, Verdict
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from governor_agents.core import driving
from governor_agents.core.records import Change, Run, RunState
from tests.integration.langchain_app import Scripted
from tests.integration.ledger import Ledger


class Hanging(Scripted):
    """Answers its first question; the second one hangs, as in a process that is about to die."""

    asked: Any = None

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        if self.asked is not None and self.seen:
            self.asked.set()
            await asyncio.Event().wait()
        return self._generate(messages)


def shop(store: str, ledger: Ledger, asked: asyncio.Event | None) -> Governor:
    """A process that knows an agent which makes an allowed payment."""
    governor = Governor([lambda call: Verdict("allow")], store=store, secret=b"k")

    @tool
    async def pay(amount: int) -> str:
        """Pay."""
        ledger.write(f"pay {amount}")
        return "paid"

    @governor.agent("clerk")
    def clerk() -> Any:
        model = Hanging(turns=[[("pay", {"amount": 5})]], asked=asked)
        watched = [GovernorMiddleware(governor)]
        return create_agent(model, tools=[pay], middleware=watched, checkpointer=GovernorSaver(governor), name="clerk")

    return governor


def lapsed(run: Run, now: float) -> Change:
    """The run once its lease is over."""
    return driving.lease_over(run, run.lease.until if run.lease else now)


async def taken_over(path: Path, *, lost: bool) -> tuple[Run, list[str]]:
    """A payment, a process that stops answering, and another one that goes on; perhaps the thread is gone by then."""
    store, ledger, asked = f"sqlite:///{path}/g.db", Ledger(path / "ledger"), asyncio.Event()
    first, second = shop(store, ledger, asked), shop(store, ledger, None)
    dying = asyncio.create_task(first.run("clerk", "go", conversation="c"))
    await asked.wait()
    run = (await second.list_runs())[0]
    await second.loop.bridge(second.runs.change(run.id, lapsed))
    if lost:
        await GovernorSaver(second).adelete_thread("c")
    after = await second.resume(run.id)
    dying.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await dying
    await first.close()
    await second.close()
    return after, ledger.lines


def test_a_run_whose_thread_is_gone_does_not_begin_anew(tmp_path: Path) -> None:
    """What was paid is not paid again: the run is parked for an operator."""
    after, paid = asyncio.run(taken_over(tmp_path, lost=True))
    assert paid == ["pay 5"]
    assert (after.state, after.blocked) == (RunState.BLOCKED, "replay")


def test_a_run_whose_thread_is_there_goes_on(tmp_path: Path) -> None:
    """The control."""
    after, paid = asyncio.run(taken_over(tmp_path, lost=False))
    assert (after.state, paid) == (RunState.COMPLETED, ["pay 5"])
