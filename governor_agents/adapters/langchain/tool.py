"""Governing one LangChain tool, for graphs without `create_agent` and for tools that are called without any graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool
from pydantic import PrivateAttr

from governor_agents.adapters.langchain.gate import Gate
from governor_agents.adapters.langchain.messages import Site

if TYPE_CHECKING:
    from governor_agents.governor import Governor


class GovernedTool(BaseTool):
    """A tool under governance: name, schema and description of the one it wraps.

    In a LangGraph run with a checkpointer it behaves as under `GovernorMiddleware`. In a plain ``StateGraph`` with a
    ``ToolNode`` all calls of a message share one task: LangGraph shows one pause at a time, and the node runs from the
    top on every resume; the journal keeps what ran from running again. Calls need the model's tool call (with its id).

    Outside of any graph: what the policies allow runs, what they deny raises `CallDenied`, what needs people raises
    `ApprovalPending` and nothing runs. Nothing is recorded there.

    What it does not do: a note about an edit stands in the text of the tool's message, because there is no hook before
    the model; `GovernorMiddleware` keeps the tool's content as it is.
    """

    governed_tool: BaseTool
    _gate: Gate = PrivateAttr()

    def run(self, tool_input: str | dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Take one call through the governor."""
        tool, id = self.governed_tool, kwargs.get("tool_call_id")
        visible, injected = self._split(tool_input)
        site = Site(self.name, visible, id or "", tool, notes=False)
        return self._gate.run(site, lambda given: tool.run({**given, **injected}, *args, **kwargs))

    async def arun(self, tool_input: str | dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Take one call through the governor."""
        tool, id = self.governed_tool, kwargs.get("tool_call_id")
        visible, injected = self._split(tool_input)
        site = Site(self.name, visible, id or "", tool, notes=False)
        return await self._gate.arun(site, lambda given: tool.arun({**given, **injected}, *args, **kwargs))

    def _split(self, tool_input: str | dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the model chose, and what the graph puts in beside it (state, store, runtime)."""
        if isinstance(tool_input, str):
            return {next(iter(self.args), "input"): tool_input}, {}
        hidden = set(tool_input) - set(self.args)
        known = {key for key in hidden if key in self._hidden}
        return (
            {key: value for key, value in tool_input.items() if key not in known},
            {key: value for key, value in tool_input.items() if key in known},
        )

    @property
    def _hidden(self) -> set[str]:
        """Parameters that no model is shown."""
        inner = self.governed_tool
        fields: dict[str, Any] = getattr(inner.get_input_schema(), "model_fields", {})
        return (set(fields) | set(inner._injected_args_keys)) - set(inner.args)

    @property
    def func(self) -> Any:
        """The wrapped tool's function, where LangGraph looks for parameters to put in."""
        return getattr(self.governed_tool, "func", None) or self.governed_tool._run

    @property
    def coroutine(self) -> Any:
        """The wrapped tool's coroutine function."""
        return getattr(self.governed_tool, "coroutine", None)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a governed tool runs by invoke or run")


def govern_tool(tool: BaseTool, governor: Governor) -> BaseTool:
    """The tool under governance: see `GovernedTool`. Governing one twice changes nothing."""
    if isinstance(tool, GovernedTool):
        return tool
    kept = ("name", "description", "return_direct", "tags", "metadata", "response_format", "extras")
    same = {name: getattr(tool, name) for name in kept if hasattr(tool, name)}
    governed = GovernedTool(governed_tool=tool, args_schema=tool.args_schema or tool.get_input_schema(), **same)
    governed._gate = Gate(governor)
    return governed
