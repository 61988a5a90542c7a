"""Tools that use the governor themselves: runs, agents and governed functions inside of a tool, and calls under its id."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, function_tool
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from governor_agents import Decision, Governor, Verdict, idempotency_key
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from governor_agents.adapters.openai_agents import govern
from governor_agents.core import driving
from governor_agents.core.records import Change, Run, RunState
from governor_agents.core.verdicts import Stage
from governor_agents.errors import ConfigError
from tests.integration import langchain_app
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import Scripted

ANN = "local:ann"
ASK = Verdict("require_approval", stages=(Stage((ANN,), (ANN,)),))
ALLOW = Verdict("allow")


class Hanging(Scripted):
    """Answers its first question; the second one hangs, as in a process that is about to die."""

    def __init__(self, *turns: Any, asked: asyncio.Event) -> None:
        super().__init__(*turns)
        self._asked = asked

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
        if self.inputs:
            self._asked.set()
            await asyncio.Event().wait()
        return await super().get_response(system_instructions, input, *args, **kwargs)


def desk(store: str, ledger: Ledger, model: Scripted) -> Governor:
    """A process that knows an agent which delegates to a run of another one."""
    governor = Governor([lambda call: ALLOW], store=store, secret=b"k")

    @function_tool
    async def pay(amount: int) -> str:
        ledger.write(f"pay {amount}")
        return "paid"

    @function_tool
    async def delegate(to: str) -> str:
        return str((await governor.run("inner", "go")).output)

    @governor.agent("inner")
    def inner() -> Agent[Any]:
        return Agent(name="inner", model=model, tools=[pay])

    @governor.agent("outer")
    def outer() -> Agent[Any]:
        return Agent(name="outer", model=Scripted([("delegate", {"to": "x"})]), tools=[delegate])

    return governor


def lapsed(run: Run, now: float) -> Change:
    """The run once its lease is over."""
    return driving.lease_over(run, run.lease.until if run.lease else now)


def test_a_run_that_a_tool_began_is_replayed_by_a_process_that_has_no_such_tool(tmp_path: Path) -> None:
    """An allowed write, then a crash: the answer that led to it is found again although nothing is around the run."""
    store, ledger = f"sqlite:///{tmp_path}/g.db", Ledger(tmp_path / "ledger")

    async def main() -> None:
        asked = asyncio.Event()
        first = desk(store, ledger, Hanging([("pay", {"amount": 5})], asked=asked))
        second = desk(store, ledger, Scripted([("pay", {"amount": 5})]))
        dying = asyncio.create_task(first.run("outer", "go"))
        await asked.wait()
        inner = next(run for run in await second.list_runs() if run.agent == "inner")
        await second.loop.bridge(second.runs.change(inner.id, lapsed))
        after = await second.resume(inner.id)
        assert (after.state, ledger.lines) == (RunState.COMPLETED, ["pay 5"])
        dying.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await dying
        await first.close()
        await second.close()

    asyncio.run(main())


def test_a_function_that_runs_an_agent_keeps_its_own_result(tmp_path: Path) -> None:
    """The calls of that agent are not calls of the function's run: its outcome is what the function gave."""
    governor = Governor([lambda call: ALLOW], store=f"sqlite:///{tmp_path}/g.db", secret=b"k")

    @function_tool
    async def pay(amount: int) -> str:
        return "paid"

    agent = govern(Agent(name="inner", model=Scripted([("pay", {"amount": 5})]), tools=[pay]), governor)

    @governor.govern(approvers=[ANN])
    async def sweep(account: str) -> str:
        await Runner.run(agent, "go")
        return "swept"

    async def main() -> None:
        pending = await sweep.ask("acc")  # type: ignore[attr-defined]
        await governor.decide(pending.approval, Decision.approve(), by=ANN)
        assert await pending.result() == "swept"
        run = await governor.get(pending.run)
        assert (run.output, [call.tool for call in run.calls]) == ("swept", [sweep.name])
        assert await pending.result() == "swept"  # as another process would collect it
        await governor.close()

    asyncio.run(main())


def test_a_function_runs_no_call_that_was_approved_for_another_one(tmp_path: Path) -> None:
    """Two functions with the same parameters: the approval of a refund is none of a charge."""
    governor = Governor([lambda call: ASK], store=f"sqlite:///{tmp_path}/g.db", secret=b"k")
    ran: list[str] = []

    @governor.govern()
    async def refund(order: str) -> str:
        ran.append("refund")
        return "refunded"

    @governor.govern()
    async def charge(order: str) -> str:
        ran.append("charge")
        return "charged"

    async def main() -> None:
        pending = await refund.ask("1")  # type: ignore[attr-defined]
        await governor.decide(pending.approval, Decision.approve(), by=ANN)
        with pytest.raises(ConfigError, match="no call of"):
            await charge.collect(pending.run)
        assert ran == []
        assert await pending.result() == "refunded" and ran == ["refund"]
        await governor.close()

    asyncio.run(main())


def test_an_unjournalled_function_has_no_key_inside_of_a_tool_that_has_one(tmp_path: Path) -> None:
    """Two payments of one tool must not share its key: the other side would take the second for the first."""
    governor = Governor([lambda call: ALLOW], store=f"sqlite:///{tmp_path}/g.db", secret=b"k")
    keys: list[str] = []

    @governor.govern()
    def pay(to: str) -> None:
        keys.append(idempotency_key())

    @governor.govern()
    async def wire(to: str) -> None:
        keys.append(idempotency_key())

    @governor.govern(approvers=[ANN])
    async def pay_all() -> None:
        keys.append(idempotency_key())
        pay("a")
        await wire("b")
        keys.append(idempotency_key())

    async def main() -> None:
        pending = await pay_all.ask()  # type: ignore[attr-defined]
        await governor.decide(pending.approval, Decision.approve(), by=ANN)
        await pending.result()
        await governor.close()

    asyncio.run(main())
    assert keys[0].startswith("ga1_") and keys == [keys[0], "", "", keys[0]]


class Repeating(langchain_app.Scripted):
    """A model whose call ids are the same in every answer."""

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        made = super()._generate(messages, *args, **kwargs)
        message = made.generations[0].message
        assert isinstance(message, AIMessage)
        for at, call in enumerate(message.tool_calls):
            call["id"] = f"call_{at}"
        return made


def test_an_inner_tool_of_the_same_name_and_call_id_needs_an_approval_of_its_own(tmp_path: Path) -> None:
    """A small payment that runs an agent is no leave for the large payment of that agent."""
    store, ledger = f"sqlite:///{tmp_path}/g.db", langchain_app.Ledger(tmp_path / "ledger")
    governor = Governor([lambda call: ASK if call.arguments["amount"] > 5 else ALLOW], store=store, secret=b"k")
    watched = [GovernorMiddleware(governor, composite={"pay"})]

    @tool("pay")
    async def really_pay(amount: int) -> str:
        """Pay."""
        ledger.write(f"pay {amount}")
        return "paid"

    cashier = create_agent(
        Repeating(turns=[[("pay", {"amount": 5000})]]), tools=[really_pay], middleware=[GovernorMiddleware(governor)]
    )

    @tool("pay")
    async def pay(amount: int) -> str:
        """Let the cashier pay."""
        found = await cashier.ainvoke({"messages": [{"role": "user", "content": "pay"}]})
        return str(found["messages"][-1].content)

    @governor.agent("clerk")
    def clerk() -> Any:
        model = Repeating(turns=[[("pay", {"amount": 5})]])
        return create_agent(model, tools=[pay], middleware=watched, checkpointer=GovernorSaver(governor), name="clerk")

    async def main() -> None:
        run = await governor.run("clerk", "go")
        assert ledger.lines == []
        assert [approval.arguments for approval in run.approvals] == [{"amount": 5000}]
        await governor.close()

    asyncio.run(main())


def test_a_pause_that_only_a_tool_sees_is_said_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A tool runs an agent by itself and drops its pause: nothing runs, and the log says that nobody was asked."""
    governor = Governor([lambda call: ASK if call.tool == "pay" else ALLOW], store=f"sqlite:///{tmp_path}/g.db")
    ledger = Ledger(tmp_path / "ledger")

    @function_tool
    async def pay(amount: int) -> str:
        ledger.write(f"pay {amount}")
        return "paid"

    cashier = govern(Agent(name="cashier", model=Scripted([("pay", {"amount": 5})]), tools=[pay]), governor)

    @function_tool
    async def expert(question: str) -> str:
        return str((await Runner.run(cashier, question)).final_output)

    @governor.agent("clerk")
    def clerk() -> Agent[Any]:
        return Agent(name="clerk", model=Scripted([("expert", {"question": "x"})]), tools=[expert])

    async def main() -> None:
        assert (await governor.run("clerk", "go")).state is RunState.COMPLETED
        await governor.close()

    asyncio.run(main())
    assert "pay waits for people" in caplog.text and ledger.lines == []
