"""What is declared of tools, by name or glob."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from governor_agents.core.calls import Tool
from governor_agents.errors import ConfigError
from governor_agents.policies.values import choice, is_glob, matcher, seconds, text

RISKS = ("low", "normal", "high")

MAX_CACHED = 1_024
"""Tool names that are remembered; names come from models, so there may be any number."""


def check(tool: Tool) -> Tool:
    """The tool. Raises `ConfigError` when its annotations are none that are known."""
    try:
        choice(tool.retry, ("none", "idempotent", "reconcilable"))
    except ConfigError as error:
        raise ConfigError(f"tool {tool.name!r}: retry {error}") from None
    try:
        choice(tool.risk, RISKS)
    except ConfigError as error:
        raise ConfigError(f"tool {tool.name!r}: risk {error}") from None
    operands: object = tool.operands
    if not isinstance(operands, tuple) or not all(isinstance(name, str) and name for name in operands):
        raise ConfigError(f"tool {tool.name!r}: operands must be a tuple of names of arguments, not {operands!r}")
    for setting in (tool.idempotency_ttl, tool.in_flight):
        seconds(setting)
    return tool


class Tools:
    """Looks tools up: an exact name before a glob, globs in their order. One entry holds, nothing is inherited."""

    def __init__(self, declared: Mapping[str, Tool]) -> None:
        self.declared = dict(declared)
        for name, tool in self.declared.items():
            text(name, "the name of a tool")
            if not isinstance(tool, Tool):
                raise ConfigError(f"tool {name!r} must be a Tool, not {type(tool).__name__}")
            check(tool)
        self._globs = [(matcher([name]), tool) for name, tool in self.declared.items() if is_glob(name)]
        self._cache: dict[str, Tool] = {}

    def get(self, name: str) -> Tool:
        """The tool under this name; one that is not ``known`` when nothing is declared of it."""
        found = self._cache.get(name)
        if found is None:
            found = self._find(name)
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[name] = found
        return found

    def _find(self, name: str) -> Tool:
        declared = self.declared.get(name) or next((tool for fits, tool in self._globs if fits(name)), None)
        return replace(declared, name=name) if declared is not None else Tool(name, known=False)
