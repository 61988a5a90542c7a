"""What the scripts decide, as pure functions, for servers that permit no scripts.

Each is given what was read of the record and gives the answer and the commands that make it true: none at all when
nothing is to be written but the time, None when not even that.
"""

from __future__ import annotations

import re
from typing import Any

from governor_agents.core.ports import OPS_KEPT
from governor_agents.stores.redis.keys import END, FIELDS, MARK
from governor_agents.stores.redis.wire import Command
from governor_agents.stores.redis.writes import Addition, Removal, Write

Answer = tuple[Any, ...]
"""What happened, the version (or the sum), and the record's fields where it was lost or late."""

Decided = tuple[Answer, list[Command] | None]


def decide_write(asked: Write, ops: bytes | None, row: list[Any], exists: bool, used: list[int], now: int) -> Decided:
    """As ``write.lua``. ``row`` holds the fields of `rows.READ`; ``used`` says of each event how often its seq is."""
    v = row[0]
    if v is None:
        if exists or asked.expected:
            return (b"edited" if exists else b"none", b"0"), None
    elif ops and _known(ops, asked.op):
        return (b"won", v), []
    elif v != asked.expected.encode():
        return (b"lost", v, row), None
    elif asked.not_after is not None and asked.not_after < now / 1_000_000:
        return (b"late", v, row), []
    for (seq, _), times in zip(asked.events, used, strict=True):
        if times:
            return (b"event", str(seq).encode()), None
    return (b"won", asked.v.encode()), _written(asked, ops or b"", row)


def decide_delete(asked: Removal, row: list[Any], exists: bool) -> Decided:
    """As ``delete.lua``."""
    v, due, _, *fields = row
    if v is None:
        return ((b"edited", b"0"), None) if exists else ((b"won", b"0"), [])
    if v != asked.v.encode():
        return (b"lost", v), None
    record, events, blobs, _, ids, dues, *by = asked.keys
    commands = [("ZREM", ids, asked.tenant + asked.id), *_move(dues, _dated(asked, due), None)]
    for key, value in zip(by, fields, strict=True):
        commands += _move(key, _valued(asked, value), None)
    return (b"won", b"0"), [*commands, ("UNLINK", record, events, blobs)]


def decide_add(asked: Addition, row: list[Any], exists: bool) -> Decided:
    """As ``add_below.lua``. ``row`` holds version, ops and body."""
    v, ops, body = row
    if v is None and exists:
        return (b"edited", b"0"), None
    if v is not None and not (v.isdigit() and re.fullmatch(rb"-?[0-9]+", body or b"")):
        return (b"edited", b"0"), None
    if ops and _known(ops, asked.op):
        return (b"won", body), []
    total = int(body or b"0") + asked.amount
    if total > asked.limit:
        return (b"refused", b"0"), None
    record, _, ids = asked.keys
    kept = _remembered(ops or b"", asked.op)
    commands: list[Command] = [] if v else [("ZADD", ids, "0", asked.tenant + asked.id)]
    commands.append(("HSET", record, "v", int(v or b"0") + 1, "ops", kept, "body", total))
    return (b"won", str(total).encode()), commands


def _known(ops: bytes, op: bytes) -> bool:
    return op in ops


def _remembered(ops: bytes, op: bytes) -> bytes:
    return (op + ops)[: MARK * OPS_KEPT]


def _written(asked: Write, ops: bytes, row: list[Any]) -> list[Command]:
    v, due, _, *fields = row
    record, events, blobs, _, ids, dues, *by = asked.keys
    commands: list[Command] = [] if v else [("ZADD", ids, "0", asked.tenant + asked.id)]
    commands += _move(dues, _dated(asked, due), _dated(asked, asked.due or None))
    for key, old, new in zip(by, fields, asked.fields, strict=True):
        commands += _move(key, _valued(asked, old), _valued(asked, new))
    given = dict(zip(("due", *FIELDS), (asked.due or None, *asked.fields), strict=True))
    kept: dict[str, str | bytes] = {"v": asked.v, "ops": _remembered(ops, asked.op), "body": asked.body}
    kept |= {name: value for name, value in given.items() if value is not None}
    commands.append(("HSET", record, *(part for pair in kept.items() for part in pair)))
    if v and (gone := [name for name, value in given.items() if value is None]):
        commands.append(("HDEL", record, *gone))
    commands += [("ZADD", events, seq, member) for seq, member in asked.events]
    return commands + [("HSETNX", blobs, digest, data) for digest, data in asked.blobs]


def _move(key: bytes, old: bytes | None, new: bytes | None) -> list[Command]:
    if old == new:
        return []
    removed: list[Command] = [("ZREM", key, old)] if old else []
    return removed + ([("ZADD", key, "0", new)] if new else [])


def _dated(asked: Write | Removal, due: bytes | None) -> bytes | None:
    return None if due is None else asked.tenant + due + asked.id


def _valued(asked: Write | Removal, value: bytes | None) -> bytes | None:
    return None if value is None else asked.tenant + value + END + asked.id
