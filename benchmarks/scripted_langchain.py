"""The agent of the benchmarks on LangChain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from benchmarks.scripted import ASKED, WORDS, fresh_id, refund

TOOL = tool(refund)


class ScriptedModel(BaseChatModel):
    """Asks for the refund, then says that it is done."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> ScriptedModel:
        """The script knows its tools."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if any(isinstance(message, ToolMessage) for message in messages):
            message = AIMessage(content=WORDS)
        else:
            message = AIMessage(content="", tool_calls=[{"name": "refund", "args": ASKED, "id": fresh_id("call")}])
        return ChatResult(generations=[ChatGeneration(message=message)])


def support(checkpointer: Any, middleware: Sequence[Any]) -> Any:
    """A freshly compiled graph, as another process would build it."""
    return create_agent(ScriptedModel(), tools=[TOOL], middleware=middleware, checkpointer=checkpointer)
