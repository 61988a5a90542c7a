"""The small values of a people file: ids, addresses, days on which somebody is away.

Each function takes what a user wrote and returns the value, or raises `ConfigError` that says how to mend it.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from governor_agents.core.identity import EMAIL
from governor_agents.errors import ConfigError
from governor_agents.policies.values import approver, one_line

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_EMAIL = re.compile(r"[^@:/<>,;\"\\]+@[^@:/<>,;\"\\]+\.[^@:/<>,;\"\\.]+")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

KINDS = ("slack", "email", "oidc", "local")
"""The kinds of address that a people file knows."""


def name_of(value: object) -> str:
    """The id of a person, or the name of a role: letters, digits, dots, dashes. Other letters look alike too easily."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ConfigError(f"{one_line(value, 40)!r} is no id; write letters, digits, '.', '_' and '-', such as alice")
    return value


def address(kind: str, value: object) -> str:
    """An address in its one form, as policies and channels write it: ``slack:T01/U02``, ``ops@example.com``."""
    if not isinstance(value, str):
        raise ConfigError(f"an address is text; put {value!r} in quotes")
    if kind == EMAIL and not _EMAIL.fullmatch(value):
        raise ConfigError(f"{one_line(value, 60)!r} is no e-mail address; write it like ops@example.com")
    return approver(value if kind == EMAIL else f"{kind}:{value}" if value else value)


def zone(value: object) -> tzinfo:
    """A time zone by its IANA name."""
    try:
        if isinstance(value, str):
            return ZoneInfo(value)
    except (OSError, ValueError, KeyError):  # that there is none by a name is a KeyError
        pass
    mend = "write an IANA name such as Europe/Berlin (where the system has no zones: pip install tzdata)"
    raise ConfigError(f"unknown time zone {one_line(value, 40)!r}; {mend}")


def moment(value: object, here: tzinfo, *, last: bool = False) -> float:
    """Epoch seconds of a day (``2026-12-24``, to its end when it is the ``last``) or a time (``2026-12-24T12:00``).

    Without an offset of its own the time is that of the file's zone.
    """
    try:
        if not isinstance(value, str):
            raise ValueError
        if _DAY.fullmatch(value):
            day = date.fromisoformat(value) + timedelta(days=1 if last else 0)
            return datetime.combine(day, time(), here).timestamp()
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo is not None else found.replace(tzinfo=here)).timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(f"{one_line(value, 40)!r} is no day; write 2026-12-24 or 2026-12-24T12:00") from None
