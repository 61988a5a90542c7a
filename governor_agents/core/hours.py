"""Quiet hours: times of the week in which nobody is expected to decide; no deadline counts them."""

from __future__ import annotations

from dataclasses import dataclass

from governor_agents.core.calls import CLOSED

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


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
