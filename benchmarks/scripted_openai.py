"""The agent of the benchmarks on the OpenAI Agents SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, FunctionTool, Model, ModelResponse, RunConfig, Usage, function_tool
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from benchmarks.scripted import ASKED, WORDS, fresh_id, refund

CONFIG = RunConfig(tracing_disabled=True)
TOOL = function_tool(refund)
GATED = function_tool(refund, needs_approval=True)


class ScriptedModel(Model):
    """Asks for the refund, then says that it is done."""

    async def get_response(
        self, system_instructions: str | None, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        """The next message, from the conversation alone."""
        asked = not isinstance(input, str) and any(item.get("type") == "function_call_output" for item in input)
        return ModelResponse(output=[_words() if asked else _call()], usage=Usage(requests=1), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Nothing here streams."""
        raise NotImplementedError


def _call() -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        type="function_call", call_id=fresh_id("call"), name="refund", arguments=json.dumps(ASKED)
    )


def _words() -> ResponseOutputMessage:
    text = ResponseOutputText(type="output_text", text=WORDS, annotations=[])
    return ResponseOutputMessage(id="msg", type="message", role="assistant", status="completed", content=[text])


def support(tool: FunctionTool = TOOL) -> Agent[Any]:
    """A fresh agent, as another process would build it."""
    return Agent(name="Support", instructions="Help.", model=ScriptedModel(), tools=[tool])


def factory() -> tuple[Agent[Any], dict[str, Any]]:
    """What is registered with a governor."""
    return support(), {"run_config": CONFIG}
