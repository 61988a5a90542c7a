"""Is the worker behind an owner of a claim dead? Asked before a call in doubt may be asked for again.

"Dead" is said only of what cannot come back: a process id that is gone, is a zombie, or belongs to a process that
started at another time. A process id means something only on one boot of one machine, in one pid namespace: containers
may share a host's name, and even their ids. So an owner carries a mark of where its id is valid; an owner of elsewhere,
or of a form that is not known here, is neither dead nor alive but unknown.

What this cannot see: a program that the worker started and that outlives it, a process that was frozen into a file and
wakes up from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

_OWNER = re.compile(
    r"(?P<host>.+)/(?P<pid>[1-9]\d{0,9})/(?P<born>\d{1,16})/(?P<place>[0-9a-f]{12})/(?P<ticks>\d{1,20})"
)
_ZOMBIE = ("Z", "X", "x")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as ``/proc`` shows it: state letter, threads, and its start in clock ticks since the boot."""

    state: str
    threads: int
    start: int

    @property
    def over(self) -> bool:
        """True when nothing of it runs any more. (A process whose first thread has ended looks like a zombie too.)"""
        return self.state in _ZOMBIE and self.threads <= 1


def look(pid: int) -> Process | None:
    """The process, None when ``/proc`` does not show it."""
    try:
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return Process(fields[0].decode(), int(fields[17]), int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None


def place() -> str:
    """A mark of where this process's id is valid, 12 hex digits; empty when that cannot be known."""
    try:
        if (PROC / "self").readlink().name != str(os.getpid()):  # the /proc of another pid namespace
            return ""
        parts = [(PROC / "sys/kernel/random/boot_id").read_text(), str((PROC / "self/ns/pid").readlink())]
    except OSError:
        return _without_proc()
    with contextlib.suppress(OSError):  # start times are shown in the reader's own time namespace
        parts.append(str((PROC / "self/ns/time").readlink()))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


def _without_proc() -> str:
    """On systems without ``/proc``: the machine, by its network card; empty when it has none that is fixed."""
    card = uuid.getnode()
    invented = bool(card >> 40 & 1)
    return "" if PROC.exists() or invented else f"{card:012x}"


_lock = threading.Lock()
_me = ""


def _forget() -> None:
    """A forked child is a worker of its own, also when it gets the pid of one that is gone."""
    global _me, _lock
    _me, _lock = "", threading.Lock()


os.register_at_fork(after_in_child=_forget)


def this_worker() -> str:
    """This process as an owner of claims: host, pid, when it first worked (ms), where the pid is valid, its start."""
    global _me
    with _lock:
        if not _me:
            own = look(os.getpid())
            where, start = place(), own.start if own else 0
            tail = f"/{where}/{start}" if where else ""
            _me = f"{socket.gethostname()}/{os.getpid()}/{int(time.time() * 1000)}{tail}"
        return _me


def is_dead(owner: str) -> bool | None:
    """True when the worker is dead, False when it lives, None when that cannot be told from here."""
    if owner == this_worker():
        return False
    named, here = _OWNER.fullmatch(owner), _OWNER.fullmatch(this_worker())
    if named is None or here is None or named["place"] != here["place"] or named["host"] != here["host"]:
        return None
    pid, start = int(named["pid"]), int(named["ticks"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's, but it is there
    except (OSError, OverflowError):
        return None
    found = look(pid)
    if found is None or not start:  # hidden from us, or no way to tell who has the number now
        return None
    return found.start != start or found.over


def dead_among(owners: Iterable[str]) -> frozenset[str]:
    """Those of the owners that are dead for certain."""
    return frozenset(owner for owner in owners if is_dead(owner))
