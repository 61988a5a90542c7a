"""Modals stay within Slack's limits, give back exactly what they were made of, and show whole what will run."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governor_agents.core.calls import freeze
from governor_agents.handlers.forms import Form
from governor_agents.handlers.slack import modals
from governor_agents.handlers.slack.controls import Spot
from governor_agents.handlers.slack.modals import METADATA_ROOM, Origin, length
from governor_agents.handlers.visible import parse_visible, visible
from governor_agents.testing.slack_interactions import state_of
from governor_agents.testing.slack_limits import view_problems

EXAMPLES = 2_000 if os.environ.get("GOVERNOR_NIGHTLY") else 80
ORIGIN = Origin(f"c{'a' * 26}.{'0' * 32}", Spot("T01", "C012", "1700000000.000100"))
HOSTILE = [
    "\u202e",
    "\u200b",
    "<!channel>",
    "<https://x|y>",
    "&amp;",
    "`",
    "😀",
    "☠",
    "\n",
    "\r",
    " ",
    "\U000e0041",
    "*b*",
]
TEXTS = st.lists(
    st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=("Cs",)), max_size=5), max_size=6
).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
ARGS = st.dictionaries(TEXTS, VALUES, max_size=6)


@settings(max_examples=EXAMPLES, deadline=None)
@given(args=ARGS, headline=TEXTS.map(visible))
def test_an_edit_fits_slack_and_submitted_untouched_is_the_stored_bytes(args: dict[str, Any], headline: str) -> None:
    """Whatever the arguments hold: no limit of Slack's is broken, and nothing changed is nothing changed."""
    form = Form.of(freeze(args))
    view = modals.edit(form, ORIGIN, headline or "x")
    if view is None:
        return
    assert view_problems(view) == []
    filled = form.read(modals.filled(form, state_of(view, {})))
    assert (filled.args, filled.changed, filled.errors) == (freeze(args), (), {})


@pytest.mark.parametrize(
    ("stored", "schema", "optional"),
    [
        ({"order": "4711"}, {"required": ["order"]}, False),
        ({"order": "4711"}, {}, True),
        ({"order": ""}, {"required": ["order"]}, True),  # it must be possible to leave it as it is
        ({"order": " "}, {"required": ["order"]}, False),  # stands there as \\u{0020}
        ({"order": None}, {"required": ["order"]}, True),
        ({"order": ["a"]}, {"required": ["order"]}, False),
        ({"order": 5}, {"required": ["order"]}, False),
    ],
)
def test_what_the_tool_needs_is_not_called_optional(stored: Any, schema: Any, optional: bool) -> None:
    """Slack writes "(optional)" beside whatever may be left empty."""
    view = modals.edit(Form.of(freeze(stored), {"properties": {"order": {}}, **schema}), ORIGIN, "x")
    assert [block["optional"] for block in view["blocks"] if block["type"] == "input"] == [optional]


@settings(max_examples=EXAMPLES, deadline=None)
@given(args=ARGS)
def test_the_second_step_shows_exactly_what_will_run(args: dict[str, Any]) -> None:
    """The text in it, read back, is the canonical arguments; so are those that it carries."""
    text = freeze(args).decode()
    view = modals.confirm(Origin(ORIGIN.value, ORIGIN.spot, text), "headline", ["amount"], needed=False)
    if view is None:
        assert length(Origin(ORIGIN.value, ORIGIN.spot, text).metadata()) > METADATA_ROOM
        return
    assert view_problems(view) == []
    shown = "".join(
        part["elements"][0]["text"]
        for block in view["blocks"] if block["type"] == "rich_text" for part in block["elements"]
    )  # fmt: skip
    assert parse_visible(shown) == text
    carried = Origin.of(view["private_metadata"])
    assert carried is not None
    assert carried.args == text


def test_a_second_step_that_has_no_room_is_not_shown() -> None:
    """Arguments that the modal cannot carry are not confirmed in it."""
    for size, fits in ((2_000, True), (3_000, False)):
        text = freeze({"to": "x" * size}).decode()
        view = modals.confirm(Origin(ORIGIN.value, ORIGIN.spot, text), "headline", ["to"], needed=False)
        assert (view is not None) is fits


def test_a_second_step_that_cuts_would_be_seen() -> None:
    """Negative control: with one character less the shown text is no longer the arguments."""
    text = freeze({"to": "x" * 2000}).decode()
    blocks = modals.literal(visible(text[:-1]))
    shown = "".join(block["elements"][0]["elements"][0]["text"] for block in blocks)
    assert parse_visible(shown) != text


@pytest.mark.parametrize("args, schema", [
    ({"text": "x" * 3_001}, None),
    ({"big": "x" * 2_900}, None),
    ({"emoji": "😀" * 400}, None),
    ({"pick": "a"}, {"properties": {"pick": {"enum": ["a", *map(str, range(100))]}}}),
    ({"pick": "a"}, {"properties": {"pick": {"enum": ["a", "b" * 76]}}}),
    ({"k" * 2_001: 1}, None),
])  # fmt: skip
def test_what_has_no_room_is_left_to_the_page(args: dict[str, Any], schema: Any) -> None:
    """Long texts, many or long choices, long names: no modal, instead of one that Slack refuses or that cuts."""
    assert modals.edit(Form.of(freeze(args), schema), ORIGIN, "headline") is None


@pytest.mark.parametrize("headline", ["h", "h" * 9_000, "h" * 500_000])
def test_every_modal_is_within_the_limits(headline: str) -> None:
    """Whatever the length of headline and names, Slack finds nothing wrong with any of them."""
    views = [
        *(
            modals.reason(action, ORIGIN, headline, needed=needed)
            for action in ("approve", "reject")
            for needed in (True, False)
        ),
        modals.respond(ORIGIN, headline, needed=True),
        modals.comment(ORIGIN, headline),
        modals.delegate(ORIGIN, headline, [f"person{at}" for at in range(100)]),
        modals.notice("x" * 24, "words " * 1_000, "https://ok.example"),
        modals.edit(
            Form.of(freeze({"a": 1}), {"properties": {"a": {"type": "integer", "description": "d" * 3_000}}}),
            ORIGIN,
            headline,
        ),
    ]
    views.append(modals.confirm(Origin(ORIGIN.value, ORIGIN.spot, "{}"), headline, ["n" * 2_000] * 60, needed=True))
    for view in views:
        assert view is not None
        assert view_problems(view) == []
    assert modals.delegate(ORIGIN, "h", [f"person{at}" for at in range(101)]) is None
    assert modals.delegate(ORIGIN, "h", ["p" * 76]) is None
    assert modals.delegate(ORIGIN, "h", []) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "1", '{"value":1}', '{"value":"x","spot":"","args":""}',
                                  '{"value":"x","spot":"[1]","args":""}', '{"value":"x","spot":"{}","args":""}',
                                  '{"value":"x","spot":5,"args":""}', '{"value":"x","value":"y","spot":"{}","args":""}', "[" * 9_999])  # fmt: skip
def test_metadata_of_nonsense_is_no_origin(text: str) -> None:
    """Whatever stands there, it is an origin or it is not; nothing raises."""
    assert Origin.of(text) is None


def test_an_origin_comes_back_as_it_went() -> None:
    """With arguments that hold quotes, escapes and emoji."""
    origin = Origin(ORIGIN.value, ORIGIN.spot, json.dumps({"a": '"\\\u202e😀'}))
    assert Origin.of(origin.metadata()) == origin
