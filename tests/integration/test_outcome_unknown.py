"""A tool that cannot tell whether it took effect says so: a doubt, never a failure that the model may try again."""

from pathlib import Path
from typing import Any

import pytest
from agents import Agent, function_tool
from langchain_core.tools import tool

from governor_agents import Decision, Governor, OutcomeUnknown, PolicySet, Run
from governor_agents.core.records import CallState
from tests.integration import langchain_app, openai_agents_app


class Bank:
    """Takes the money; the answer is lost on the way back."""

    def __init__(self, error: Exception) -> None:
        self.effects: list[int] = []
        self.error = error

    def pay(self, amount: int) -> str:
        self.effects.append(amount)
        raise self.error


async def _openai(store: str, bank: Bank, folder: Path) -> tuple[Governor, Run]:
    governor = openai_agents_app.make_governor(store, openai_agents_app.Table(pay=openai_agents_app.ASK))

    @function_tool
    def pay(amount: int) -> str:
        return bank.pay(amount)

    model = openai_agents_app.Scripted([("pay", {"amount": 7})])
    governor.agent("support")(lambda: Agent(name="Support", model=model, tools=[pay]))
    run = await governor.run("support", "go")
    await openai_agents_app.decide(governor, run, Decision.approve())
    return governor, await governor.resume(run.id)


async def _langchain(store: str, bank: Bank, folder: Path) -> tuple[Governor, Run]:
    @tool
    def pay(amount: int) -> str:
        """Pay."""
        return bank.pay(amount)

    ledger = langchain_app.Ledger(folder / "ledger")
    app = langchain_app.App(store, ledger, [[("pay", {"amount": 7})]], tools=[pay])
    run = await app.governor.run("support", "go")
    await app.decide(run, Decision.approve())
    return app.governor, await app.governor.resume(run.id)


async def _function(store: str, bank: Bank, folder: Path) -> tuple[Governor, Run]:
    governor = Governor(PolicySet(()), store=store)

    @governor.govern(name="pay", approvers=["local:ann"])
    def pay(amount: int) -> str:
        return bank.pay(amount)

    pending = await pay.ask(7)
    await governor.decide(pending.approval, Decision.approve(), by="local:ann")
    with pytest.raises(type(bank.error)):
        await pending.result()
    return governor, await governor.get(pending.run)


WAYS: dict[str, Any] = {"openai_agents": _openai, "langchain": _langchain, "functions": _function}


@pytest.mark.parametrize("way", WAYS)
async def test_a_lost_answer_is_a_doubt(way: str, tmp_path: Path) -> None:
    """The effect happened once, the call is UNKNOWN, and nobody tries it again."""
    bank = Bank(OutcomeUnknown("the bank did not answer"))
    governor, run = await WAYS[way](f"sqlite:///{tmp_path}/store.db", bank, tmp_path)
    async with governor:
        assert [call.state for call in run.calls] == [CallState.UNKNOWN]
        assert bank.effects == [7]
        assert run.state.value in ("blocked", "active")  # a function's run rests when its lease is over
        assert "call.unknown" in [event["what"] for event in await governor.timeline(run.id)]


@pytest.mark.parametrize("way", WAYS)
async def test_any_other_exception_is_a_failure(way: str, tmp_path: Path) -> None:
    """The control: the same tool with an ordinary error is recorded as FAILED."""
    bank = Bank(RuntimeError("no such account"))
    try:
        governor, run = await WAYS[way](f"sqlite:///{tmp_path}/store.db", bank, tmp_path)
    except RuntimeError:
        assert way == "langchain"  # its graph raises what the tool raises
        return
    async with governor:
        assert [call.state for call in run.calls] == [CallState.FAILED]
        assert bank.effects == [7]
