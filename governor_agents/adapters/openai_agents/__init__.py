"""OpenAI Agents SDK: its agents under policies, its pauses as durable runs.

The adapter stands in the SDK's own places: ``needs_approval`` asks the policies, the tool's invoker hands the call to
the guard, `RunState` is the snapshot. It leaves alone what the SDK decides by itself: hosted tools, MCP servers, shell,
computer and patch tools (an agent that has them is refused), handoffs (the target's tools are governed), the model's
own retries, sessions and hooks. What the SDK says of an approval only wakes a call up; the record says whether it runs.

In a durable run, what models answer is recorded before their tools run and given back when the worker died: models of
the agents, of the run's configuration and of its provider. Not recorded is the model of a configuration that an agent
tool has for itself; a stretch that asked it and died is parked. See `sessions` for what becomes of a session.

`call.agent` in a policy is the name of the agent that makes the call, which inside an agent used as a tool, or after a
handoff, is not the root agent.
"""

from __future__ import annotations

from governor_agents.plugins import require

require("agents", "openai-agents")

from governor_agents.adapters.openai_agents.adapter import OpenAIAgentsAdapter  # noqa: E402
from governor_agents.adapters.openai_agents.governing import govern  # noqa: E402

__all__ = ["OpenAIAgentsAdapter", "govern"]
