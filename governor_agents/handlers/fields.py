r"""One field of a form in which a person edits an argument: what it shows, and what a text typed into it means.

A field holds text. Texts are shown as `visible` shows them, so that nothing in them hides, and read back by its rule:
``\u{200B}`` typed into a field is that character. Line breaks inside a text stay line breaks; white space at its ends
is written out, since browsers and Slack may drop it. Numbers are read exactly or refused, never rounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

from governor_agents.core.calls import Json, freeze, freeze_text, thaw
from governor_agents.errors import ArgumentsError
from governor_agents.handlers.visible import parse_visible, visible, visible_json

Kind = Literal["text", "date", "integer", "number", "boolean", "choice", "lines", "json"]

LONG = 80
"""A text of more characters gets room for several lines."""


class Absent:
    """What stands for an argument that is not there."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


class WrongText(ValueError):
    """A text that does not fit its field; the message tells whoever typed it what would."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``name`` is opaque and stays the same for the same request, ``label`` is the argument's path, visible.

    ``shown`` is what it holds at first. Of a ``boolean`` and a ``choice``, ``choices`` are the labels, and the text is
    the place of one of them (``0``, ``1`` ...). ``lines`` holds one item on each line. ``required`` fields may not be
    left empty. ``long`` asks for room for several lines. ``was`` is the stored value, `ABSENT` for none; ``empty`` what
    an empty field stands for, None when it may not be empty (a JSON null is ``(None,)``).
    """

    name: str
    path: tuple[str, ...]
    label: str
    kind: Kind
    shown: str = field(repr=False)
    required: bool = False
    choices: tuple[str, ...] = ()
    hint: str = ""
    long: bool = False
    was: Any = field(default=ABSENT, repr=False)
    values: tuple[Json, ...] = field(default=(), repr=False)
    empty: tuple[Any] | None = field(default=None, repr=False)
    schema: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def read(self, text: str) -> Any:
        """The value that this text stands for, `ABSENT` for none. Raises `WrongText`."""
        text = text.replace("\r\n", "\n")
        if text == self.shown:
            return self.was
        if not text.strip():
            if self.empty is None:
                raise WrongText("this may not be empty")
            return self.empty[0]
        value = _READERS[self.kind](self, text)
        _within(self, value)
        return value


def show(kind: Kind, value: Json, values: tuple[Json, ...] = ()) -> str:
    """What a field of this kind holds when the argument has this value."""
    if value is ABSENT or value is None:
        return ""
    match kind:
        case "text" | "date":
            return _show_text(value)
        case "boolean" | "choice":
            return str(_place(value, values))
        case "lines":
            return "\n".join(_show_line(item) for item in value)
        case "json":
            return _show_json(value)
    return freeze(value).decode()


def fits(kind: Kind, value: Json, values: tuple[Json, ...] = ()) -> bool:
    """True when a field of this kind can show the value and give it back."""
    match kind:
        case "text":
            return isinstance(value, str)
        case "date":
            return isinstance(value, str) and _is_date(value)
        case "integer":
            return type(value) is int
        case "number":
            return type(value) in (int, float)
        case "boolean" | "choice":
            return _place(value, values) >= 0
        case "lines":
            one_kind = {type(item) for item in value} if isinstance(value, list) else set()
            return isinstance(value, list) and (not value or one_kind in ({str}, {int})) and "" not in value
    return True


def _place(value: Json, values: tuple[Json, ...]) -> int:
    """Where the value stands among these; 1, 1.0 and true are three."""
    own = freeze(value)
    return next((at for at, each in enumerate(values) if freeze(each) == own), -1)


def _show_text(text: str) -> str:
    shown = "\n".join(visible(line) for line in text.split("\n"))
    return _WHITE_ENDS.sub(lambda found: "".join(f"\\u{{{ord(each):04X}}}" for each in found[0]), shown)


def _show_line(item: Json) -> str:
    if not isinstance(item, str):
        return freeze(item).decode()
    return _WHITE_ENDS.sub(lambda found: "\\u{0020}" * len(found[0]), visible(item))


def _show_json(value: Json) -> str:
    """Indented JSON; whatever could hide stands there as ``\\uXXXX``, JSON's own escape."""
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)
    hides = any(visible_json(line) != line for line in (part.lstrip(" ") for part in text.split("\n")))
    return json.dumps(value, ensure_ascii=True, indent=2, sort_keys=True) if hides else text


_WHITE_ENDS = re.compile(r"\A[ \n]+|[ \n]+\Z")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOST_DIGITS = 4000
"""Python refuses to read longer integers, and so does whatever freezes the arguments."""


def _is_date(text: str) -> bool:
    try:
        return bool(_DATE.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


def _text(own: Field, text: str) -> Json:
    return _plain(text)


def _plain(shown: str) -> str:
    try:
        text = parse_visible(shown)
    except ValueError:  # beyond the last character that there is
        raise WrongText("an escape names a character, such as \\u{200B}; this one names none") from None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise WrongText("this holds a lone surrogate; write it as plain text") from None
    return text


def _date(own: Field, text: str) -> Json:
    if not _is_date(text.strip()):
        raise WrongText("a date is written as 2026-12-31")
    return text.strip()


def _integer(own: Field, text: str) -> Json:
    digits = text.strip()
    if not _INTEGER.fullmatch(digits) or len(digits) > _MOST_DIGITS:
        raise WrongText("a whole number is written with digits alone, such as 1200 or -3")
    return int(digits)


def _number(own: Field, text: str) -> Json:
    """An exact JSON number: one that a float cannot hold is refused, because what ran would not be what was typed."""
    digits = text.strip()
    if not _NUMBER.fullmatch(digits) or len(digits) > _MOST_DIGITS:
        raise WrongText("a number is written as 1200, -3 or 19.99")
    if _INTEGER.fullmatch(digits):
        return int(digits)
    return _exact(digits)


def _exact(digits: str) -> float:
    """The float that is just this number. Raises `WrongText`."""
    value = float(digits)
    if not abs(value) < float("inf"):
        raise WrongText("this number is too large")
    try:
        exact = len(digits) <= _MOST_DIGITS and Decimal(repr(value)) == Decimal(digits)
    except ArithmeticError:  # an exponent beyond all bounds
        exact = False
    if not exact:
        raise WrongText(f"{digits[:40]} cannot be kept exactly; the nearest that can is {value!r}")
    return value


def _choice(own: Field, text: str) -> Json:
    at = text.strip()
    if not re.fullmatch(r"[0-9]{1,4}", at) or int(at) >= len(own.values):
        raise WrongText("this is none of the choices")
    return own.values[int(at)]


def _lines(own: Field, text: str) -> Json:
    items = [line for line in text.split("\n") if line.strip()]
    whole = own.values == ("integer",)
    return [_integer(own, item) if whole else _plain(item) for item in items]


def _json(own: Field, text: str) -> Json:
    try:
        value = thaw(freeze_text(text))
        json.loads(text, parse_float=_exact)
        return value
    except ArgumentsError as error:
        raise WrongText(visible(str(error)).replace("arguments are not plain JSON", "this is not plain JSON")) from None


_READERS: dict[Kind, Callable[[Field, str], Json]] = {
    "text": _text,
    "date": _date,
    "integer": _integer,
    "number": _number,
    "boolean": _choice,
    "choice": _choice,
    "lines": _lines,
    "json": _json,
}

_LIMITS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("minimum", "at least {}", lambda value, limit: value >= limit),
    ("maximum", "at most {}", lambda value, limit: value <= limit),
    ("exclusiveMinimum", "more than {}", lambda value, limit: value > limit),
    ("exclusiveMaximum", "less than {}", lambda value, limit: value < limit),
)
_SIZES: tuple[tuple[str, str, Callable[[int, Any], bool]], ...] = (
    ("minLength", "at least {} characters", lambda size, limit: size >= limit),
    ("maxLength", "at most {} characters", lambda size, limit: size <= limit),
    ("minItems", "at least {} lines", lambda size, limit: size >= limit),
    ("maxItems", "at most {} lines", lambda size, limit: size <= limit),
)


def _within(own: Field, value: Json) -> None:
    """What the schema says of size; whatever else it says, the tool itself checks. Raises `WrongText`."""
    sized = _LIMITS if own.kind in ("integer", "number") else _SIZES if own.kind in ("text", "lines") else ()
    measure = value if sized is _LIMITS else len(value) if sized else 0
    for keyword, words, holds in sized:
        limit = own.schema.get(keyword)
        if type(limit) in (int, float) and not holds(measure, limit):
            raise WrongText(f"this must be {words.format(limit)}")
