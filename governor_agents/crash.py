"""Named points at which a test may kill this process, as a power cut would. Nothing happens unless one is armed.

``GOVERNOR_CRASH=NAME`` (or ``NAME:2``: the second time it is reached) arms a process from its start, `arm` a forked
child. The kill is a real SIGKILL: no handler, no ``finally``, no flush.

Names: each write of a run is named after the first event it leaves (``call.executing:before`` and ``:after``, which is
reached only when the write stands; `runs.Runs.change` names those that leave none). Around the tool, the stretch of a
loop, a notice and a look at due work stand points of their own.
"""

from __future__ import annotations

import os
import signal
import threading

ANY = "*"
"""Every point: armed with a count, it is a moment and not a place."""


class _Point:
    """The one armed point of this process: its name, and how often it is still to be passed."""

    def __init__(self, name: str, nth: int) -> None:
        self.name = name
        self.left = nth
        self.lock = threading.Lock()

    def reached(self) -> bool:
        """True the n-th time; points are reached from several threads."""
        with self.lock:
            self.left -= 1
            return self.left == 0


_armed: _Point | None = None
_seen: list[str] | None = None


def crash_point(name: str) -> None:
    """Die here when this point is armed."""
    if _armed is None and _seen is None:
        return
    if _seen is not None:
        _seen.append(name)
    if _armed is not None and _armed.name in (name, ANY) and _armed.reached():
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()  # a signal to the whole process may reach another thread first; this one goes no further


def arm(name: str, nth: int = 1) -> None:
    """Kill this process the ``nth`` time it reaches the point, or any point (`ANY`); an empty name disarms."""
    global _armed
    _armed = _Point(name, nth) if name else None


def parsed(text: str) -> tuple[str, int]:
    """Name and count of ``NAME`` or ``NAME:2``, as ``GOVERNOR_CRASH`` gives them."""
    name, _, nth = text.rpartition(":")
    return (name, int(nth)) if name and nth.isascii() and nth.isdigit() else (text, 1)


def watch() -> None:
    """Note from now on which points are reached, for `points`."""
    global _seen
    _seen = []


def points() -> tuple[str, ...]:
    """The points reached since `watch`, in order, each as often as it was reached."""
    return tuple(_seen or ())


arm(*parsed(os.environ.get("GOVERNOR_CRASH", "")))
