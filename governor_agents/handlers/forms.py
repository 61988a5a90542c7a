"""A form for editing the arguments of a call, made from the tool's JSON schema: one model for every channel.

Where the schema is not known, or does not fit a stored value, the value itself says what field it gets; whatever has no
field of its own is edited as JSON. A form that comes back as it was made stands for exactly the stored bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import islice
from typing import Any

from governor_agents.core.calls import Json, freeze, thaw
from governor_agents.errors import ArgumentsError
from governor_agents.handlers.fields import ABSENT, LONG, Absent, Field, Kind, WrongText, fits, show
from governor_agents.handlers.message import under
from governor_agents.handlers.visible import visible

__all__ = ["ABSENT", "Absent", "Field", "Filled", "Form", "Kind", "WrongText"]

MOST_FIELDS = 60
"""More fields than this are no form any more: the arguments are edited as one JSON text."""

DEEP = 4
"""Objects nested deeper than this are edited as JSON."""

MANY_ITEMS = 200
MANY_CHOICES = 500
MANY_REFS = 20
MANY_BRANCHES = 20
"""More ways than this in which a value may fit are not tried: each may name the whole schema, for every field."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A form as it came back: the new arguments as canonical bytes, None when there are errors.

    ``errors`` has one line for each field that does not fit, by the field's name; under an empty name what is wrong
    with the whole. ``changed`` are the labels of the fields that differ from what is stored.
    """

    args: bytes | None = field(repr=False)
    errors: Mapping[str, str] = field(default_factory=dict)
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """The fields for editing these arguments, in order. The same arguments and schema give the same form."""

    args: bytes = field(repr=False)
    fields: tuple[Field, ...]

    @classmethod
    def of(cls, args: bytes, schema: Json = None) -> Form:
        """The form for frozen arguments; ``schema`` is the tool's JSON schema where it is known."""
        value = thaw(args)
        root = schema if isinstance(schema, dict) else {}
        fields = _object(value, root, root, ()) if isinstance(value, dict) else iter(())
        found = list(islice(fields, MOST_FIELDS + 1))  # a schema may come to millions
        if not found or len(found) > MOST_FIELDS:
            found = [_field((), value, {}, True, "json")]
        return cls(args, tuple(replace(each, name=f"f{at}") for at, each in enumerate(found)))

    def read(self, given: Mapping[str, str]) -> Filled:
        """What the texts in the fields, by their names, stand for. Raises nothing: what is wrong is told by field."""
        value, errors, changed = thaw(self.args), {}, []
        for each in self.fields:
            try:
                if each.name not in given:
                    raise WrongText("this field did not come back")
                now = each.read(given[each.name])
            except WrongText as error:
                errors[each.name] = str(error)
                continue
            if _differs(now, each.was):
                changed.append(each.label)
                value = _put(value, each.path, now)
        if errors:
            return Filled(None, errors)
        try:
            if not isinstance(value, dict):
                raise ArgumentsError('the arguments must be one JSON object, such as {"amount": 5}')
            return Filled(freeze(value), {}, tuple(changed))
        except ArgumentsError as error:
            return Filled(None, {self.fields[0].name if len(self.fields) == 1 else "": visible(str(error))})


def _differs(one: Json, other: Json) -> bool:
    if one is ABSENT or other is ABSENT:
        return one is not other
    return freeze(one) != freeze(other)


def _put(value: Json, path: tuple[str, ...], now: Json) -> Json:
    """The value with another one at this path; objects on the way are there, since fields are made of what is."""
    if not path:
        return now
    at = value
    for key in path[:-1]:
        at = at[key]
    if now is ABSENT:
        at.pop(path[-1], None)
    else:
        at[path[-1]] = now
    return value


def _object(value: dict[str, Json], schema: Json, root: Json, path: tuple[str, ...]) -> Iterator[Field]:
    """The fields of an object: those that its schema names, in its order, then whatever else is there."""
    named = schema.get("properties")
    named = named if isinstance(named, dict) else {}
    needed = schema.get("required")
    needed = needed if isinstance(needed, list) else []
    for key in (*named, *sorted(set(value) - set(named))):
        if not isinstance(key, str):
            continue
        yield from _member((*path, key), value.get(key, ABSENT), named.get(key, {}), root, key in needed)


def _member(path: tuple[str, ...], value: Json, schema: Json, root: Json, needed: bool) -> Iterator[Field]:
    whole = _resolved(schema, root)
    branches = [_resolved(each, root) for each in _branches(whole)]
    nullable = any(each.get("type") == "null" for each in branches) or value is None
    known = [each for each in branches if each.get("type") != "null"] or [{}]
    for branch in known:
        if isinstance(value, dict) and value and len(path) < DEEP and _kind(branch, value) is None:
            yield from _object(value, branch, root, path)
            return
        kind, values = _kind_and_values(branch, value)
        if kind is not None and (value is ABSENT or value is None or fits(kind, value, values)):
            made = _field(path, value, {**branch, **_words(whole)}, needed, kind, values)
            yield _with_empty(made, nullable)
            return
    yield _with_empty(_field(path, value, _words(whole), needed, "json"), nullable)


def _words(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: schema[key] for key in ("description", "title") if key in schema}


def _kind_and_values(schema: Mapping[str, Any], value: Json) -> tuple[Kind | None, tuple[Json, ...]]:
    """The kind of field for a value under a schema, and what it can be chosen from; None when JSON is all there is."""
    kind = _kind(schema, value)
    if kind == "choice":
        listed = schema["enum"] if "enum" in schema else [schema["const"]]
        return kind, tuple(listed)
    if kind == "boolean":
        return kind, (True, False)
    if kind == "lines":
        items = schema.get("items", {}).get("type") if isinstance(schema.get("items"), dict) else None
        whole = items == "integer" or (items is None and isinstance(value, list) and type((value or [""])[0]) is int)
        return kind, ("integer",) if whole else ("string",)
    return kind, ()


def _kind(schema: Mapping[str, Any], value: Json) -> Kind | None:
    if "const" in schema or isinstance(schema.get("enum"), list):
        listed = schema.get("enum", [schema.get("const")])
        plain = all(each is None or isinstance(each, str | int | float) for each in listed)
        return "choice" if plain and 0 < len(listed) <= MANY_CHOICES else None
    match schema.get("type", _type_of(value)):
        case "string":
            return "date" if schema.get("format") == "date" and (value is ABSENT or fits("date", value)) else "text"
        case "integer":
            return "integer"
        case "number":
            return "number"
        case "boolean":
            return "boolean"
        case "array":
            items = schema.get("items")
            listed = items.get("type") if isinstance(items, dict) and "enum" not in items else None
            short = not isinstance(value, list) or len(value) <= MANY_ITEMS
            given = isinstance(value, list) and bool(value) and items is None
            return "lines" if short and (listed in ("string", "integer") or given) else None
    return None


def _type_of(value: Json) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "")


def _resolved(schema: Json, root: Json) -> dict[str, Any]:
    """The schema behind local references; an empty one where they lead nowhere."""
    for _ in range(MANY_REFS):
        if not isinstance(schema, dict):
            return {}
        only = schema.get("allOf")
        if isinstance(only, list) and len(only) == 1 and isinstance(only[0], dict):
            schema = {**only[0], **{key: item for key, item in schema.items() if key != "allOf"}}
        if not isinstance(schema.get("$ref"), str):
            return dict(schema)
        around = {key: item for key, item in schema.items() if key != "$ref"}
        found = _at(root, schema["$ref"])
        schema = {**found, **around} if isinstance(found, dict) else around
    return {}


def _at(root: Json, pointer: str) -> Json:
    if not pointer.startswith("#/"):
        return None
    at = root
    for part in pointer[2:].split("/"):
        at = at.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(at, dict) else None
    return at


def _branches(schema: dict[str, Any]) -> list[Json]:
    """The ways in which a value may fit; a list of types is one way for each."""
    for keyword in ("anyOf", "oneOf"):
        listed = schema.get(keyword)
        if isinstance(listed, list) and listed:
            return listed if len(listed) <= MANY_BRANCHES else [{}]
    types = schema.get("type")
    if isinstance(types, list) and len(types) <= MANY_BRANCHES:
        return [{**schema, "type": each} for each in types]
    if "type" in schema and not isinstance(types, str):
        return [{key: item for key, item in schema.items() if key != "type"}]
    return [schema]


def _field(
    path: tuple[str, ...],
    value: Json,
    schema: Mapping[str, Any],
    needed: bool,
    kind: Kind,
    values: tuple[Json, ...] = (),
) -> Field:
    shown = show(kind, value, values)
    words = schema.get("description") or _telling(schema.get("title"), path)
    return Field(
        name="",
        path=path,
        label=visible(reduce(under, path, "")) or "arguments",
        kind=kind,
        shown=shown,
        required=needed,
        choices=_labels(values) if kind in ("boolean", "choice") else (),
        hint=visible(words) if isinstance(words, str) else "",
        long=kind in ("json", "lines") or len(shown) > LONG or "\n" in shown,
        was=value,
        values=values,
        schema=schema,
    )


def _telling(title: Json, path: tuple[str, ...]) -> Json:
    """A title, unless it is the name once more: pydantic makes ``Order Id`` of ``order_id``."""
    name = path[-1].replace("_", " ") if path else ""
    return "" if isinstance(title, str) and title.casefold() == name.casefold() else title or ""


def _labels(values: tuple[Json, ...]) -> tuple[str, ...]:
    """Texts as they are, unless that could be taken for another value."""
    texts = [each if isinstance(each, str) and each.strip() else freeze(each).decode() for each in values]
    if len(set(texts)) < len(texts):
        texts = [freeze(each).decode() for each in values]
    return tuple(map(visible, texts))


def _with_empty(made: Field, nullable: bool) -> Field:
    """The field with what it stands for when it is left empty.

    Where that is what is stored (nothing, null, an empty text or list) it stays so. Else it is the least that the
    schema allows: the argument is left out, or null, or an empty text or list.
    """
    if made.shown == "":
        empty: tuple[Any] | None = None if made.was is ABSENT and made.required else (made.was,)
    elif not made.required and made.path:
        empty = (ABSENT,) if not nullable else (None,)
    else:
        blank = {"text": ("",), "lines": ([],)}.get(made.kind)
        empty = (None,) if nullable else blank
    return replace(made, empty=empty, required=empty is None)
