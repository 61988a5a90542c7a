"""The demo on the OpenAI Agents SDK: a real agent loop, a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, FunctionTool, Model, ModelResponse, RunConfig, Usage, function_tool
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from governor_agents.demo import shop


class ScriptedShopModel(Model):
    """Answers from the conversation alone; no network."""

    async def get_response(
        self, system_instructions: str | None, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        """The next message for this conversation."""
        items = [] if isinstance(input, str) else input
        outputs = [str(item["output"]) for item in items if item.get("type") == "function_call_output"]
        says = shop.next_words(outputs)
        return ModelResponse(output=[_item(says)], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """The demo does not stream."""
        raise RuntimeError("the demo's model does not stream")


def _item(says: shop.Says) -> ResponseFunctionToolCall | ResponseOutputMessage:
    if says.tool:
        return ResponseFunctionToolCall(
            type="function_call", call_id=says.call_id, name=says.tool, arguments=says.arguments
        )
    text = ResponseOutputText(type="output_text", text=says.text, annotations=[])
    return ResponseOutputMessage(id="msg", type="message", role="assistant", status="completed", content=[text])


def tools() -> list[FunctionTool]:
    """The shop's tools."""
    return [function_tool(shop.lookup_order), function_tool(shop.refund)]


def support() -> tuple[Agent[Any], dict[str, Any]]:
    """The agent, and runner options that keep the demo off the network."""
    agent: Agent[Any] = Agent(name="Support", instructions="Help.", model=ScriptedShopModel(), tools=list(tools()))
    return agent, {"run_config": RunConfig(tracing_disabled=True)}
