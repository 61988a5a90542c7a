"""The functions that one governor knows, by name, so that a worker finds them."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import inspect
import weakref
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from governor_agents.adapters.functions.arguments import Parameters
from governor_agents.adapters.functions.governed import Governed, GovernedAsync, Pending
from governor_agents.core.calls import Retry, Risk, Tool
from governor_agents.core.records import Run, evolve
from governor_agents.errors import ConfigError, StoreError
from governor_agents.policies import PolicySet, Rule
from governor_agents.policies.tools import check
from governor_agents.policies.values import seconds
from governor_agents.probes import Probe

if TYPE_CHECKING:
    from governor_agents.governor import Governor


class Functions:
    """The register of governed functions of one governor."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self._known: dict[str, Governed] = {}
        self._kept: weakref.WeakValueDictionary[str, Pending] = weakref.WeakValueDictionary()

    def govern(
        self,
        *,
        name: str = "",
        requester: str = "",
        read_only: bool = False,
        effect: str = "",
        retry: Retry = "none",
        operands: Sequence[str] = (),
        idempotency_ttl: float | str | None = None,
        in_flight: float | str | None = None,
        risk: Risk | None = None,
        reconcile: Probe | None = None,
        **rule: Any,
    ) -> Callable[[Callable[..., Any]], Governed]:
        """Decorate a function or method so that the policies decide about each call.

        ``name`` is what policies call it (default: the function's qualified name without ``<locals>``). ``retry`` says
        what may be done when its process dies while it runs (see `Tool`); ``reconcile`` is the probe of a
        ``reconcilable`` one (see `governor_agents.probes`). Durations are seconds, or ``90s``, ``4h``. ``operands``
        names arguments that are paths of files, whose content is bound into each approval; ``risk`` is ``low``,
        ``normal`` or ``high``. ``rule`` (``approvers=``, ``quorum=``, ``deadline=``, ``reason_required=`` ...) adds a
        demand of its own to those of the policies. Raises `ConfigError` for a name that is taken.
        """

        if isinstance(operands, str):
            raise ConfigError(f"operands must be a list of names of arguments, such as [{operands!r}]")

        def decorate(function: Callable[..., Any]) -> Governed:
            called = name or function.__qualname__.rpartition("<locals>.")[2]
            if called in self._known:
                raise ConfigError(f"a function {called!r} is governed already; give one of them name=")
            _refuse(called, function, reconcile is not None and retry != "reconcilable")
            parameters = Parameters(called, function)
            policies = self._governor.policies

            def declared(tool: Tool) -> Tool:
                """The tool as the policies declare it, and as it is decorated."""
                return check(
                    evolve(
                        tool,
                        read_only=read_only or tool.read_only,
                        effect=effect or tool.effect,
                        retry=retry if retry != "none" else tool.retry,
                        idempotency_ttl=tool.idempotency_ttl if idempotency_ttl is None else seconds(idempotency_ttl),
                        in_flight=tool.in_flight if in_flight is None else seconds(in_flight),
                        schema_sha256=parameters.sha256,
                        operands=tuple(operands) or tool.operands,
                        risk=risk or tool.risk,
                        known=True,
                    )
                )

            declared(Tool(called))
            if reconcile is not None:
                self._governor.guard.probes.register(called, reconcile)
            if rule:
                _add_rule(policies, called, rule)
            kind = GovernedAsync if inspect.iscoroutinefunction(function) else Governed
            governed = kind(self._governor, function, called, parameters, declared, requester)
            self._known[called] = governed
            return governed

        return decorate

    def knows(self, run: Run) -> bool:
        """True when the function of this run is registered here, and no object in this process waits to run it."""
        return bool(run.calls) and run.calls[-1].tool in self._known and run.id not in self._kept

    def keep(self, pending: Pending) -> None:
        """Stay the waiter of a method's call for as long as somebody in this process holds its handle."""
        self._kept[pending.run] = pending
        self._governor.loop.spawn(self._keep(pending.run, pending.function))

    async def _keep(self, run: str, function: Governed) -> None:
        while run in self._kept:
            await asyncio.sleep(self._governor.beats.lease / 3)
            with contextlib.suppress(StoreError):
                if (await function.keep_waiting(await self._governor.runs.get(run))).state.ended:
                    return

    async def take_over(self, run: Run) -> Run:
        """Run a decided call in this process. Raises `Fenced`; `ConfigError` for an unknown function."""
        if not self.knows(run):
            raise ConfigError(f"no function {run.calls[-1].tool!r} is governed here; import the module that has it")
        return await self._known[run.calls[-1].tool].take_over(run)


def _refuse(called: str, function: Callable[..., Any], useless_probe: bool) -> None:
    """Raise `ConfigError` for what cannot be governed."""
    if useless_probe:
        raise ConfigError(f'govern({called}): reconcile= is for retry="reconcilable"')
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{called} is a generator; a governed function gives one result")


def _add_rule(policies: PolicySet, called: str, rule: dict[str, Any]) -> None:
    known = [field.name for field in fields(Rule) if field.name not in ("name", "tool", "then", "line")]
    for word in rule:
        if word not in known:
            near = difflib.get_close_matches(word, known, 1)
            mend = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"govern({called}): unknown argument {word!r}; {mend}")
    policies.add_rule(tool=called, name=f"@govern({called})", then="require_approval", **rule)
