"""What must not happen with OpenAI agents: effects that nobody decided, effects twice, doubts where there are none."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    Runner,
    RunState,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    WebSearchTool,
    function_tool,
    handoff,
    tool_namespace,
)
from agents.tool_context import ToolContext

from governor_agents import Decision, Governor, PolicySet, Run, Tool, Verdict
from governor_agents.adapters.openai_agents import OpenAIAgentsAdapter, govern
from governor_agents.adapters.openai_agents.stretch import Stretch
from governor_agents.claims import Claim, held
from governor_agents.core import driving
from governor_agents.core.records import CallState, Lease, evolve
from governor_agents.core.records import RunState as Standing
from governor_agents.errors import (
    ApprovalPending,
    ArgumentsError,
    ConfigError,
    Fenced,
    SnapshotError,
    UngovernedTool,
)
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


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/governor.db"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def states(run: Run) -> dict[str, CallState]:
    return {call.tool: call.state for call in run.calls}


async def waiting(store: str, ledger: Ledger, *turns: Any) -> tuple[Governor, Run]:
    governor, _ = make_app(store, ledger.path, *turns)
    run = await governor.run("support", "go")
    assert run.status == "waiting"
    return governor, run


async def snapshot_of(governor: Governor, run: Run) -> bytes:
    assert run.snapshot is not None
    return await governor.loop.bridge(governor.runs.blob(run.snapshot.blob))


async def resume_with(governor: Governor, run: Run, snapshot: bytes) -> Any:
    """The adapter alone, under a claim, with a snapshot of the tester's making."""
    prepared = governor.prepared("support")
    with held(Claim.on(run)):
        return await prepared.adapter.resume(prepared.agent, snapshot, run.calls, options={})


def approve_natively(snapshot: bytes, call_id: str, agent: str = "Support", tool: str = "refund") -> bytes:
    """What somebody with write access to the store would do."""
    data = json.loads(snapshot)
    entry = {"agent": {"name": agent}, "tool_key": tool, "decision": {"approved": [call_id], "rejected": []}}
    data["context"].setdefault("function_tool_approvals", []).append(entry)
    data["context"].setdefault("approvals", {})[tool] = {"approved": [call_id], "rejected": []}
    return json.dumps(data).encode()


# -- governing -----------------------------------------------------------------------------------------------------


class Server:
    name = "files"


def hidden_handoff() -> Any:
    made = handoff(Agent(name="Hidden"))
    made._agent_ref = None
    return made


@function_tool(needs_approval=True)
def own_gate() -> str:
    """Has its own idea of approval."""
    return "ran"


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


# -- one's own loop ------------------------------------------------------------------------------------------------


def own(store: str, ledger: Ledger, *turns: Any) -> tuple[Governor, Agent[Any], Scripted]:
    governor = make_governor(store)
    model = Scripted(*(turns or ([("refund", {"order": "1"}), ("note", {"text": "n"}), ("delete", {"order": "2"})],)))
    agent = Agent(name="Support", model=model, tools=list(make_tools(ledger).values()))
    return governor, govern(agent, governor), model


async def test_ones_own_loop_becomes_durable_with_its_first_pause(store: str, ledger: Ledger) -> None:
    governor, agent, _ = own(store, ledger)
    result = await Runner.run(agent, "go")
    assert ledger.lines == ["note n"]
    run = await governor.suspend(result, conversation="c7", requester="ann@example.com")
    assert run is not None
    assert (run.status, run.agent, run.conversation, run.requester) == ("waiting", "Support", "c7", "ann@example.com")
    [approval] = run.approvals
    await governor.decide(approval.id, Decision.approve(), by=BOSS)
    await governor.close()
    other, agent, model = own(store, ledger)
    run = await other.resume(run.id, agent)
    assert (run.status, sorted(ledger.lines)) == ("completed", ["note n", "refund 1 10.0"])
    told = "Not run: denied by policy: deletes go through a ticket"
    assert sorted(model.outputs) == [told, "noted n", "refunded 1 10.0"]


async def test_a_drained_stream_can_be_suspended_and_a_running_one_not(store: str, ledger: Ledger) -> None:
    governor, agent, _ = own(store, ledger)
    streamed = Runner.run_streamed(agent, "go")
    with pytest.raises(SnapshotError, match="drain"):
        await governor.adapter("openai_agents").capture(streamed)
    async for _ in streamed.stream_events():
        pass
    run = await governor.suspend(streamed)
    assert run is not None
    assert [approval.tool for approval in run.approvals] == ["refund"]


async def test_a_result_without_a_pause_suspends_to_nothing(store: str, ledger: Ledger) -> None:
    governor, agent, _ = own(store, ledger, "hello")
    assert await governor.suspend(await Runner.run(agent, "go")) is None


async def test_a_pause_of_an_ungoverned_agent_is_not_taken_over(store: str) -> None:
    governor = make_governor(store)
    result = await Runner.run(Agent(name="A", model=Scripted([("own_gate", {})]), tools=[own_gate]), "go")
    with pytest.raises(SnapshotError, match="no such governed tool"):
        await governor.suspend(result)


async def test_a_context_that_is_no_mapping_cannot_be_suspended(store: str, ledger: Ledger) -> None:
    governor, agent, _ = own(store, ledger)
    result = await Runner.run(agent, "go", context=Ledger(ledger.path))
    with pytest.raises(SnapshotError, match="context"):
        await governor.suspend(result)


@pytest.mark.parametrize("always", [False, True])
async def test_an_approval_given_to_the_sdk_behind_our_back_runs_nothing(
    store: str, ledger: Ledger, always: bool
) -> None:
    _, agent, model = own(store, ledger)
    result = await Runner.run(agent, "go")
    state = result.to_state()
    state.approve(result.interruptions[0], always_approve=always)
    result = await Runner.run(agent, state)
    assert (result.final_output, ledger.lines) == ("done", ["note n"])
    assert "Not run: this call needs the approval of a person, and nobody was asked." in model.outputs


async def test_without_governing_the_same_approval_runs_the_tool(ledger: Ledger) -> None:
    """Negative control of the test above."""
    model = Scripted([("own_gate", {})])
    agent = Agent(name="A", model=model, tools=[own_gate])
    result = await Runner.run(agent, "go")
    state = result.to_state()
    state.approve(result.interruptions[0])
    await Runner.run(agent, state)
    assert model.outputs == ["ran"]


# -- snapshots -----------------------------------------------------------------------------------------------------


async def test_a_forged_approval_in_the_snapshot_runs_nothing(store: str, ledger: Ledger) -> None:
    governor, run = await waiting(store, ledger)
    forged = approve_natively(await snapshot_of(governor, run), run.calls[0].call_id)
    active = evolve(run, state=Standing.ACTIVE, lease=Lease("w", 1e12))
    with pytest.raises(ApprovalPending):
        await resume_with(governor, active, forged)
    assert ledger.lines == []
    state = await RunState.from_json(governor.prepared("support").agent, json.loads(forged))
    await Runner.run(governor.prepared("support").agent, state)
    assert ledger.lines == [], "nor in a loop of one's own"


async def test_a_forged_approval_does_not_undo_a_rejection(store: str, ledger: Ledger) -> None:
    governor, run = await waiting(store, ledger)
    forged = approve_natively(await snapshot_of(governor, run), run.calls[0].call_id)
    await governor.decide(run.approvals[0].id, Decision.reject("no"), by=BOSS)
    claimed = await governor.claim(run.id)
    segment = await resume_with(governor, claimed, forged)
    assert (segment.ended, ledger.lines) == (True, [])


async def test_forged_arguments_of_an_approved_call_run_nothing(store: str, ledger: Ledger) -> None:
    governor, run = await waiting(store, ledger)
    forged = (await snapshot_of(governor, run)).replace(b"4711", b"9999")
    await governor.decide(run.approvals[0].id, Decision.approve(), by=BOSS)
    claimed = await governor.claim(run.id)
    with pytest.raises((ArgumentsError, SnapshotError)):
        await resume_with(governor, claimed, forged)
    assert ledger.lines == []


async def test_forged_arguments_that_the_sdk_would_take_meet_the_guard(store: str, ledger: Ledger) -> None:
    """With the SDK's own fingerprints removed it would run them; the record knows what was approved."""
    governor, run = await waiting(store, ledger)
    data = json.loads((await snapshot_of(governor, run)).replace(b"4711", b"9999"))
    data["context"]["tool_invocations"] = {}
    forged = approve_natively(json.dumps(data).encode(), run.calls[0].call_id)
    await governor.decide(run.approvals[0].id, Decision.approve(), by=BOSS)
    claimed = await governor.claim(run.id)
    with pytest.raises((ArgumentsError, SnapshotError)):
        await resume_with(governor, claimed, forged)
    assert ledger.lines == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"no json",
        lambda data: json.dumps({**json.loads(data), "$schemaVersion": "99.0"}).encode(),
        lambda data: data.replace(b'"Support"', b'"Renamed"'),
        lambda data: json.dumps({**json.loads(data), "context": 7}).encode(),
    ],
)
async def test_a_snapshot_that_does_not_fit_is_one_clear_error_before_anything_runs(
    store: str, ledger: Ledger, change: Any
) -> None:
    turn = [("refund", {"order": "4711"}), ("wire", {"to": "bob"})]
    governor, run = await waiting(store, ledger, turn)
    broken = change(await snapshot_of(governor, run))
    for approval in run.approvals:
        await governor.decide(approval.id, Decision.approve(), by=BOSS)
    claimed = await governor.claim(run.id)
    with pytest.raises(SnapshotError) as refused:
        await resume_with(governor, claimed, broken)
    assert "\n" not in str(refused.value)
    assert ledger.lines == []


async def test_a_tool_that_is_gone_blocks_the_run_and_it_goes_on_when_the_tool_is_back(
    store: str, ledger: Ledger
) -> None:
    turn = [("refund", {"order": "4711"}), ("wire", {"to": "bob"})]
    governor, run = await waiting(store, ledger, turn)
    for approval in run.approvals:
        await governor.decide(approval.id, Decision.approve(), by=BOSS)
    other, _ = make_app(store, ledger.path, turn)
    factory = other.agents["support"]
    other.agents["support"] = lambda: (agent := factory(), setattr(agent, "tools", agent.tools[:1]))[0]
    run = await other.resume(run.id)
    assert (run.status, run.blocked, ledger.lines) == ("blocked", "snapshot", [])


async def test_a_changed_schema_withdraws_the_approval(store: str, ledger: Ledger) -> None:
    governor, run = await waiting(store, ledger)
    await governor.decide(run.approvals[0].id, Decision.approve(), by=BOSS)
    other = make_governor(store)
    model = Scripted([("refund", {"order": "4711"})])

    @function_tool
    def refund(order: str, amount: int = 1, currency: str = "EUR") -> str:
        ledger.write("new refund")
        return "ran"

    other.agent("support")(lambda: Agent(name="Support", model=model, tools=[refund]))
    run = await other.resume(run.id)
    assert (run.status, ledger.lines, states(run)) == ("completed", [], {"refund": CallState.SUPERSEDED})


# -- once ----------------------------------------------------------------------------------------------------------


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


async def test_one_snapshot_resumed_twice_without_us_runs_the_tool_twice(ledger: Ledger) -> None:
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
    store: str, ledger: Ledger, patient: bool, monkeypatch: pytest.MonkeyPatch
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


async def test_an_approval_for_every_call_given_to_the_sdk_is_none_under_a_claim(store: str, ledger: Ledger) -> None:
    """It came with the pause of a loop of one's own; the SDK then asks our policy no more, the guard still does."""
    turns = [[("refund", {"order": "1"})], [("wire", {"to": "bob"})], [("refund", {"order": "2"})]]
    governor, agent, model = own(store, ledger, *turns)
    result = await Runner.run(agent, "go")
    state = result.to_state()
    state.approve(result.interruptions[0], always_approve=True)
    run = await governor.suspend(await Runner.run(agent, state))
    assert run is not None
    assert [approval.tool for approval in run.approvals] == ["wire"]
    await governor.decide(run.approvals[0].id, Decision.approve(), by=BOSS)
    run = await governor.resume(run.id, agent)
    assert (run.status, ledger.lines) == ("completed", ["wire bob"])
    unasked = "Not run: this call needs the approval of a person, and nobody was asked."
    assert model.outputs == [unasked, "wired bob", unasked]


async def test_a_policy_that_raises_asks_or_denies_and_never_ends_the_users_loop(store: str, ledger: Ledger) -> None:
    class Broken:
        def evaluate(self, call: Any, tool: Any) -> Verdict | None:
            raise RuntimeError("policy bug")

    governor = make_governor(store, Broken())
    agent = Agent(name="A", model=Scripted([("note", {"text": "n"})]), tools=[make_tools(ledger)["note"]])
    await Runner.run(govern(agent, governor), "go")
    assert ledger.lines == []
