"""What must not happen with OpenAI agents: effects twice, and doubts where there are none."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from agents import (
    Agent,
    Runner,
    RunState,
    function_tool,
)

from governor_agents import Decision, Governor, PolicySet, Tool
from governor_agents.adapters.openai_agents import govern
from governor_agents.adapters.openai_agents.stretch import Stretch
from governor_agents.core import driving
from governor_agents.core.records import CallState
from governor_agents.errors import (
    ArgumentsError,
    Fenced,
)
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import (
    ALLOW,
    ASK,
    BOSS,
    Scripted,
    Table,
    make_app,
    make_governor,
    make_tools,
    resume_with,
    snapshot_of,
    states,
    waiting,
)

pytestmark = pytest.mark.anyio


async def test_two_workers_that_resume_at_once_run_the_tool_once(store: str, ledger: Ledger) -> None:
    governor, run = await waiting(store, ledger)
    await governor.decide(run.approvals[0].id, Decision.approve(), by=BOSS)
    workers = [make_app(store, ledger.path)[0] for _ in range(4)]
    ends = await asyncio.gather(*(worker.resume(run.id) for worker in workers), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["Fenced", "Fenced", "Fenced", "Run"]
    assert ledger.lines == ["refund 4711 10.0"]


async def test_one_snapshot_resumed_twice_at_once_under_one_claim_runs_the_tool_once(
    store: str, ledger: Ledger
) -> None:
    """What the SDK alone would run twice."""
    governor, run = await waiting(store, ledger)
    await governor.decide(run.approvals[0].id, Decision.approve(), by=BOSS)
    snapshot = await snapshot_of(governor, run)
    claimed = await governor.claim(run.id)
    await asyncio.gather(*(resume_with(governor, claimed, snapshot) for _ in range(3)), return_exceptions=True)
    assert ledger.lines == ["refund 4711 10.0"]


async def test_one_snapshot_resumed_twice_without_us_runs_the_tool_twice() -> None:
    """Negative control of the tests above and below."""
    model, ran = Scripted([("own_gate", {})]), []

    @function_tool(needs_approval=True, name_override="own_gate")
    def gate() -> str:
        ran.append("ran")
        return "ran"

    agent = Agent(name="A", model=model, tools=[gate])
    kept = (await Runner.run(agent, "go")).to_state().to_json()
    for _ in range(2):
        state = await RunState.from_json(agent, json.loads(json.dumps(kept)))
        state.approve(state.get_interruptions()[0])
        await Runner.run(agent, state)
    assert ran == ["ran", "ran"]


async def test_a_worker_that_lost_its_claim_runs_nothing(store: str, ledger: Ledger) -> None:
    governor, run = await waiting(store, ledger)
    await governor.decide(run.approvals[0].id, Decision.approve(), by=BOSS)
    snapshot = await snapshot_of(governor, run)
    zombie = await governor.claim(run.id)
    other, _ = make_app(store, ledger.path)
    await other.open()
    await other.loop.bridge(other.runs.change(run.id, lambda run, now: driving.tick(run, now + 1000)))
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["refund 4711 10.0"])
    with contextlib.suppress(Fenced):  # or it is answered from the record, for a loop that nobody will store
        await resume_with(governor, zombie, snapshot)
    assert ledger.lines == ["refund 4711 10.0"]


async def test_a_death_after_the_result_is_answered_from_the_record(store: str, ledger: Ledger) -> None:
    """The first worker got as far as the tool's result; the second tells the model the same and runs nothing."""
    governor, run = await waiting(store, ledger)
    await governor.decide(run.approvals[0].id, Decision.approve(), by=BOSS)
    snapshot = await snapshot_of(governor, run)
    claimed = await governor.claim(run.id)
    assert (await resume_with(governor, claimed, snapshot)).ended
    other, model = make_app(store, ledger.path)
    await other.open()
    await other.loop.bridge(other.runs.change(run.id, lambda run, now: driving.tick(run, now + 1000)))
    run = await other.resume(run.id)
    assert (run.status, ledger.lines, model.outputs) == ("completed", ["refund 4711 10.0"], ["refunded 4711 10.0"])


@pytest.mark.parametrize("patient", [True, False])
async def test_a_tool_that_ends_the_run_lets_the_tool_beside_it_finish(
    store: str, patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would cancel it, and a cancelled call is a doubt. Without our patience (the control) it is one."""
    working, failed, wait = asyncio.Event(), asyncio.Event(), Stretch.alone

    @function_tool(failure_error_function=None)
    async def breaks() -> str:
        await working.wait()
        raise RuntimeError("boom")

    @function_tool
    async def works() -> str:
        working.set()
        await failed.wait()
        for _ in range(1000):
            await asyncio.sleep(0)
        return "worked"

    async def alone(self: Stretch) -> None:
        failed.set()
        if patient:
            await wait(self)

    monkeypatch.setattr(Stretch, "alone", alone)
    governor = make_governor(store, Table(breaks=ALLOW, works=ALLOW))
    model = Scripted([("works", {}), ("breaks", {})])
    governor.agent("a")(lambda: Agent(name="A", model=model, tools=[works, breaks]))
    with pytest.raises(Exception, match="boom") if patient else contextlib.suppress(Exception):
        await governor.run("a", "go")
    [run] = await governor.list_runs()
    beside = CallState.SUCCEEDED if patient else CallState.UNKNOWN
    assert states(run) == {"breaks": CallState.FAILED, "works": beside}
    assert run.status == ("failed" if patient else "blocked")


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("behaviour", ["error_as_result", "raise_exception"])
async def test_a_tool_that_took_too_long_is_a_doubt_unless_it_only_reads(
    store: str, read_only: bool, behaviour: Any
) -> None:
    @function_tool(timeout=0.01, timeout_behavior=behaviour)
    async def slow() -> str:
        await asyncio.Event().wait()
        return "never"

    policies = PolicySet([Table(slow=ALLOW)], tools={"slow": Tool("slow", read_only=read_only)})
    governor = Governor(policies, store=store)
    model = Scripted([("slow", {})])
    governor.agent("a")(lambda: Agent(name="A", model=model, tools=[slow]))
    if read_only and behaviour == "raise_exception":
        with pytest.raises(Exception, match="timed out"):
            await governor.run("a", "go")
        return
    run = await governor.run("a", "go")
    if read_only:
        assert (run.status, model.outputs) == ("completed", ["Tool 'slow' timed out after 0.01 seconds."])
    else:
        assert (run.status, states(run)) == ("blocked", {"slow": CallState.UNKNOWN})
        assert len(model.inputs) == 1, "the model is not asked to go on with a doubt"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cancelled_run_leaves_its_tool_in_doubt(store: str, streamed: bool) -> None:
    started = asyncio.Event()

    @function_tool
    async def slow() -> str:
        started.set()
        await asyncio.Event().wait()
        return "never"

    governor = make_governor(store, Table(slow=ALLOW))
    governor.agent("a")(lambda: Agent(name="A", model=Scripted([("slow", {})]), tools=[slow]))

    async def emit(event: Any) -> None:
        return None

    run = await governor.submit("a", "go")
    claimed = await governor.claim(run.id)
    drive = governor.driver.drive(claimed, governor.prepared("a"), emit=emit if streamed else None)
    task = asyncio.create_task(drive)
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    run = await governor.get(run.id)
    assert (run.status, states(run)) == ("blocked", {"slow": CallState.UNKNOWN})


async def test_a_tool_that_cancels_itself_is_a_doubt_and_nothing_runs_after_it(store: str, ledger: Ledger) -> None:
    """The SDK makes words of it and asks the model on; the run is blocked all the same."""

    @function_tool
    async def gives_up() -> str:
        raise asyncio.CancelledError

    governor = make_governor(store, Table(gives_up=ALLOW))
    model = Scripted([("gives_up", {})], [("note", {"text": "n"})])
    governor.agent("a")(lambda: Agent(name="A", model=model, tools=[gives_up, make_tools(ledger)["note"]]))
    run = await governor.run("a", "go")
    assert (run.status, states(run), ledger.lines) == ("blocked", {"gives_up": CallState.UNKNOWN}, [])


async def test_a_doubt_inside_an_agent_tool_stops_the_outer_loop(store: str) -> None:
    """The agent tool makes words of its inner exception; the outer model must not go on with them."""

    @function_tool(timeout=0.01)
    async def slow() -> str:
        await asyncio.Event().wait()
        return "never"

    governor = make_governor(store, Table(slow=ALLOW, inner=ALLOW))
    inner = Agent(name="Inner", model=Scripted([("slow", {})]), tools=[slow])
    model = Scripted([("inner", {"input": "x"})])
    governor.agent("a")(lambda: Agent(name="A", model=model, tools=[inner.as_tool("inner", "")]))
    run = await governor.run("a", "go")
    assert (run.status, states(run)) == ("blocked", {"slow": CallState.UNKNOWN})
    assert len(model.inputs) == 1


async def test_a_stop_inside_an_agent_that_a_tool_runs_by_itself_neither_hangs_nor_is_lost(
    store: str, ledger: Ledger
) -> None:
    """The stop waits for the tools beside it, but not for the tool around it."""

    class SameId(Scripted):
        def _answer(self, input: Any) -> list[Any]:
            items = super()._answer(input)
            for item in items:
                if hasattr(item, "call_id"):
                    item.call_id = "call_0"
            return items

    governor = make_governor(store, Table(helper=ALLOW, note=ALLOW))
    inner = Agent(name="Inner", model=SameId([("note", {"text": "n"})]), tools=[make_tools(ledger)["note"]])
    govern(inner, governor)

    @function_tool
    async def helper() -> str:
        return str((await Runner.run(inner, "go")).final_output)

    model = SameId([("helper", {})])
    governor.agent("a")(lambda: Agent(name="A", model=model, tools=[helper]))
    with pytest.raises(ArgumentsError, match="two different calls"):
        await governor.run("a", "go")
    assert (ledger.lines, len(model.inputs)) == ([], 1)


@pytest.mark.parametrize("same", [False, True])
async def test_the_same_call_id_from_an_inner_agent_inherits_neither_verdict_nor_result(
    store: str, ledger: Ledger, same: bool
) -> None:
    """Some providers count their call ids from zero. Two calls cannot share one record: the run fails, nothing runs."""

    class Counting(Scripted):
        def _answer(self, input: Any) -> list[Any]:
            items = super()._answer(input)
            for item in items:
                if hasattr(item, "call_id"):
                    item.call_id = "call_0" if item.name != "billing" else "call_1"
            return items

    governor = make_governor(store, Table(note=ALLOW, refund=ASK, billing=ALLOW))
    tools = make_tools(ledger)
    inner = Counting([("note", {"text": "out"}) if same else ("refund", {"order": "1"})])
    agent = Agent(name="Billing", model=inner, tools=[tools["refund"], tools["note"]])
    outer = Counting([("note", {"text": "out"})], [("billing", {"input": "x"})])
    governor.agent("a")(lambda: Agent(name="A", model=outer, tools=[tools["note"], agent.as_tool("billing", "")]))
    with pytest.raises(ArgumentsError, match="call_0"):
        await governor.run("a", "go")
    assert ledger.lines == ["note out"]
    [run] = await governor.list_runs()
    assert run.status == "failed"
