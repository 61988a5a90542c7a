"""The times of a demand, fixed when it is made: until when a stage is asked, and when people are reminded."""

from __future__ import annotations

from collections.abc import Collection

from governor_agents.core.hours import QuietHours, after
from governor_agents.core.verdicts import Stage


def stage_end(stages: tuple[Stage, ...], at: int, now: float, quiet: QuietHours | None) -> float | None:
    """When the stage is passed over, None when it has no time of its own."""
    within = stages[at].within if at < len(stages) else None
    return None if within is None else after(now, within, quiet)


def reminders(every: Collection[float], quiet: QuietHours | None, now: float, expires: float) -> tuple[float, ...]:
    """When people are reminded of what they are asked now: so many seconds after each time, before the deadline, in
    order, each time once.
    """
    times = {after(now, seconds, quiet) for seconds in every}
    return tuple(sorted(at for at in times if now < at < expires))
