"""Halting where no governor drives, and where agents run agents: own loops, tools that run agents, approved and allowed."""

from typing import Any

import pytest
from agents import Agent, RunConfig, Runner
from langgraph.checkpoint.memory import InMemorySaver

from governor_agents import Decision, Governor, Verdict, Worker
from governor_agents.core.records import CallState, RunState
from governor_agents.core.settling import HALT
from tests.integration.langchain_app import ANN, App, async_expert, supervisor
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import (
    ALLOW,
    ASK,
    Scripted,
    Table,
    decide,
    make_governor,
    make_tools,
    own,
)
from tests.integration.test_what_was_approved import of_call, rewrite

pytestmark = pytest.mark.anyio

OP = "local:op"


# -- loops of one's own -----------------------------------------------------------------------------------------------


async def test_own_openai_loop_is_told(store: str, ledger: Ledger) -> None:
    """``Runner.run`` without a run: the allowed call does not run, the model hears why; lifted, it does."""
    governor, agent, model = own(store, ledger, [("note", {"text": "n"})])
    async with governor:
        await governor.halt("tool:note", by=OP)
        await Runner.run(agent, "go", run_config=RunConfig(tracing_disabled=True))
        assert model.outputs == ["Not run: tool:note is halted"] and ledger.lines == []
        await governor.lift("tool:note", by=OP)
        await Runner.run(agent, "go", run_config=RunConfig(tracing_disabled=True))
        assert ledger.lines == ["note n"]


async def test_own_langgraph_loop_without_a_run_is_told(store: str, ledger: Ledger) -> None:
    """A checkpointer of somebody else: no record, the model hears why."""
    app = App(store, ledger, [[("note", {"text": "n"})]])
    app.agent.checkpointer = InMemorySaver()
    async with app.governor:
        await app.governor.halt("tool:note", by=OP)
        await app.agent.ainvoke({"messages": [("user", "go")]}, {"configurable": {"thread_id": "t"}})
        assert "tool:note is halted" in app.model.results[0].text and ledger.lines == []
        await app.governor.lift("tool:note", by=OP)
        await app.agent.ainvoke({"messages": [("user", "go")]}, {"configurable": {"thread_id": "u"}})
        assert ledger.lines == ["note n"]


async def test_own_langgraph_loop_with_a_run_pauses_and_goes_on_when_lifted(store: str, ledger: Ledger) -> None:
    """On our saver the loop is a run: it pauses, is handed over, stands still, and a worker ends it after the lift."""
    app = App(store, ledger, [[("note", {"text": "n"})]])
    config: Any = {"configurable": {"thread_id": "t"}}
    async with app.governor as governor:
        await governor.halt("tool:note", by=OP)
        paused = await app.agent.ainvoke({"messages": [("user", "go")]}, config)
        run = await governor.suspend(paused, agent=app.agent, config=config)
        assert run is not None and ledger.lines == []
        await Worker(governor).run(once=True)
        stopped = await governor.get(run.id)
        assert (stopped.state, stopped.blocked, stopped.blocked_detail) == (RunState.BLOCKED, HALT, "tool:note")
        await governor.lift("tool:note", by=OP)
        await Worker(governor).run(once=True)
        assert (await governor.get(run.id)).status == "completed" and ledger.lines == ["note n"]


# -- agents behind tools ----------------------------------------------------------------------------------------------


def desk(store: str, ledger: Ledger, billing: Verdict) -> tuple[Governor, Scripted]:
    """``Desk`` uses ``Billing`` as a tool; ``Billing`` writes a note."""
    governor = make_governor(store, Table(billing=billing, note=ALLOW))
    inside = Scripted([("note", {"text": "in"})], "inner done")
    outside = Scripted([("billing", {"input": "go"})])

    @governor.agent("desk")
    def made() -> Agent[Any]:
        inner = Agent(name="Billing", model=inside, tools=[make_tools(ledger)["note"]])
        return Agent(name="Desk", model=outside, tools=[inner.as_tool("billing", "Does billing.")])

    return governor, inside


@pytest.mark.parametrize("scope", ["tool:billing", "agent:Billing", "tool:note"])
@pytest.mark.parametrize("billing", [ALLOW, ASK], ids=["allowed", "approved"])
async def test_an_agent_used_as_a_tool_is_stopped(store: str, ledger: Ledger, billing: Verdict, scope: str) -> None:
    """OpenAI: the tool itself, its agent, or a tool of its agent; lifted, the run comes to its end, each effect once."""
    governor, inside = desk(store, ledger, billing)
    async with governor:
        await governor.halt(scope, by=OP)
        run = await governor.run("desk", "go")
        if billing is ASK:
            run = await governor.resume((await decide(governor, run, Decision.approve())).id)
        assert (run.state, run.blocked, run.blocked_detail, ledger.lines) == (RunState.BLOCKED, HALT, scope, [])
        if scope == "tool:billing":
            assert inside.inputs == [], "its agent was not even asked"
        await governor.lift(scope, by=OP)
        assert (await governor.resume(run.id)).status == "completed" and ledger.lines == ["note in"]


@pytest.mark.parametrize("scope", ["tool:expert", "tool:note"])
@pytest.mark.parametrize("name", ["expert", "ask_expert"], ids=["allowed", "approved"])
async def test_a_tool_that_runs_a_graph_is_stopped(store: str, ledger: Ledger, name: str, scope: str) -> None:
    """LangChain: the same."""
    scope = scope.replace("expert", name)
    build = supervisor(
        [[("note", {"text": "in"})], "inner done"], lambda inner, ledger: async_expert(inner, ledger, name)
    )
    app = App(store, ledger, [[(name, {"question": "q"})]], build=build)
    async with app.governor as governor:
        await governor.halt(scope, by=OP)
        run = await governor.run("support", "go")
        if name == "ask_expert":
            run = await governor.resume((await app.decide(run, Decision.approve(), by=ANN)).id)
        assert (run.state, run.blocked, run.blocked_detail) == (RunState.BLOCKED, HALT, scope)
        assert ledger.lines == ([] if scope == f"tool:{name}" else ["asked q"])
        await governor.lift(scope, by=OP)
        run = await governor.resume(run.id)
        assert run.status == "completed" and ledger.lines.count("note in") == 1


async def test_an_approved_agent_tool_whose_record_was_changed_does_not_begin(store: str, ledger: Ledger) -> None:
    """It has no intent before it begins; it is held against its record all the same. (The control is above.)"""
    governor, inside = desk(store, ledger, ASK)
    async with governor:
        run = await decide(governor, await governor.run("desk", "go"), Decision.approve())
    await rewrite(store, run.id, of_call(expires=1e12))
    governor, inside = desk(store, ledger, ASK)
    async with governor:
        await governor.resume(run.id)
        [call] = await governor.calls(run.id)
        assert (call.state, call.code) == (CallState.SUPERSEDED, "record_changed")
        assert inside.inputs == [] and ledger.lines == []


async def test_an_approved_graph_tool_whose_record_was_changed_does_not_begin(store: str, ledger: Ledger) -> None:
    """LangChain: the same."""

    def made() -> App:
        build = supervisor(
            [[("note", {"text": "in"})], "done"], lambda inner, ledger: async_expert(inner, ledger, "ask_expert")
        )
        return App(store, ledger, [[("ask_expert", {"question": "q"})]], build=build)

    app = made()
    async with app.governor as governor:
        run = await app.decide(await governor.run("support", "go"), Decision.approve(), by=ANN)
    await rewrite(store, run.id, of_call(expires=1e12))
    async with made().governor as governor:
        await governor.resume(run.id)
        [call] = await governor.calls(run.id)
        assert (call.state, call.code) == (CallState.SUPERSEDED, "record_changed") and ledger.lines == []
