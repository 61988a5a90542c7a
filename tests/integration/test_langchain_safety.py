"""What must not happen with LangChain agents: run twice, run what was refused, lose a pause, let a stale worker write."""

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ToolRetryMiddleware, hook_config
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt

from governor_agents import Decision, Worker
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from governor_agents.claims import Claim, current_claim, held
from governor_agents.core.records import CallState
from governor_agents.errors import ConfigError, Fenced, RunBlocked, SnapshotError, UngovernedTool
from governor_agents.stores.sqlite import SQLiteStore
from governor_agents.testing import MovableClock
from tests.integration.langchain_app import ANN, POLICY, App, make_tools
from tests.integration.ledger import Ledger

pytestmark = pytest.mark.anyio

ALLOW_ALL = POLICY.replace("tool: pay, then: require_approval", "tool: pay, then: allow")


class Died(BaseException):
    """The process is gone: nothing may be written after this."""


async def waiting(store: Any, ledger: Ledger, *decisions: Decision, turns: Any = None, **changes: Any) -> Any:
    """A run that was decided in a process that is gone."""
    app = App(store, ledger, turns or [[("pay", {"amount": 100})]], **changes)
    run = await app.governor.run("support", "go")
    run = await app.decide(run, *decisions)
    await app.governor.close()
    return run


async def test_two_processes_that_resume_at_once_run_the_tool_once(store: str, ledger: Ledger) -> None:
    run = await waiting(store, ledger, Decision.approve())
    apps = [App(store, ledger, []) for _ in range(4)]
    ends = await asyncio.gather(*(app.governor.resume(run.id) for app in apps), return_exceptions=True)
    assert ledger.lines == ["pay 100 shop"]
    assert sum(isinstance(end, Fenced) for end in ends) == 3
    assert (await apps[0].governor.get(run.id)).status == "completed"


async def test_a_rejected_call_does_not_run_when_its_gate_is_gone(store: str, ledger: Ledger) -> None:
    run = await waiting(store, ledger, Decision.reject("no"))
    app = App(store, ledger, [], policy=ALLOW_ALL)
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", [])


async def test_a_rejected_call_does_not_run_when_the_middleware_is_gone(store: str, ledger: Ledger) -> None:
    run = await waiting(store, ledger, Decision.reject("no"))
    app = App(store, ledger, [], build=lambda app: create_agent(app.model, tools=app.tools, checkpointer=app.saver))
    with pytest.raises(UngovernedTool, match=r"delete_all \(tools\)"):
        await app.governor.resume(run.id)
    await Worker(app.governor).run(once=True)
    assert ((await app.governor.get(run.id)).status, ledger.lines) == ("ready", [])


async def test_a_call_that_the_policies_deny_by_now_does_not_run(store: str, ledger: Ledger) -> None:
    run = await waiting(store, ledger, Decision.approve())
    app = App(store, ledger, [], policy=POLICY.replace("tool: pay, then: require_approval", "tool: pay, then: deny"))
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines, run.calls[0].state) == ("completed", [], CallState.CANCELLED)


async def test_a_call_that_needs_more_people_by_now_waits_again(store: str, ledger: Ledger) -> None:
    run = await waiting(store, ledger, Decision.approve())
    two = POLICY.replace("tool: pay, then: require_approval", "tool: pay, then: require_approval, quorum: 2")
    app = App(store, ledger, [], policy=two)
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("waiting", [])
    await app.decide(run, Decision.approve(), by="local:bob")
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["pay 100 shop"])


async def test_a_call_whose_tool_has_other_parameters_by_now_does_not_run(store: str, ledger: Ledger) -> None:
    run = await waiting(store, ledger, Decision.approve())

    @tool
    def pay(amount: int, to: str = "shop", currency: str = "EUR") -> str:
        """Pay."""
        ledger.write("wrong")
        return "paid"

    app = App(store, ledger, [], tools=[pay])
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines, run.calls[0].state) == ("completed", [], CallState.SUPERSEDED)


class JumpToTools(AgentMiddleware[Any, Any, Any]):
    """Sends every model message to the tools."""

    @hook_config(can_jump_to=["tools"])
    def after_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return {"jump_to": "tools"} if state["messages"][-1].tool_calls else None


class Inside(AgentMiddleware[Any, Any, Any]):
    """Records which arguments reach a wrapper behind ours."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        self.seen.append(request.tool_call["args"])
        return await handler(request)


async def test_other_middleware_cannot_run_a_rejected_call(store: str, ledger: Ledger) -> None:
    inside = Inside()

    def build(app: App) -> Any:
        return create_agent(
            app.model,
            tools=app.tools,
            middleware=[
                ToolRetryMiddleware(max_retries=2, initial_delay=0),
                GovernorMiddleware(app.governor),
                JumpToTools(),
                inside,
            ],
            checkpointer=app.saver,
        )

    run = await waiting(store, ledger, Decision.reject("no"), build=build)
    app = App(store, ledger, [], build=build)
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines, inside.seen) == ("completed", [], [])


async def test_middleware_behind_ours_sees_the_edited_arguments(store: str, ledger: Ledger) -> None:
    inside = Inside()

    def build(app: App) -> Any:
        return create_agent(
            app.model, tools=app.tools, middleware=[GovernorMiddleware(app.governor), inside], checkpointer=app.saver
        )

    run = await waiting(store, ledger, Decision.edit({"amount": 70}), build=build)
    await App(store, ledger, [], build=build).governor.resume(run.id)
    assert (inside.seen, ledger.lines) == ([{"amount": 70}], ["pay 70 shop"])


async def test_a_retry_around_the_governor_does_not_run_a_failed_call_again(store: str, ledger: Ledger) -> None:
    @tool
    def note(text: str) -> str:
        """Note."""
        ledger.write("tried")
        raise OSError("the disk is full")

    def build(app: App) -> Any:
        return create_agent(
            app.model,
            tools=[note],
            middleware=[ToolRetryMiddleware(max_retries=3, initial_delay=0), GovernorMiddleware(app.governor)],
            checkpointer=app.saver,
        )

    app = App(store, ledger, [[("note", {"text": "a"})]], tools=[note], build=build)
    run = await app.governor.run("support", "go")
    assert (run.status, ledger.lines) == ("completed", ["tried"])


# -- dying -------------------------------------------------------------------------------------------------------------


def clocked(store: str, clock: MovableClock) -> SQLiteStore:
    return SQLiteStore(store, clock=clock)


async def lapse(app: App, clock: MovableClock) -> None:
    """The lease of whoever died runs out, and a worker does what is due."""
    clock.move(31)
    await Worker(app.governor).run(once=True)


async def test_a_result_is_answered_from_the_record_when_the_checkpoint_was_lost(store: str, ledger: Ledger) -> None:
    clock = MovableClock()
    run = await waiting(clocked(store, clock), ledger, Decision.approve())
    app = App(clocked(store, clock), ledger, [])
    put = app.saver.aput

    async def dies(config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        raise Died

    app.saver.aput = dies
    with pytest.raises(Died):
        await app.governor.resume(run.id)
    assert ledger.lines == ["pay 100 shop"]
    app.saver.aput = put
    await app.governor.close()
    app = App(clocked(store, clock), ledger, [])
    await lapse(app, clock)
    run = await app.governor.get(run.id)
    assert (run.status, run.output, ledger.lines) == ("completed", "done", ["pay 100 shop"])
    assert app.model.results[0].text == "paid 100 to shop"


async def test_a_run_that_died_before_its_first_pause_goes_on_with_the_same_calls(store: str, ledger: Ledger) -> None:
    clock = MovableClock()
    lives = False

    @tool
    async def third() -> str:
        """Dies when its sibling is done."""
        claim = current_claim()
        assert claim is not None
        while len((await app.governor.get(claim.run)).having(CallState.SUCCEEDED)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        if not lives:
            raise Died
        return "third"

    turns = [[("note", {"text": "a"})], [("note", {"text": "b"}), ("third", {})], [("pay", {"amount": 9})]]
    policy = POLICY.replace("tools:", "tools:\n  third: {read_only: true}")
    tools = [*make_tools(ledger), third]
    app = App(clocked(store, clock), ledger, turns, tools=tools, policy=policy)
    with pytest.raises(Died):
        await app.governor.run("support", "go")
    await app.governor.close()
    lives = True
    app = App(clocked(store, clock), ledger, turns, tools=tools, policy=policy)
    await lapse(app, clock)
    (run,) = await app.governor.list_runs()
    assert (run.status, [approval.tool for approval in run.approvals]) == ("waiting", ["pay"])
    assert ledger.lines == ["note a", "note b"]
    assert len(app.model.seen) == 1
    assert [call.tool for call in await app.governor.calls(run.id)] == ["note", "note", "pay"]


async def test_a_run_that_died_inside_a_tool_is_blocked_and_does_not_run_it_again(store: str, ledger: Ledger) -> None:
    clock = MovableClock()

    @tool
    def note(text: str) -> str:
        """Note."""
        ledger.write("began")
        raise Died

    app = App(clocked(store, clock), ledger, [[("note", {"text": "a"})]], tools=[note])
    with pytest.raises(Died):
        await app.governor.run("support", "go")
    await app.governor.close()
    app = App(clocked(store, clock), ledger, [], tools=[note])
    await lapse(app, clock)
    (run,) = await app.governor.list_runs()
    assert (run.status, run.blocked, ledger.lines) == ("blocked", "unknown_outcome", ["began"])


async def test_a_pause_that_died_before_its_record_is_made_by_a_worker(store: str, ledger: Ledger) -> None:
    clock = MovableClock()
    turns = [[("pay", {"amount": 100}), ("note", {"text": "a"})]]
    app = App(clocked(store, clock), ledger, turns)

    def dies(*_: Any) -> Any:
        raise Died

    app.governor.adapter("langchain")._pause = dies
    with pytest.raises(Died):
        await app.governor.run("support", "go")
    await app.governor.close()
    app = App(clocked(store, clock), ledger, turns)
    await lapse(app, clock)
    (run,) = await app.governor.list_runs()
    assert (run.status, len(run.approvals), ledger.lines) == ("waiting", 1, ["note a"])
    assert app.model.seen == []


async def test_a_finished_thread_whose_run_was_not_finished_is_finished(store: str, ledger: Ledger) -> None:
    clock = MovableClock()
    app = App(clocked(store, clock), ledger, [[("note", {"text": "a"})]])

    async def dies(*_: Any) -> Any:
        raise Died

    app.governor.driver._come_to_rest = dies
    with pytest.raises(Died):
        await app.governor.run("support", "go")
    app = App(clocked(store, clock), ledger, [])
    await lapse(app, clock)
    (run,) = await app.governor.list_runs()
    assert (run.status, run.output, ledger.lines, app.model.seen) == ("completed", "done", ["note a"], [])


# -- stale workers -----------------------------------------------------------------------------------------------------


async def test_a_stale_worker_writes_no_checkpoint_and_runs_no_tool(store: str, ledger: Ledger) -> None:
    clock = MovableClock()
    run = await waiting(clocked(store, clock), ledger, Decision.approve())
    stale, fresh = App(clocked(store, clock), ledger, []), App(clocked(store, clock), ledger, [])
    await stale.governor.open()
    claimed = await stale.governor.claim(run.id)
    clock.move(31)
    await Worker(fresh.governor).run(once=True)
    assert (await fresh.governor.get(run.id)).status == "completed"
    with pytest.raises(Fenced):
        await stale.governor.driver.drive(claimed, stale.governor.prepared("support"))
    assert ledger.lines == ["pay 100 shop"]
    config = {"configurable": {"thread_id": run.id, "checkpoint_ns": ""}}
    with held(Claim.on(claimed)), pytest.raises(Fenced):
        await stale.saver.aput(config, {"id": "1f0", "channel_values": {}}, {"source": "loop"}, {})
    state = await fresh.agent.aget_state({"configurable": {"thread_id": run.id}})
    assert [message.type for message in state.values["messages"]] == ["human", "ai", "tool", "ai"]


async def test_a_thread_that_went_on_without_the_run_parks_it(store: str, ledger: Ledger) -> None:
    run = await waiting(store, ledger, Decision.approve())
    app = App(store, ledger, [])
    other = await app.governor.run("support", "hi", conversation="elsewhere")
    await app.saver.adelete_thread(run.id)
    await app.saver.acopy_thread("elsewhere", run.id)
    after = await app.governor.resume(run.id)
    assert (after.status, after.blocked, ledger.lines) == ("blocked", "snapshot", [])
    assert other.id in after.blocked_detail
    await app.saver.adelete_thread(run.id)


async def test_a_thread_that_is_gone_parks_the_run(store: str, ledger: Ledger) -> None:
    run = await waiting(store, ledger, Decision.approve())
    app = App(store, ledger, [])
    await app.saver.adelete_thread(run.id)
    after = await app.governor.resume(run.id)
    assert (after.status, after.blocked, ledger.lines) == ("blocked", "snapshot", [])


@pytest.mark.parametrize("snapshot", [b"no", b"[]", b'{"v":2,"thread_id":"t"}', b'{"v":1}', b'{"v":1,"thread_id":7}'])
async def test_a_snapshot_that_is_none_is_refused(store: str, ledger: Ledger, snapshot: bytes) -> None:
    app = App(store, ledger, [])
    run = await app.governor.run("support", "go")
    claim = Claim(run.id, "default", "support", "x", "", 0, "me", 1)
    with held(claim), pytest.raises(SnapshotError, match="not readable"):
        await app.governor.adapter("langchain").resume(app.agent, snapshot, (), options={})


# -- what stops the loop -----------------------------------------------------------------------------------------------


async def test_a_tool_that_interrupts_while_it_is_journalled_blocks_the_run(store: str, ledger: Ledger) -> None:
    @tool
    def note(text: str) -> str:
        """Note."""
        ledger.write("half")
        return str(interrupt("which one?"))

    app = App(store, ledger, [[("note", {"text": "a"})]], tools=[note])
    run = await app.governor.run("support", "go")
    assert (run.status, run.calls[0].state, ledger.lines) == ("blocked", CallState.UNKNOWN, ["half"])


async def test_an_interrupt_that_is_no_approval_ends_a_governed_run(store: str, ledger: Ledger) -> None:
    @tool
    def look(at: str) -> str:
        """Look."""
        return str(interrupt("which one?"))

    app = App(store, ledger, [[("look", {"at": "a"})]], tools=[look])
    with pytest.raises(ConfigError, match="which one"):
        await app.governor.run("support", "go")


async def test_what_stops_the_loop_is_no_message_for_the_model() -> None:
    from langgraph.errors import GraphBubbleUp

    from governor_agents.adapters.langchain.attempt import stopping

    for error in (Fenced("over"), RunBlocked("doubt")):
        stop = stopping(error)
        assert isinstance(stop, GraphBubbleUp) and isinstance(stop, type(error))
        assert (str(stop), stop.code) == (str(error), error.code)
        assert stopping(stop) is stop


async def test_a_tool_of_the_models_provider_needs_a_rule(store: str, ledger: Ledger) -> None:
    def build(app: App) -> Any:
        return create_agent(
            app.model,
            tools=[{"type": "web_search"}, *app.tools],
            middleware=[GovernorMiddleware(app.governor)],
            checkpointer=app.saver,
        )

    app = App(store, ledger, [], build=build)
    with pytest.raises(UngovernedTool, match="web_search"):
        await app.governor.run("support", "go")
    await app.governor.close()
    policy = POLICY + "  - {name: search, tool: web_search, then: allow}\n"
    app = App(store, ledger, [], build=build, policy=policy)
    assert (await app.governor.run("support", "go")).status == "completed"


# -- what cannot be governed -------------------------------------------------------------------------------------------


async def test_graphs_that_cannot_pause_or_be_resumed_are_refused(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, [])
    adapter = app.governor.adapter("langchain")
    middleware = [GovernorMiddleware(app.governor)]
    with pytest.raises(ConfigError, match="no checkpointer"):
        adapter.prepare(create_agent(app.model, tools=app.tools, middleware=middleware))
    with pytest.raises(ConfigError, match="static breakpoints"):
        adapter.prepare(
            create_agent(
                app.model, tools=app.tools, middleware=middleware, checkpointer=app.saver, interrupt_before=["tools"]
            )
        )
    other = App("memory://", ledger, [])
    with pytest.raises(ConfigError, match="another governor"):
        adapter.prepare(
            create_agent(app.model, tools=app.tools, middleware=middleware, checkpointer=GovernorSaver(other.governor))
        )
    with pytest.raises(ConfigError, match="compiled graph"):
        adapter.prepare(app.model)


async def test_another_checkpointer_will_do_in_one_process(store: str, ledger: Ledger) -> None:
    saver = InMemorySaver()

    def build(app: App) -> Any:
        return create_agent(
            app.model, tools=app.tools, middleware=[GovernorMiddleware(app.governor)], checkpointer=saver
        )

    app = App(store, ledger, [[("pay", {"amount": 100}), ("note", {"text": "a"})]], build=build)
    run = await app.decide(await app.governor.run("support", "go"), Decision.approve())
    run = await app.governor.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["note a", "pay 100 shop"])


async def test_inventory_and_fingerprint_know_the_tools(store: str, ledger: Ledger) -> None:
    app = App(store, ledger, [])
    adapter = app.governor.adapter("langchain")
    tools = {found.name: found for found in adapter.inventory(app.agent)}
    assert sorted(tools) == ["delete_all", "look", "note", "pay"]
    assert tools["look"].read_only and len(tools["pay"].schema_sha256) == 64
    same = App("memory://", ledger, []).agent
    fewer = App("memory://", ledger, [], tools=app.tools[:2]).agent
    assert adapter.fingerprint(app.agent) == adapter.fingerprint(same) != adapter.fingerprint(fewer)


async def test_one_person_cannot_be_replaced_by_what_a_graph_is_resumed_with(store: str, ledger: Ledger) -> None:
    from langgraph.types import Command

    app = App(store, ledger, [[("pay", {"amount": 100})]])
    run = await app.governor.run("support", "go")
    config = {"configurable": {"thread_id": run.id}}
    state = await app.agent.aget_state(config)
    out = await app.agent.ainvoke(
        Command(resume={found.id: {"type": "approve", "by": ANN} for found in state.interrupts}), config, version="v2"
    )
    assert (ledger.lines, len(out.interrupts)) == ([], 1)
    await app.decide(await app.governor.get(run.id), Decision.approve())
    assert (await app.governor.resume(run.id)).status == "completed"
    assert ledger.lines == ["pay 100 shop"]
