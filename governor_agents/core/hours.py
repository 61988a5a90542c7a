"""Quiet hours: times of the week in which nobody is expected to decide; no deadline counts them.

An hour is quiet by the wall clock of the zone: where the clock is set forward or back, what it shows counts, so a night
of nine hours is quiet for nine. Time is counted in the pieces between two moments at which that may change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from governor_agents.core.calls import CLOSED
from governor_agents.errors import ConfigError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

MIDNIGHT = 24 * 60
"""Minutes of a day of the wall clock."""

LATEST = 250_000_000_000.0
"""A moment (epoch seconds) from which on no calendar is asked any more."""

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From ``start`` to ``end`` (``18:00``, ``08:00``; past midnight when the end is not later) and on whole ``days``.

    ``zone`` is an IANA name; times are the wall clock there.
    """

    __pydantic_config__ = CLOSED

    zone: str = "UTC"
    start: str = ""
    end: str = ""
    days: tuple[str, ...] = ()


def check(quiet: QuietHours) -> None:
    """Raise `ConfigError` for hours that say nothing, that cannot be read, or that leave no time to decide in."""
    if _zone(quiet.zone) is None:
        raise ConfigError(f"unknown time zone {quiet.zone!r}; name it like Europe/Berlin or UTC")
    if not quiet.days and not quiet.start and not quiet.end:
        raise ConfigError("quiet hours need a start and an end, or days")
    if bool(quiet.start) is not bool(quiet.end):
        raise ConfigError("quiet hours have a start and an end; give both")
    for at in filter(None, (quiet.start, quiet.end)):
        if not _CLOCK.fullmatch(at):
            raise ConfigError(f"{at!r} is no time of day; write it like 08:00 or 18:30")
    for day in quiet.days:
        if day not in DAYS:
            raise ConfigError(f"{day!r} is no day; write {', '.join(DAYS)}")
    if quiet.start and quiet.start == quiet.end:
        raise ConfigError(f"quiet hours from {quiet.start} to {quiet.end} last all day; nobody could ever decide")
    if set(quiet.days) == set(DAYS):
        raise ConfigError("quiet hours on all seven days leave no time to decide in")


def after(start: float, seconds: float, quiet: QuietHours | None) -> float:
    """The moment at which ``seconds`` outside of quiet hours have passed since ``start`` (both epoch seconds).

    Hours that this machine cannot read (a zone it does not know) are not counted: the deadline is then the earlier one.
    """
    zone = None if quiet is None else _zone(quiet.zone)
    if quiet is None or zone is None or not _leaves_time(quiet):
        return start + seconds
    at, left = start, seconds
    while at < LATEST:
        upto = _next_change(at, quiet, zone)
        if not _holds(quiet, datetime.fromtimestamp(at, zone)):
            if at + left <= upto:
                return at + left
            left -= upto - at
        at = upto
    return at


def _leaves_time(quiet: QuietHours) -> bool:
    try:
        check(quiet)
    except ConfigError:
        return False
    return True


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo | None:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def _holds(quiet: QuietHours, local: datetime) -> bool:
    """True when the wall clock shows a quiet time."""
    if DAYS[local.weekday()] in quiet.days:
        return True
    if not quiet.start:
        return False
    now, begin, end = local.hour * 60 + local.minute, _minutes(quiet.start), _minutes(quiet.end)
    return begin <= now < end if begin < end else now >= begin or now < end


def _next_change(at: float, quiet: QuietHours, zone: tzinfo) -> float:
    """The next moment at which it may become quiet, or stop being so: by the clock, or because the clock is set."""
    local = datetime.fromtimestamp(at, zone)
    now = local.hour * 3600 + local.minute * 60 + local.second + local.microsecond / 1e6
    marks = [60 * _minutes(clock) for clock in (quiet.start, quiet.end) if clock] + [60 * MIDNIGHT]
    upto = at + min(mark - now for mark in marks if mark > now)
    offset = local.utcoffset()
    return upto if _offset(upto, zone) == offset else _clock_set(at, upto, zone)


def _offset(at: float, zone: tzinfo) -> timedelta | None:
    return datetime.fromtimestamp(at, zone).utcoffset()


def _clock_set(low: float, high: float, zone: tzinfo) -> float:
    """The second between these two at which the clock is set."""
    was, first, last = _offset(low, zone), int(low), int(high) + 1
    while last - first > 1:
        middle = (first + last) // 2
        first, last = (middle, last) if _offset(middle, zone) == was else (first, middle)
    return float(max(last, low))
