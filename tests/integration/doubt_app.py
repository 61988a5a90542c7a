"""One tool that pays, behind each adapter: what the tests of doubts share.

Run as a program it is a worker of its own: ``doubt_app.py WAY FOLDER RUN HOST`` resumes the run. Its tool says ``inside``
on stdout and goes on, or not, with what it reads from stdin. ``HOST`` is where it says it runs, empty for here.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from governor_agents import Decision, Governor, PolicySet, Run, Worker, idempotency_key, liveness
from governor_agents.core.records import Call, CallState
from governor_agents.stores.sqlite import SQLiteStore
from governor_agents.testing import MovableClock
from tests.asking import Silent

ANN, OPS = "local:ann", "local:ops"
LEASE = 3600.0
"""No heartbeat falls into a test: only the clock that the test moves ends a lease."""

POLICY = """
version: 1
approvals: {approvers: [local:ann], channels: [quiet]}
tools: {pay: {retry: %(retry)s, in_flight: 60s}}
rules:
  - {name: pays, tool: pay, then: %(then)s}
"""

Tool = Callable[[int], Any]


class Shop:
    """One process's view of a shop on a SQLite file. ``act`` is what its tool does; the ledger is the only witness.

    Its agents pay ``turns`` times.
    """

    turns = 1

    def __init__(self, folder: Path, act: Tool | None = None, *, retry: str = "none", then: str = "require_approval",
                 clock: Callable[[], float] = time.time, **settings: Any) -> None:  # fmt: skip
        self.folder = folder
        self.act = act or self.pay
        self.retry = retry
        self.governor = Governor(
            PolicySet.from_text(POLICY % {"retry": retry, "then": then}),
            store=SQLiteStore(f"sqlite:///{folder}/store.db", clock=clock),
            handlers={"quiet": Silent()},
            lease=LEASE,
            secret=b"shared",
            **settings,
        )
        self.register()

    def register(self) -> None:
        raise NotImplementedError

    async def ask(self) -> Run:
        """A run that waits for the payment to be approved."""
        raise NotImplementedError

    def told(self, run: Run) -> str:
        """What the agent was told of the payment."""
        raise NotImplementedError

    def pay(self, amount: int) -> str:
        """The effect."""
        with (self.folder / "ledger").open("a") as ledger:
            ledger.write(f"{amount} {idempotency_key()}\n")
        return f"paid {amount}"

    @property
    def ledger(self) -> list[str]:
        """What was really paid, and under which keys."""
        file = self.folder / "ledger"
        return file.read_text().splitlines() if file.exists() else []

    async def approved(self) -> Run:
        """A run that is ready to pay."""
        run = await self.ask()
        return await self.governor.decide(run.approvals[0].id, Decision.approve(), by=ANN)

    async def work(self) -> None:
        """A worker does all that is due."""
        await Worker(self.governor).run(once=True)


class FunctionShop(Shop):
    """A plain function."""

    def register(self) -> None:
        @self.governor.govern(name="pay", retry=self.retry)
        def pay(amount: int) -> Any:
            return self.act(amount)

        self.function = pay

    async def ask(self) -> Run:
        return await self.governor.get((await self.function.ask(7)).run)

    def told(self, run: Run) -> str:
        return str(run.output if run.output is not None else run.error)


class OpenAIShop(Shop):
    """An agent of the OpenAI Agents SDK."""

    def register(self) -> None:
        from agents import Agent, function_tool

        from tests.integration.openai_agents_app import Scripted

        @function_tool
        def pay(amount: int) -> str:
            """Pay."""
            return self.act(amount)

        self.model = Scripted(*[[("pay", {"amount": 7})]] * self.turns)
        self.governor.agent("support")(lambda: Agent(name="Support", model=self.model, tools=[pay]))

    async def ask(self) -> Run:
        return await self.governor.run("support", "go")

    def told(self, run: Run) -> str:
        return str(self.model.outputs[-1])


class LangChainShop(Shop):
    """An agent of LangChain."""

    def register(self) -> None:
        from langchain.agents import create_agent
        from langchain_core.tools import tool

        from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
        from tests.integration.langchain_app import Scripted

        @tool
        def pay(amount: int) -> str:
            """Pay."""
            return self.act(amount)

        self.model = Scripted(turns=[[("pay", {"amount": 7})]] * self.turns)
        middleware, saver = [GovernorMiddleware(self.governor)], GovernorSaver(self.governor)
        agent = create_agent(self.model, tools=[pay], middleware=middleware, checkpointer=saver)
        self.governor.agent("support")(lambda: agent)

    async def ask(self) -> Run:
        return await self.governor.run("support", "go")

    def told(self, run: Run) -> str:
        return str(self.model.results[-1].content)


SHOPS: dict[str, type[Shop]] = {"functions": FunctionShop, "openai_agents": OpenAIShop, "langchain": LangChainShop}


def movable() -> MovableClock:
    """A clock that begins now, because other processes look at the real one."""
    return MovableClock(time.time())


def only(run: Run, n: int = 1) -> Call:
    """The call with this number."""
    call = run.call(n)
    assert call is not None
    return call


def states(run: Run) -> list[CallState]:
    return [call.state for call in run.calls]


async def _main(way: str, folder: str, run: str, host: str) -> None:
    if host:  # as if this process were on another machine
        liveness._me = liveness.this_worker().replace(socket.gethostname(), host, 1)

    def act(amount: int) -> str:
        print("inside", flush=True)
        if not sys.stdin.readline():
            raise RuntimeError("nobody said go")
        return shop.pay(amount)

    shop = SHOPS[way](Path(folder), act)
    async with shop.governor as governor:
        try:
            after = await governor.resume(run)
            print("rests", after.status, flush=True)
        except Exception as error:
            print("raised", type(error).__name__, flush=True)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:5]))
