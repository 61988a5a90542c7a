"""Durable runs of OpenAI agents: what people decide is what happens, in whichever process the run goes on."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, RunContextWrapper, Runner, SQLiteSession, function_tool
from pydantic import BaseModel

from governor_agents import Decision, Governor, Run, Verdict, idempotency_key
from governor_agents.core.records import CallState
from governor_agents.core.verdicts import Stage
from governor_agents.errors import ConfigError, SnapshotError
from tests.integration.openai_agents_app import (
    ALLOW,
    ASK,
    BOSS,
    DENY,
    Ledger,
    Scripted,
    Table,
    make_app,
    make_governor,
    make_tools,
)

pytestmark = pytest.mark.anyio

APP = Path(__file__).resolve().with_name("openai_agents_app.py")


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/governor.db"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


async def decide(governor: Governor, run: Run, *decisions: Decision) -> Run:
    for approval, decision in zip(run.approvals, decisions, strict=True):
        run = await governor.decide(approval.id, decision, by=BOSS)
    return run


def states(run: Run) -> dict[str, CallState]:
    return {call.tool: call.state for call in run.calls}


async def test_an_allowed_call_runs_and_is_journalled(store: str, ledger: Ledger) -> None:
    governor, model = make_app(store, ledger.path, [("note", {"text": "hi"})])
    run = await governor.run("support", "go")
    assert (run.status, run.output, ledger.lines) == ("completed", "done", ["note hi"])
    assert model.outputs == ["noted hi"]
    assert states(run) == {"note": CallState.SUCCEEDED}


async def test_a_read_only_call_runs_and_skips_the_journal(store: str, ledger: Ledger) -> None:
    governor, model = make_app(store, ledger.path, [("look", {"order": "1"})])
    run = await governor.run("support", "go")
    assert (run.status, ledger.lines, run.calls, model.outputs) == ("completed", ["look 1"], (), ["order 1"])


async def test_a_denied_call_never_runs_and_the_model_hears_why(store: str, ledger: Ledger) -> None:
    governor, model = make_app(store, ledger.path, [("delete", {"order": "1"})])
    run = await governor.run("support", "go")
    assert (run.status, ledger.lines) == ("completed", [])
    assert model.outputs == ["Not run: denied by policy: deletes go through a ticket"]
    assert states(run) == {"delete": CallState.DENIED}


async def test_an_ask_pauses_and_an_approval_in_a_new_process_object_runs_it_once(store: str, ledger: Ledger) -> None:
    governor, _ = make_app(store, ledger.path)
    run = await governor.run("support", "go")
    assert run.status == "waiting"
    [approval] = run.approvals
    assert (approval.tool, approval.arguments, approval.call.agent) == ("refund", {"order": "4711"}, "Support")
    assert ledger.lines == []
    await decide(governor, run, Decision.approve("fine"))
    await governor.close()

    other, model = make_app(store, ledger.path)
    run = await other.resume(run.id)
    assert (run.status, run.output, ledger.lines) == ("completed", "done", ["refund 4711 10.0"])
    assert model.outputs == ["refunded 4711 10.0"]
    assert states(run) == {"refund": CallState.SUCCEEDED}


async def test_a_second_process_resumes_from_the_store_alone(store: str, ledger: Ledger) -> None:
    governor, _ = make_app(store, ledger.path)
    run = await governor.run("support", "go")
    await decide(governor, run, Decision.edit({"order": "4711", "amount": 5.0}))
    await governor.close()
    path = os.pathsep.join([str(APP.parents[2]), os.environ.get("PYTHONPATH", "")])
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *(APP, store, ledger.path, run.id),
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await child.communicate()
    assert child.returncode == 0, err.decode()
    assert json.loads(out) == {"status": "completed", "output": "done", "told": ["refunded 4711 5.0"]}
    assert ledger.lines == ["refund 4711 5.0"]


async def test_a_rejection_reaches_the_model_with_the_persons_reason(store: str, ledger: Ledger) -> None:
    governor, _ = make_app(store, ledger.path)
    run = await governor.run("support", "go")
    await decide(governor, run, Decision.reject("no invoice"))
    other, model = make_app(store, ledger.path)
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", [])
    assert model.outputs == ["Not run: a person rejected this call: no invoice"]


async def test_an_edit_runs_the_edited_bytes_and_the_model_is_told_of_it(store: str, ledger: Ledger) -> None:
    governor, _ = make_app(store, ledger.path)
    run = await governor.run("support", "go")
    await decide(governor, run, Decision.edit({"order": "4711", "amount": 5.0}))
    other, model = make_app(store, ledger.path)
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["refund 4711 5.0"])
    assert model.outputs == ["refunded 4711 5.0"], "the tool's output stays the tool's"
    [note] = model.notes
    assert "changed the arguments of refund" in note
    assert '{"amount":5.0,"order":"4711"}' in note


async def test_an_answer_takes_the_place_of_the_output(store: str, ledger: Ledger) -> None:
    governor, _ = make_app(store, ledger.path)
    run = await governor.run("support", "go")
    await decide(governor, run, Decision.respond("already refunded last week"))
    other, model = make_app(store, ledger.path)
    run = await other.resume(run.id)
    assert (run.status, ledger.lines, model.outputs) == ("completed", [], ["already refunded last week"])


async def test_a_turn_of_four_calls_runs_the_free_ones_at_once_and_the_asked_ones_after(
    store: str, ledger: Ledger
) -> None:
    """Two asked, one allowed, one read-only, in one message of the model."""
    turn = [("refund", {"order": "1"}), ("note", {"text": "n"}), ("wire", {"to": "bob"}), ("look", {"order": "2"})]
    governor, _ = make_app(store, ledger.path, turn)
    run = await governor.run("support", "go")
    assert [approval.tool for approval in run.approvals] == ["refund", "wire"]
    assert sorted(ledger.lines) == ["look 2", "note n"]
    run = await decide(governor, run, Decision.approve(), Decision.reject("not him"))
    assert run.status == "ready"
    other, model = make_app(store, ledger.path, turn)
    run = await other.resume(run.id)
    assert (run.status, sorted(ledger.lines)) == ("completed", ["look 2", "note n", "refund 1 10.0"])
    assert model.outputs == ["noted n", "order 2", "refunded 1 10.0", "Not run: a person rejected this call: not him"]


async def test_each_pause_is_a_generation_of_its_own(store: str, ledger: Ledger) -> None:
    turns = [[("refund", {"order": "1"})], [("wire", {"to": "eve"})], "over"]
    governor, _ = make_app(store, ledger.path, *turns)
    run = await governor.run("support", "go")
    await decide(governor, run, Decision.approve())
    second, _ = make_app(store, ledger.path, *turns)
    run = await second.resume(run.id)
    assert (run.status, run.generation, [approval.tool for approval in run.approvals]) == ("waiting", 2, ["wire"])
    await decide(second, run, Decision.approve())
    third, _ = make_app(store, ledger.path, *turns)
    run = await third.resume(run.id)
    assert (run.status, run.output, ledger.lines) == ("completed", "over", ["refund 1 10.0", "wire eve"])


async def test_a_failing_tool_is_recorded_failed_and_the_model_hears_what_it_always_would(
    store: str, ledger: Ledger
) -> None:
    governor, model = make_app(store, ledger.path, [("fail", {"order": "9"})])
    run = await governor.run("support", "go")
    assert (run.status, ledger.lines, states(run)) == ("completed", ["fail 9"], {"fail": CallState.FAILED})
    plain = Scripted([("fail", {"order": "9"})])
    await Runner.run(Agent(name="Plain", model=plain, tools=[make_tools(ledger)["fail"]]), "go")
    assert model.outputs == plain.outputs


@pytest.mark.parametrize("custom", [True, False])
async def test_a_tools_own_failure_policy_is_kept(store: str, ledger: Ledger, custom: bool) -> None:
    """A formatter's words reach the model; without one the exception ends the run. Both are FAILED in the record."""

    def formatted(ctx: Any, error: Exception) -> str:
        return f"sorry: {error}"

    @function_tool(failure_error_function=formatted if custom else None)
    def fail() -> str:
        raise RuntimeError("boom")

    governor = make_governor(store)
    model = Scripted([("fail", {})])
    governor.agent("a")(lambda: Agent(name="A", model=model, tools=[fail]))
    if custom:
        run = await governor.run("a", "go")
        assert (run.status, model.outputs) == ("completed", ["sorry: boom"])
    else:
        with pytest.raises(Exception, match="boom"):
            await governor.run("a", "go")
        [run] = await governor.list_runs()
        assert run.status == "failed"
    assert states(run) == {"fail": CallState.FAILED}


@pytest.mark.parametrize("arguments", ['{"order": ', "[1]", '{"order": "1", "order": "2"}', '{"order": NaN}'])
async def test_arguments_that_are_not_plain_json_ask_nobody_and_run_nothing(
    store: str, ledger: Ledger, arguments: str
) -> None:
    """The SDK wants approval for these without asking our policy; the model is told, and no person is bothered."""
    governor, model = make_app(store, ledger.path, [("refund", arguments), ("note", {"text": "n"})])
    run = await governor.run("support", "go")
    assert (run.status, ledger.lines) == ("completed", ["note n"])
    told = next(text for text in model.outputs if text != "noted n")
    assert told.startswith("Not run: arguments are not")


async def test_bad_arguments_beside_an_asked_call_wait_with_it(store: str, ledger: Ledger) -> None:
    turn = [("refund", "{"), ("wire", {"to": "bob"})]
    governor, _ = make_app(store, ledger.path, turn)
    run = await governor.run("support", "go")
    assert [approval.tool for approval in run.approvals] == ["wire"]
    await decide(governor, run, Decision.approve())
    other, model = make_app(store, ledger.path, turn)
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["wire bob"])
    assert sorted(text[:8] for text in model.outputs) == ["Not run:", "wired bo"]


async def test_no_arguments_at_all_are_an_empty_object(store: str, ledger: Ledger) -> None:
    ran = []

    @function_tool
    def ping() -> str:
        ran.append("ping")
        return "pong"

    governor = make_governor(store, Table(ping=ALLOW))
    model = Scripted([("ping", "")])
    governor.agent("a")(lambda: Agent(name="A", model=model, tools=[ping]))
    run = await governor.run("a", "go")
    assert (run.status, ran, model.outputs) == ("completed", ["ping"], ["pong"])


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


async def test_a_policy_that_denies_at_the_last_moment_wins(store: str, ledger: Ledger) -> None:
    governor, _ = make_app(store, ledger.path)
    run = await governor.run("support", "go")
    await decide(governor, run, Decision.approve())
    other, model = make_app(store, ledger.path, policies=(Table(refund=DENY),))
    run = await other.resume(run.id)
    assert (run.status, ledger.lines, states(run)) == ("completed", [], {"refund": CallState.CANCELLED})
    assert model.outputs == ["Not run: deletes go through a ticket"]


async def test_a_policy_that_demands_more_people_makes_the_run_wait_again(store: str, ledger: Ledger) -> None:
    governor, _ = make_app(store, ledger.path)
    run = await governor.run("support", "go")
    await decide(governor, run, Decision.approve())
    two = Verdict("require_approval", stages=(Stage(("board",), (BOSS, "cfo@example.com"), quorum=2),))
    other, model = make_app(store, ledger.path, policies=(Table(refund=two),))
    run = await other.resume(run.id)
    assert (run.status, ledger.lines, model.inputs) == ("waiting", [], [])
    run = await other.decide(run.approvals[0].id, Decision.approve(), by="cfo@example.com")
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["refund 4711 10.0"])


async def test_policies_see_the_agent_the_run_and_the_frozen_arguments(store: str, ledger: Ledger) -> None:
    table = Table(note=ALLOW)
    governor, _ = make_app(store, ledger.path, [("note", {"text": "n"})], policies=(table,))
    run = await governor.run("support", "go", requester="ann@example.com", conversation="c")
    call = table.seen[0]
    assert (call.agent, call.run, call.requester, call.conversation) == ("Support", run.id, "ann@example.com", "c")
    assert (call.args, call.tool) == (b'{"text":"n"}', "note")
    assert len(call.schema_sha256) == 64


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
