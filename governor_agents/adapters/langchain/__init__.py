"""LangChain and LangGraph: middleware, a wrapper for single tools, and a checkpoint saver over the governor's store.

After a crash a graph goes on from its last checkpoint, agents in tools and in nodes from theirs. A node that asks a
model and calls tools itself has no checkpoint in between: it begins anew, the model makes its calls under other ids,
and what was allowed may run again. Give the model a node of its own, as `create_agent` does.
"""

from governor_agents.plugins import require

require("langchain", "langchain")

from governor_agents.adapters.langchain.adapter import LangChainAdapter  # noqa: E402
from governor_agents.adapters.langchain.middleware import GovernorMiddleware  # noqa: E402
from governor_agents.adapters.langchain.saver import GovernorSaver  # noqa: E402
from governor_agents.adapters.langchain.tool import govern_tool  # noqa: E402

__all__ = ["GovernorMiddleware", "GovernorSaver", "LangChainAdapter", "govern_tool"]
