"""Records as bytes: JSON of a closed shape, with a schema version in front. Nothing is revived by name.

A record of a newer schema is refused with `StoreTooNew` before anything else looks at it. Schema 2 came with seats,
hand-overs, comments, reminders and notices in hand: what a version without them would have to forget. Records of
schema 1 are read, and written as schema 2 with their next change.
"""

from __future__ import annotations

import re

from pydantic import TypeAdapter, ValidationError

from governor_agents.core.records import Call, Run
from governor_agents.errors import SealBroken, SnapshotError, StoreTooNew

RUN_SCHEMA = 2

SEALED = b"ga-sealed-1:"
"""How every sealed text begins; no record in clear does."""

_REFUSED = SEALED + b"!"

_HEAD = re.compile(rb'\{"schema":(\d{1,6}),"run":')
_RUN: TypeAdapter[Run] = TypeAdapter(Run)
_CALLS: TypeAdapter[tuple[Call, ...]] = TypeAdapter(tuple[Call, ...])


def encode_run(run: Run) -> bytes:
    """The run as stored; fields that hold their default are left out."""
    return b'{"schema":%d,"run":%s}' % (RUN_SCHEMA, _RUN.dump_json(run, exclude_defaults=True))


def refused(why: str) -> bytes:
    """What stands for the body of a record that its store refuses to give; `check_given` raises it as `SealBroken`."""
    return _REFUSED + why.encode()


def was_refused(body: bytes) -> bool:
    """True when this stands for a body that was refused."""
    return body.startswith(_REFUSED)


def check_given(body: bytes) -> None:
    """Raises `SealBroken` when this stands for a body that was refused."""
    if was_refused(body):
        raise SealBroken(body[len(_REFUSED) :].decode(errors="replace"))


def decode_run(body: bytes) -> Run:
    """The run from its bytes. Raises `StoreTooNew`, `SnapshotError` or `SealBroken`; never a half-read record."""
    check_given(body)
    if body.startswith(SEALED):
        raise SealBroken("a stored run is sealed, and no keys are set; GOVERNOR_KEYS names the key file")
    head = _HEAD.match(body)
    if head is None or not body.endswith(b"}"):
        raise SnapshotError("a stored run is not readable: it does not begin like one")
    if int(head[1]) > RUN_SCHEMA:
        raise StoreTooNew(f"a stored run has schema {int(head[1])}, this version reads up to {RUN_SCHEMA}; upgrade")
    try:
        return _RUN.validate_json(body[head.end() : -1])
    except ValidationError as error:
        first = error.errors()[0]
        raise SnapshotError(
            f"a stored run is not readable: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None


def encode_calls(calls: tuple[Call, ...]) -> bytes:
    """The calls of a closed generation."""
    return _CALLS.dump_json(calls, exclude_defaults=True)


def decode_calls(data: bytes) -> tuple[Call, ...]:
    """The calls of a closed generation. Raises `SnapshotError`."""
    try:
        return _CALLS.validate_json(data)
    except ValidationError as error:
        raise SnapshotError(f"the calls of a closed generation are not readable: {error.errors()[0]['msg']}") from None
