"""Where the servers are: one alone, the master that Sentinels name, or the nodes of a cluster by slot."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from redis.exceptions import ClusterDownError, ReadOnlyError
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as TimedOut

from governor_agents.errors import StoreUnavailable
from governor_agents.stores.redis.place import Address, Place
from governor_agents.stores.redis.wire import Node


class Where(Protocol):
    """Knows the servers, and finds them again when they have moved."""

    async def node(self, slot: int) -> Node:
        """The server of a slot."""
        ...

    async def nodes(self) -> list[Node]:
        """All servers that are written to."""
        ...

    def forget(self) -> None:
        """What was known may be wrong now."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Alone:
    """One server."""

    def __init__(self, place: Place) -> None:
        address = place.addresses[0] if place.addresses else None
        self._node = Node(place, address)

    async def node(self, slot: int) -> Node:
        """The server."""
        return self._node

    async def nodes(self) -> list[Node]:
        """The server."""
        return [self._node]

    def forget(self) -> None:
        """There is no other."""

    async def close(self) -> None:
        """Close all connections."""
        await self._node.close()


class Sentinels:
    """The master that Sentinels name."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._node: Node | None = None
        self._stale = True
        self._gate = asyncio.Lock()

    async def node(self, slot: int) -> Node:
        """The master."""
        async with self._gate:
            if self._node is None or self._stale:
                await self._find()
            assert self._node is not None  # noqa: S101
            return self._node

    async def nodes(self) -> list[Node]:
        """The master."""
        return [await self.node(0)]

    def forget(self) -> None:
        """Ask the Sentinels again."""
        self._stale = True

    async def close(self) -> None:
        """Close all connections."""
        if self._node is not None:
            await self._node.close()

    async def _find(self) -> None:
        address = await self._asked()
        if self._node is None or self._node.address != address:
            if self._node is not None:
                await self._node.close()
            self._node = Node(self._place, address)
        (role,) = await self._node.ask([("ROLE",)])
        if not isinstance(role, Exception) and role[0] not in (b"master", "master"):
            raise ReadOnlyError("the Sentinels name a master that is none yet")
        self._stale = False

    async def _asked(self) -> Address:
        place, unknown = self._place, False
        mine = {"username": place.sentinel_username or None, "password": place.sentinel_password or None, "db": 0}
        for sentinel in place.addresses:
            node = Node(place, sentinel, **mine)
            try:
                (said,) = await node.ask([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", place.master)])
            except (NotConnected, TimedOut, OSError):
                continue
            finally:
                await node.close()
            if isinstance(said, Exception):
                raise said
            if said is not None:
                return _text(said[0]), int(said[1])
            unknown = True
        if unknown:
            raise StoreUnavailable(f"{place.shown}: the Sentinels know no master called {place.master}")
        raise NotConnected("no Sentinel answers")


class Cluster:
    """The nodes of a cluster, by slot."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._nodes: dict[Address, Node] = {}
        self._slots: list[tuple[int, int, Address]] = []
        self._gate = asyncio.Lock()

    async def node(self, slot: int) -> Node:
        """The node that has a slot. Raises `ClusterDownError` when none has."""
        for first, last, address in await self._map():
            if first <= slot <= last:
                return self.at(address)
        self.forget()
        raise ClusterDownError(f"no node has slot {slot}")

    async def nodes(self) -> list[Node]:
        """All nodes that have slots."""
        return [self.at(address) for address in dict.fromkeys(address for _, _, address in await self._map())]

    def at(self, address: Address) -> Node:
        """The node at an address."""
        if address not in self._nodes:
            self._nodes[address] = Node(self._place, address)
        return self._nodes[address]

    def forget(self) -> None:
        """Ask for the slots again."""
        self._slots = []

    async def close(self) -> None:
        """Close all connections."""
        for node in self._nodes.values():
            await node.close()

    async def _map(self) -> list[tuple[int, int, Address]]:
        async with self._gate:
            if not self._slots:
                self._slots = await self._asked()
            return self._slots

    async def _asked(self) -> list[tuple[int, int, Address]]:
        trouble: Exception = NotConnected("no node of the cluster answers")
        for address in dict.fromkeys([*self._nodes, *self._place.addresses]):
            try:
                (said,) = await self.at(address).ask([("CLUSTER", "SLOTS")])
            except (NotConnected, TimedOut, OSError) as error:
                trouble = error
                continue
            if isinstance(said, Exception):
                raise said
            return [(int(row[0]), int(row[1]), (_text(row[2][0]) or address[0], int(row[2][1]))) for row in said]
        raise trouble


def _text(said: Any) -> str:
    return said.decode() if isinstance(said, bytes) else str(said or "")
