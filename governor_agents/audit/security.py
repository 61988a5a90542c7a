"""The stream of refused requests: who tried to decide what, and why it did not count. Never in the way of the request.

It is apart from the trails of runs, which hold only what happened to them. Each day (UTC) has a record of its own, kept
for `KEPT_DAYS`; its events are chained, keyed and checkpointed like those of a run. A line holds a reason code, the id
as it was given, the person and the channel; no reasons, arguments or other words of a request. That a process opened
the store in spite of unsafe settings stands here as well.

**A flood costs little.** Each (reason, person) has a small allowance, all together another one, a day an upper end.
What goes beyond is counted, and the count is a line. Lines are written behind the request's back; when the store
cannot take them, they are counted too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from governor_agents.audit import chain
from governor_agents.audit.reading import DAY, STREAM, day, head_of, streams
from governor_agents.audit.trail import Head
from governor_agents.core.calls import freeze
from governor_agents.core.ports import Record, Store
from governor_agents.core.urls import shown
from governor_agents.errors import DecisionRefused, GovernorError, IllegalTransition, NotFound, ResolutionRefused

log = logging.getLogger(__name__)

KEPT_DAYS = 30
"""Days after which a day's stream is removed."""

DAILY = 5_000
"""The most lines of a day."""

BURST, REFILL = 10, 6.0
"""Lines that one (reason, person) may cause at once, and seconds until it may cause one more."""

A_MINUTE = 60
"""Lines that all of them together may cause in a minute."""

SAID_AFTER = 60.0
"""Seconds after which dropped lines are counted in the stream, when nothing else is written before."""

_KNOWN = 1_000
_WAITING = 200
_TRIES = 5
_CLOSING = 2.0

Spawn = Callable[[Coroutine[Any, Any, Any]], None]


def stream_of(at: float) -> str:
    """The id of the record that takes what is refused on that day."""
    return STREAM + day(at)


class Allowance:
    """Token buckets: one for each name, a new one for whoever was longest not heard of, and one for all together."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, ...], tuple[float, float]] = OrderedDict()

    def grants(self, name: tuple[str, ...], now: float) -> bool:
        """True when one more line may be caused; takes it from the allowance. ``now`` in seconds of any clock."""
        return self._take(name, now, BURST, REFILL) and self._take((), now, A_MINUTE, 60.0 / A_MINUTE)

    def _take(self, name: tuple[str, ...], now: float, burst: float, refill: float) -> bool:
        left, at = self._buckets.pop(name, (burst, now))
        left = min(burst, left + max(0.0, now - at) / refill)
        good = left >= 1.0
        self._buckets[name] = (left - 1.0 if good else left, now)
        while len(self._buckets) > _KNOWN:
            self._buckets.popitem(last=False)
        return good


class Refusals:
    """Notes what is refused. ``spawn`` starts a coroutine on the governor loop without waiting for it."""

    def __init__(
        self,
        store: Store,
        tenant: str,
        key: bytes | None,
        spawn: Spawn,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._key = key
        self._spawn = spawn
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = asyncio.Lock()
        self._allowance = Allowance()
        self._lines: list[dict[str, Any]] = []
        self._dropped = 0
        self._will_say = False

    @contextmanager
    def watched(self, asked: str, id: str, *, by: str, channel: str = "") -> Iterator[None]:
        """Whatever is refused inside the block is noted, and raised as it was."""
        try:
            yield
        except (DecisionRefused, IllegalTransition, NotFound, ResolutionRefused) as error:
            with contextlib.suppress(Exception):  # a line that cannot be noted must not change the answer
                self.note(asked, error.code, id, by=by, channel=channel)
            raise

    def note(self, asked: str, reason: str, id: str, *, by: str, channel: str = "") -> None:
        """One refused request, to be written soon. From any thread; takes microseconds and waits for nothing."""
        line = {
            "what": f"refused.{reason}",
            "asked": _short(asked, 100),
            "id": _short(id, 100),
            "by": _short(by, 200),
            "channel": _short(channel, 50),
        }
        with self._lock:
            if len(self._lines) < _WAITING and self._allowance.grants((reason, line["by"]), self._clock()):
                self._lines.append({name: text for name, text in line.items() if text})
                self._spawn(self.flush())
                return
        self._drop(1)

    def _drop(self, count: int) -> None:
        """Count lines that are not written, and see to it that the count is."""
        with self._lock:
            self._dropped += count
            first, self._will_say = not self._will_say, True
        if first:
            self._spawn(self._say_later())

    async def unsafe(self, lines: Sequence[str], *, by: str) -> None:
        """The store was opened although its settings are unsafe: written on return. Raises `StoreError`."""
        detail = "; ".join(lines)
        log.warning("%s is used with unsafe=allow: %s", shown(self._store.url.partition("?")[0]), detail)
        async with self._writing:
            left = await self._write([{"what": "store.unsafe", "by": by, "detail": _short(detail, 1000)}])
        if left:  # the day is full, or others write all the time
            self._drop(left)

    async def flush(self) -> None:
        """Write what was noted. Raises nothing: what the store does not take is counted as dropped."""
        async with self._writing:
            with self._lock:
                lines, self._lines = self._lines, []
                dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append({"what": "refused.dropped", "count": dropped})
            if not lines:
                return
            try:
                left = await self._write(lines)
            except (GovernorError, ValueError):
                left = len(lines)
            with self._lock:
                self._dropped += sum(line.get("count", 1) for line in lines[len(lines) - left :])

    async def close(self) -> None:
        """Write what was noted, unless that takes long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING):
                await self.flush()

    async def _say_later(self) -> None:
        await asyncio.sleep(SAID_AFTER)
        with self._lock:
            self._will_say = False
        await self.flush()

    async def _write(self, lines: list[dict[str, Any]]) -> int:
        """Chain the lines behind those of today; how many of the last ones found no room."""
        for _ in range(_TRIES):
            now = await self._store.now()
            id = stream_of(now)
            record = await self._store.load("audit", self._tenant, id)
            if record is None:
                await self._remove_old(now)
            head = Head("audit", id, 0, "", 0) if record is None else head_of(record)
            room = max(0, DAILY - head.seq)
            dated = [{**line, "stream": id, "at": now} for line in lines[:room]]
            full = room <= len(lines)
            if dated and full:  # the last line says that no more will come
                dated[-1] = {"what": "refused.full", "stream": id, "at": now}
            if not dated:
                return len(lines)
            seq, last, events = chain.extend(dated, head.seq, head.head, self._key)
            fresh = Record("audit", self._tenant, id, freeze({"seq": seq, "chain": last}), v=head.v)
            write = self._store.swap if record is not None else self._store.insert
            if (await write(fresh, op=secrets.token_hex(8), events=events)).won:
                return len(lines) - len(dated) + full
        return len(lines)

    async def _remove_old(self, now: float) -> None:
        oldest = stream_of(now - KEPT_DAYS * DAY)
        async for record in streams(self._store, self._tenant):
            if record.id >= oldest:
                return
            await self._store.delete("audit", self._tenant, record.id, record.v)


def _short(text: object, most: int) -> str:
    """At most this much of a text of foreign origin, without what is no text."""
    return str(text)[:most].encode("utf-8", "backslashreplace").decode()
