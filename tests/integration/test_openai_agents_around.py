"""Around a run of an OpenAI agent: its stream, context, options, session and output."""

from pathlib import Path
from typing import Any

import pytest
from agents import Agent, RunContextWrapper, SQLiteSession, function_tool
from pydantic import BaseModel

from governor_agents import Decision, Governor, idempotency_key
from governor_agents.errors import ConfigError, SnapshotError
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import (
    ALLOW,
    ASK,
    BOSS,
    Scripted,
    Table,
    decide,
    make_app,
    make_governor,
    make_tools,
)

pytestmark = pytest.mark.anyio


async def test_streaming_gives_the_sdks_events_before_and_after_a_pause(store: str, ledger: Ledger) -> None:
    turn = [("refund", {"order": "1"}), ("note", {"text": "n"})]
    governor, _ = make_app(store, ledger.path, turn)
    streamed = governor.run_streamed("support", "go")
    names = [event.name async for event in streamed if event.type == "run_item_stream_event"]
    run = await streamed.run()
    assert (run.status, ledger.lines) == ("waiting", ["note n"])
    assert names.count("tool_called") == 2
    run = await decide(governor, run, Decision.approve())
    seen = []

    async def emit(event: Any) -> None:
        seen.append(getattr(event, "name", event.type))

    other, model = make_app(store, ledger.path, turn)
    await other.open()
    run = await other.driver.drive(await other.claim(run.id), other.prepared("support"), emit=emit)
    assert (run.status, model.outputs) == ("completed", ["noted n", "refunded 1 10.0"])
    assert "tool_output" in seen


async def test_a_listener_that_fails_does_not_harm_the_run(store: str, ledger: Ledger) -> None:
    governor, _ = make_app(store, ledger.path, [("note", {"text": "n"})])

    async def emit(event: Any) -> None:
        raise ConnectionError("the browser is gone")

    run = await governor.submit("support", "go")
    run = await governor.driver.drive(await governor.claim(run.id), governor.prepared("support"), emit=emit)
    assert (run.status, ledger.lines) == ("completed", ["note n"])


async def test_the_context_is_plain_json_and_survives_the_pause_as_the_tools_left_it(store: str) -> None:
    seen: list[Any] = []

    @function_tool
    def touch(ctx: RunContextWrapper[Any]) -> str:
        ctx.context["touched"] = ctx.context.get("touched", 0) + 1
        seen.append(dict(ctx.context))
        return "touched"

    def app() -> Governor:
        governor = make_governor(store, Table(touch=ALLOW, ask=ASK))

        @function_tool
        def ask(ctx: RunContextWrapper[Any]) -> str:
            seen.append(dict(ctx.context))
            return "asked"

        model = Scripted([("touch", {})], [("ask", {})])
        governor.agent("a")(lambda: Agent(name="A", model=model, tools=[touch, ask]))
        return governor

    given = {"customer": "c1"}
    run = await app().run("a", "go", context=given)
    assert (run.status, given) == ("waiting", {"customer": "c1"}), "the caller's own object is left alone"
    run = await decide(app(), run, Decision.approve())
    run = await app().resume(run.id)
    assert seen == [{"customer": "c1", "touched": 1}, {"customer": "c1", "touched": 1}]


async def test_a_context_that_is_no_json_object_is_refused_before_anything_runs(store: str, ledger: Ledger) -> None:
    governor, model = make_app(store, ledger.path)
    with pytest.raises(ConfigError, match="must be a JSON object"):
        await governor.run("support", "go", context=["a"])
    adapter, agent = governor.prepared("support").adapter, governor.prepared("support").agent
    with pytest.raises(ConfigError, match="must be plain JSON"):
        await adapter.start(agent, "go", context={"db": object()}, options={})
    assert model.inputs == []


async def test_a_context_that_a_tool_spoilt_cannot_be_stored_and_says_so(store: str) -> None:
    @function_tool
    def spoil(ctx: RunContextWrapper[Any]) -> str:
        ctx.context["db"] = {1: "int keys would silently become strings"}
        return "ok"

    @function_tool
    def pay() -> str:
        return "paid"

    governor = make_governor(store, Table(spoil=ALLOW, pay=ASK))
    model = Scripted([("spoil", {})], [("pay", {})])
    governor.agent("a")(lambda: Agent(name="A", model=model, tools=[spoil, pay]))
    prepared = governor.prepared("a")
    with pytest.raises(SnapshotError, match="keep the run's context plain JSON"):
        await prepared.adapter.start(prepared.agent, "go", context={}, options={})


async def test_a_structured_final_output_becomes_plain_json(store: str) -> None:
    class Answer(BaseModel):
        total: float
        lines: list[str]

    governor = make_governor(store)
    model = Scripted('{"total": 1.5, "lines": ["a"]}')
    governor.agent("a")(lambda: Agent(name="A", model=model, output_type=Answer))
    run = await governor.run("a", "go")
    assert (run.status, run.output) == ("completed", {"total": 1.5, "lines": ["a"]})


async def test_runner_options_come_from_the_factory_and_unknown_ones_are_refused(store: str, ledger: Ledger) -> None:
    governor = make_governor(store)
    model = Scripted([("note", {"text": "n"})])
    tools = [make_tools(ledger)["note"]]
    governor.agent("short")(lambda: (Agent(name="A", model=model, tools=tools), {"max_turns": 1}))
    with pytest.raises(Exception, match="Max turns"):
        await governor.run("short", "go")
    governor.agent("odd")(lambda: (Agent(name="A", model=model), {"temperature": 1}))
    with pytest.raises(ConfigError, match="unknown runner options: temperature"):
        await governor.run("odd", "go")


async def test_a_session_is_made_for_each_conversation_and_gets_the_outputs_after_the_pause(
    store: str, ledger: Ledger, tmp_path: Path
) -> None:
    def session(conversation: str) -> SQLiteSession:
        return SQLiteSession(conversation, tmp_path / "sessions.db")

    def app() -> Governor:
        governor, _ = make_app(store, ledger.path)
        factory = governor.agents["support"]
        governor.agents["support"] = lambda: (factory(), {"session": session})
        return governor

    run = await app().run("support", "go", conversation="thread-7")
    run = await decide(app(), run, Decision.approve())
    run = await app().resume(run.id)
    assert run.status == "completed"
    items = await session("thread-7").get_items()
    kinds = [item.get("type") or item.get("role") for item in items]
    assert kinds == ["user", "function_call", "function_call_output", "message"]


@pytest.mark.parametrize("threaded", [True, False])
async def test_a_tool_finds_its_idempotency_key_and_a_read_only_one_has_none(store: str, threaded: bool) -> None:
    keys = []

    def pay() -> str:
        keys.append(idempotency_key())
        return "paid"

    async def pay_async() -> str:
        return pay()

    tool = function_tool(pay if threaded else pay_async, name_override="pay")
    look = function_tool(pay, name_override="look")
    governor = make_governor(store, Table(pay=ALLOW))
    governor.agent("a")(lambda: Agent(name="A", model=Scripted([("pay", {})], [("look", {})]), tools=[tool, look]))
    run = await governor.run("a", "go")
    assert keys == [run.calls[0].idem_key, ""]
    assert keys[0].startswith("ga1_")


async def test_the_synchronous_twin_drives_an_agent_in_a_running_loop(store: str, ledger: Ledger) -> None:
    governor, _ = make_app(store, ledger.path)
    run = governor.run_sync("support", "go")
    governor.decide_sync(run.approvals[0].id, Decision.approve(), by=BOSS)
    assert governor.resume_sync(run.id).status == "completed"
    assert ledger.lines == ["refund 4711 10.0"]


async def test_a_long_result_is_kept_and_told_again(store: str) -> None:
    """Longer than what stands in the record itself."""

    @function_tool
    def read() -> str:
        return "x" * 20_000

    governor = make_governor(store, Table(read=ALLOW))
    model = Scripted([("read", {})])
    governor.agent("a")(lambda: Agent(name="A", model=model, tools=[read]))
    run = await governor.run("a", "go")
    assert (run.status, len(model.outputs[0])) == ("completed", 20_000)
    assert run.calls[0].result is not None
    assert run.calls[0].result.blob
