"""One chain of events per run: each holds the hash of the one before it.

An event is written in the same store write as the transition it tells of. Its bytes are canonical JSON with ``seq``
(from 1, without gaps), ``at`` (epoch seconds), ``what``, and ``prev``, the SHA-256 of the previous event's bytes (empty
for the first). The SHA-256 of the last event is the chain's **head**, which stands in the record.

With an audit key each event also holds ``mac``: HMAC-SHA-256 over all the rest of it, ``prev`` included. So the chain
is keyed, and whoever lacks the key can add, change and reorder nothing; and yet its heads can be computed by an
auditor who has no secret at all, only the signed checkpoints and their public key.

**One chain may be both.** A run that began before keys were set has events without ``mac``, then with. The other
way round is refused here, and found by whoever verifies: a chain that was keyed stays keyed.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any

from governor_agents.core.calls import freeze, sha256, thaw
from governor_agents.core.ports import StoredEvent
from governor_agents.core.records import Event, Run, evolve
from governor_agents.errors import ArgumentsError, ConfigError, SnapshotError

SCHEME = "hmac-sha256"
"""Stands before the digits of ``mac``."""


def minute(at: float) -> int:
    """The minute of a time, counted from the epoch: what records are listed by to find those with new events."""
    return int(at // 60.0)


def append(
    run: Run, events: Iterable[Event], at: float, key: bytes | None = None
) -> tuple[Run, tuple[StoredEvent, ...]]:
    """The run with its chain moved on, and the events as bytes; keyed when there is a ``key``.

    Raises `ConfigError` when the run's chain is keyed and there is no key to go on with.
    """
    lines = [_line(event, at, run) for event in events]
    if not lines:
        return run, ()
    if run.keyed and key is None:
        raise ConfigError(f"the audit trail of run {run.id} is keyed, and no keys are set here; set GOVERNOR_KEYS")
    seq, head, stored = extend(lines, run.seq, run.chain, key)
    if key is None:
        return evolve(run, seq=seq, chain=head), stored
    return evolve(run, seq=seq, chain=head, keyed=True, chained=at), stored


def _line(event: Event, at: float, run: Run) -> dict[str, Any]:
    line: dict[str, Any] = {key: value for key, value in event.detail if value != ""}
    line |= {"at": float(at), "what": event.what, "run": run.id}
    if event.n is not None:
        line["n"] = event.n
    if event.tool:
        line["tool"] = event.tool
    if event.by:
        line["by"] = event.by
    return line


def extend(
    lines: Iterable[Mapping[str, Any]], seq: int, head: str, key: bytes | None
) -> tuple[int, str, tuple[StoredEvent, ...]]:
    """These lines chained behind ``head``: the new last ``seq``, the new head, the events as bytes."""
    stored = []
    for line in lines:
        seq += 1
        chained = {**line, "seq": seq, "prev": head}
        if key is not None:
            chained["mac"] = mac(chained, key)
        body = freeze(chained)
        stored.append(StoredEvent(seq, body))
        head = sha256(body)
    return seq, head, tuple(stored)


def mac(line: Mapping[str, Any], key: bytes) -> str:
    """The ``mac`` of an event: over everything else that stands in it."""
    plain = freeze({name: value for name, value in line.items() if name != "mac"})
    return f"{SCHEME}:{hmac.digest(key, plain, 'sha256').hex()}"


def parse(body: bytes) -> dict[str, Any] | None:
    """The event as a plain object; None when the bytes are not canonical JSON, as every event's are."""
    try:
        line = thaw(body)
        return line if isinstance(line, dict) and freeze(line) == body else None
    except ArgumentsError:
        return None


def read(events: Iterable[StoredEvent]) -> list[dict[str, Any]]:
    """The events as plain objects. Raises `SnapshotError` for one that is not readable."""
    return [_read(event) for event in events]


def _read(event: StoredEvent) -> dict[str, Any]:
    line = parse(event.body)
    if line is None:
        raise SnapshotError(f"event {event.seq} is not readable: it is not as it was written")
    return line


def verify(events: Iterable[StoredEvent], head: str) -> str:
    """Empty when the events are one unbroken chain that ends in ``head``, else what is wrong with it."""
    prev = ""
    for expected, event in enumerate(events, 1):
        line = json.loads(event.body)
        if line["seq"] != expected or event.seq != expected:
            return f"event {expected} is missing"
        if line["prev"] != prev:
            return f"event {expected} does not follow the one before it"
        prev = sha256(event.body)
    return "" if prev == head else "the last events are missing"
