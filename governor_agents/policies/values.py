"""The small values a policy is made of: durations, ids of people, globs, lines of text.

Each function takes what a user wrote and returns the value, or raises `ConfigError` with a message that says what is
wrong and how to mend it. The file reader puts file and line in front of it.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence

from governor_agents.errors import ConfigError

MAX_SECONDS = 3660 * 86_400.0
"""Longest duration a policy may name, in seconds (ten years)."""

MIN_SIZE, MAX_SIZE = 10**3, 10**11
"""Smallest and largest size that a policy may name, in bytes."""

MAX_NAME = 200
"""Longest name, glob or id of a person, in characters."""

MAX_COMPARED = 500
"""How many known names a misspelt one is compared with; comparing is slow."""

GROUP = "group:"
ROLE = "role:"
SLACK = "slack:"

_SLACK_USER = re.compile(r"slack:[TE][A-Z0-9]{1,30}/[UW][A-Z0-9]{1,30}")
_DURATION = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_UNITS = (86_400, 3_600, 60, 1)
_SIZE = re.compile(r"([0-9]{1,12}) ?(B|KB|MB|GB|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TO_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` when something known is close, otherwise the list of what is known."""
    names = sorted(known)[:MAX_COMPARED]
    return near(word, names) or (f"; known: {', '.join(names)}" if 0 < len(names) <= 30 else "")


def near(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` when something known is close, else nothing."""
    close = difflib.get_close_matches(word[:MAX_NAME], sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def one_line(text: object, limit: int = 200) -> str:
    """Text fit for one line of a message: control and format characters escaped, cut at ``limit`` characters."""
    words = " ".join(str(text).split())
    shown = "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in words[:limit])
    return shown + "..." if len(words) > limit else shown


def seconds(value: object) -> float:
    """A duration in seconds, from a number of seconds or from ``1d``, ``4h``, ``1h30m``, ``90s``."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ConfigError(f"a duration is written like 90s, 30m, 4h, 1h30m, 1d or a number of seconds, not {value!r}")
    if isinstance(value, str):
        found = _DURATION.fullmatch(value) if value else None
        if found is None:
            raise ConfigError(f"{one_line(value, 40)!r} is no duration; write it like 90s, 30m, 4h, 1h30m or 1d")
        value = sum(int(count or 0) * unit for count, unit in zip(found.groups(), _UNITS, strict=True))
    if not 0 < value <= MAX_SECONDS:  # false for NaN too
        raise ConfigError("a duration must be longer than zero and at most 3660d")
    return float(value)


def size(value: object) -> int:
    """A number of bytes, from one or from ``500KB``, ``8MB``, ``8MiB``, ``1GB``."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        value = int(found[1]) * _BYTES[found[2]]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{one_line(value, 40)!r} is no size; write it like 500KB, 8MB, 1GB or a number of bytes")
    if not MIN_SIZE <= value <= MAX_SIZE:
        raise ConfigError("a size must be at least 1KB and at most 100GB")
    return value


def text(value: object, what: str = "this") -> str:
    """A non-empty, printable text of one line."""
    if not isinstance(value, str):
        raise ConfigError(f"{what} must be text, not {value!r}")
    if not value.strip() or len(value) > MAX_NAME or not value.isprintable():
        raise ConfigError(f"{what} must be one line of printable text, at most {MAX_NAME} characters")
    return value


def reason_text(value: object) -> str:
    """What people are told: any text of at most 2000 characters."""
    if not isinstance(value, str) or len(value) > 2_000:
        raise ConfigError("a reason is text of at most 2000 characters")
    return value


def expression(value: object) -> str:
    """The text of a condition, not yet compiled."""
    if not isinstance(value, str):
        raise ConfigError(f"a condition is a CEL expression written as text, not {value!r}")
    return value


def flag(value: object) -> bool:
    """True or False; nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise ConfigError(f"must be true or false, not {value!r}")
    return value


def count(value: object) -> int:
    """A whole number from 1 to 1000."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise ConfigError(f"must be a whole number from 1 to 1000, not {value!r}")
    return value


def choice(value: object, known: Sequence[str]) -> str:
    """One of the known words."""
    if value not in known or not isinstance(value, str):
        raise ConfigError(f"must be one of {', '.join(known)}, not {one_line(value, 40)!r}")
    return value


def person_id(id: str) -> str:
    """The one form of a person's id, for policies and for whoever proves an identity.

    Ids are compared exactly. Only e-mail addresses (an ``@`` and no ``scheme:``) are lower-cased, and only A to Z:
    full Unicode lower-casing would make other people's look-alike addresses (a Kelvin sign for a ``k``) equal.
    """
    return id.translate(_TO_LOWER) if "@" in id and ":" not in id else id


def approver(value: object) -> str:
    """An id or address of a person in its one form, ``group:NAME`` or ``role:NAME``."""
    if not isinstance(value, str):
        raise ConfigError(f"an approver is an id in quotes, group:NAME or role:NAME, not {value!r}")
    bad = not value or len(value) > MAX_NAME or not value.isprintable() or any(c.isspace() for c in value)
    if bad or value in (GROUP, ROLE):
        raise ConfigError(f"{one_line(value, 40)!r} is no id; write ops@example.com, local:alice or group:NAME")
    if any(c in value for c in "*?"):
        raise ConfigError(f"{value!r} is no id; approvers are named one by one or as a group, never by a pattern")
    if value.startswith(SLACK) and not _SLACK_USER.fullmatch(value):
        mend = "write its team too, such as slack:T0123ABC/U0456DEF"
        raise ConfigError(f"{one_line(value, 40)!r} is no Slack user; {mend}")
    return value if value.startswith((GROUP, ROLE)) else person_id(value)


def listed(value: object, what: str, read: Callable[[object], str]) -> tuple[str, ...]:
    """A list of texts; a single text stands for a list of one."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):  # a set has no order, and would make another version in each process
        raise ConfigError(f"{what} must be a list, not {value!r}")
    return tuple(read(item) for item in items)


def is_glob(pattern: str) -> bool:
    """Whether the text has ``*``, ``?`` or ``[`` in it."""
    return any(c in pattern for c in "*?[")


def globs(value: object, what: str) -> tuple[str, ...]:
    """One glob or a list of them, at least one."""
    found = listed(value, what, lambda item: text(item, what))
    if not found:
        raise ConfigError(f"{what} must name at least one pattern; write '*' for all")
    return found


def matcher(patterns: Iterable[str]) -> Callable[[str], object]:
    """A function that says whether a whole text matches one of the globs; upper and lower case differ."""
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns)).match
