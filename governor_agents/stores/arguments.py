"""What every store refuses before it touches its data, so that all of them refuse the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from governor_agents.core.ports import INDEX_FIELDS, KINDS, Blob, Record, StoredEvent
from governor_agents.errors import ClockError

APART: Final = frozenset({"audit", "halt", "policy", "run"})
"""Kinds whose records stand each for itself: one that is refused is listed as such, and the others are given."""

MAX_COUNT = 2**53
"""Counters stay within what every store counts exactly (one of them may count in doubles)."""


def check_key(kind: str, tenant: str, id: str) -> None:
    """Raises `ValueError` unless this can name a record."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind of record; kinds are {', '.join(sorted(KINDS))}")
    check_text("tenant", tenant)
    check_text("id", id)


def check_text(what: str, value: object) -> None:
    """Raises `ValueError` unless the value is text that can be stored and is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} must be text that is not empty, not {value!r}")
    if not value.isascii():
        value.encode("utf-8")  # a lone surrogate raises UnicodeEncodeError, which is a ValueError


def check_fields(fields: Mapping[str, str]) -> None:
    """Raises `ValueError` for an index field that is not in `INDEX_FIELDS`, or a value that is not text."""
    for name, value in fields.items():
        if name not in INDEX_FIELDS:
            raise ValueError(f"{name!r} is not an index field; fields are {', '.join(sorted(INDEX_FIELDS))}")
        if not isinstance(value, str):
            raise ValueError(f"index field {name} must be text, not {value!r}")


def check_write(record: Record, op: str, events: Sequence[StoredEvent], blobs: Sequence[Blob]) -> None:
    """Raises `ValueError` unless all of this can be written."""
    check_key(record.kind, record.tenant, record.id)
    check_fields(record.index)
    check_text("op", op)
    if record.v < 0:
        raise ValueError(f"versions count from 1, not {record.v}")
    if record.due is not None and not math.isfinite(record.due):
        raise ValueError(f"due must be a finite time or None, not {record.due}")
    for event in events:
        if event.seq < 1:
            raise ValueError(f"events are numbered from 1, not {event.seq}")
    for blob in blobs:
        check_text("blob id", blob.id)
    for body in (record.body, *(event.body for event in events), *(blob.data for blob in blobs)):
        if not isinstance(body, bytes):
            raise ValueError(f"bodies are bytes, not {type(body).__name__}")


def check_count(key: tuple[str, str, str], amount: int, limit: int, op: str) -> None:
    """Raises `ValueError` for what is no counter, and for numbers that some store could not count exactly."""
    check_key(*key)
    check_text("op", op)
    if max(abs(amount), abs(limit)) > MAX_COUNT:
        raise ValueError(f"counters count up to {MAX_COUNT}")


def told(clock: Callable[[], float]) -> float:
    """What a clock says, epoch seconds. Raises `ClockError` for what is no time, by which nothing would ever expire."""
    now = clock()
    if not math.isfinite(now):
        raise ClockError(f"the clock says {now}")
    return now
