"""How often something may be done, counted over all processes: fixed windows of the store's clock.

A window is one counter of the store, raised by its atomic "add unless above", so a limit is exact whatever the number
of processes. Twice the limit can fall into a span that straddles two windows. The counter's id begins with the time at
which its window ends, so that what is over lies first and is swept (`clearing`).
"""

from __future__ import annotations

import secrets
from functools import partial
from hashlib import sha256

from governor_agents.runs import Runs, sent

PREFIX = "limit:"


class Limits:
    """The limits of one tenant. Its coroutines run on the governor loop."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def take(self, name: str, most: int, per: float, op: str = "") -> float:
        """One use of ``name`` out of ``most`` per ``per`` seconds: 0.0 when it is granted, else seconds to wait.

        The same ``op`` again, soon after and in the same window, is not counted again.
        """
        now = await self._runs.now()
        end = (int(now // per) + 1) * per
        id = counter(name, per, end)
        add = partial(self._runs.store.add_below, self._runs.tenant, id, 1, most, op=op or secrets.token_hex(8))
        return 0.0 if await sent(add) is not None else max(0.001, end - now)


def counter(name: str, per: float, end: float) -> str:
    """The id of a window's counter. It tells nothing of the name, which may be somebody's address."""
    what = sha256(f"{per:.3f} {name}".encode("utf-8", "backslashreplace")).hexdigest()[:32]
    return f"{PREFIX}{int(end * 1000):016d}:{what}"


def over(id: str, now: float) -> bool | None:
    """True when this counter's window is over, None when it is no counter of a limit."""
    at = id.removeprefix(PREFIX).partition(":")[0]
    return int(at) / 1000 <= now if id.startswith(PREFIX) and at.isascii() and at.isdigit() else None
