"""Governing OpenAI agents: in place, once, and nothing that runs past the policies."""

import json
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    Runner,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    WebSearchTool,
    function_tool,
    handoff,
    tool_namespace,
)
from agents.tool_context import ToolContext

from governor_agents import Decision, Governor, Verdict
from governor_agents.adapters.openai_agents import OpenAIAgentsAdapter, govern
from governor_agents.errors import (
    ConfigError,
    UngovernedTool,
)
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import (
    ALLOW,
    ASK,
    BOSS,
    DENY,
    Scripted,
    Table,
    make_app,
    make_governor,
    make_tools,
    own_gate,
)

pytestmark = pytest.mark.anyio


class Server:
    name = "files"


def hidden_handoff() -> Any:
    made = handoff(Agent(name="Hidden"))
    made._agent_ref = None
    return made


def hiding_tool() -> Any:
    tool = Agent(name="Inner").as_tool("inner", "Hides its agent.")
    tool._agent_instance = None
    return tool


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Agent(name="A", tools=[WebSearchTool()]), "web_search"),
        (lambda: Agent(name="A", tools=[own_gate]), "own_gate has a needs_approval of its own"),
        (lambda: Agent(name="A", tools=[hiding_tool()]), "inner hides the agent"),
        (lambda: Agent(name="A", mcp_servers=[Server()]), "MCP server files"),
        (lambda: Agent(name="A", handoffs=[hidden_handoff()]), "handoff to Hidden"),
        (lambda: Agent(name="A", handoffs=[Agent(name="B", tools=[WebSearchTool()])]), "agent 'B'"),
        (lambda: Agent(name="A", tools=[Agent(name="B", tools=[own_gate]).as_tool("b", "")]), "agent 'B'"),
    ],
)
async def test_what_runs_past_the_policies_is_refused_with_its_mend(build: Any, says: str) -> None:
    governor = make_governor("memory://")
    with pytest.raises(UngovernedTool, match=says) as refused:
        govern(build(), governor)
    assert "allow_ungoverned=True" in str(refused.value)
    agent = build()
    assert govern(agent, governor, allow_ungoverned=True) is agent
    governor.adapter("openai_agents").prepare(agent)  # what its owner accepted, the factory may return


async def test_governing_twice_changes_nothing_and_two_governors_are_refused(ledger: Ledger) -> None:
    governor = make_governor("memory://")
    agent = Agent(name="A", tools=[make_tools(ledger)["note"]])
    tools = govern(agent, governor).tools
    assert govern(agent, governor).tools is tools
    with pytest.raises(ConfigError, match="another Governor"):
        govern(agent, make_governor("memory://"))
    clone = govern(agent.clone(name="B"), governor)
    assert clone.tools is not tools
    assert agent.tools is tools
    with pytest.raises(ConfigError, match="not an agent"):
        govern(object(), governor)  # type: ignore[arg-type]


async def test_a_tool_added_after_governing_is_refused_before_the_model_is_asked(store: str, ledger: Ledger) -> None:
    governor, model = make_app(store, ledger.path, [("late", {})])

    @function_tool
    def late() -> str:
        ledger.write("late")
        return "late"

    governor.prepared("support").agent.tools.append(late)
    with pytest.raises(UngovernedTool, match="late was added after"):
        await governor.run("support", "go")
    assert (ledger.lines, model.inputs) == ([], [])


async def test_subclasses_of_function_tool_are_governed(store: str, ledger: Ledger) -> None:
    class Special(FunctionTool):
        def __init__(self, name: str) -> None:
            async def body(ctx: Any, arguments: str) -> str:
                ledger.write(f"special {arguments}")
                return "special"

            super().__init__(name, "Special.", {"type": "object", "properties": {}}, body, strict_json_schema=False)

    governor = make_governor(store, Table(special=DENY, other=ALLOW))
    model = Scripted([("special", {}), ("other", {})])
    governor.agent("a")(lambda: Agent(name="A", model=model, tools=[Special("special"), Special("other")]))
    run = await governor.run("a", "go")
    assert (run.status, ledger.lines) == ("completed", ["special {}"])


async def test_the_fingerprint_moves_with_tools_and_stays_over_governing(ledger: Ledger) -> None:
    governor = make_governor("memory://")
    adapter = OpenAIAgentsAdapter(governor)

    def agent(*names: str) -> Agent[Any]:
        tools = make_tools(ledger)
        return Agent(name="A", tools=[tools[name] for name in names], handoffs=[Agent(name="B")])

    before = adapter.fingerprint(agent("note", "wire"))
    assert adapter.fingerprint(govern(agent("wire", "note"), governor)) == before
    assert adapter.fingerprint(agent("note")) != before
    inventory = adapter.inventory(agent("note", "look"))
    assert [(tool.name, tool.read_only, len(tool.schema_sha256)) for tool in inventory] == [
        ("note", False, 64),
        ("look", True, 64),
    ]


async def test_a_tool_that_looks_at_its_call_sees_the_edited_arguments(store: str) -> None:
    seen = []

    @function_tool
    def pay(ctx: ToolContext[Any], amount: int) -> str:
        assert ctx.tool_call is not None
        seen.append((amount, ctx.tool_arguments, ctx.tool_call.arguments))
        return "paid"

    def app() -> Governor:
        governor = make_governor(store, Table(pay=ASK))
        governor.agent("a")(lambda: Agent(name="A", model=Scripted([("pay", {"amount": 9})]), tools=[pay]))
        return governor

    run = await app().run("a", "go")
    await app().decide(run.approvals[0].id, Decision.edit({"amount": 1}), by=BOSS)
    await app().resume(run.id)
    assert seen == [(1, '{"amount":1}', '{"amount":1}')]


async def test_tools_in_a_namespace_are_known_by_their_full_name(store: str, ledger: Ledger) -> None:
    def app() -> tuple[Governor, Table]:
        table = Table(**{"crm.refund": ASK})
        governor = make_governor(store, table)
        tools = tool_namespace(name="crm", description="Customers.", tools=[make_tools(ledger)["refund"]])

        class InNamespace(Scripted):
            def _answer(self, input: Any) -> list[Any]:
                items = super()._answer(input)
                for item in items:
                    if hasattr(item, "call_id"):
                        item.namespace = "crm"
                return items

        governor.agent("a")(lambda: Agent(name="A", model=InNamespace([("refund", {"order": "1"})]), tools=tools))
        return governor, table

    governor, _ = app()
    run = await governor.run("a", "go")
    assert [approval.tool for approval in run.approvals] == ["crm.refund"]
    await governor.decide(run.approvals[0].id, Decision.approve(), by=BOSS)
    other, _ = app()
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["refund 1 10.0"])


async def test_input_guardrails_judge_the_arguments_that_run(store: str, ledger: Ledger) -> None:
    """A guardrail that refuses what the model asked for lets pass what a person put in its place."""
    judged = []

    async def small(data: Any) -> ToolGuardrailFunctionOutput:
        amount = json.loads(data.context.tool_arguments)["amount"]
        judged.append(amount)
        if amount > 100:
            return ToolGuardrailFunctionOutput.reject_content("too much")
        return ToolGuardrailFunctionOutput.allow()

    def app() -> tuple[Governor, Scripted]:
        governor = make_governor(store)
        model = Scripted([("refund", {"order": "1", "amount": 500.0})])
        tool = make_tools(ledger)["refund"]
        tool.tool_input_guardrails = [ToolInputGuardrail(small)]
        governor.agent("a")(lambda: Agent(name="A", model=model, tools=[tool]))
        return governor, model

    governor, _ = app()
    run = await governor.run("a", "go")
    await governor.decide(run.approvals[0].id, Decision.edit({"order": "1", "amount": 50.0}), by=BOSS)
    other, _ = app()
    run = await other.resume(run.id)
    assert (run.status, judged, ledger.lines) == ("completed", [50.0], ["refund 1 50.0"])


async def test_a_policy_that_raises_asks_or_denies_and_never_ends_the_users_loop(store: str, ledger: Ledger) -> None:
    class Broken:
        def evaluate(self, call: Any, tool: Any) -> Verdict | None:
            raise RuntimeError("policy bug")

    governor = make_governor(store, Broken())
    agent = Agent(name="A", model=Scripted([("note", {"text": "n"})]), tools=[make_tools(ledger)["note"]])
    await Runner.run(govern(agent, governor), "go")
    assert ledger.lines == []
