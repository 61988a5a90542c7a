"""Quiet hours as an author writes them: ``{from: "18:00", to: "08:00", days: [sat, sun], timezone: Europe/Berlin}``."""

from __future__ import annotations

from collections.abc import Mapping

from governor_agents.core.hours import QuietHours, check
from governor_agents.errors import ConfigError
from governor_agents.policies.values import listed, one_line, suggestion, text

KEYS = ("from", "to", "days", "timezone")

NEVER_QUIET = QuietHours()
"""What an author writes, as ``{}``, to have no quiet hours where the default has some."""


def quiet_hours(value: object) -> QuietHours:
    """Quiet hours, from a `QuietHours` or a mapping as in a file; an empty one means none. Raises `ConfigError`."""
    found = value if isinstance(value, QuietHours) else _from_mapping(value)
    if not (found.start or found.end or found.days):
        return NEVER_QUIET
    check(found)
    return found


def _from_mapping(value: object) -> QuietHours:
    if not isinstance(value, Mapping):
        raise ConfigError(f'must be written like {{from: "18:00", to: "08:00"}}, not {one_line(value, 40)!r}')
    for key in value:
        if key not in KEYS:
            raise ConfigError(f"unknown key {one_line(key, 40)!r}{suggestion(str(key), KEYS)}")
    times = {name: text(value[key], key) for name, key in (("start", "from"), ("end", "to")) if key in value}
    days = listed(value.get("days", ()), "days", lambda day: text(day, "a day"))
    return QuietHours(text(value.get("timezone", "UTC"), "timezone"), days=days, **times)
