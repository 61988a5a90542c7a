"""Probes of ``reconcilable`` tools: they ask the other side whether a call whose worker died took effect.

A probe is a function of the call and its idempotency key, plain or ``async``, that only looks::

    @governor.reconcile("refund")
    async def refunded(call: ToolCall, key: str) -> Reconciled | None:
        found = await payments.find(idempotency_key=key)
        return Reconciled.happened(found.receipt) if found else None

``Reconciled.happened(value)`` settles the doubt: the value becomes the tool's result. ``Reconciled.did_not_happen()``
and None ("I cannot tell") leave it to people: the worker that was given up may be about to act. So does an exception.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from governor_agents.core.calls import ToolCall, freeze
from governor_agents.errors import ConfigError

log = logging.getLogger(__name__)

NO_PROBE = "the tool has no probe here; register one with @governor.reconcile"


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a probe found out: whether the call took effect, and with what value."""

    took_effect: bool
    value: Any = None

    @classmethod
    def happened(cls, value: Any) -> Reconciled:
        """It took effect; ``value``, plain JSON, is what the tool would have given back."""
        return cls(True, value)

    @classmethod
    def did_not_happen(cls) -> Reconciled:
        """The other side knows nothing of it, so far."""
        return cls(False)


Probe = Callable[[ToolCall, str], Awaitable[Reconciled | None] | Reconciled | None]
"""A probe: the call and its idempotency key in, what was found out."""


class Probes:
    """The probes of one governor, by the names of their tools. Only the guard calls them."""

    def __init__(self) -> None:
        self._known: dict[str, Probe] = {}

    def register(self, tool: str, probe: Probe) -> None:
        """Keep a probe. Raises `ConfigError` for a second one, or for what cannot be called."""
        if not tool or callable(tool):
            raise ConfigError('name the tool: @governor.reconcile("refund")')
        if not callable(probe):
            raise ConfigError(f"the probe of {tool} is a {type(probe).__name__}; it must be a function of call and key")
        if tool in self._known:
            raise ConfigError(f"the tool {tool!r} has a probe already")
        self._known[tool] = probe

    def get(self, tool: str) -> Probe | None:
        """The probe of this tool, None when it has none."""
        return self._known.get(tool)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found out, checked: ``data`` is the value's bytes when it happened; ``why`` says what is unclear."""

    happened: bool | None = None
    data: bytes = b""
    why: str = ""


def checked(
    found: object,
    call: ToolCall,
    shape: Callable[[Any, bytes], Any],
    dump: Callable[[Any], bytes],
    load: Callable[[bytes], Any],
) -> Finding:
    """What a probe said (a text: why it said nothing), if that can be recorded and given to the framework."""
    if found is None or isinstance(found, str):
        return Finding(why=found or "the probe cannot tell")
    if not isinstance(found, Reconciled):
        return Finding(why=f"the probe gave a {type(found).__name__}; it must give a Reconciled, or None")
    if not found.took_effect:
        return Finding(False, why="the probe found nothing")
    try:
        freeze(found.value)
        data = dump(shape(found.value, call.args))
        load(data)
    except Exception as error:
        return Finding(why=_words(f"the probe's value cannot be recorded: {error}"))
    return Finding(True, data)


def raised(call: ToolCall, error: Exception) -> str:
    """Why a probe that raised says nothing."""
    log.error("the probe of %s raised %s; the record says more", call.tool, type(error).__name__)
    return _words(f"the probe raised {type(error).__name__}: {error}")


def _words(text: str) -> str:
    return text[:500].encode("utf-8", "backslashreplace").decode()


def finished(found: Awaitable[Any]) -> Any:
    """What an ``async`` probe gives to a synchronous caller; on another thread, since this one may have a loop."""

    async def whole() -> Any:
        return await found

    with ThreadPoolExecutor(1, "governor-agents-probe") as thread:
        return thread.submit(copy_context().run, asyncio.run, whole()).result()
