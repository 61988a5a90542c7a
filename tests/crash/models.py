"""Scripted models for both frameworks: the next turn follows from the history, and every call id is fresh.

A model that gave the same ids again would hide what a crash inside a turn does. What a model is told goes into the ledger
before it answers: it is how the judge knows that a loop went on.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from agents import Model, ModelResponse, Usage
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from governor_agents.crash import crash_point
from tests.crash.ledger import Ledger

Turn = Sequence[tuple[str, dict[str, Any]]]
"""The calls of one answer: tool and arguments."""

DONE = "done"


def _fresh() -> str:
    return f"call_{uuid.uuid4().hex}"


class OpenAIModel(Model):
    """Answers by how many calls the history holds."""

    def __init__(self, name: str, turns: Sequence[Turn], ledger: Ledger) -> None:
        self._name = name
        self._turns = turns
        self._ledger = ledger

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        crash_point("model:before")
        items = [] if isinstance(input, str) else input
        heard = [str(item["output"]) for item in items if item.get("type") == "function_call_output"]
        self._ledger.note("model", name=self._name, heard=heard)
        answer = self._answer(sum(item.get("type") == "function_call" for item in items))
        crash_point("model:after")
        return ModelResponse(output=answer, usage=Usage(), response_id=None)

    def _answer(self, calls: int) -> list[Any]:
        for turn in self._turns:
            if calls <= 0:
                return [_openai_call(name, arguments) for name, arguments in turn]
            calls -= len(turn)
        text = ResponseOutputText(type="output_text", text=DONE, annotations=[])
        return [ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])]

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        answer = await self.get_response(*args, **kwargs)
        response = Response(
            id="r", created_at=0, model="scripted", object="response", output=answer.output,
            tool_choice="auto", tools=[], parallel_tool_calls=True,
        )  # fmt: skip
        yield ResponseCompletedEvent(type="response.completed", response=response, sequence_number=0)


def _openai_call(name: str, arguments: dict[str, Any]) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        type="function_call", call_id=_fresh(), name=name, arguments=json.dumps(arguments), status="completed"
    )


class LangChainModel(BaseChatModel):
    """Answers by how many answers the history holds."""

    called: str
    turns: list[Any]
    ledger: Any

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> LangChainModel:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        crash_point("model:before")
        heard = [message.text for message in messages if isinstance(message, ToolMessage)]
        self.ledger.note("model", name=self.called, heard=heard)
        at = sum(isinstance(message, AIMessage) for message in messages)
        turn = self.turns[at] if at < len(self.turns) else []
        calls = [{"name": name, "args": dict(arguments), "id": _fresh()} for name, arguments in turn]
        message = AIMessage(content="" if turn else DONE, tool_calls=calls)
        crash_point("model:after")
        return ChatResult(generations=[ChatGeneration(message=message)])
