"""Durable runs of OpenAI agents: what people decide is what happens, in whichever process the run goes on."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, function_tool

from governor_agents import Decision, Verdict
from governor_agents.core.records import CallState
from governor_agents.core.verdicts import Stage
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import (
    ALLOW,
    BOSS,
    DENY,
    Scripted,
    Table,
    decide,
    make_app,
    make_governor,
    make_tools,
    states,
)

pytestmark = pytest.mark.anyio

APP = Path(__file__).resolve().with_name("openai_agents_app.py")


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
async def test_a_tools_own_failure_policy_is_kept(store: str, custom: bool) -> None:
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


async def test_no_arguments_at_all_are_an_empty_object(store: str) -> None:
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
