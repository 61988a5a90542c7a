"""What a model was asked, as digests, and what it answered, as text and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agents import FunctionTool, ModelResponse, Usage
from agents.agent_output import AgentOutputSchemaBase
from agents.usage import deserialize_usage, serialize_usage
from openai.types.responses import Response, ResponseCompletedEvent, ResponseOutputItem, ResponseUsage
from pydantic import BaseModel, TypeAdapter

from governor_agents.core.calls import sha256, thaw
from governor_agents.errors import SnapshotError

_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)


def digests(
    instructions: str | None,
    input: Any,
    tools: list[Any],
    output_schema: AgentOutputSchemaBase | None,
    handoffs: list[Any],
    conversation: Mapping[str, Any],
) -> tuple[str, ...]:
    """The request part by part (`governor_agents.responses.PARTS`), without settings, tracing and time-outs.

    Raises `TypeError`, `ValueError` for what has no JSON form.
    """
    offered = [
        [tool.qualified_name, tool.params_json_schema] if isinstance(tool, FunctionTool) else [tool.name, {}]
        for tool in tools
    ]
    offered += [[handoff.tool_name, handoff.input_json_schema] for handoff in handoffs]
    output = None
    if output_schema is not None:
        output = [output_schema.name(), None if output_schema.is_plain_text() else output_schema.json_schema()]
    return tuple(_digest(part) for part in (instructions, input, offered, output, dict(conversation)))


def _digest(part: Any) -> str:
    text = json.dumps(part, sort_keys=True, default=_plain, separators=(",", ":"))
    return sha256(text.encode())[:32]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def dump(answer: ModelResponse) -> str:
    """A model's answer as JSON. Raises for what has no JSON form."""
    output: list[Any] = list(answer.output)
    content = {
        "output": [
            [False, item] if isinstance(item, dict) else [True, item.model_dump(mode="json", exclude_unset=True)]
            for item in output
        ],
        "usage": serialize_usage(answer.usage),
        "response_id": answer.response_id,
        "request_id": answer.request_id,
        "raw_usage": answer.raw_usage,
    }
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def load(content: str) -> ModelResponse:
    """The answer again, of the SDK's own types and no others. Raises `SnapshotError` for anything else."""
    try:
        found = thaw(content)
        answer = ModelResponse(
            output=[],
            usage=deserialize_usage(found["usage"]),
            response_id=found["response_id"],
            request_id=found["request_id"],
            raw_usage=found["raw_usage"],
        )
        answer.output = [_ITEM.validate_python(item) if typed else item for typed, item in found["output"]]
    except Exception as error:  # whatever the SDK meets in what was not its own
        raise SnapshotError(f"a recorded answer of a model is not readable: {type(error).__name__}") from None
    return answer


def call_ids(answer: ModelResponse) -> tuple[str, ...]:
    """The ids of the calls that the model made."""
    output: list[Any] = list(answer.output)
    found = (item.get("call_id") if isinstance(item, dict) else getattr(item, "call_id", None) for item in output)
    return tuple(call_id for call_id in found if call_id)


def from_stream(response: Response, items: list[Any]) -> ModelResponse:
    """What the SDK will make of the last event of a stream; some providers send its items before and not with it."""
    counted = response.usage
    usage = Usage(requests=1)
    if counted is not None:
        usage = Usage(
            requests=1,
            input_tokens=counted.input_tokens or 0,
            output_tokens=counted.output_tokens or 0,
            total_tokens=counted.total_tokens or 0,
            input_tokens_details=counted.input_tokens_details,
            output_tokens_details=counted.output_tokens_details,
        )
    answer = ModelResponse(output=[], usage=usage, response_id=response.id)
    answer.output = list(response.output or items)
    return answer


def last_event(answer: ModelResponse) -> ResponseCompletedEvent:
    """The last event of a stream, made from a recorded answer."""
    usage = ResponseUsage.model_construct(
        input_tokens=answer.usage.input_tokens,
        input_tokens_details=answer.usage.input_tokens_details,
        output_tokens=answer.usage.output_tokens,
        output_tokens_details=answer.usage.output_tokens_details,
        total_tokens=answer.usage.total_tokens,
    )
    response = Response.model_construct(
        id=answer.response_id,
        created_at=0.0,
        model="",
        object="response",
        output=answer.output,
        parallel_tool_calls=True,
        tool_choice="auto",
        tools=[],
        usage=usage,
    )
    return ResponseCompletedEvent.model_construct(type="response.completed", response=response, sequence_number=0)
