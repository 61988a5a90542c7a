"""Quiet hours: a deadline counts working time, by the wall clock of a zone, also where that clock is set."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from governor_agents.core import hours
from governor_agents.core.hours import DAYS, QuietHours, after, check
from governor_agents.errors import ConfigError

BERLIN = QuietHours("Europe/Berlin", "18:00", "08:00", ("sat", "sun"))
HOUR = 3600.0


def at(text: str, zone: str = "Europe/Berlin") -> float:
    """A moment as a wall clock shows it."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def shown(moment: float, zone: str = "Europe/Berlin") -> str:
    """What the wall clock shows then."""
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("start", "waits", "end"),
    [
        ("2026-11-30T10:00", 4 * HOUR, "2026-11-30 14:00"),
        ("2026-11-30T16:00", 4 * HOUR, "2026-12-01 10:00"),
        ("2026-12-04T17:00", 2 * HOUR, "2026-12-07 09:00"),
        ("2026-12-05T12:00", HOUR, "2026-12-07 09:00"),
        ("2026-11-30T16:00", 2 * HOUR, "2026-11-30 18:00"),
        ("2026-10-23T16:00", 4 * HOUR, "2026-10-26 10:00"),  # over the end of summer time
        ("2026-03-27T16:00", 4 * HOUR, "2026-03-30 10:00"),  # and over its beginning
    ],
)
def test_a_deadline_counts_working_time(start: str, waits: float, end: str) -> None:
    """Nights and week-ends are not counted; the hours named are those of the clock on the wall."""
    assert shown(after(at(start), waits, BERLIN)) == end


def test_without_quiet_hours_time_runs_on() -> None:
    """The control: none, or none that can be read here, and every second counts."""
    assert after(100.0, 50.0, None) == 150.0
    assert after(100.0, 50.0, QuietHours("Nowhere/At_all", "18:00", "08:00")) == 150.0
    assert after(100.0, 50.0, QuietHours("UTC", days=DAYS)) == 150.0


def is_quiet(moment: float, quiet: QuietHours) -> bool:
    """The same, said again of the texts that a clock on the wall shows."""
    local = datetime.fromtimestamp(moment, ZoneInfo(quiet.zone))
    now, start, end = local.strftime("%H:%M"), quiet.start, quiet.end
    if DAYS[local.weekday()] in quiet.days:
        return True
    return start != end and (start <= now < end if start < end else not end <= now < start)


def by_minutes(start: float, seconds: float, quiet: QuietHours) -> float:
    """The same, said again by looking at each minute."""
    moment = start
    while seconds > 0:
        if not is_quiet(moment, quiet):
            seconds -= 60.0
        moment += 60.0
    return moment


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca")


def generated(dice: random.Random) -> tuple[float, float, QuietHours]:
    """Quiet hours, and a start within two days of a moment at which some clock is set."""
    begin, end = dice.sample(range(0, 1440, 15), 2)
    clock = [f"{minute // 60:02}:{minute % 60:02}" for minute in (begin, end)]
    days = tuple(dice.sample(DAYS, dice.randint(0, 3)))
    quiet = QuietHours(dice.choice(ZONES), *(clock if dice.random() < 0.8 or not days else ("", "")), days)
    around = dice.choice(["2026-03-29", "2026-03-08", "2026-10-25", "2026-11-01", "2026-04-05", "2026-10-04"])
    start = datetime.fromisoformat(around) + timedelta(minutes=dice.randint(-2880, 2880))
    return start.replace(tzinfo=ZoneInfo("UTC")).timestamp(), 60.0 * dice.randint(1, 1500), quiet


def differing(count: int) -> int:
    """How many generated deadlines differ from those counted minute by minute."""
    dice = random.Random(7)
    return sum(after(*case) != by_minutes(*case) for case in (generated(dice) for _ in range(count)))


def test_every_minute_of_a_deadline_is_a_working_minute() -> None:
    """Over the days at which clocks are set, in six zones: 300 deadlines counted in two ways."""
    assert differing(300) == 0


def test_counting_without_a_look_at_the_clock_being_set_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: as if every day had 24 hours."""
    monkeypatch.setattr(hours, "_clock_set", lambda low, high, zone: high)
    assert differing(300) > 0


@pytest.mark.parametrize(
    ("quiet", "said"),
    [
        (QuietHours("Mars/Base", "18:00", "08:00"), "unknown time zone 'Mars/Base'"),
        (QuietHours("../etc/passwd", "18:00", "08:00"), "unknown time zone"),
        (QuietHours("UTC"), "need a start and an end, or days"),
        (QuietHours("UTC", "18:00"), "give both"),
        (QuietHours("UTC", "6pm", "08:00"), "'6pm' is no time of day"),
        (QuietHours("UTC", "24:00", "08:00"), "'24:00' is no time of day"),
        (QuietHours("UTC", days=("funday",)), "'funday' is no day"),
        (QuietHours("UTC", "08:00", "08:00"), "nobody could ever decide"),
        (QuietHours("UTC", days=DAYS), "leave no time"),
    ],
)
def test_hours_that_cannot_be_are_refused(quiet: QuietHours, said: str) -> None:
    """One line that says what is wrong; hours that leave no time to decide in are no quiet hours."""
    with pytest.raises(ConfigError, match=said):
        check(quiet)


def test_hours_that_can_be_are_taken() -> None:
    """The control."""
    check(BERLIN)
    check(QuietHours(days=("sun",)))


def test_a_deadline_ten_years_away_is_found() -> None:
    """The longest duration that a policy may name."""
    assert shown(after(at("2026-11-30T16:00"), 3660 * 86_400.0, BERLIN))[:4] == "2060"
