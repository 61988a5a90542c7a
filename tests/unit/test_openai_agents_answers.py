"""What a model answered, as text and back: the SDK's own types, and no others."""

import json
from typing import Any

import pytest
from agents import Agent, ModelResponse, Usage, function_tool, handoff
from agents.agent_output import AgentOutputSchema
from openai.types.responses import (
    Response,
    ResponseCustomToolCall,
    ResponseFunctionToolCall,
    ResponseFunctionWebSearch,
    ResponseOutputMessage,
    ResponseOutputRefusal,
    ResponseOutputText,
    ResponseReasoningItem,
)
from openai.types.responses.response_function_web_search import ActionSearch
from openai.types.responses.response_reasoning_item import Summary

from governor_agents.adapters.openai_agents import answers
from governor_agents.errors import SnapshotError
from governor_agents.responses import PARTS

CALL = ResponseFunctionToolCall(type="function_call", call_id="c1", name="pay", arguments='{"a": 1}')
TEXT = ResponseOutputText(type="output_text", text="grüße \U0001f600", annotations=[])
ITEMS: list[Any] = [
    CALL,
    ResponseFunctionToolCall(type="function_call", call_id="c", name="pay", arguments="{", provider_data={"x": [1.5]}),  # type: ignore[call-arg]
    ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[TEXT]),
    ResponseOutputMessage(
        id="m", type="message", role="assistant", status="completed",
        content=[ResponseOutputRefusal(type="refusal", refusal="I will not")],
    ),
    ResponseReasoningItem(
        id="rs", type="reasoning", summary=[Summary(type="summary_text", text="because")], encrypted_content="gAAA"
    ),
    ResponseFunctionWebSearch(
        id="ws", type="web_search_call", status="completed", action=ActionSearch(type="search", query="x")
    ),
    ResponseCustomToolCall(type="custom_tool_call", call_id="c2", name="shell", input="ls"),
    {"type": "shell_call", "call_id": "c3", "action": {"commands": ["ls"]}},
]  # fmt: skip
USAGE = Usage(requests=1, input_tokens=3, output_tokens=4, total_tokens=7)


def answer(*items: Any, **more: Any) -> ModelResponse:
    made = ModelResponse(output=[], usage=USAGE, response_id=more.pop("response_id", "resp_1"), **more)
    made.output = list(items)
    return made


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["type"] if isinstance(item, dict) else item.type)
def test_an_item_comes_back_as_it_was(item: Any) -> None:
    """Same type, same fields set, so that the next request is the same request."""
    [again] = answers.load(answers.dump(answer(item))).output
    assert type(again) is type(item)
    assert again == item
    if not isinstance(item, dict):
        assert again.model_dump(exclude_unset=True) == item.model_dump(exclude_unset=True)  # type: ignore[union-attr]


def test_usage_and_ids_come_back() -> None:
    """What a run cost does not change when it is driven again."""
    again = answers.load(answers.dump(answer(CALL, request_id="req", raw_usage={"total": 7})))
    assert (again.response_id, again.request_id, again.raw_usage) == ("resp_1", "req", {"total": 7})
    assert (again.usage.requests, again.usage.input_tokens, again.usage.total_tokens) == (1, 3, 7)


@pytest.mark.parametrize("response_id", ["resp_1", None])
def test_the_last_event_of_a_stream_holds_the_answer(response_id: str | None) -> None:
    """The SDK makes the same of it as of the first stream's last event."""
    event = answers.last_event(answer(*ITEMS[:2], response_id=response_id))
    again = answers.from_stream(event.response, [])
    assert (again.output, again.response_id, again.usage.total_tokens) == (ITEMS[:2], response_id, 7)


def test_a_stream_whose_last_event_is_empty_is_made_of_its_items() -> None:
    """Some providers send the items one by one, and then nothing."""
    response = Response.model_construct(id="r", output=[], usage=None)
    assert answers.from_stream(response, [CALL]).output == [CALL]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "os.system", "cmd": "x"},
        {"type": "function_call"},
        {"__type__": "Path", "v": "/"},
        {"lc": 1, "type": "constructor", "id": ["os", "system"]},
        7,
        None,
    ],
)
def test_what_is_no_item_of_the_sdk_is_refused(item: Any) -> None:
    """Nothing is revived by name."""
    content = json.loads(answers.dump(answer(CALL)))
    content["output"] = [[True, item]]
    with pytest.raises(SnapshotError):
        answers.load(json.dumps(content))


@function_tool
def pay(amount: int) -> str:
    """Pay."""
    return str(amount)


@function_tool(name_override="pay")
def pay_text(amount: str) -> str:
    """Pay."""
    return amount


HAND = handoff(Agent(name="B"))
PLAIN: dict[str, Any] = {
    "instructions": "be kind", "input": [{"role": "user", "content": "x"}], "tools": [pay],
    "output_schema": None, "handoffs": [], "conversation": {"previous_response_id": None},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"instructions": "be brief"}, "the instructions"),
        ({"instructions": None}, "the instructions"),
        ({"input": [{"role": "user", "content": "y"}]}, "the input"),
        ({"tools": []}, "the tools"),
        ({"tools": [pay_text]}, "the tools"),
        ({"handoffs": [HAND]}, "the tools"),
        ({"output_schema": AgentOutputSchema(list[int])}, "the output type"),
        ({"conversation": {"previous_response_id": "r"}}, "the conversation"),
    ],
)
def test_each_part_of_a_request_has_a_digest_of_its_own(change: dict[str, Any], part: str) -> None:
    """So that a run which is parked can say what differs."""
    first, second = answers.digests(**PLAIN), answers.digests(**{**PLAIN, **change})
    assert [name for name, old, new in zip(PARTS, first, second, strict=True) if old != new] == [part]


def test_the_same_request_has_the_same_digests_whatever_form_its_items_have() -> None:
    """The SDK sends items as dictionaries or as its own objects."""
    as_dict = {"input": [CALL.model_dump(exclude_unset=True)]}
    assert answers.digests(**{**PLAIN, **as_dict}) == answers.digests(**{**PLAIN, "input": [CALL]})
