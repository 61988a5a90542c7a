"""RunState as bytes and back, and the decisions of people put into it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents import Agent, RunResult, RunResultStreaming, RunState
from agents.exceptions import AgentsException, UserError
from agents.items import ToolApprovalItem

from governor_agents.adapters.openai_agents import outputs
from governor_agents.adapters.openai_agents.governing import governed_tool
from governor_agents.adapters.openai_agents.invocation import frozen
from governor_agents.core.calls import ToolCall, freeze
from governor_agents.core.records import Call, CallState
from governor_agents.errors import ArgumentsError, SnapshotError

Result = RunResult | RunResultStreaming
State = RunState[Any, Agent[Any]]

NOT_TO_RUN = frozenset(
    {CallState.REJECTED, CallState.EXPIRED, CallState.CANCELLED, CallState.SUPERSEDED, CallState.DENIED}
)
"""Calls that the SDK itself can answer, with words and without the tool."""


def pack(result: Result) -> bytes:
    """The paused result as bytes. Raises `SnapshotError` when something of it has no plain JSON form."""
    try:
        data = result.to_state().to_json(strict_context=True)
        freeze(data["context"]["context"])
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    except (UserError, ArgumentsError, TypeError, ValueError) as error:
        raise SnapshotError(f"the pause cannot be stored; keep the run's context plain JSON: {_line(error)}") from error
    return text.encode()


async def unpack(agent: Agent[Any], snapshot: bytes) -> tuple[State, frozenset[str]]:
    """The state for this agent, and the call ids of agent tools whose inner agent is paused in it.

    Raises `SnapshotError` when the SDK cannot read it, or the agent is no longer the one that paused.
    """
    try:
        data = json.loads(snapshot.decode())
        begun = frozenset(_begun(data))
        state = await RunState.from_json(agent, data, strict_context=True)
        for item in state.get_interruptions():
            tool_call(item)
    except SnapshotError:
        raise
    except Exception as error:
        raise SnapshotError(f"the snapshot cannot be resumed by agent {agent.name!r}: {_line(error)}") from error
    return state, begun


def _begun(data: Any) -> Iterator[str]:
    response = data.get("last_processed_response") if isinstance(data, dict) else None
    for action in (response or {}).get("functions", ()):
        if nested := action.get("agent_run_state"):
            yield str(action["tool_call"]["call_id"])
            yield from _begun(nested)


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def tool_call(item: ToolApprovalItem) -> ToolCall | None:
    """The call that an interruption stands for; None when its arguments are not plain JSON, so that nobody is asked.

    Raises `SnapshotError` when no governed tool is behind it.
    """
    tools = [known for tool in item.agent.tools if (known := governed_tool(tool)) is not None]
    known = next((tool for tool in tools if tool.name == item.qualified_name), None)
    if known is None:
        raise SnapshotError(f"{item.qualified_name} waits, but agent {item.agent.name!r} has no such governed tool")
    try:
        return known.call(frozen(item.arguments), item.call_id or "")
    except ArgumentsError:
        return None


def decide(state: State, decided: Mapping[str, Call]) -> None:
    """Tell the SDK what the record says of each interruption. Approved is whatever the guard is to look at."""
    try:
        for item in state.get_interruptions():
            call = decided.get(item.call_id or "")
            if call is None or call.state is CallState.PENDING:
                continue
            if call.state in NOT_TO_RUN:
                state.reject(item, rejection_message=outputs.words(call.state, call.told))
                continue
            state.approve(item)
            if call.edited and call.state is not CallState.ANSWERED:
                _note(state, item, call)
    except AgentsException as error:
        raise SnapshotError(f"the decisions do not fit the snapshot: {_line(error)}") from error


def _note(state: State, item: ToolApprovalItem, call: Call) -> None:
    """Before its next turn, tell the model that its arguments were changed, so that it does not repeat the original."""
    find = getattr(state, "_find_nested_approval_state", lambda item: None)
    nested = find(item)
    owner: State = nested[0] if nested else state
    text = (
        f"[approval] A person changed the arguments of {call.tool} (call {call.call_id}) before it ran. "
        f"It ran with {call.args.decode()}; do not repeat the original call."
    )
    try:
        owner.add_input(text)
    except UserError:
        return  # the tool's result ends the run, or no turn is left: no model call will come


def waiting(items: Sequence[ToolApprovalItem], decided: Mapping[str, Call]) -> list[ToolApprovalItem]:
    """The interruptions that are still open in the record, or that it does not know."""
    states = {call_id: call.state for call_id, call in decided.items()}
    return [item for item in items if states.get(item.call_id or "", CallState.PENDING) is CallState.PENDING]
