"""Forms for editing arguments: exact in both directions, whatever the schema says or leaves out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governor_agents.core.calls import freeze, thaw
from governor_agents.handlers.forms import MOST_FIELDS, Field, Form

REFUND: dict[str, Any] = {
    "type": "object",
    "properties": {
        "order": {"type": "string", "description": "The order's number"},
        "amount": {"type": "integer", "minimum": 1, "maximum": 10**30},
        "rate": {"type": "number"},
        "urgent": {"type": "boolean"},
        "currency": {"enum": ["EUR", "USD"]},
        "due": {"type": "string", "format": "date"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "tags": {"type": "array", "items": {"type": "string"}},
        "to": {"$ref": "#/$defs/Party"},
        "items": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["order", "amount", "to"],
    "$defs": {"Party": {"type": "object", "properties": {"name": {"type": "string"}, "id": {"type": "integer"}}}},
}
ARGS = {
    "order": "4711",
    "amount": 123456789012345678901234567890,
    "rate": 0.1,
    "urgent": False,
    "currency": "EUR",
    "due": "2026-12-31",
    "note": None,
    "tags": ["a", "b c"],
    "to": {"name": "Ada\nL.", "id": 7, "odd key": True},
    "items": [{"n": 1}],
}


def shown(form: Form) -> dict[str, str]:
    return {field.name: field.shown for field in form.fields}


def by_label(form: Form) -> dict[str, Field]:
    return {field.label: field for field in form.fields}


def edit(form: Form, **texts: str) -> Any:
    """The form read with some fields, by label, holding other texts."""
    fields = by_label(form)
    return form.read({**shown(form), **{fields[label].name: text for label, text in texts.items()}})


def test_a_schema_gives_each_argument_its_kind_of_field() -> None:
    """Texts, whole numbers, decimals, choices, dates, lists, nested objects and what is left for JSON."""
    kinds = {field.label: field.kind for field in Form.of(freeze(ARGS), REFUND).fields}
    assert kinds == {
        "order": "text",
        "amount": "integer",
        "rate": "number",
        "urgent": "boolean",
        "currency": "choice",
        "due": "date",
        "note": "text",
        "tags": "lines",
        "to.name": "text",
        "to.id": "integer",
        'to["odd key"]': "boolean",
        "items": "json",
    }


@pytest.mark.parametrize(
    ("schema", "hint"),
    [
        ({"title": "Order Id"}, ""),  # the name once more, as pydantic writes it
        ({"title": "Number on the invoice"}, "Number on the invoice"),
        ({"title": "Order Id", "description": "With its check digit"}, "With its check digit"),
        ({"title": 5}, ""),
    ],
)
def test_a_hint_says_more_than_the_label(schema: dict[str, Any], hint: str) -> None:
    """What repeats the label is left out."""
    [made] = Form.of(freeze({"order_id": "4711"}), {"properties": {"order_id": {"type": "string", **schema}}}).fields
    assert (made.label, made.hint) == ("order_id", hint)


def test_without_a_schema_the_values_say_which_field_they_get() -> None:
    """No schema, an empty one and one of nonsense give a form all the same."""
    for schema in (None, {}, {"properties": 3}, [1], {"properties": {"order": {"$ref": "#/nowhere"}, "amount": 5}}):
        form = Form.of(freeze(ARGS), schema)
        assert by_label(form)["amount"].kind == "integer"
        assert form.read(shown(form)).args == freeze(ARGS)


def test_an_edit_changes_what_it_names_and_nothing_else() -> None:
    """One field changed is one argument changed; its label is told."""
    filled = edit(Form.of(freeze(ARGS), REFUND), amount="5", currency="1")
    assert filled.errors == {}
    assert filled.changed == ("amount", "currency")
    assert thaw(filled.args) == {**ARGS, "amount": 5, "currency": "USD"}


@pytest.mark.parametrize("label, text", [
    ("amount", "1.5"), ("amount", "1e3"), ("amount", "0"), ("amount", "012"), ("amount", ""), ("amount", "٣"),
    ("amount", "9" * 5000), ("rate", "0.1000000000000000055"), ("rate", "1e999"), ("rate", "nan"), ("rate", "0x1"),
    ("urgent", "2"), ("urgent", "yes"), ("currency", "-1"), ("due", "2026-02-30"), ("due", "tomorrow"),
    ("items", '{"a":1,"a":2}'), ("items", "[NaN]"), ("items", "["), ("items", "[" * 5000), ("order", "\\u{D800}"),
])  # fmt: skip
def test_what_does_not_fit_is_told_at_its_field(label: str, text: str) -> None:
    """A wrong text is an error of that field alone, and there are no new arguments."""
    form = Form.of(freeze(ARGS), REFUND)
    filled = edit(form, **{label: text})
    assert filled.args is None
    assert list(filled.errors) == [by_label(form)[label].name]
    assert "\n" not in filled.errors[by_label(form)[label].name]


@pytest.mark.parametrize("text, value", [
    ("19.99", 19.99), ("5", 5), ("5.0", 5.0), ("-0.5", -0.5), ("1e3", 1000.0), (str(10**400), 10**400),
])  # fmt: skip
def test_numbers_are_read_exactly(text: str, value: float) -> None:
    """Whole numbers of any size stay whole, decimals stay what was typed."""
    filled = edit(Form.of(freeze(ARGS), REFUND), rate=text)
    assert freeze(thaw(filled.args)["rate"]) == freeze(value)


def test_a_float_reader_that_rounds_would_be_seen() -> None:
    """Negative control: a plain float() turns this text into another number without a word."""
    text = "0.1000000000000000055"
    assert repr(float(text)) != text
    assert edit(Form.of(freeze(ARGS), REFUND), rate=text).args is None


@pytest.mark.parametrize(
    "text", ["12345678901234567.89", "[0.1, 0.1000000000000000055]", '{"a": 1e-99999999999999999999}']
)
def test_numbers_within_json_are_read_exactly_too(text: str) -> None:
    """What has no field of its own is typed as JSON, and approved as typed: no number in it becomes another one."""
    form = Form.of(freeze({"more": {}}))
    filled = form.read({"f0": text})
    assert filled.args is None and "cannot be kept exactly" in filled.errors["f0"]
    kept = '[1.50, 19.99, 1E3, 10000000000000000000000, -0.0, {"a": 1e-7}]'
    assert form.read({"f0": kept}).args == freeze({"more": thaw(kept)})


def test_an_empty_field_is_the_least_that_the_schema_allows() -> None:
    """Left out where that is allowed, null where that is, else the empty text; what was empty stays as it was."""
    form = Form.of(freeze({**ARGS, "note": "hello", "order": "x"}), REFUND)
    filled = edit(form, note="", order="", tags="", due="")
    now = thaw(filled.args)
    assert now["note"] is None
    assert now["order"] == ""
    assert "tags" not in now
    assert "due" not in now
    empty = freeze({"order": "", "amount": 1, "note": None, "tags": [], "to": {}})
    again = Form.of(empty, REFUND)
    assert again.read(shown(again)).args == empty


def test_a_field_that_did_not_come_back_is_an_error() -> None:
    """A form that lost a field on its way is not read as unchanged."""
    form = Form.of(freeze(ARGS), REFUND)
    given = shown(form)
    del given["f1"]
    assert form.read(given).errors == {"f1": "this field did not come back"}


def test_nothing_hides_in_a_field() -> None:
    """Bidi, zero-width and controls are written out in texts, lists and JSON, and come back as they were."""
    args = {"text": "a\u202eb\u200b ", "list": ["\u2066x", " y"], "json": [{"k\u200d": "\u202e"}], "nl": "\n\n"}
    form = Form.of(freeze(args))
    for field in form.fields:
        assert not any(ord(character) > 0x7E for character in field.shown)
    assert edit(form).args == freeze(args)
    assert thaw(edit(form, text="\\u{202E}").args)["text"] == "\u202e"


def test_browsers_line_ends_change_nothing() -> None:
    """A text area sends CRLF for a line break; an untouched text is untouched."""
    args = freeze({"text": "one\ntwo", "list": ["a", "b"]})
    form = Form.of(args)
    assert form.read({name: text.replace("\n", "\r\n") for name, text in shown(form).items()}).args == args


def test_too_many_fields_are_one_json_text() -> None:
    """Past a limit the whole is one field, exact as well; what is no object is refused."""
    args = {f"k{at}": at for at in range(MOST_FIELDS + 1)}
    form = Form.of(freeze(args))
    assert [field.kind for field in form.fields] == ["json"]
    assert form.read(shown(form)).args == freeze(args)
    assert "one JSON object" in form.read({"f0": "[1]"}).errors["f0"]
    assert thaw(form.read({"f0": '{"a": 1}'}).args) == {"a": 1}


def test_choices_that_look_alike_are_told_apart() -> None:
    """The text "1", the number 1 and true are three choices."""
    schema = {"properties": {"pick": {"enum": ["1", 1, True, None]}}}
    form = Form.of(freeze({"pick": 1}), schema)
    assert form.fields[0].choices == ('"1"', "1", "true", "null")
    assert form.fields[0].shown == "1"
    assert thaw(form.read({"f0": "0"}).args) == {"pick": "1"}


def test_schemas_of_nonsense_make_no_trouble() -> None:
    """References in a circle, wrong types of keywords: the value decides."""
    circle = {"properties": {"a": {"$ref": "#/properties/a"}, "b": {"enum": "x"}, "c": {"type": 5}, "d": {"anyOf": []}}}
    args = freeze({"a": 1, "b": "x", "c": None, "d": {"e": [1, "2", None]}})
    form = Form.of(args, circle)
    assert form.read(shown(form)).args == args


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=6), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip
SCHEMAS = st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "null"])


@settings(max_examples=300, deadline=None)
@given(
    args=st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=6), PLAIN, max_size=6),
    types=st.lists(SCHEMAS, min_size=6, max_size=6),
)
def test_an_untouched_form_is_the_stored_bytes(args: dict[str, Any], types: list[str]) -> None:
    """Whatever is stored and whatever the schema claims, nothing changed means the very bytes."""
    named = {key: {"type": kind} for key, kind in zip(args, types, strict=False)}
    for schema in (None, {"properties": named, "required": list(args)}):
        form = Form.of(freeze(args), schema)
        filled = form.read(shown(form))
        assert filled.args == freeze(args), filled.errors
        assert filled.changed == ()


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_a_shown_text_typed_again_is_that_text(text: str) -> None:
    """What a field shows of one text, typed into the field of another, is that one text."""
    other = Form.of(freeze({"text": "other"}))
    typed = Form.of(freeze({"text": text})).fields[0].shown
    if typed:
        assert json.loads(other.read({"f0": typed}).args or b"null") == {"text": text}
