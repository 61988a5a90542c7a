"""Attacks on the forms in which arguments are edited: by what is typed into them, and by a tool's schema."""

from __future__ import annotations

import pytest

from governor_agents.core.calls import freeze
from governor_agents.handlers import forms
from governor_agents.handlers.forms import Form
from governor_agents.handlers.slack.controls import Spot
from governor_agents.handlers.slack.modals import Origin


@pytest.mark.parametrize("args", ({"note": "x"}, {"notes": ["x"]}))
def test_an_escape_of_no_character_is_told_at_its_field(args: dict[str, object]) -> None:
    """Whoever types one is told so; it is no fault of the server's."""
    form = Form.of(freeze(args))
    filled = form.read({field.name: "a \\u{FFFFFF} b" for field in form.fields})
    assert filled.args is None and "names none" in filled.errors["f0"]
    assert form.read({field.name: "a \\u{10FFFF} b" for field in form.fields}).args is not None


def test_a_schema_that_multiplies_makes_few_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small schema that refers to itself for each of many objects would come to 90,000 fields, for every reader."""
    made = 0
    field = forms._field

    def counting(*given: object, **more: object) -> object:
        nonlocal made
        made += 1
        return field(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(forms, "_field", counting)
    names = [f"k{at}" for at in range(300)]
    many = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    schema = {"properties": {name: {"$ref": "#/$defs/many"} for name in names}, "$defs": {"many": many}}
    form = Form.of(freeze({name: {"k0": "x"} for name in names}), schema)
    assert len(form.fields) == 1 and made <= forms.MOST_FIELDS + 2


def test_a_schema_that_branches_is_not_followed_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand ways for a value to fit, each the same large part of the schema: four seconds for whoever looks."""
    made = 0
    resolved = forms._resolved

    def counting(*given: object) -> object:
        nonlocal made
        made += 1
        return resolved(*given)

    monkeypatch.setattr(forms, "_resolved", counting)
    names = [f"k{at}" for at in range(50)]
    for ways in ({"anyOf": [{"$ref": "#/$defs/large"}] * 1000}, {"type": ["object"] * 1000}):
        schema = {"properties": dict.fromkeys(names, ways), "$defs": {"large": {"type": "object", "title": "x"}}}
        form = Form.of(freeze(dict.fromkeys(names, 1)), schema)
        assert [field.kind for field in form.fields] == ["integer"] * 50 and made <= 50 * (forms.MANY_BRANCHES + 1)
        made = 0
    few = Form.of(freeze({"a": "x"}), {"properties": {"a": {"anyOf": [{"type": "integer"}] * 19 + [{"enum": ["x"]}]}}})
    assert few.fields[0].kind == "choice", "control: as many as people write are looked at"


def test_no_repr_holds_arguments() -> None:
    """What is shown in a form, or carried by a modal, ends in no log."""
    form = Form.of(freeze({"iban": "planted", "notes": ["planted"]}))
    origin = Origin("card.tag", Spot("T01", "C1", "1.2"), args='{"iban":"planted"}')
    assert "planted" not in repr(form) + repr(origin)
