"""Single governed tools: outside of any graph, and in plain state graphs with a tool node."""

from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode, ToolRuntime, tools_condition

from governor_agents import Decision
from governor_agents.adapters.langchain import GovernorMiddleware, govern_tool
from governor_agents.core.records import CallState
from governor_agents.errors import ApprovalPending, CallDenied, ConfigError, Fenced
from tests.integration.langchain_app import App, make_tools
from tests.integration.ledger import Ledger

pytestmark = pytest.mark.anyio


def plain_graph(app: App, **node: Any) -> Any:
    """A graph without `create_agent`: all calls of a message share one task."""
    tools = [govern_tool(found, app.governor) for found in app.tools]

    async def model(state: MessagesState) -> Any:
        return {"messages": [await app.model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", model)
    graph.add_node("tools", ToolNode(tools, **node))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=app.saver, name="support")


# -- without a graph ---------------------------------------------------------------------------------------------------


def call(name: str, **args: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": "c1", "name": name, "args": args}


async def test_outside_of_a_graph_the_policies_decide_and_nothing_waits(ledger: Ledger) -> None:
    app = App("memory://", ledger, [])
    pay, note, _, delete_all = (govern_tool(found, app.governor) for found in app.tools)
    assert pay.invoke({"amount": 5}) == "paid 5 to shop"
    assert await note.ainvoke({"text": "a"}) == "noted a"
    assert await note.ainvoke("b") == "noted b"
    for ask in (
        lambda: pay.invoke({"amount": 6}),
        lambda: pay.run({"amount": 6}),
        lambda: pay.invoke(call("pay", amount=6)),
    ):
        with pytest.raises(ApprovalPending, match="nothing ran"):
            ask()
    with pytest.raises(ApprovalPending):
        await pay.ainvoke({"amount": 6})
    with pytest.raises(CallDenied, match="deletes go through a ticket"):
        delete_all.invoke({})
    told = delete_all.invoke(call("delete_all"))
    assert isinstance(told, ToolMessage) and told.status == "error"
    assert ledger.lines == ["pay 5 shop", "note a", "note b"]


def test_a_governed_tool_looks_like_the_tool(ledger: Ledger) -> None:
    app = App("memory://", ledger, [])
    pay = app.tools[0]
    governed = govern_tool(pay, app.governor)
    assert (governed.name, governed.description, governed.args) == (pay.name, pay.description, pay.args)
    assert governed.tool_call_schema.model_json_schema() == pay.tool_call_schema.model_json_schema()
    assert govern_tool(governed, app.governor) is governed


class Lend(BaseTool):
    """A tool as a class, without a declared schema."""

    name: str = "ask_lend"
    description: str = "Lend."

    def _run(self, amount: int, state: Annotated[Any, InjectedState]) -> str:
        return f"lent {amount}, {len(state['messages'])} messages"


REMOTE = StructuredTool(
    name="ask_remote",
    description="A tool whose parameters are a JSON schema, as of an MCP server.",
    args_schema={"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]},
    func=lambda **given: f"remote {given['amount']}",
)


async def test_tools_of_every_kind_are_governed(ledger: Ledger) -> None:
    turns = [[("ask_lend", {"amount": 3})], [("ask_remote", {"amount": 4})]]
    for build in (plain_graph, App.plain):
        app = App("memory://", ledger, turns, tools=[Lend(), REMOTE], build=build)
        run = await app.governor.run("support", "go")
        for amount in (3, 4):
            assert run.approvals[0].arguments == {"amount": amount}
            await app.decide(run, Decision.approve())
            run = await app.governor.resume(run.id)
        assert [message.text for message in app.model.results] == ["lent 3, 2 messages", "remote 4"]


# -- in a plain graph --------------------------------------------------------------------------------------------------


async def test_a_plain_tool_node_pauses_and_goes_on(store: str, ledger: Ledger) -> None:
    turns = [[("pay", {"amount": 10})]]
    app = App(store, ledger, turns, build=plain_graph)
    run = await app.decide(await app.governor.run("support", "go"), Decision.edit({"amount": 8}))
    await app.governor.close()
    app = App(store, ledger, turns, build=plain_graph)
    run = await app.governor.resume(run.id)
    assert (run.status, run.output, ledger.lines) == ("completed", "done", ["pay 8 shop"])
    assert "A person changed the arguments" in app.model.results[0].text


async def test_the_calls_of_one_task_run_once_although_their_node_runs_from_the_top(store: str, ledger: Ledger) -> None:
    turns = [[("note", {"text": "a"}), ("pay", {"amount": 10}), ("pay", {"amount": 20}), ("pay", {"amount": 30})]]
    app = App(store, ledger, turns, build=plain_graph)
    run = await app.governor.run("support", "go")
    decisions = [Decision.approve(), Decision.reject("no"), Decision.approve()]
    for _ in range(3):
        assert (run.status, len(run.approvals)) == ("waiting", 1)
        at = run.approvals[0].arguments["amount"] // 10 - 1
        await app.decide(run, decisions[at])
        await app.governor.close()
        app = App(store, ledger, turns, build=plain_graph)
        run = await app.governor.resume(run.id)
    assert run.status == "completed"
    assert sorted(ledger.lines) == ["note a", "pay 10 shop", "pay 30 shop"]
    assert [message.status for message in app.model.results] == ["success", "success", "error", "success"]


async def test_a_sibling_that_still_runs_is_waited_for_before_the_pause(store: str, ledger: Ledger) -> None:
    import asyncio

    begun = asyncio.Event()

    @tool
    async def note(text: str) -> str:
        """Note."""
        begun.set()
        for _ in range(50):
            await asyncio.sleep(0)
        ledger.write("note")
        return "noted"

    tools = [note, make_tools(ledger)[0]]
    app = App(store, ledger, [[("note", {"text": "a"}), ("pay", {"amount": 10})]], tools=tools, build=plain_graph)
    run = await app.governor.run("support", "go")
    assert (run.status, ledger.lines) == ("waiting", ["note"])
    await app.decide(run, Decision.approve())
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["note", "pay 10 shop"])


async def test_a_tool_node_that_handles_all_errors_does_not_handle_ours(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, [[("note", {"text": "a"})]], build=lambda app: plain_graph(app, handle_tool_errors=True))

    async def fenced(*_: Any, **__: Any) -> Any:
        raise Fenced("somebody else has it")

    app.governor.guard.run = fenced
    with pytest.raises(Fenced, match="somebody else has it"):
        await app.governor.run("support", "go")
    assert (ledger.lines, len(app.model.seen)) == ([], 1)


async def test_a_synchronous_graph_is_governed_too(store: str, ledger: Ledger) -> None:
    def build(app: App) -> Any:
        tools = [govern_tool(found, app.governor) for found in app.tools if found.name == "pay"]
        graph = StateGraph(MessagesState)
        graph.add_node("model", lambda state: {"messages": [app.model.invoke(state["messages"])]})
        graph.add_node("tools", ToolNode(tools))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
        return graph.compile(checkpointer=app.saver, name="support")

    app = App(store, ledger, [[("pay", {"amount": 2}), ("pay", {"amount": 10})]], build=build)
    run = await app.decide(await app.governor.run("support", "go"), Decision.approve())
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["pay 2 shop", "pay 10 shop"])


async def test_what_the_graph_puts_in_is_neither_frozen_nor_shown(store: str, ledger: Ledger) -> None:
    @tool
    def pay(
        amount: int,
        state: Annotated[Any, InjectedState],
        id: Annotated[str, InjectedToolCallId],
        runtime: ToolRuntime,
    ) -> str:
        """Pay."""
        ledger.write(f"pay {amount} {len(state['messages'])} {id == runtime.tool_call_id}")
        return "paid"

    app = App(store, ledger, [[("pay", {"amount": 10})]], tools=[pay], build=plain_graph)
    run = await app.governor.run("support", "go")
    assert run.approvals[0].arguments == {"amount": 10}
    await app.decide(run, Decision.edit({"amount": 9}))
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["pay 9 2 True"])


async def test_a_tool_that_is_governed_twice_is_asked_about_once(store: str, ledger: Ledger) -> None:
    def build(app: App) -> Any:
        return create_agent(
            app.model,
            tools=[govern_tool(found, app.governor) for found in app.tools],
            middleware=[GovernorMiddleware(app.governor)],
            checkpointer=app.saver,
        )

    app = App(store, ledger, [[("pay", {"amount": 10}), ("note", {"text": "a"})]], build=build)
    run = await app.decide(await app.governor.run("support", "go"), Decision.approve())
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["note a", "pay 10 shop"])
    assert [call.state for call in await app.governor.calls(run.id)] == [CallState.SUCCEEDED] * 2


async def test_inside_a_run_a_call_needs_its_id(store: str, ledger: Ledger) -> None:
    def build(app: App) -> Any:
        pay, _, look, _ = (govern_tool(found, app.governor) for found in app.tools)

        async def node(state: MessagesState) -> Any:
            await look.ainvoke({"at": "it"})
            await pay.ainvoke({"amount": 1})
            return {}

        graph = StateGraph(MessagesState)
        graph.add_node("node", node)
        graph.add_edge(START, "node")
        return graph.compile(checkpointer=app.saver, name="support")

    app = App(store, ledger, [], build=build)
    with pytest.raises(ConfigError, match="without a tool call id"):
        await app.governor.run("support", "go")
    assert ledger.lines == ["look it"]
