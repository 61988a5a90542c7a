"""What a namespace says of itself: the version of its layout, and over how many partitions it is spread."""

from __future__ import annotations

from typing import Final

from governor_agents.errors import StoreError, StoreTooNew, UnsafeStore
from governor_agents.stores.redis.keys import Keys
from governor_agents.stores.redis.place import MAX_PARTITIONS, Place
from governor_agents.stores.redis.servers import Servers
from governor_agents.stores.redis.wire import Command, Reply

SCHEMA: Final = 1
"""The layout that this version reads and writes."""

_SPREAD: Final = {"cluster": 16}
"""Over how many partitions a new namespace is spread, unless the URL says so."""


async def settle(servers: Servers, place: Place) -> Keys:
    """The keys of this namespace, which is made when it is new.

    Raises `StoreTooNew`, `UnsafeStore` when its records are spread in another way than the URL says, `StoreError` when
    something else lies there, and what connections raise.
    """
    key = Keys(place.namespace).store
    read: list[Command] = [("HMGET", key, "schema", "partitions"), ("EXISTS", key)]
    found, exists = await _asked(servers, read)
    if not exists:
        spread = place.partitions or _SPREAD.get(place.form, 1)
        make: list[Command] = [
            ("HSETNX", key, "partitions", spread),
            ("HSETNX", key, "schema", SCHEMA),
        ]  # the first one decides
        found = (await _asked(servers, [*make, *read]))[2]
    numbers = [int(each) for each in found if each is not None and each.isdigit()]
    if len(numbers) != len(found):
        raise StoreError(f"{place.shown}: {key.decode()} is not as we write it; name another namespace=")
    schema, spread = numbers
    if schema > SCHEMA:
        raise StoreTooNew(
            f"{place.shown}: layout {schema} of namespace {place.namespace} is newer than {SCHEMA}, the newest that "
            "this governor-agents knows; upgrade it, or name another namespace="
        )
    if not 1 <= spread <= MAX_PARTITIONS or place.partitions not in (0, spread):
        raise UnsafeStore(
            f"{place.shown}: the records of namespace {place.namespace} are spread over {spread} partitions; write "
            f"partitions={spread}, or leave it out"
        )
    return Keys(place.namespace, spread)


async def _asked(servers: Servers, commands: list[Command]) -> list[Reply]:
    replies = await servers.ask(0, commands)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
