"""The channels of one governor as a worker uses them: each handler started once, and left alone while it is unusable.

A channel that cannot be used (a wrong token, a library that is missing, a server that hangs) is said in one line and
tried again now and then; what it was to tell people stays in the outbox, and the other channels go on.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import cast

from governor_agents.core.channels import Desk, Handler
from governor_agents.errors import DeliveryFailed
from governor_agents.governor import Governor
from governor_agents.worker.bounded import TimedOut, bounded, words

log = logging.getLogger("governor_agents.worker")

START = 20.0
"""Seconds in which a handler must have started."""

FIRST, MOST = 10.0, 300.0
"""Seconds after which an unusable channel is tried again: at first, doubled each time, and at most."""


@dataclass(slots=True)
class _Line:
    """What is known of one handler."""

    handler: Handler | None = None
    trouble: str = ""
    tries: int = 0
    again: float = 0.0
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


class Channels:
    """Handlers by name, all on the event loop of whoever asks. Times are those of the store."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self._lines: dict[str, _Line] = {}

    async def ready(self, name: str, now: float) -> Handler:
        """The started handler of this name. Raises `DeliveryFailed` with the time of the next try."""
        line = self._lines.setdefault(name, _Line())
        async with line.busy:
            handler = line.handler
            if handler is None and now >= line.again:
                handler = await self._start(name, line, now)
        if handler is None:
            raise DeliveryFailed(f"the channel cannot be used: {line.trouble}", retry_after=line.again - now)
        return handler

    async def _start(self, name: str, line: _Line, now: float) -> Handler | None:
        try:
            handler = self._governor.handler(name)
            await bounded(handler.start(cast(Desk, self._governor.desk)), START)
        except TimedOut:
            self._note(name, line, now, f"{name}: it did not start in {START:.0f} seconds")
        except Exception as error:  # whatever is wrong with it, the others go on
            self._note(name, line, now, words(error))
        else:
            if line.trouble:
                log.warning("channel %s can be used again", name)
            line.handler, line.trouble, line.tries = handler, "", 0
        return line.handler

    def _note(self, name: str, line: _Line, now: float, trouble: str) -> None:
        if trouble != line.trouble:
            log.error("channel %s cannot be used: %s; others go on, and it is tried again", name, trouble)
        line.again = now + min(MOST, FIRST * 2.0 ** min(line.tries, 10))
        line.trouble, line.tries = trouble, line.tries + 1

    async def close(self) -> None:
        """Close what was started; a handler that does not let go is left behind. Twice is fine."""
        lines, self._lines = self._lines, {}
        for name, line in lines.items():
            try:
                if line.handler is not None:
                    await bounded(line.handler.close(), START)
            except Exception as error:
                log.warning("channel %s did not close: %s", name, words(error))
