"""How often something may be done, counted over all processes: fixed windows of the store's clock.

A window is one counter of the store, raised by its atomic "add unless above", so a limit is exact whatever the number
of processes. Twice the limit can fall into a span that straddles two windows.
"""

from __future__ import annotations

import secrets
from functools import partial
from hashlib import sha256

from governor_agents.runs import Runs, sent


class Limits:
    """The limits of one tenant. Its coroutines run on the governor loop."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def take(self, name: str, most: int, per: float) -> float:
        """One use of ``name`` out of ``most`` per ``per`` seconds: 0.0 when it is granted, else seconds to wait."""
        now = await self._runs.now()
        window = int(now // per)
        id = f"limit:{sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:32]}:{int(per)}:{window}"
        op = secrets.token_hex(8)
        taken = await sent(partial(self._runs.store.add_below, self._runs.tenant, id, 1, most, op=op))
        return 0.0 if taken is not None else max(0.001, (window + 1) * per - now)
