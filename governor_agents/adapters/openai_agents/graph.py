"""What an agent can reach: other agents, their tools, and what no policy could hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from agents import Agent, FunctionTool, Handoff, ToolSearchTool

from governor_agents import schemas
from governor_agents.core.calls import freeze, sha256
from governor_agents.errors import ArgumentsError


def schema_sha256(tool: FunctionTool) -> str:
    """The hash of a tool's parameters, as approvals are bound to it."""
    try:
        return schemas.note(freeze(tool.params_json_schema))
    except ArgumentsError:  # a schema written by hand may hold tuples and the like
        return sha256(json.dumps(tool.params_json_schema, sort_keys=True, default=str).encode())


def is_composite(tool: object) -> bool:
    """True for an agent used as a tool."""
    return bool(getattr(tool, "_is_agent_tool", False))


def inner_agent(tool: object) -> Agent[Any] | None:
    """The agent behind an agent used as a tool."""
    agent = getattr(tool, "_agent_instance", None)
    return agent if isinstance(agent, Agent) else None


def handoff_target(handoff: Agent[Any] | Handoff[Any, Any]) -> Agent[Any] | None:
    """The agent a handoff leads to; None when it builds its target only when it is called."""
    if isinstance(handoff, Agent):
        return handoff
    reference = getattr(handoff, "_agent_ref", None)
    target = reference() if callable(reference) else None
    return target if isinstance(target, Agent) else None


def reachable(root: Agent[Any]) -> list[Agent[Any]]:
    """The root agent and every agent it can reach by handoffs and agent tools, each once, nearest first."""
    found: list[Agent[Any]] = []
    waiting = [root]
    while waiting:
        agent = waiting.pop(0)
        if any(agent is other for other in found):
            continue
        found.append(agent)
        waiting += [target for handoff in agent.handoffs if (target := handoff_target(handoff)) is not None]
        waiting += [inner for tool in agent.tools if is_composite(tool) and (inner := inner_agent(tool)) is not None]
    return found


def out_of_reach(agent: Agent[Any], governed: Callable[[object], bool]) -> list[str]:
    """What this agent could do that no policy would see, one line each with the mend."""
    lines = []
    for tool in agent.tools:
        name = getattr(tool, "name", type(tool).__name__)
        if isinstance(tool, ToolSearchTool):
            continue  # loads definitions of tools, runs nothing
        if not isinstance(tool, FunctionTool):
            kind = type(tool).__name__
            lines.append(f"{name} ({kind}) does not run through a function; wrap what it does in a function tool")
        elif is_composite(tool) and inner_agent(tool) is None:
            lines.append(f"{name} hides the agent that it runs; build it with agent.as_tool()")
        elif tool.needs_approval is not False and not governed(tool):
            lines.append(f"{name} has a needs_approval of its own; say it in a policy and remove it")
    for server in agent.mcp_servers:
        lines.append(f"MCP server {server.name} decides without arguments; offer its tools as function tools")
    for handoff in agent.handoffs:
        if handoff_target(handoff) is None:
            name = getattr(handoff, "agent_name", type(handoff).__name__)
            lines.append(f"the handoff to {name} hides its agent; build it with handoff(agent)")
    if getattr(agent, "capabilities", None):
        lines.append("its sandbox capabilities add tools while it runs; remove them")
    return lines


def outline(root: Agent[Any]) -> list[Any]:
    """What must be the same when a snapshot is resumed, as plain JSON: agents, tools with schemas, handoffs."""
    lines: list[Any] = []
    for agent in reachable(root):
        tools = [
            [tool.qualified_name, schema_sha256(tool)] if isinstance(tool, FunctionTool) else [tool.name, ""]
            for tool in agent.tools
        ]
        targets = [target.name if (target := handoff_target(item)) else "" for item in agent.handoffs]
        lines.append([agent.name, sorted(tools), sorted(targets)])
    return lines
