"""Durable runs of LangChain agents: what people decide is what happens, in whichever process the run goes on."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import ToolMessage
from langchain_core.tools import ToolException, tool
from pydantic import BaseModel

from governor_agents import Decision, Worker, idempotency_key
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from governor_agents.core.records import CallState
from governor_agents.errors import ConfigError
from governor_agents.stores import open_store
from tests.integration.langchain_app import ANN, App
from tests.integration.ledger import Ledger

pytestmark = pytest.mark.anyio

PROGRAM = Path(__file__).resolve().with_name("langchain_app.py")


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    yield open_store("memory://") if request.param == "memory" else f"sqlite:///{tmp_path}/governor.db"


def states(run: Any) -> list[CallState]:
    return [call.state for call in run.calls]


async def again(app: App, store: Any, turns: list[Any], **changes: Any) -> App:
    """The application as another process builds it; a store in memory has only its one object."""
    if isinstance(store, str):
        await app.governor.close()
        return App(store, app.ledger, turns, **changes)
    return app


async def test_an_allowed_call_runs_and_is_journalled(store: Any, ledger: Ledger) -> None:
    app = App(store, ledger, [[("note", {"text": "hi"})]])
    run = await app.governor.run("support", "go")
    assert (run.status, run.output, ledger.lines) == ("completed", "done", ["note hi"])
    assert states(run) == [CallState.SUCCEEDED]


async def test_a_read_only_call_runs_without_a_record(store: Any, ledger: Ledger) -> None:
    app = App(store, ledger, [[("look", {"at": "it"})]])
    run = await app.governor.run("support", "go")
    assert (run.status, ledger.lines, run.calls) == ("completed", ["look it"], ())


async def test_a_denied_call_never_runs_and_the_model_is_told(store: Any, ledger: Ledger) -> None:
    app = App(store, ledger, [[("delete_all", {})]])
    run = await app.governor.run("support", "go")
    assert (run.status, ledger.lines, states(run)) == ("completed", [], [CallState.DENIED])
    told = app.model.results[0]
    assert told.status == "error" and "deletes go through a ticket" in told.text


async def test_an_approved_call_runs_once_in_a_new_process_with_the_bytes_that_were_shown(
    store: Any, ledger: Ledger
) -> None:
    turns = [[("pay", {"amount": 100, "to": "ACME"})]]
    app = App(store, ledger, turns)
    run = await app.governor.run("support", "go")
    assert (run.status, ledger.lines) == ("waiting", [])
    assert [(approval.tool, approval.arguments) for approval in run.approvals] == [
        ("pay", {"amount": 100, "to": "ACME"})
    ]
    app = await again(app, store, turns)
    run = await app.decide(await app.governor.get(run.id), Decision.approve("fine"))
    run = await app.governor.resume(run.id)
    assert (run.status, run.output, ledger.lines) == ("completed", "done", ["pay 100 ACME"])
    assert app.model.results[0].text == "paid 100 to ACME"


async def test_a_real_second_process_resumes(tmp_path: Path, ledger: Ledger) -> None:
    store = f"sqlite:///{tmp_path}/governor.db"
    app = App(store, ledger, [[("pay", {"amount": 100})]])
    run = await app.decide(await app.governor.run("support", "go"), Decision.approve())
    await app.governor.close()
    root = str(PROGRAM.parents[2])
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(PROGRAM), store, str(ledger.path)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [[run.id, "completed", "done"]]
    assert ledger.lines == ["pay 100 shop"]


async def test_a_rejected_call_never_runs_and_the_model_learns_why(store: Any, ledger: Ledger) -> None:
    turns = [[("pay", {"amount": 100})]]
    app = App(store, ledger, turns)
    run = await app.decide(await app.governor.run("support", "go"), Decision.reject("no budget"))
    app = await again(app, store, turns)
    run = await app.governor.resume(run.id)
    told = app.model.results[0]
    assert (run.status, ledger.lines, states(run)) == ("completed", [], [CallState.REJECTED])
    assert told.status == "error" and "no budget" in told.text and "did not run" in told.text


async def test_an_answer_takes_the_tools_place(store: Any, ledger: Ledger) -> None:
    app = App(store, ledger, [[("pay", {"amount": 100})]])
    run = await app.decide(await app.governor.run("support", "go"), Decision.respond("paid by hand"))
    run = await app.governor.resume(run.id)
    told = app.model.results[0]
    assert (run.status, ledger.lines, told.text, told.status) == ("completed", [], "paid by hand", "success")


async def test_an_edited_call_runs_with_the_edit_and_the_model_is_told_beside_the_tools_own_words(
    store: Any, ledger: Ledger
) -> None:
    turns = [[("pay", {"amount": 100})]]
    app = App(store, ledger, turns)
    run = await app.decide(await app.governor.run("support", "go"), Decision.edit({"amount": 70, "to": "ACME"}))
    app = await again(app, store, turns)
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["pay 70 ACME"])
    read = app.model.results[0]
    assert read.text.startswith("paid 70 to ACME\n\n[A person changed the arguments")
    assert '{"amount":70,"to":"ACME"}' in read.text
    state = await app.agent.aget_state({"configurable": {"thread_id": run.id}})
    kept = [message for message in state.values["messages"] if isinstance(message, ToolMessage)]
    assert kept[0].content == "paid 70 to ACME"
    assert kept[0].additional_kwargs == {"governor_agents": {"ran_with": {"amount": 70, "to": "ACME"}}}


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
async def test_the_calls_of_one_turn_are_decided_in_any_order_and_siblings_run_once(
    store: Any, ledger: Ledger, order: tuple[int, int]
) -> None:
    turns = [[("pay", {"amount": 10}), ("note", {"text": "a"}), ("pay", {"amount": 20}), ("look", {"at": "it"})]]
    app = App(store, ledger, turns)
    run = await app.governor.run("support", "go")
    assert [approval.arguments["amount"] for approval in run.approvals] == [10, 20]
    assert sorted(ledger.lines) == ["look it", "note a"]
    approvals = run.approvals
    for at in order:
        decision = Decision.approve() if at == 0 else Decision.reject("enough")
        run = await app.governor.decide(approvals[at].id, decision, by=ANN)
    app = await again(app, store, turns)
    run = await app.governor.resume(run.id)
    assert run.status == "completed"
    assert sorted(ledger.lines) == ["look it", "note a", "pay 10 shop"]
    assert [message.status for message in app.model.results] == ["success", "success", "error", "success"]


async def test_a_run_pauses_as_often_as_it_must(store: Any, ledger: Ledger) -> None:
    turns = [[("pay", {"amount": 10})], [("pay", {"amount": 20}), ("pay", {"amount": 30})]]
    app = App(store, ledger, turns)
    run = await app.decide(await app.governor.run("support", "go"), Decision.approve())
    run = await app.governor.resume(run.id)
    assert (run.status, run.generation, ledger.lines) == ("waiting", 2, ["pay 10 shop"])
    app = await again(app, store, turns)
    run = await app.decide(await app.governor.get(run.id), Decision.approve(), Decision.approve())
    run = await app.governor.resume(run.id)
    assert (run.status, sorted(ledger.lines)) == ("completed", ["pay 10 shop", "pay 20 shop", "pay 30 shop"])


async def test_the_idempotency_key_reaches_sync_and_async_tools(store: Any, ledger: Ledger) -> None:
    @tool
    def note(text: str) -> str:
        """Note."""
        ledger.write(idempotency_key())
        return "ok"

    app = App(store, ledger, [[("note", {"text": "a"})]], tools=[note])
    await app.governor.run("support", "go")
    assert ledger.lines[0].startswith("ga1_")


async def test_an_exception_of_a_tool_is_a_failure_and_reaches_the_caller(store: Any, ledger: Ledger) -> None:
    @tool
    def note(text: str) -> str:
        """Note."""
        ledger.write("tried")
        raise OSError("the disk is full")

    app = App(store, ledger, [[("note", {"text": "a"})]], tools=[note])
    with pytest.raises(OSError, match="the disk is full"):
        await app.governor.run("support", "go")
    (run,) = await app.governor.list_runs()
    assert (run.status, states(run), ledger.lines) == ("failed", [CallState.FAILED], ["tried"])


async def test_an_error_that_langchain_tells_the_model_is_a_failure_too(store: Any, ledger: Ledger) -> None:
    @tool
    def note(text: str) -> str:
        """Note."""
        raise ToolException("try another text")

    note.handle_tool_error = True
    app = App(store, ledger, [[("note", {"text": "a"}), ("note", {"wrong": 1})]], tools=[note])
    run = await app.governor.run("support", "go")
    assert (run.status, states(run)) == ("completed", [CallState.FAILED, CallState.FAILED])
    assert app.model.results[0].text == "try another text"
    assert [message.status for message in app.model.results] == ["error", "error"]


async def test_arguments_that_are_no_json_are_told_to_the_model(store: Any, ledger: Ledger) -> None:
    app = App(store, ledger, [[("pay", {"amount": float("nan")})]])
    run = await app.governor.run("support", "go")
    assert (run.status, ledger.lines) == ("completed", [])
    assert "not plain JSON" in app.model.results[0].text


async def test_a_worker_starts_what_was_queued_and_resumes_what_was_decided(tmp_path: Path, ledger: Ledger) -> None:
    app = App(f"sqlite:///{tmp_path}/governor.db", ledger, [[("pay", {"amount": 10})]])
    queued = await app.governor.submit("support", "go")
    await Worker(app.governor).run(once=True)
    run = await app.governor.get(queued.id)
    await app.decide(run, Decision.approve())
    await Worker(app.governor).run(once=True)
    run = await app.governor.get(queued.id)
    assert (run.status, run.output, ledger.lines) == ("completed", "done", ["pay 10 shop"])


async def test_events_are_streamed_while_it_runs(store: Any, ledger: Ledger) -> None:
    app = App(store, ledger, [[("note", {"text": "a"}), ("pay", {"amount": 10})]])
    streamed = app.governor.run_streamed("support", "go")
    events = [event async for event in streamed]
    run = await streamed.run()
    assert run.status == "waiting"
    assert {event["type"] for event in events} == {"updates", "messages"}
    assert any("model" in event["data"] for event in events if event["type"] == "updates")


async def test_the_factory_says_what_is_streamed_and_gives_a_config(store: Any, ledger: Ledger) -> None:
    app = App(store, ledger, [[("note", {"text": "a"})]])
    options = {"stream_mode": "values", "config": {"recursion_limit": 9, "tags": ["mine"]}}
    app.governor.agent("other")(lambda: (app.agent, options))
    events = [event async for event in app.governor.run_streamed("other", "go")]
    assert {event["type"] for event in events} == {"values"}
    app.governor.agent("wrong")(lambda: (app.agent, {"colour": "red"}))
    with pytest.raises(ConfigError, match="colour"):
        await app.governor.run("wrong", "go")


async def test_a_conversation_goes_on_in_its_thread(store: Any, ledger: Ledger) -> None:
    app = App(store, ledger, [[("note", {"text": "a"})]])
    await app.governor.run("support", "first", conversation="t1")
    await app.governor.run("support", "second", conversation="t1")
    assert [m.text for m in app.model.seen[-1] if m.type == "human"] == ["first", "second"]


async def test_a_new_message_supersedes_a_waiting_run_and_leaves_no_call_without_an_answer(
    store: Any, ledger: Ledger
) -> None:
    app = App(store, ledger, [[("pay", {"amount": 10}), ("note", {"text": "a"})]])
    waiting = await app.governor.run("support", "first", conversation="t1")
    app.model.turns = ["hello"]
    run = await app.governor.run("support", "second", conversation="t1")
    assert (run.status, run.output) == ("completed", "hello")
    assert (await app.governor.get(waiting.id)).status == "cancelled"
    kinds = [message.type for message in app.model.seen[-1]]
    assert kinds == ["human", "ai", "tool", "tool", "human"]
    assert ledger.lines == ["note a"]
    assert "a new message came" in app.model.results[1].text


class Weather(BaseModel):
    """Weather."""

    degrees: int
    sky: str


async def test_a_structured_response_is_part_of_the_output(store: Any, ledger: Ledger) -> None:
    def build(app: App) -> Any:
        return create_agent(
            app.model,
            tools=app.tools,
            middleware=[GovernorMiddleware(app.governor)],
            checkpointer=GovernorSaver(app.governor, types=[Weather]),
            response_format=ToolStrategy(Weather),
        )

    turns = [[("pay", {"amount": 10})], [("Weather", {"degrees": 7, "sky": "grey"})]]
    app = App(store, ledger, turns, build=build)
    run = await app.decide(await app.governor.run("support", "go"), Decision.approve())
    run = await app.governor.resume(run.id)
    assert run.status == "completed"
    assert run.output["structured_response"] == {"degrees": 7, "sky": "grey"}


async def test_context_reaches_the_tools_in_every_stretch(store: Any, ledger: Ledger) -> None:
    from langchain.tools import ToolRuntime

    class Shop(BaseModel):
        name: str

    @tool
    def pay(amount: int, runtime: ToolRuntime[Shop, Any]) -> str:
        """Pay."""
        ledger.write(f"pay {amount} {runtime.context.name}")
        return "ok"

    def build(app: App) -> Any:
        return create_agent(
            app.model,
            tools=[pay],
            middleware=[GovernorMiddleware(app.governor)],
            checkpointer=app.saver,
            context_schema=Shop,
        )

    app = App(store, ledger, [[("pay", {"amount": 1}), ("pay", {"amount": 10})]], tools=[pay], build=build)
    run = await app.governor.run("support", "go", context={"name": "ACME"})
    await app.decide(run, Decision.approve())
    await app.governor.resume(run.id)
    assert ledger.lines == ["pay 1 ACME", "pay 10 ACME"]
