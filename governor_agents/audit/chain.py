"""One chain of events per run: each holds the hash of the one before it.

An event is written in the same store write as the transition it tells of. Its bytes are canonical JSON with ``seq``
(from 1, without gaps), ``at`` (epoch seconds), ``what``, and ``prev``, the SHA-256 of the previous event's bytes (empty
for the first).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from governor_agents.core.calls import freeze, sha256
from governor_agents.core.ports import StoredEvent
from governor_agents.core.records import Event, Run, evolve


def append(run: Run, events: Iterable[Event], at: float) -> tuple[Run, tuple[StoredEvent, ...]]:
    """The run with its chain moved on, and the events as bytes."""
    seq, prev = run.seq, run.chain
    stored = []
    for event in events:
        seq += 1
        body = freeze(_line(event, seq, prev, at, run))
        stored.append(StoredEvent(seq, body))
        prev = sha256(body)
    return evolve(run, seq=seq, chain=prev), tuple(stored)


def _line(event: Event, seq: int, prev: str, at: float, run: Run) -> dict[str, Any]:
    line: dict[str, Any] = {"seq": seq, "at": float(at), "what": event.what, "run": run.id, "prev": prev}
    if event.n is not None:
        line["n"] = event.n
    if event.tool:
        line["tool"] = event.tool
    if event.by:
        line["by"] = event.by
    return {**line, **{key: value for key, value in event.detail if value != ""}}


def read(events: Iterable[StoredEvent]) -> list[dict[str, Any]]:
    """The events as plain objects."""
    return [json.loads(event.body) for event in events]


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
