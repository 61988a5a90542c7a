"""LangChain and LangGraph: middleware, a wrapper for single tools, and a checkpoint saver over the governor's store."""

from governor_agents.plugins import require

require("langchain", "langchain")

from governor_agents.adapters.langchain.adapter import LangChainAdapter  # noqa: E402
from governor_agents.adapters.langchain.middleware import GovernorMiddleware  # noqa: E402
from governor_agents.adapters.langchain.saver import GovernorSaver  # noqa: E402
from governor_agents.adapters.langchain.tool import govern_tool  # noqa: E402

__all__ = ["GovernorMiddleware", "GovernorSaver", "LangChainAdapter", "govern_tool"]
