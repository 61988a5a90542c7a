"""Asking the servers: each partition's own, wherever it has moved, and none whose settings were not looked at.

A connection that broke may have been to a server that is another now, or the same with other settings: it is looked at
anew before anything is asked there again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ReadOnlyError, TryAgainError
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as TimedOut

from governor_agents.errors import UnsafeStore
from governor_agents.stores.redis.place import Place
from governor_agents.stores.redis.safety import REPLICA, unsafe_lines
from governor_agents.stores.redis.where import Alone, Cluster, Sentinels, Where
from governor_agents.stores.redis.wire import Command, Connect, Idle, Node, Reply, Session, connector

_TURNS: Final = 6
"""How often a command follows a cluster that moves, before it is given up."""

_MOVES: Final = (MovedError, AskError, TryAgainError, ClusterDownError)
"""What a cluster says while it moves."""

_PAUSE: Final = 0.05
"""Seconds before a cluster is asked again that is not ready; doubled each time."""


class Servers:
    """Asks whichever server has a partition, and follows it when it moves."""

    def __init__(self, place: Place) -> None:
        self.place = place
        forms: dict[str, Callable[[Place], Where]] = {"sentinel": Sentinels, "cluster": Cluster}
        self._looked_at: dict[Node, int] = {}
        self._where = forms.get(place.form, Alone)(place)

    def slot(self, partition: int) -> int:
        """The slot that a partition's hash tag falls into."""
        slot: int = key_slot(f"{{{self.place.namespace}:{partition}}}".encode())
        return slot

    async def ask(self, partition: int, commands: Sequence[Command]) -> list[Reply]:
        """Send commands to the server of a partition. Raises what connections raise, `StoreUnavailable`."""
        pause = _PAUSE
        for turn in range(_TURNS):
            replies = await self._ask_once(partition, commands)
            moved = next((each for each in replies if isinstance(each, _MOVES)), None)
            if type(moved) is AskError and isinstance(self._where, Cluster):  # of which MovedError is a child
                asking = [each for command in commands for each in (("ASKING",), command)]
                there = self._where.at((moved.host, moved.port))
                await self._look_at(there)
                replies = (await there.ask(asking))[1::2]
                moved = next((each for each in replies if isinstance(each, _MOVES)), None)
            if moved is None or turn == _TURNS - 1:
                return replies
            self._where.forget()
            if not isinstance(moved, MovedError) or turn:
                await asyncio.sleep(pause)
                pause *= 2
        raise AssertionError("a loop of at least one turn")

    async def _ask_once(self, partition: int, commands: Sequence[Command]) -> list[Reply]:
        node = await self._node(partition)
        replies = await self._from(node, partition, commands)
        if any(isinstance(each, ReadOnlyError) or "READONLY" in str(each) for each in _errors(replies)):
            self._where.forget()
            await node.drop()  # a name may stand for another server by now
        return replies

    async def check(self) -> list[str]:
        """One line per unsafe setting of any server, which counts as looked at from now on."""
        nodes = await self._where.nodes()
        lost = {node: node.lost for node in nodes}
        found = await asyncio.gather(*(unsafe_lines(node, self.place) for node in nodes))
        self._looked_at.update(lost)
        return [line for lines in found for line in lines]

    async def ask_each(self, asked: Sequence[tuple[int, Command]]) -> list[Reply]:
        """Send each command to the server of its partition, those of one server together."""
        together: dict[Node, list[int]] = {}
        for at, (partition, _) in enumerate(asked):
            together.setdefault(await self._node(partition), []).append(at)
        replies: list[Reply] = [None] * len(asked)

        async def one(node: Node, places: list[int]) -> None:
            given = await self._from(node, asked[places[0]][0], [asked[at][1] for at in places])
            for at, reply in zip(places, given, strict=True):
                replies[at] = reply

        await asyncio.gather(*(one(node, places) for node, places in together.items()))
        for at, reply in enumerate(replies):
            if isinstance(reply, _MOVES):
                (replies[at],) = await self.ask(asked[at][0], [asked[at][1]])
        return replies

    async def _node(self, partition: int) -> Node:
        """The server of a partition."""
        try:
            node = await self._where.node(self.slot(partition))
            await self._look_at(node)
        except (NotConnected, TimedOut, OSError):
            self._where.forget()
            raise
        return node

    async def _look_at(self, node: Node) -> None:
        """Refuse a server that took over, or was restarted, since the store was opened, and has unsafe settings."""
        lost = node.lost
        if self._looked_at.get(node) != lost:
            lines = await unsafe_lines(node, self.place)
            if lines and not self.place.unsafe:
                if any(REPLICA in line for line in lines):  # a failover that may not be over
                    raise ReadOnlyError("the server is a replica now")
                raise UnsafeStore(f"{self.place.shown}: {'; '.join(lines)}")
            self._looked_at[node] = lost

    async def _from(self, node: Node, partition: int, commands: Sequence[Command]) -> list[Reply]:
        """Ask a node; the one that has the partition now when connections to it were closed while they lay idle."""
        try:
            try:
                return await node.once(commands)
            except Idle:
                self._where.forget()
                return await (await self._node(partition)).once(commands)
        except (NotConnected, TimedOut, OSError):
            self._where.forget()
            raise

    @asynccontextmanager
    async def session(self, partition: int) -> AsyncIterator[Session]:
        """One connection to the server of a partition, to oneself."""
        try:
            node = await self._node(partition)
            async with node.session() as (session, _):
                yield session
        except (NotConnected, TimedOut, OSError, MovedError, AskError):
            self._where.forget()
            raise

    async def listener(self) -> Connect:
        """What makes a connection for listening. A cluster tells all of its nodes, so any one will do."""
        node = (await self._where.nodes())[0]
        return connector(self.place, node.address, protocol=2)

    async def close(self) -> None:
        """Close all connections."""
        await self._where.close()


def _errors(replies: Sequence[Reply]) -> list[Exception]:
    return [each for each in replies if isinstance(each, Exception)]
