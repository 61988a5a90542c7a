"""Agents inside tools and inside nodes: their calls reach people too, and nothing around them runs twice."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph

from governor_agents import Decision
from governor_agents.adapters.langchain import GovernorMiddleware
from governor_agents.adapters.langchain.graphs import graphs_of
from governor_agents.core.records import CallState
from governor_agents.errors import ConfigError, UngovernedTool
from tests.integration.langchain_app import App, Scripted, async_expert, make_tools, supervisor
from tests.integration.ledger import Ledger

pytestmark = pytest.mark.anyio


def sync_expert(inner: Any, ledger: Ledger) -> BaseTool:
    @tool
    def expert(question: str) -> str:
        """Ask the expert."""
        ledger.write(f"asked {question}")
        return inner.invoke({"messages": [("user", question)]})["messages"][-1].text

    return expert


INNER = [[("pay", {"amount": 50}), ("note", {"text": "in"})], "all paid"]


@pytest.mark.parametrize("make", [async_expert, sync_expert])
async def test_a_gated_call_of_an_inner_agent_waits_and_runs_once(store: str, ledger: Ledger, make: Any) -> None:
    build = supervisor(INNER, make)
    turns = [[("expert", {"question": "q"}), ("note", {"text": "out"})]]
    app = App(store, ledger, turns, build=build)
    run = await app.governor.run("support", "go")
    assert [approval.tool for approval in run.approvals] == ["pay"]
    assert sorted(ledger.lines) == ["asked q", "note in", "note out"]
    await app.decide(run, Decision.approve())
    await app.governor.close()
    app = App(store, ledger, turns, build=build)
    run = await app.governor.resume(run.id)
    assert (run.status, run.output) == ("completed", "done")
    assert sorted(ledger.lines) == ["asked q", "asked q", "note in", "note out", "pay 50 shop"]
    assert app.model.results[0].text == "all paid"
    journal = sorted(call.tool for call in await app.governor.calls(run.id))
    assert journal == ["note", "note", "pay"], "the tool that runs an agent is not journalled, only its leaves are"


async def test_an_inner_agent_pauses_as_often_as_it_must(store: str, ledger: Ledger) -> None:
    inner = [[("pay", {"amount": 50})], [("pay", {"amount": 60})], "all paid"]
    app = App(store, ledger, [[("expert", {"question": "q"})]], build=supervisor(inner, async_expert))
    run = await app.governor.run("support", "go")
    for amount in (50, 60):
        assert [approval.arguments["amount"] for approval in run.approvals] == [amount]
        await app.decide(run, Decision.approve())
        run = await app.governor.resume(run.id)
    assert run.status == "completed"
    assert [line for line in ledger.lines if line.startswith("pay")] == ["pay 50 shop", "pay 60 shop"]


async def test_the_calls_of_two_inner_agents_are_shown_in_the_order_of_the_models_message(
    store: str, ledger: Ledger
) -> None:
    inner = [[("pay", {"amount": 50}), ("pay", {"amount": 60})], "all paid"]
    turns = [[("expert", {"question": "1"}), ("pay", {"amount": 7}), ("expert", {"question": "2"})]]
    app = App(store, ledger, turns, build=supervisor(inner, async_expert))
    run = await app.governor.run("support", "go")
    assert [approval.arguments["amount"] for approval in run.approvals] == [50, 60, 7, 50, 60]
    await app.decide(run, *[Decision.approve()] * 4, Decision.reject("enough"))
    run = await app.governor.resume(run.id)
    assert run.status == "completed"
    paid = sorted(line for line in ledger.lines if line.startswith("pay"))
    assert paid == ["pay 50 shop", "pay 50 shop", "pay 60 shop", "pay 7 shop"]


async def test_an_agent_tool_that_needs_approval_itself_is_asked_about_first(store: str, ledger: Ledger) -> None:
    def make(inner: Any, ledger: Ledger) -> BaseTool:
        return async_expert(inner, ledger, "ask_expert")

    build = supervisor([[("pay", {"amount": 50})], "all paid"], make)
    app = App(store, ledger, [[("ask_expert", {"question": "q"})]], build=build)
    run = await app.governor.run("support", "go")
    assert ([approval.tool for approval in run.approvals], ledger.lines) == (["ask_expert"], [])
    await app.decide(run, Decision.edit({"question": "better"}))
    run = await app.governor.resume(run.id)
    assert ([approval.tool for approval in run.approvals], ledger.lines) == (["pay"], ["asked better"])
    await app.decide(run, Decision.approve())
    run = await app.governor.resume(run.id)
    assert run.status == "completed"
    assert ledger.lines == ["asked better", "asked better", "pay 50 shop"]
    assert {call.tool: call.state for call in await app.governor.calls(run.id)} == {
        "ask_expert": CallState.SUCCEEDED,
        "pay": CallState.SUCCEEDED,
    }


async def test_an_agent_tool_that_is_rejected_never_begins(store: str, ledger: Ledger) -> None:
    def make(inner: Any, ledger: Ledger) -> BaseTool:
        return async_expert(inner, ledger, "ask_expert")

    app = App(store, ledger, [[("ask_expert", {"question": "q"})]], build=supervisor(INNER, make))
    run = await app.decide(await app.governor.run("support", "go"), Decision.reject("no"))
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", [])


async def test_tools_of_an_inner_agent_that_nobody_governs_are_found(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, [], build=supervisor(INNER, async_expert, governed=False))
    with pytest.raises(UngovernedTool, match=r"pay \(tools/expert/tools\)"):
        await app.governor.run("support", "go")


async def test_an_inner_agent_that_can_never_pause_is_refused(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, [], build=supervisor(INNER, async_expert, checkpointer=False))
    with pytest.raises(ConfigError, match=r"expert \(tools\) runs a graph that cannot pause"):
        await app.governor.run("support", "go")


async def test_a_tool_that_nobody_can_see_into_is_named(store: str, ledger: Ledger) -> None:
    hidden: list[Any] = []

    @tool
    async def expert(question: str) -> str:
        """Ask the expert."""
        ledger.write("asked")
        return (await hidden[0][0].ainvoke({"messages": [("user", question)]}))["messages"][-1].text

    def build(app: App) -> Any:
        inner = create_agent(
            Scripted(turns=[[("pay", {"amount": 50})], "all paid"]),
            tools=make_tools(ledger),
            middleware=[GovernorMiddleware(app.governor)],
        )
        hidden.append((inner,))
        middleware = [GovernorMiddleware(app.governor, composite={"expert"})]
        return create_agent(app.model, tools=[expert], middleware=middleware, checkpointer=app.saver)

    app = App(store, ledger, [[("expert", {"question": "q"})]], build=build)
    run = await app.decide(await app.governor.run("support", "go"), Decision.approve())
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["asked", "asked", "pay 50 shop"])


async def test_an_agent_as_a_node_of_a_graph_is_governed(store: str, ledger: Ledger) -> None:
    def build(app: App) -> Any:
        inner = create_agent(app.model, tools=app.tools, middleware=[GovernorMiddleware(app.governor)])
        graph = StateGraph(MessagesState)
        graph.add_node("inner", inner)
        graph.add_edge(START, "inner")
        return graph.compile(checkpointer=app.saver, name="support")

    turns = [[("pay", {"amount": 50}), ("note", {"text": "a"})]]
    app = App(store, ledger, turns, build=build)
    run = await app.decide(await app.governor.run("support", "go"), Decision.approve())
    await app.governor.close()
    app = App(store, ledger, turns, build=build)
    run = await app.governor.resume(run.id)
    assert (run.status, run.output, ledger.lines) == ("completed", "done", ["note a", "pay 50 shop"])


def test_graphs_are_found_where_tools_keep_them(ledger: Ledger) -> None:
    inner = create_agent(Scripted(turns=[]), tools=[])

    class Team:
        def __init__(self) -> None:
            self.member = inner

        def ask(self, question: str) -> str:
            """Ask."""
            return str(self.member.invoke({"messages": [("user", question)]}))

    class Ask(BaseTool):
        name: str = "ask"
        description: str = "Ask."
        agents: dict[str, Any]

        def _run(self, question: str) -> str:
            return ""

    assert graphs_of(async_expert(inner, ledger)) == [inner]
    assert graphs_of(tool(Team().ask)) == [inner]
    assert graphs_of(Ask(agents={"a": inner})) == [inner]
    assert graphs_of(make_tools(ledger)[0]) == []
