"""LangChain and LangGraph: middleware, a wrapper for single tools, and a checkpoint saver over the governor's store."""

from governor_agents.adapters.langchain.adapter import LangChainAdapter
from governor_agents.adapters.langchain.middleware import GovernorMiddleware
from governor_agents.adapters.langchain.saver import GovernorSaver
from governor_agents.adapters.langchain.tool import govern_tool

__all__ = ["GovernorMiddleware", "GovernorSaver", "LangChainAdapter", "govern_tool"]
