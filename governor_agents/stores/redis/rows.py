"""Records as they stand in Redis, read back. What somebody edited by hand is said to be so, and is nobody's body."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from governor_agents.core.codec import refused
from governor_agents.core.ports import Record
from governor_agents.errors import StoreError
from governor_agents.stores.arguments import APART
from governor_agents.stores.redis.keys import FIELDS, plain, time

READ: Final = ("v", "due", "body", *FIELDS)
"""The fields of a record's hash that make a `Record`, in the order in which they are asked for."""

Values = Sequence[bytes | None]


def record_of(kind: str, tenant: str, id: str, values: Values) -> Record:
    """The record of these values of `READ`. Raises `StoreError` when they are none that we wrote."""
    v, due, body, *fields = values
    try:
        if v is None or body is None or not v.isdigit():
            raise ValueError("it has no version or no body")
        return Record(
            kind=kind,
            tenant=tenant,
            id=id,
            v=int(v),
            due=None if due is None else time(due),
            body=body,
            index={name: plain(value) for name, value in zip(FIELDS, fields, strict=True) if value is not None},
        )
    except (ValueError, struct.error) as error:
        raise edited(kind, id, str(error)) from error


def edited(kind: str, id: str, why: str = "it has no version or no body") -> StoreError:
    """The error for a record that is not as we write them."""
    return StoreError(f"{kind} {id}: what is stored was not written by us ({why}); put back what stood there")


def listed(kind: str, tenant: str, id: str, values: Values, due: float | None = None) -> Record | None:
    """The same for lists: None when there is none any more; one that cannot be read has the reason for a body.

    ``due`` is what the list says of it. Raises `StoreError` for kinds whose records do not stand each for itself.
    """
    if all(value is None for value in values):
        return None
    try:
        return record_of(kind, tenant, id, values)
    except StoreError as error:
        if kind not in APART:
            raise
        return Record(kind=kind, tenant=tenant, id=id, body=refused(str(error)), due=due)
