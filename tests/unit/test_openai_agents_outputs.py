"""What the model is told from the record equals what it was told by the tool."""

from dataclasses import dataclass
from typing import Any

import pytest
from agents import ItemHelpers, ToolOutputFileContent, ToolOutputImage, ToolOutputText, function_tool
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel, TypeAdapter

from governor_agents.adapters.openai_agents.outputs import dump, load, plain, words
from governor_agents.core.calls import freeze
from governor_agents.core.records import CallState

CALL = ResponseFunctionToolCall(type="function_call", name="t", arguments="{}", call_id="c")


class Total(BaseModel):
    total: float
    currency: str = "EUR"


@dataclass
class Pair:
    a: int
    b: int


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@function_tool
def tool() -> str:
    """Any tool."""
    return ""


def told(value: Any) -> Any:
    """What the SDK sends to the model for this value."""
    return ItemHelpers.tool_call_output_item(CALL, value)["output"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_plain_json_is_told_the_same_again(value: Any) -> None:
    assert told(load(tool, dump(tool, value))) == told(value)


@pytest.mark.parametrize(
    "value",
    [
        {"b": 1, "a": 2},
        (1, 2),
        {1},
        {1: "int key"},
        float("nan"),
        b"bytes",
        "lone \ud800 surrogate",
        Total(total=1.5),
        Pair(1, 2),
        ToolOutputText(text="hello"),
        ToolOutputImage(image_url="https://example.com/a.png", detail="low"),
        [ToolOutputText(text="a"), ToolOutputFileContent(file_id="f1", filename="a.pdf")],
        (ToolOutputText(text="a"), {"type": "text", "text": "b"}),
        [ToolOutputText(text="a"), "not structured"],
        [ToolOutputText(text="a"), {"type": "text"}],
        {"type": "text", "text": "a dict in the SDK's own form"},
        [],
    ],
)
def test_whatever_a_tool_returns_is_told_the_same_again(value: Any) -> None:
    assert told(load(tool, dump(tool, value))) == told(value)


def test_a_value_without_words_is_recorded_all_the_same() -> None:
    assert load(tool, dump(tool, Rude())) == "a Rude that cannot be written down (RuntimeError)"


def test_a_typed_output_comes_back_as_its_type() -> None:
    @function_tool
    def typed() -> str:
        return ""

    typed._output_type_adapter = TypeAdapter(Total)
    again = load(typed, dump(typed, Total(total=2)))
    assert again == Total(total=2)
    assert load(typed, dump(typed, "an error in words")) == "an error in words"


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ("text", "text"),
        (None, None),
        ({"a": [1, 2.5]}, {"a": [1, 2.5]}),
        (Total(total=1), {"total": 1.0, "currency": "EUR"}),
        (Pair(1, 2), {"a": 1, "b": 2}),
        ((1, 2), [1, 2]),
        (float("inf"), None),
        ("lone \ud800", "lone ?"),
        (Rude(), "a Rude that cannot be written down"),
    ],
)
def test_final_outputs_become_plain_json(value: Any, becomes: Any) -> None:
    assert plain(value) == becomes
    freeze(plain(value))


def test_words_name_the_reason_once() -> None:
    assert words(CallState.DENIED, "denied by policy (default)") == "Not run: denied by policy (default)"
    assert words(CallState.DENIED, "no deletes") == "Not run: denied by policy: no deletes"
    assert words(CallState.REJECTED, "") == "Not run: a person rejected this call"
    assert words(CallState.EXPIRED, "nobody decided in time") == "Not run: nobody decided in time"
    assert words(CallState.SUPERSEDED, "") == "Not run: superseded"
    assert words(CallState.ANSWERED, "a person's words") == "a person's words"
