"""Middleware for LangChain's `create_agent`: every tool call goes through the governor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.messages import ToolMessage
from langgraph.types import Command

from governor_agents.adapters.langchain.attempt import stopping
from governor_agents.adapters.langchain.gate import Gate
from governor_agents.adapters.langchain.graphs import messages_of
from governor_agents.adapters.langchain.messages import Site, informed, place_of
from governor_agents.core.calls import ToolCall
from governor_agents.errors import UngovernedTool

if TYPE_CHECKING:
    from governor_agents.governor import Governor


class GovernorMiddleware(AgentMiddleware[Any, Any, Any]):
    """Governs every tool call of an agent made with `create_agent`.

    Put it first in the list. Middleware after it sees the frozen arguments, and must leave them alone: what it changes
    was not shown to anybody. ``composite`` names tools that run agents or graphs themselves, or call ``interrupt``;
    tools whose function names a compiled graph are recognised without that.

    A call that needs people pauses the graph with LangGraph's own interrupt, one per call. What the graph is resumed
    with does not matter: the decision is looked up. After an edit the tool's message stays as the tool gave it, with a
    mark in ``additional_kwargs``; the model reads a note beside it. Calls that a new message left behind without an
    answer get one when the model is asked.

    What it does not do: it cannot stop tools that the model's provider runs (web search ...): such a tool is refused
    unless a policy allows it by name.
    """

    def __init__(self, governor: Governor, *, composite: Collection[str] = ()) -> None:
        super().__init__()
        self.governor = governor
        self.gate: Gate = Gate(governor, composite)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Take one call through the governor."""
        ran: ToolMessage | Command[Any] = self.gate.run(site(request), lambda args: handler(with_args(request, args)))
        return ran

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """Take one call through the governor."""
        ran: ToolMessage | Command[Any] = await self.gate.arun(
            site(request), lambda args: handler(with_args(request, args))
        )
        return ran

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Ask the model, with what it must know of its earlier calls."""
        with self._awake():
            return handler(self._informed(request))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Ask the model, with what it must know of its earlier calls."""
        with self._awake():
            return await handler(self._informed(request))

    def _awake(self) -> AbstractContextManager[None]:
        """Keep the lease of a loop of one's own alive while the model thinks."""
        claim = self.gate.claim()
        return nullcontext() if claim is None else self.governor.beats.during(claim)

    def _informed(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        for tool in request.tools:
            if isinstance(tool, dict):
                self._provided(tool)
        messages = informed(request.messages)
        return request if messages is request.messages else request.override(messages=messages)

    def _provided(self, tool: dict[str, Any]) -> None:
        name = str(tool.get("name") or tool.get("function", {}).get("name") or tool.get("type") or "")
        verdict = self.governor.policies.evaluate(ToolCall.of(name, {}), self.governor.policies.tool(name))
        if verdict.outcome != "allow":
            raise stopping(
                UngovernedTool(f"{name} is run by the model's provider, where nothing can stop it; allow it by a rule")
            )


def site(request: ToolCallRequest) -> Site:
    """Where a tool node met a call."""
    call = request.tool_call
    id = call["id"] or ""
    return Site(call["name"], call["args"], id, request.tool, place_of(id, messages_of(request.state)))


def with_args(request: ToolCallRequest, args: dict[str, Any]) -> ToolCallRequest:
    """The request with the arguments that may run."""
    return request.override(tool_call={**request.tool_call, "args": args})
