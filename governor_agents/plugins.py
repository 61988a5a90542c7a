"""Plug-ins by name: entry points first, this package's own table when it runs from a source tree.

Instances that the user passes need none of this. A plug-in is imported when it is named, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import entry_points
from typing import Any

from governor_agents.core.channels import Handler
from governor_agents.core.ports import Adapter
from governor_agents.errors import ConfigError, MissingExtra

OWN = {
    "governor_agents.adapters": {
        "openai_agents": "governor_agents.adapters.openai_agents:OpenAIAgentsAdapter",
        "langchain": "governor_agents.adapters.langchain:LangChainAdapter",
    },
    "governor_agents.handlers": {
        "email": "governor_agents.handlers.email:EmailHandler",
        "slack": "governor_agents.handlers.slack.handler:SlackHandler",
        "terminal": "governor_agents.handlers.terminal:TerminalHandler",
        "webhook": "governor_agents.handlers.webhook:WebhookHandler",
    },
}

FRAMEWORKS = {
    "agents": "openai_agents",
    "langgraph": "langchain",
    "langchain": "langchain",
    "langchain_core": "langchain",
}
"""Top-level package of an agent's class -> adapter."""

EXTRAS = {"openai_agents": "openai-agents", "langchain": "langchain"}


def require(library: str, extra: str) -> None:
    """Raise `MissingExtra` when an optional library is not there."""
    if importlib.util.find_spec(library) is None:
        raise MissingExtra(f"{library} is not installed: pip install 'governor-agents[{extra}]'")


def names(group: str) -> tuple[str, ...]:
    """What is installed of a kind, by name."""
    return tuple(sorted({*OWN.get(group, {}), *(point.name for point in entry_points(group=group))}))


def load(group: str, name: str) -> Any:
    """What a name stands for. Raises `ConfigError` for an unknown one, `MissingExtra` without its library."""
    own = OWN.get(group, {})
    target = own.get(name)
    if target is None:
        found = {point.name: point for point in entry_points(group=group)}
        if name not in found:
            known = ", ".join(names(group)) or "none"
            raise ConfigError(f"no {group.rpartition('.')[2].rstrip('s')} is called {name!r}; known: {known}")
        return found[name].load()
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "governor_agents":
            raise
        extra = EXTRAS.get(name, name)
        raise MissingExtra(
            f"{name} needs {error.name}, which is not installed: pip install 'governor-agents[{extra}]'"
        ) from None


def adapter_name(agent: object) -> str:
    """The adapter for an agent, or for what its framework returned, by the package its class comes from.

    Raises `ConfigError` when no adapter knows it.
    """
    for base in type(agent).__mro__:
        name = FRAMEWORKS.get(base.__module__.partition(".")[0])
        if name:
            return name
    kind = f"{type(agent).__module__}.{type(agent).__qualname__}"
    raise ConfigError(f"no adapter knows {kind}; known frameworks: OpenAI Agents SDK, LangChain/LangGraph")


def make_adapter(name: str, governor: object) -> Adapter:
    """The adapter of this name, joined to a governor."""
    adapter: Adapter = load("governor_agents.adapters", name)(governor)
    return adapter


def make_handler(name: str) -> Handler:
    """The handler of this name, with its default settings."""
    handler: Handler = load("governor_agents.handlers", name)()
    return handler
