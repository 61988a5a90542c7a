"""One call while its tool runs: where it stands, what the tool raised, and what the graph gets of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp

from governor_agents.adapters.langchain.messages import Site, mark_edited, told
from governor_agents.claims import Claim, current_claim
from governor_agents.core.calls import Json, Tool, ToolCall, freeze, thaw
from governor_agents.core.records import CallState
from governor_agents.errors import ArgumentsError, GovernorError
from governor_agents.guard import ToolFailed
from governor_agents.journal import Ran

position: ContextVar[tuple[int, ...]] = ContextVar("governor_agents_langchain_position", default=())
"""The places of the calls around this code in their messages, the outermost first."""

inside_of: ContextVar[tuple[object, ...]] = ContextVar("governor_agents_langchain_inside", default=())
"""What was let run around this code."""


def is_inside(site: Site) -> bool:
    """True for a call that was let run already: a tool that middleware governs may be wrapped as well.

    Another tool, other arguments, or another run under the same id are other calls.
    """
    try:
        return bool(site.call_id) and inside_of.get() == _let_run(site, site.args)
    except ArgumentsError:
        return False


def _let_run(site: Site, args: Json) -> tuple[object, ...]:
    tool = getattr(site.tool, "governed_tool", site.tool)
    return site.name, site.call_id, id(tool), freeze(args), current_claim()


@dataclass(frozen=True, slots=True)
class Asked:
    """A frozen call with what is known of its tool."""

    site: Site
    call: ToolCall
    tool: Tool
    claim: Claim | None
    composite: bool


class Passing(asyncio.CancelledError):
    """An interrupt that passes through a journalled tool: no failure, but nobody knows how far the tool came."""


class Attempt:
    """What happened to the tool of one call."""

    def __init__(self, asked: Asked) -> None:
        self.name = asked.site.name
        self.raised: BaseException | None = None
        self._asked = asked
        self._kept: Any = None

    @property
    def journalled(self) -> bool:
        """True when the call has a record."""
        claim = self._asked.claim
        return claim is not None and self._asked.call.call_id in claim.known

    @contextmanager
    def inside(self, args: Json) -> Iterator[None]:
        """Around the tool that runs with these arguments: calls below it know where they are.

        What it raises is kept apart from our own errors.
        """
        site = self._asked.site
        tokens = inside_of.set(_let_run(site, args)), position.set((*position.get(), site.at))
        try:
            yield
        except BaseException as error:
            self.raised = error
            raise
        finally:
            with contextlib.suppress(ValueError):
                inside_of.reset(tokens[0])
                position.reset(tokens[1])

    def done(self, args: bytes, value: Any) -> Any:
        """The tool's value, marked when a person changed the arguments."""
        site = self._asked.site
        if args == self._asked.call.args:
            return value
        return mark_edited(value, site.call_id, thaw(args), in_text=not site.notes)

    def shaped(self, value: Any, args: bytes) -> Any:
        """What a probe found out, in the form in which the tool node would have given it."""
        site = self._asked.site
        if site.call_id or site.notes:
            content = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            value = ToolMessage(content, name=site.name, tool_call_id=site.call_id)
        return self.done(args, value)

    def guarded(self, call: Callable[[bytes], Awaitable[Any]]) -> Callable[[bytes], Awaitable[Any]]:
        """The call in the form the guard runs: failures that became words, and interrupts, made plain."""

        async def run(args: bytes) -> Any:
            try:
                return self._checked(await call(args))
            except GraphBubbleUp as passing:
                raise Passing() from passing

        return run

    def guarded_sync(self, call: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """The same for a synchronous call."""

        def run(args: bytes) -> Any:
            try:
                return self._checked(call(args))
            except GraphBubbleUp as passing:
                raise Passing() from passing

        return run

    def _checked(self, value: Any) -> Any:
        if isinstance(value, ToolMessage) and value.status == "error":
            self._kept = value
            raise ToolFailed(value.text or "the tool failed")
        return value

    def result(self, ran: Ran) -> Any:
        """What the graph gets."""
        if ran.how == "value":
            return ran.value
        if self._kept is not None and ran.state is CallState.FAILED:
            return self._kept
        return told(self._asked.site, ran.text, ran.state)


_stops: dict[type[GovernorError], type[GovernorError]] = {}


def stopping(error: GovernorError) -> GovernorError:
    """The same error in a form that tool nodes and other middleware let through: it must end the loop."""
    kind = type(error)
    if isinstance(error, GraphBubbleUp):
        return error
    if kind not in _stops:
        _stops[kind] = type(kind.__name__, (kind, GraphBubbleUp), {"__module__": kind.__module__})
        _stops[kind].code = kind.code
    stop: GovernorError = _stops[kind](str(error))
    return stop
