"""Policies written in Python, held so that whatever they do, the call is not let through by it."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.verdicts import STRICTNESS, Policy, PolicyCallable, Stage, Verdict
from governor_agents.errors import ConfigError
from governor_agents.policies.asks import READ_TERM, Draft, draft, stage
from governor_agents.policies.conditions import Facts

_PLAIN = Verdict("require_approval")

log = logging.getLogger(__name__)


def _name(policy: object) -> str:
    named = getattr(policy, "name", None)
    if isinstance(named, str) and named:
        return named
    while isinstance(policy, functools.partial):
        policy = policy.func
    owner = policy if hasattr(policy, "__qualname__") else type(policy)
    return f"{getattr(owner, '__module__', None) or 'python'}.{getattr(owner, '__qualname__', '')}"


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _checked(said: object) -> Verdict:
    """The verdict, when it is one whose every field makes sense. Raises `ConfigError` or `TypeError`."""
    if not isinstance(said, Verdict):
        raise TypeError(f"a policy answers with a Verdict or None, not with a {type(said).__name__}")
    texts: tuple[object, ...] = (said.policy, said.version, said.code, said.reason)
    if said.outcome not in STRICTNESS:
        raise TypeError(f"unknown outcome {said.outcome!r}")
    if not all(isinstance(word, str) for word in texts):
        raise TypeError("policy, version, code and reason are texts")
    if said.outcome == "require_approval":
        _check_demand(said)
    return said


def _check_demand(said: Verdict) -> None:
    unset = said.unset if isinstance(said, Draft) else frozenset[str]()
    for name, read in READ_TERM.items():
        if name not in unset and getattr(said, name) != getattr(_PLAIN, name):
            read(getattr(said, name))
    stages: object = said.stages
    if not isinstance(stages, tuple) or not all(isinstance(item, Stage) for item in stages):
        raise TypeError("stages are a tuple of Stage")
    for item in said.stages:
        stage(item.people or item.names, item.quorum, item.within, item.when)


def _without_tool(policy: Any) -> Callable[[ToolCall, Tool], object]:
    return lambda call, tool: policy(call)


class PythonPolicy:
    """A `Policy` object or a plain callable, with a name. Raises `ConfigError` for what can be neither."""

    def __init__(self, policy: Policy | PolicyCallable) -> None:
        self.name = _name(policy)
        version = getattr(policy, "version", "")
        self.version = version if isinstance(version, str) else ""
        if inspect.isclass(policy):
            raise ConfigError(f"policy {self.name} is a class; pass an instance of it")
        evaluate: Any = getattr(policy, "evaluate", None)
        if not callable(evaluate) and not callable(policy):
            raise ConfigError(f"{policy!r} is no policy: it has no method evaluate(call, tool) and cannot be called")
        if _is_async(evaluate if callable(evaluate) else policy):
            raise ConfigError(f"policy {self.name} is asynchronous; policies are plain functions that do no I/O")
        self._ask: Callable[[ToolCall, Tool], object] = evaluate if callable(evaluate) else _without_tool(policy)

    def opinions(self, facts: Facts) -> Sequence[Verdict]:
        """What it says: nothing when it abstains, a demand with the code ``policy_error`` when it fails."""
        said: object = None
        try:
            said = self._ask(facts.call, facts.tool)
            if said is None:
                return ()
            verdict = _checked(said)
            return (replace(verdict, policy=verdict.policy or self.name, version=verdict.version or self.version),)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            if inspect.iscoroutine(said):
                said.close()
            # The message may hold what the policy looked at, so it goes to the log and not to the model.
            log.warning("policy %s failed", self.name, exc_info=True)
            why = f"policy {self.name} failed ({type(error).__name__})"
            return (draft({}, policy=self.name, version=self.version, code="policy_error", reason=why),)
