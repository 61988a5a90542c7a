"""The demo on LangChain: a real ``create_agent`` loop, a scripted model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from governor_agents.demo import shop
from governor_agents.governor import Governor


class ScriptedShopModel(BaseChatModel):
    """Answers from the conversation alone; no network."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> ScriptedShopModel:
        """The script knows its tools."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        says = shop.next_words([str(message.content) for message in messages if isinstance(message, ToolMessage)])
        calls = [{"name": says.tool, "args": json.loads(says.arguments), "id": says.call_id}] if says.tool else []
        message = AIMessage(content=says.text, tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


def support(governor: Governor) -> Callable[[], Any]:
    """A factory of the agent for this governor."""

    def build() -> Any:
        return create_agent(
            ScriptedShopModel(),
            tools=[tool(shop.lookup_order), tool(shop.refund)],
            middleware=[GovernorMiddleware(governor)],
            checkpointer=GovernorSaver(governor),
        )

    return build
