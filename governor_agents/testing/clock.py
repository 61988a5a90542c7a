"""A clock that tests move by hand."""

from __future__ import annotations


class MovableClock:
    """Pass it where a ``clock`` is wanted: ``clock()`` is the time, and only ``move`` changes it."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.time = start

    def __call__(self) -> float:
        """The time, epoch seconds."""
        return self.time

    def move(self, seconds: float) -> float:
        """Go forward, or with a negative number back; the new time."""
        self.time += seconds
        return self.time
