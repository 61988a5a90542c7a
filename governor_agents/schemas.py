"""The schemas of tool parameters that this process has met, by the hash that approvals are bound to.

A pause keeps the schemas of what it asks for beside the snapshot, so that a process which has never seen the tool can
make a form of them. Content under its own hash is the same for everybody, hence one table for the process.
"""

from __future__ import annotations

from collections.abc import Iterable

from governor_agents.core.calls import sha256
from governor_agents.core.driving import Ask
from governor_agents.core.ports import Blob

MAX_BYTES = 65_536
"""A larger schema is not kept: no form could be made of it."""

MAX_KNOWN = 4_096

_known: dict[str, bytes] = {}


def note(schema: bytes) -> str:
    """The hash of a schema's canonical bytes, which are remembered."""
    digest = sha256(schema)
    if len(schema) <= MAX_BYTES and digest not in _known:
        if len(_known) >= MAX_KNOWN:
            _known.pop(next(iter(_known)))
        _known[digest] = schema
    return digest


def blobs(asks: Iterable[Ask]) -> tuple[Blob, ...]:
    """What a pause keeps of the schemas of its calls, as far as they were met here."""
    wanted = dict.fromkeys(ask.call.schema_sha256 for ask in asks if ask.verdict.outcome == "require_approval")
    return tuple(Blob(digest, _known[digest]) for digest in wanted if digest in _known)
