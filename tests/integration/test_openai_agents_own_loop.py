"""One's own `Runner.run`: policies hold there too, and a pause becomes a durable run."""

import pytest
from agents import (
    Agent,
    Runner,
)

from governor_agents import Decision
from governor_agents.errors import (
    SnapshotError,
)
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import BOSS, Scripted, make_governor, own, own_gate

pytestmark = pytest.mark.anyio


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


async def test_without_governing_the_same_approval_runs_the_tool() -> None:
    """Negative control of the test above."""
    model = Scripted([("own_gate", {})])
    agent = Agent(name="A", model=model, tools=[own_gate])
    result = await Runner.run(agent, "go")
    state = result.to_state()
    state.approve(result.interruptions[0])
    await Runner.run(agent, state)
    assert model.outputs == ["ran"]


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
