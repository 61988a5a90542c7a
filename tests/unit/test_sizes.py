"""What of a snapshot is heavy: by place, tool and size, without a word of its content."""

import json

from hypothesis import given
from hypothesis import strategies as st

from governor_agents.core.calls import Json
from governor_agents.core.sizes import heaviest, size_of, size_words, too_large

WORD = "very-secret-word"
values: st.SearchStrategy[Json] = st.recursive(
    st.text(max_size=30) | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=30,
)


def told(value: Json, declared: int = 0) -> list[str]:
    return [str(part) for part in heaviest(value, declared=declared)]


def test_the_heaviest_parts_are_named_the_largest_first() -> None:
    """By the words of the frameworks' formats, and with the tool that gave them."""
    message = {"content": "x" * 3_000_000, "name": "lookup", "tool_call_id": "c"}
    value: Json = {"messages": [{"content": "hi"}, message, {"content": "y" * 6_000_000}]}
    assert told(value) == ["messages[2].content: 6.0 MB", "messages[1].content of tool `lookup`: 3.0 MB"]


def test_a_call_names_the_tool_of_its_output() -> None:
    """The output of a call holds its id alone; the call itself says which tool it was."""
    call: Json = {"call_id": "c1", "name": "lookup", "arguments": "{}"}
    value: Json = {"original_input": [call, {"call_id": "c1", "output": "x" * 5_000}]}
    assert told(value) == ["original_input[1].output of tool `lookup`: 5.0 KB"]


def test_many_small_parts_are_one_heavy_list() -> None:
    """No single message is to blame then."""
    value: Json = {"messages": [{"content": "x" * 1_000} for _ in range(500)]}
    assert told(value) == ["messages (500 items): 508.0 KB"]


def test_names_that_may_be_content_are_not_shown() -> None:
    """Keys of data, and a tool's name that no tool could have."""
    value: Json = {"state_of_it": {WORD: {"content": "x" * 5_000, "name": f"{WORD} !", "tool_call_id": "1"}}}
    assert told(value) == ["….….content: 5.0 KB"]
    assert told(value, declared=1) == ["state_of_it.….content: 5.0 KB"]


@given(values)
def test_nothing_of_any_value_is_leaked(value: Json) -> None:
    """Neither texts nor keys, wherever they stand; and every value has a heaviest part."""
    marked: Json = json.loads(json.dumps({WORD + str(value): [value, WORD * 50, {WORD: WORD * 50}]}))
    parts = heaviest(marked)
    assert parts and WORD not in str(too_large("it", 10**7, 10**6, parts))


def test_a_walk_that_shows_every_key_would_be_found() -> None:
    """The control: with all names declared, the keys above would be told."""
    assert WORD in "".join(told({WORD.replace("-", "_"): "x" * 500}, declared=9)).replace("_", "-")


def test_what_is_nested_too_deep_is_not_walked() -> None:
    """The message then says the size alone."""
    deep: Json = "x"
    for _ in range(50_000):
        deep = [deep]
    assert heaviest(deep) == []
    assert "heaviest" not in str(too_large("it", 2_000, 1_000, []))


def test_sizes_are_in_bytes_and_shown_for_people() -> None:
    """Not in characters."""
    assert [size_of("abc"), size_of("ä€"), size_of("\ud800")] == [3, 5, 3]
    assert [size_words(each) for each in (999, 1_500, 3_100_000, 2 * 10**9)] == [
        "999 bytes",
        "1.5 KB",
        "3.1 MB",
        "2.0 GB",
    ]
