"""Governing an agent in place: every function tool that it and the agents behind it can reach."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from agents import Agent, FunctionTool, Model

from governor_agents.adapters.openai_agents.graph import out_of_reach, reachable
from governor_agents.adapters.openai_agents.invocation import GovernedTool
from governor_agents.adapters.openai_agents.models import recorded
from governor_agents.errors import ConfigError, UngovernedTool

if TYPE_CHECKING:
    from governor_agents.governor import Governor

_lenient: weakref.WeakValueDictionary[int, Agent[Any]] = weakref.WeakValueDictionary()
"""Agents whose owner said that some of their tools stay ungoverned."""


def govern(agent: Agent[Any], governor: Governor, *, allow_ungoverned: bool = False) -> Agent[Any]:
    """Put an agent, its agent tools and its handoff targets under the governor's policies; the same agent.

    Works on the agents themselves, not on copies: a handoff holds on to the agent it was made with. Do it once, before
    the first run; again changes nothing. In front of an agent's model object stands one that records its answers in
    durable runs. Raises `UngovernedTool` when something runs past the policies: hosted tools, MCP servers, shell,
    computer and patch tools; ``allow_ungoverned`` lets them pass, ungoverned. Raises `ConfigError` for an agent that
    another governor holds.
    """
    if not isinstance(agent, Agent):
        raise ConfigError(f"not an agent of the OpenAI Agents SDK: {type(agent).__name__}")
    everyone = reachable(agent)
    for member in everyone:
        if allow_ungoverned:
            _lenient[id(member)] = member
    refuse_ungoverned(everyone, wrapped=False)
    for member in everyone:
        tools = [_governed(tool, member.name, governor) for tool in member.tools]
        if any(new is not old for new, old in zip(tools, member.tools, strict=True)):
            member.tools = tools
        if isinstance(member.model, Model):
            member.model = recorded(member.model)
    return agent


def governed_tool(tool: object) -> GovernedTool | None:
    """What stands in for this tool, None when it is not governed."""
    owner = getattr(getattr(tool, "on_invoke_tool", None), "__self__", None)
    return owner if isinstance(owner, GovernedTool) else None


def _is_governed(tool: object) -> bool:
    return governed_tool(tool) is not None


def _governed(tool: Any, agent: str, governor: Governor) -> Any:
    if not isinstance(tool, FunctionTool):
        return tool
    known = governed_tool(tool)
    if known is None:
        return GovernedTool(governor, tool, agent).governed()
    if known.governor is not governor:
        raise ConfigError(f"{known.name} of agent {agent!r} is governed by another Governor; build a fresh agent")
    return tool if known.agent == agent else GovernedTool(governor, known.tool, agent).governed()


def refuse_ungoverned(everyone: list[Agent[Any]], *, wrapped: bool = True) -> None:
    """Raise `UngovernedTool` for whatever runs past the policies; with ``wrapped``, for tools added since as well."""
    for agent in everyone:
        lines = [] if _lenient.get(id(agent)) is agent else out_of_reach(agent, _is_governed)
        if wrapped:
            loose = [tool.name for tool in agent.tools if isinstance(tool, FunctionTool) and not governed_tool(tool)]
            lines += [f"{name} was added after the agent was governed; add it before" for name in loose]
        if lines:
            mend = "; or accept it with govern(agent, governor, allow_ungoverned=True)"
            raise UngovernedTool(f"agent {agent.name!r} would run past the policies: {'; '.join(lines)}{mend}")
