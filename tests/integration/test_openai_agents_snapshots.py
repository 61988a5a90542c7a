"""Snapshots of OpenAI agents that were changed, or that no longer fit."""

import json
from typing import Any

import pytest
from agents import (
    Agent,
    Runner,
    RunState,
    function_tool,
)

from governor_agents import Decision
from governor_agents.core.records import CallState, Lease, evolve
from governor_agents.core.records import RunState as Standing
from governor_agents.errors import (
    ApprovalPending,
    ArgumentsError,
    SnapshotError,
)
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import (
    BOSS,
    Scripted,
    approve_natively,
    make_app,
    make_governor,
    resume_with,
    snapshot_of,
    states,
    waiting,
)

pytestmark = pytest.mark.anyio


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


async def test_a_tool_that_is_gone_blocks_the_run_before_anything_runs(store: str, ledger: Ledger) -> None:
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
