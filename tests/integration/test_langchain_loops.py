"""Loops of one's own: ``graph.invoke`` on a `GovernorSaver` is a durable run, without ``governor.run``."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from governor_agents import Decision, Worker
from governor_agents.adapters.langchain import GovernorMiddleware
from governor_agents.core.records import CallState
from governor_agents.errors import ConfigError, IllegalTransition
from governor_agents.stores.sqlite import SQLiteStore
from governor_agents.testing import MovableClock
from tests.integration.langchain_app import App, async_expert, make_tools, supervisor
from tests.integration.ledger import Ledger

pytestmark = pytest.mark.anyio

PAY = [[("pay", {"amount": 100}), ("note", {"text": "a"})]]


def on(thread: str, **more: Any) -> Any:
    return {"configurable": {"thread_id": thread, **more}}


def says(text: str) -> Any:
    return {"messages": [("user", text)]}


async def test_an_input_opens_a_run_that_ends_with_the_loop(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, [[("note", {"text": "a"})]])
    await app.agent.ainvoke(says("go"), on("t1", requester="user:ada"))
    run = await app.governor.get("t1/1")
    assert (run.status, run.output, run.agent, run.requester) == ("completed", "done", "support", "user:ada")
    assert (run.conversation, [call.state for call in run.calls]) == ("t1", [CallState.SUCCEEDED])
    await app.agent.ainvoke(says("more"), on("t1"))
    assert (await app.governor.get("t1/2")).status == "completed"
    assert ledger.lines == ["note a", "note a"]


async def test_a_turn_looks_at_no_earlier_run_and_takes_the_id_of_none(store: str, ledger: Ledger) -> None:
    """The tenth message reads as little as the second; a run that was removed by then gives its id to nobody."""
    counted: list[str] = []

    class Counting(SQLiteStore):
        async def load(self, kind: str, tenant: str, id: str) -> Any:
            counted.append(f"{kind} {id}")
            return await super().load(kind, tenant, id)

    app = App(Counting(store), ledger, [[("note", {"text": "a"})]])
    reads: list[int] = []
    for _ in range(10):
        counted.clear()
        await app.agent.ainvoke(says("go"), on("t1"))
        reads.append(len(counted))
    assert reads[1] == reads[9] and "run t1/1" not in counted
    governor = app.governor
    for n in range(1, 11):
        record = await governor.loop.bridge(governor.store.load("run", "default", f"t1/{n}"))
        assert record is not None
        assert await governor.loop.bridge(governor.store.delete("run", "default", record.id, record.v))
    await app.agent.ainvoke(says("go"), on("t1"))
    assert [run.id for run in await governor.list_runs()] == ["t1/11"]


def test_a_synchronous_loop_is_a_run_too(store: str, ledger: Ledger) -> None:
    pay = make_tools(ledger)[0]
    app = App(store, ledger, [[("pay", {"amount": 3})], [("pay", {"amount": 100})]], tools=[pay])
    out = app.agent.invoke(says("go"), on("t1"), version="v2")
    assert (len(out.interrupts), ledger.lines) == (1, ["pay 3 shop"])
    run = app.governor.get_sync("t1/1")
    assert (run.status, [call.state for call in run.calls]) == ("active", [CallState.SUCCEEDED])


async def test_a_pause_is_handed_over_and_resumed_by_a_worker(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, PAY)
    result = await app.agent.ainvoke(says("go"), on("t1"))
    run = await app.governor.suspend(result, agent=app.agent, config=on("t1"))
    assert run is not None
    assert (run.id, run.status, [approval.tool for approval in run.approvals]) == ("t1/1", "waiting", ["pay"])
    await app.decide(run, Decision.approve())
    await app.governor.close()
    app = App(store, ledger, PAY)
    await Worker(app.governor).run(once=True)
    run = await app.governor.get("t1/1")
    assert (run.status, run.output, ledger.lines) == ("completed", "done", ["note a", "pay 100 shop"])


async def test_a_pause_that_nobody_handed_over_is_made_when_the_lease_ends(store: str, ledger: Ledger) -> None:
    clock = MovableClock()
    app = App(SQLiteStore(store, clock=clock), ledger, PAY)
    await app.agent.ainvoke(says("go"), on("t1"))
    await app.governor.close()
    clock.move(31)
    app = App(SQLiteStore(store, clock=clock), ledger, PAY)
    await Worker(app.governor).run(once=True)
    run = await app.governor.get("t1/1")
    assert (run.status, [approval.tool for approval in run.approvals], app.model.seen) == ("waiting", ["pay"], [])
    await app.decide(run, Decision.approve())
    run = await app.governor.resume("t1/1")
    assert (run.status, ledger.lines) == ("completed", ["note a", "pay 100 shop"])


async def test_an_inner_agent_of_a_loop_of_ones_own_is_part_of_its_run(store: str, ledger: Ledger) -> None:
    clock = MovableClock()
    build = supervisor([[("pay", {"amount": 50}), ("note", {"text": "in"})], "all paid"], async_expert)
    turns = [[("expert", {"question": "q"}), ("note", {"text": "out"})]]
    app = App(SQLiteStore(store, clock=clock), ledger, turns, build=build)
    out = await app.agent.ainvoke(says("go"), on("t1"), version="v2")
    assert (len(out.interrupts), sorted(ledger.lines)) == (1, ["asked q", "note in", "note out"])
    assert [call.tool for call in (await app.governor.get("t1/1")).calls] == ["note", "note"]
    await app.governor.close()
    clock.move(31)
    app = App(SQLiteStore(store, clock=clock), ledger, turns, build=build)
    app.governor.agent("langchain")(lambda: app.agent)
    await Worker(app.governor).run(once=True)
    await app.decide(await app.governor.get("t1/1"), Decision.approve())
    run = await app.governor.resume("t1/1")
    assert run.status == "completed"
    assert [line for line in ledger.lines if not line.startswith("asked")] == [
        "note out",
        "note in",
        "pay 50 shop",
    ] or [line for line in ledger.lines if not line.startswith("asked")] == ["note in", "note out", "pay 50 shop"]


async def test_nothing_is_handed_over_when_nothing_waits(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, [])
    result = await app.agent.ainvoke(says("go"), on("t1"))
    assert await app.governor.suspend(result, agent=app.agent, config=on("t1")) is None
    with pytest.raises(ConfigError, match="agent=graph"):
        await app.governor.suspend(result, agent=app.agent)


async def test_a_new_message_supersedes_a_paused_run(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, PAY)
    await app.agent.ainvoke(says("go"), on("t1"))
    app.model.turns = ["hello"]
    out = await app.agent.ainvoke(says("never mind"), on("t1"))
    assert out["messages"][-1].text == "hello"
    assert [(await app.governor.get(f"t1/{n}")).status for n in (1, 2)] == ["cancelled", "completed"]
    read = app.model.seen[-1]
    assert [message.type for message in read] == ["human", "ai", "tool", "tool", "human"] or [
        message.type for message in read
    ] == ["human", "ai", "tool", "human"]
    answered = {message.tool_call_id for message in read if isinstance(message, ToolMessage)}
    assert answered == {call["id"] for call in read[1].tool_calls}
    assert ledger.lines == ["note a"]


async def test_a_message_is_refused_while_the_thread_is_driven_and_leaves_no_trace(store: str, ledger: Ledger) -> None:
    app, other = App(store, ledger, PAY), App(store, ledger, PAY)
    await app.agent.ainvoke(says("go"), on("t1"))
    before = await app.agent.aget_state(on("t1"))
    with pytest.raises(IllegalTransition, match="t1/1"):
        await other.agent.ainvoke(says("more"), on("t1"))
    assert (await app.agent.aget_state(on("t1"))).config == before.config


async def test_two_processes_that_send_a_message_at_once_drive_the_thread_once(store: str, ledger: Ledger) -> None:
    apps = [App(store, ledger, [[("note", {"text": "a"})]]) for _ in range(3)]
    for app in apps:
        await app.governor.open()
    ends = await asyncio.gather(*(app.agent.ainvoke(says("go"), on("t1")) for app in apps), return_exceptions=True)
    won = [end for end in ends if not isinstance(end, BaseException)]
    assert all(isinstance(end, (IllegalTransition, dict)) for end in ends)
    assert len(won) == len(ledger.lines) >= 1
    runs = await apps[0].governor.list_runs()
    assert [run.status for run in runs].count("completed") == len(won)


async def test_a_loop_that_raises_ends_its_run_as_failed(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, [[("pay", {"amount": 1})], "never"])
    app.tools[0].func = None  # broken: StructuredTool without a function
    with pytest.raises(NotImplementedError):
        await app.agent.ainvoke(says("go"), on("t1"))
    run = await app.governor.get("t1/1")
    assert run.status == "failed" and "NotImplementedError" in run.error


async def test_resuming_by_hand_decides_nothing(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, PAY)
    result = await app.agent.ainvoke(says("go"), on("t1"))
    await app.governor.suspend(result, agent=app.agent, config=on("t1"))
    for _ in range(2):
        out = await app.agent.ainvoke(None, on("t1"), version="v2")
        assert (len(out.interrupts), ledger.lines) == (1, ["note a"])
    run = await app.decide(await app.governor.get("t1/1"), Decision.approve())
    assert (await app.governor.resume(run.id)).status == "completed"
    assert ledger.lines == ["note a", "pay 100 shop"]


async def test_with_another_checkpointer_the_record_begins_with_the_pause(store: str, ledger: Ledger) -> None:
    from langchain.agents import create_agent

    saver = InMemorySaver()

    def build(app: App) -> Any:
        middleware = [GovernorMiddleware(app.governor)]
        return create_agent(app.model, tools=app.tools, middleware=middleware, checkpointer=saver, name="support")

    app = App(store, ledger, PAY, build=build)
    result = await app.agent.ainvoke(says("go"), on("t1"))
    assert await app.governor.list_runs() == []
    run = await app.governor.suspend(result, agent=app.agent, config=on("t1"))
    assert run is not None and (run.status, run.agent, run.conversation) == ("waiting", "support", "t1")
    await app.decide(run, Decision.edit({"amount": 70}))
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["note a", "pay 70 shop"])


async def test_without_a_checkpointer_a_call_that_needs_people_stops_the_loop(store: str, ledger: Ledger) -> None:
    from langchain.agents import create_agent

    app = App(store, ledger, PAY)
    agent = create_agent(app.model, tools=app.tools, middleware=[GovernorMiddleware(app.governor)])
    with pytest.raises(ConfigError, match="no checkpointer"):
        await agent.ainvoke(says("go"))
    assert "pay 100 shop" not in ledger.lines
