"""The writes without scripts, for servers that permit none: WATCH the record, read, decide, MULTI … EXEC.

Each answers what its script would, and is one atomic unit too: EXEC does nothing when somebody changed the record since
it was read, and then all is read anew. It costs two round trips and a connection to oneself in place of one.

``not_after`` cannot be compared inside of EXEC. So a key that expires at that moment is watched beside the record: once
it has, EXEC does nothing, and the second look finds that it is late.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from governor_agents.stores.redis.deciding import Answer, Decided, decide_add, decide_delete, decide_write
from governor_agents.stores.redis.rows import READ
from governor_agents.stores.redis.wire import Command, Reply, Session
from governor_agents.stores.redis.writes import Addition, Around, Removal, Write

_Decide = Callable[[list[Reply], int], Decided]


async def act(
    session: Session, asked: Write | Removal | Addition, around: Around, behind: Sequence[Command]
) -> tuple[list[Reply], Reply]:
    """Do one write: its answer, as of a script, and that of the command ``behind`` it (``WAIT``) if there is one."""
    clock, before, watched, reads, decide = _plan(asked)
    first = [*before, ("WATCH", *watched), ("TIME",), ("GET", clock), *reads]
    over: list[Command] = [("UNLINK", *watched[1:])] if watched[1:] else []  # a deadline may be far away
    while True:
        (seconds, micros), floor, *read = _clean(await session.ask(first))[len(before) + 1 :]
        now = max(int(seconds) * 1_000_000 + int(micros), int(floor or 0), around.seen)
        answer, commands = decide(read, now)
        if not commands:  # it changed nothing, so nobody can have come between
            time: list[Command] = [] if commands is None else [("SET", clock, now), *behind]
            replies = _clean(await session.ask([("UNWATCH",), *over, *time]))
            return _told(answer, now), replies[-1] if behind else None
        whole = [("MULTI",), *commands, *over, ("SET", clock, now), ("EXEC",)]
        replies = await session.ask([*whole, *behind, ("PUBLISH", around.channel, around.writer)])
        done = _clean(replies[: len(whole)])[-1]
        if done is not None:
            _clean(done)
            return _told(answer, now), replies[len(whole)] if behind else None


def _told(answer: Answer, now: int) -> list[Reply]:
    return [answer[0], answer[1], now, *answer[2:]]


def _plan(asked: Write | Removal | Addition) -> tuple[bytes, list[Command], list[bytes], list[Command], _Decide]:
    """The clock, what comes first, what is watched, what is read, and who decides.

    Each set is looked at too: what fails inside of EXEC takes nothing back, so what lies under another's key must be
    found before.
    """
    if isinstance(asked, Addition):
        record, clock, ids = asked.keys
        reads: list[Command] = [("HMGET", record, "v", "ops", "body"), ("EXISTS", record), ("ZCARD", ids)]
        return clock, [], [record], reads, lambda read, now: decide_add(asked, read[0], bool(read[1]))
    record, events, blobs, clock, *sets = asked.keys
    reads = [("HMGET", record, "ops", *READ), ("EXISTS", record), *(("ZCARD", each) for each in sets)]
    if isinstance(asked, Removal):
        return clock, [], [record], reads, lambda read, now: decide_delete(asked, read[0][1:], bool(read[1]))
    used = len(reads) + 1
    reads += [("HLEN", blobs), *(("ZCOUNT", events, seq, seq) for seq, _ in asked.events)]
    before, watched = _deadline(asked, clock)

    def decide(read: list[Reply], now: int) -> Decided:
        return decide_write(asked, read[0][0], read[0][1:], bool(read[1]), read[used:], now)

    return clock, before, [record, *watched], reads, decide


def _deadline(asked: Write, clock: bytes) -> tuple[list[Command], list[bytes]]:
    if asked.not_after is None or not math.isfinite(asked.not_after):
        return [], []
    until = clock + b":" + asked.op.hex().encode()
    return [("SET", until, "1", "PXAT", min(max(1, math.ceil(asked.not_after * 1000)), 2**60))], [until]


def _clean(replies: list[Reply]) -> list[Reply]:
    """The replies, when none is an error; otherwise that is raised."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
