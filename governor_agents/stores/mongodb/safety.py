"""What could lose an acknowledged decision: asked of the server, and of the URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import OperationFailure

from governor_agents.errors import StoreUnavailable
from governor_agents.stores.mongodb.place import Place

OLDEST: Final = 13
"""The wire version of MongoDB 5.0: before it, a majority was nobody's default and changes had no time of their own."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself. ``replicated``: a replica set, or a router of several."""

    replicated: bool


def server_of(hello: Mapping[str, Any], shown: str) -> Server:
    """Read a server's greeting. Raises `StoreUnavailable` for one that cannot do the work."""
    if hello.get("maxWireVersion", 0) < OLDEST:
        raise StoreUnavailable(f"{shown}: the server is older than MongoDB 5.0; upgrade it")
    router = hello.get("msg") == "isdbgrid"
    if not (hello.get("isWritablePrimary") or hello.get("ismaster") or router):
        raise StoreUnavailable(
            f"{shown}: the server is a replica that cannot be written; name the primary, or the whole set with "
            "replicaSet=NAME and without directConnection"
        )
    return Server(replicated=router or bool(hello.get("setName")))


async def unsafe_lines(client: Any, place: Place) -> list[str]:
    """One line per setting that could lose an acknowledged write."""
    return [*place.lines, *engine_lines(await _engine(client))]


async def _engine(client: Any) -> Mapping[str, Any]:
    try:
        status = await client.admin.command({"serverStatus": 1})
    except OperationFailure as error:
        if error.code in (13, 59, 115):  # this user may not ask, or this server does not say
            return {}
        raise
    engine: Mapping[str, Any] = status.get("storageEngine", {})
    return engine


def engine_lines(engine: Mapping[str, Any]) -> list[str]:
    """What is wrong with a storage engine."""
    if engine.get("persistent", True):
        return []
    return [f"the storage engine {engine.get('name', '')} keeps nothing on a disk; use wiredTiger"]
