r"""Text as people may see it: whatever hides, moves or looks like nothing is written out as ``\u{XXXX}``.

The display is reversible. ``\u{`` in a displayed text is always the beginning of an escape: a backslash that stands
before ``u{`` in the original is itself escaped, all other backslashes stay. So `parse_visible` gives back exactly what
`visible` was given, and two different texts never look the same for a reason that a reader cannot see (letters of
different scripts that share a shape excepted).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Me", "Zl", "Zp", "Zs"})
"""Controls, format and bidi characters, tags, unassigned, private, surrogates, enclosing marks, separators."""

# Letters, marks and symbols that show nothing: Unicode's Default_Ignorable_Code_Point outside the categories above,
# blanks, the object replacement character, and joiners without a shape.
_BLANK_RANGES = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2800, 0x2800),
    (0x2D7F, 0x2D7F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xFFFC, 0xFFFC),
    (0x1107F, 0x1107F),
    (0x13441, 0x13442),
    (0x16FE4, 0x16FE4),
    (0x1D159, 0x1D159),
    (0xE0000, 0xE0FFF),
)

SPACES = 16
"""Longer runs of spaces could push what follows out of sight; the rest of the run is escaped."""

MARKS = 4
"""More combining marks on one letter than any script needs grow over the lines around it."""

_FROM_THE_RIGHT = frozenset({"R", "AL", "AN"})
_MOVES = _FROM_THE_RIGHT | {"EN"}
_RIGHT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")

_NEEDS_WORK = re.compile(rf"[^\x20-\x7e]+|\\(?=u\{{)|(?<= {{{SPACES}}}) +")
_ESCAPE = re.compile(r"\\u\{([0-9A-F]{4,6})\}")

_Kind = Literal["shown", "base", "mark", "stacker", "hidden"]


def visible(text: str) -> str:
    """The text with everything invisible written out. Never shorter than the text, never more than one line."""
    return _NEEDS_WORK.sub(_work, text)


def visible_json(text: str) -> str:
    """JSON as `visible` shows it, `in_order`."""
    return in_order(visible(text))


def in_order(shown: str) -> str:
    r"""A visible line with JSON in it, so that no two of its values are drawn in each other's place.

    Letters that are read from the right draw the marks between them along: ``["\u05d0","\u05d1"]`` would be seen with
    its second item first. So the quote that ends such a text is written out where another one, or a number, follows
    without a letter that is read from the left. The ``u`` of the escape is one.
    """
    if not _RIGHT.search(shown):
        return shown
    right, end, escaped, ends = False, -1, False, set()
    for at, character in enumerate(shown):
        kind = unicodedata.bidirectional(character)
        if kind in _MOVES:
            if end >= 0:
                ends.add(end)
                right, end = False, -1
            right = right or kind in _FROM_THE_RIGHT
        elif kind == "L":
            right, end = False, -1
        elif character == '"' and right and end < 0 and not escaped:
            end = at
        escaped = character == "\\" and not escaped
    return "".join(_escape(each) if at in ends else each for at, each in enumerate(shown))


def parse_visible(shown: str) -> str:
    """The text that `visible` or `visible_json` was given."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), shown)


def _escape(character: str) -> str:
    return f"\\u{{{ord(character):04X}}}"


@lru_cache(maxsize=4096)
def _kind(character: str) -> _Kind:
    category = unicodedata.category(character)
    code = ord(character)
    if category in HIDDEN_CATEGORIES or any(low <= code <= high for low, high in _BLANK_RANGES):
        return "hidden"
    if category in ("Mn", "Mc"):
        placed = unicodedata.combining(character)
        # An overlay (class 1) strikes its letter out; a virama (class 9) may show nothing but a changed neighbour.
        return "hidden" if placed == 1 else "stacker" if placed == 9 else "mark"
    return "base" if category.startswith("L") else "shown"


def _work(found: re.Match[str]) -> str:
    run, start = found[0], found.start()
    if run[0] in " \\":
        return "".join(map(_escape, run))
    before = found.string[start - 1] if start else ""
    base, marks = (before if before.isalpha() else ""), 0
    shown = []
    for character in run:
        kind = _kind(character)
        if kind in ("mark", "stacker"):
            # A mark may only change the letter it stands on, never the quotes and braces of the display.
            own = kind == "mark" or (base and ord(base) >> 7 == ord(character) >> 7)
            fits = bool(base) and marks < MARKS and own
            shown.append(character if fits else _escape(character))
            base, marks = (base, marks + 1) if fits else ("", 0)
        else:
            shown.append(_escape(character) if kind == "hidden" else character)
            base, marks = (character if kind == "base" else ""), 0
    return "".join(shown)
