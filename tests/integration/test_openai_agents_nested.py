"""Agents behind agents: as tools and behind handoffs. Their calls are governed where they are made."""

from typing import Any

import pytest
from agents import Agent, handoff

from governor_agents import Decision, Governor, Verdict
from governor_agents.core.records import CallState
from governor_agents.core.verdicts import Stage
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import (
    ALLOW,
    ASK,
    DENY,
    Scripted,
    Table,
    decide,
    make_governor,
    make_tools,
)

pytestmark = pytest.mark.anyio

INNER = [[("note", {"text": "in"}), ("refund", {"order": "1"})], "inner done"]
OUTER = [[("billing", {"input": "refund 1"})]]


def nested(
    store: str, ledger: Ledger, *, billing: Verdict = ALLOW, outer: Any = OUTER, **verdicts: Verdict
) -> tuple[Governor, Scripted, Scripted]:
    """``Desk`` uses ``Billing`` as a tool; ``Billing`` writes a note and refunds."""
    table = Table(**{"billing": billing, "note": ALLOW, "refund": ASK, "fail": ALLOW, **verdicts})
    governor = make_governor(store, table)
    inside, outside = Scripted(*INNER), Scripted(*outer)

    @governor.agent("desk")
    def desk() -> Agent[Any]:
        tools = make_tools(ledger)
        inner = Agent(name="Billing", model=inside, tools=[tools["note"], tools["refund"]])
        tool = inner.as_tool("billing", "Does billing.")
        return Agent(name="Desk", model=outside, tools=[tool, tools["wire"], tools["note"]])

    return governor, outside, inside


async def test_an_inner_call_pauses_the_whole_run_and_goes_on_in_a_new_process_object(
    store: str, ledger: Ledger
) -> None:
    governor, _, _ = nested(store, ledger)
    run = await governor.run("desk", "go")
    [approval] = run.approvals
    assert (run.status, approval.tool, approval.call.agent) == ("waiting", "refund", "Billing")
    assert ledger.lines == ["note in"]
    await decide(governor, run, Decision.approve())
    other, outside, inside = nested(store, ledger)
    run = await other.resume(run.id)
    assert (run.status, run.output) == ("completed", "done")
    assert ledger.lines == ["note in", "refund 1 10.0"]
    assert (outside.outputs, inside.outputs) == (["inner done"], ["noted in", "refunded 1 10.0"])
    kept = {call.tool: call.state for call in await other.calls(run.id)}
    assert kept == {"note": CallState.SUCCEEDED, "refund": CallState.SUCCEEDED}, (
        "the agent tool itself is not journalled"
    )


async def test_an_inner_rejection_is_told_to_the_inner_model(store: str, ledger: Ledger) -> None:
    governor, _, _ = nested(store, ledger)
    run = await governor.run("desk", "go")
    await decide(governor, run, Decision.reject("too much"))
    other, _, inside = nested(store, ledger)
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["note in"])
    assert inside.outputs == ["noted in", "Not run: a person rejected this call: too much"]


async def test_an_inner_edit_is_noted_to_the_inner_model(store: str, ledger: Ledger) -> None:
    governor, _, _ = nested(store, ledger)
    run = await governor.run("desk", "go")
    await decide(governor, run, Decision.edit({"order": "1", "amount": 2.0}))
    other, outside, inside = nested(store, ledger)
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["note in", "refund 1 2.0"])
    assert len(inside.notes) == 1
    assert outside.notes == []


async def test_an_asked_agent_tool_starts_after_its_approval_and_its_record_follows_when_it_is_done(
    store: str, ledger: Ledger
) -> None:
    """Two pauses: first for the agent tool, then for the call inside it."""
    governor, _, inside = nested(store, ledger, billing=ASK)
    run = await governor.run("desk", "go")
    assert [approval.tool for approval in run.approvals] == ["billing"]
    assert (ledger.lines, inside.inputs) == ([], [])
    await decide(governor, run, Decision.approve())
    second, _, _ = nested(store, ledger, billing=ASK)
    run = await second.resume(run.id)
    assert (run.status, [approval.tool for approval in run.approvals]) == ("waiting", ["refund"])
    assert [call.state for call in run.calls if call.tool == "billing"] == [CallState.APPROVED]
    await decide(second, run, Decision.approve())
    third, outside, _ = nested(store, ledger, billing=ASK)
    run = await third.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["note in", "refund 1 10.0"])
    assert outside.outputs == ["inner done"]
    kept = {call.tool: call.state for call in await third.calls(run.id)}
    assert set(kept.values()) == {CallState.SUCCEEDED}


async def test_an_edited_agent_tool_starts_with_the_edited_input(store: str, ledger: Ledger) -> None:
    governor, _, _ = nested(store, ledger, billing=ASK)
    run = await governor.run("desk", "go")
    await decide(governor, run, Decision.edit({"input": "refund 2"}))
    other, _, inside = nested(store, ledger, billing=ASK)
    run = await other.resume(run.id)
    assert run.status == "waiting"
    assert inside.inputs[0][0]["content"] == "refund 2"


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        (Decision.reject("no"), "Not run: a person rejected this call: no"),
        (Decision.respond("done by hand"), "done by hand"),
    ],
)
async def test_an_agent_tool_that_is_not_to_run_does_not_start(
    store: str, ledger: Ledger, decision: Decision, told: str
) -> None:
    governor, _, _ = nested(store, ledger, billing=ASK)
    run = await governor.run("desk", "go")
    await decide(governor, run, decision)
    other, outside, inside = nested(store, ledger, billing=ASK)
    run = await other.resume(run.id)
    assert (run.status, outside.outputs, inside.inputs, ledger.lines) == ("completed", [told], [], [])


async def test_a_denied_agent_tool_does_not_start(store: str, ledger: Ledger) -> None:
    governor, outside, inside = nested(store, ledger, billing=DENY)
    run = await governor.run("desk", "go")
    assert (run.status, inside.inputs, ledger.lines) == ("completed", [], [])
    assert outside.outputs == ["Not run: denied by policy: deletes go through a ticket"]
    assert [call.state for call in run.calls] == [CallState.DENIED]


async def test_a_policy_that_turns_against_a_begun_agent_tool_leaves_it_its_inner_decisions(
    store: str, ledger: Ledger
) -> None:
    """It was allowed when it began; its own calls are governed one by one, so it may go on."""
    governor, _, _ = nested(store, ledger)
    run = await governor.run("desk", "go")
    await decide(governor, run, Decision.approve())
    other, outside, _ = nested(store, ledger, billing=ASK)
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["note in", "refund 1 10.0"])
    assert outside.outputs == ["inner done"]


async def test_an_asked_call_beside_a_paused_agent_tool(store: str, ledger: Ledger) -> None:
    outer = [[("wire", {"to": "bob"}), ("billing", {"input": "x"})]]
    governor, _, _ = nested(store, ledger, outer=outer, wire=ASK)
    run = await governor.run("desk", "go")
    assert sorted((approval.tool, approval.call.agent) for approval in run.approvals) == [
        ("refund", "Billing"),
        ("wire", "Desk"),
    ]
    run = await decide(governor, run, Decision.approve(), Decision.approve())
    other, outside, _ = nested(store, ledger, outer=outer, wire=ASK)
    run = await other.resume(run.id)
    assert (run.status, sorted(ledger.lines)) == ("completed", ["note in", "refund 1 10.0", "wire bob"])
    assert sorted(outside.outputs) == ["inner done", "wired bob"]


async def test_a_new_demand_inside_an_agent_tool_stops_the_whole_run(store: str, ledger: Ledger) -> None:
    """The agent tool makes words of its inner exception; the outer model must not go on with them."""
    governor, _, _ = nested(store, ledger)
    run = await governor.run("desk", "go")
    await decide(governor, run, Decision.approve())
    stricter = Verdict("require_approval", stages=(Stage(("cfo",), ("cfo@example.com",)),))
    other, outside, inside = nested(store, ledger, refund=stricter)
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("waiting", ["note in"])
    assert (outside.inputs, inside.inputs) == ([], [])


@pytest.mark.parametrize("explicit", [True, False])
async def test_a_handoff_target_is_governed(store: str, ledger: Ledger, explicit: bool) -> None:
    def app() -> tuple[Governor, Scripted]:
        governor = make_governor(store)
        # The history that the payer sees holds the call that handed over to it.
        payer = Scripted([("transfer_to_payer", {})], [("refund", {"order": "1"})])

        @governor.agent("front")
        def front() -> Agent[Any]:
            target = Agent(name="Payer", model=payer, tools=[make_tools(ledger)["refund"]])
            start = Agent(
                name="Front",
                model=Scripted([("transfer_to_payer", {})]),
                handoffs=[handoff(target) if explicit else target],
            )
            target.handoffs = [start]  # a circle
            return start

        return governor, payer

    governor, _ = app()
    run = await governor.run("front", "go")
    [approval] = run.approvals
    assert (run.status, approval.tool, approval.call.agent, ledger.lines) == ("waiting", "refund", "Payer", [])
    await decide(governor, run, Decision.approve())
    other, payer = app()
    run = await other.resume(run.id)
    assert (run.status, ledger.lines) == ("completed", ["refund 1 10.0"])
    assert payer.outputs[-1] == "refunded 1 10.0"


async def test_one_tool_object_of_two_agents_is_governed_for_each(store: str, ledger: Ledger) -> None:
    table = Table(note=ALLOW, billing=ALLOW)
    governor = make_governor(store, table)
    tool = make_tools(ledger)["note"]
    shared = [tool]
    inner = Agent(name="Billing", model=Scripted([("note", {"text": "in"})]), tools=shared)
    outer = Agent(
        name="Desk",
        model=Scripted([("note", {"text": "out"})], [("billing", {"input": "x"})]),
        tools=[*shared, inner.as_tool("billing", "Does billing.")],
    )
    governor.agent("desk")(lambda: outer)
    run = await governor.run("desk", "go")
    assert (run.status, ledger.lines) == ("completed", ["note out", "note in"])
    assert {call.agent for call in table.seen if call.tool == "note"} == {"Desk", "Billing"}
    assert shared == [tool], "the user's own list is left alone"
