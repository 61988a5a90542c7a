"""What an open store has: its servers, its keys, the time it was told; and how it reads and writes with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from redis.exceptions import AskError, MovedError, TryAgainError

from governor_agents.core.ports import Record
from governor_agents.errors import ConfigError, StoreError, StoreUnavailable, UnsafeStore
from governor_agents.stores.redis import scripts, watched
from governor_agents.stores.redis.failure import KNOWN, failure, forbidden
from governor_agents.stores.redis.keys import END, LAST, Keys, text
from governor_agents.stores.redis.namespace import settle
from governor_agents.stores.redis.place import Place
from governor_agents.stores.redis.rows import READ, edited, listed
from governor_agents.stores.redis.servers import Servers
from governor_agents.stores.redis.waking import Waking
from governor_agents.stores.redis.wire import Command, Reply
from governor_agents.stores.redis.writes import Addition, Around, Removal, Write

Name = tuple[str, str, str]
"""Kind, tenant and id."""

_SCRIPTS: Final = {Write: scripts.WRITE, Removal: scripts.DELETE, Addition: scripts.ADD_BELOW}
_MOVES: Final = 8
"""How often a write under WATCH follows a cluster that moves."""

T = TypeVar("T")


@contextmanager
def told(place: Place) -> Iterator[None]:
    """Whatever a connection raises inside is raised as ours."""
    try:
        yield
    except KNOWN as error:
        raise failure(error, place) from error


class Client:
    """One open namespace. Belongs to the process and the event loop that made it."""

    def __init__(self, servers: Servers, keys: Keys, scripting: bool, writer: bytes) -> None:
        self.servers: Servers = servers
        self.keys: Keys = keys
        self.scripting: bool = scripting
        self.waking: Waking = Waking(servers.listener, keys.channel, writer)
        self.process: int = os.getpid()
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.highest: int = 0
        self._place = servers.place
        self._writer = writer
        replicas = self._place.min_replicas
        self._behind: list[Command] = [("WAIT", replicas, int(self._place.timeout * 800))] if replicas else []

    @classmethod
    async def connect(cls, place: Place, writer: bytes) -> Client:
        """Check every server, make the namespace when it is new. Raises `StoreError` and its children."""
        for name, file in place.files.items():
            if not os.access(file, os.R_OK):
                raise ConfigError(f"{place.shown}: {name} names a file that cannot be read")
        servers = Servers(place)
        try:
            with told(place):
                if (lines := await servers.check()) and not place.unsafe:
                    raise UnsafeStore(f"{place.shown}: {'; '.join(lines)} (or add unsafe=allow to the URL)")
                keys = await settle(servers, place)
                (tried,) = await servers.ask(0, [("EVAL", "return 1", 0)]) if place.scripting else [None]
        except BaseException:
            await servers.close()
            raise
        return cls(servers, keys, place.scripting and not forbidden(tried), writer)

    def forget(self) -> None:
        """Nobody has the store any more: listen no longer. From any thread, also when the loop has ended."""
        if self.process == os.getpid():
            with contextlib.suppress(RuntimeError):  # it has ended, and its tasks with it
                self.loop.call_soon_threadsafe(self.waking.stop)

    async def close(self) -> None:
        """Let go of everything, where that is still ours to do."""
        if self.process == os.getpid() and self.loop is asyncio.get_running_loop():
            await self.waking.close()
            await self.servers.close()

    # -- time ---------------------------------------------------------------------------------------------------------

    async def now(self) -> float:
        """The time of the server, above what any partition was written at and above what was told before."""
        clocks: list[tuple[int, Command]] = [(at, ("GET", self.keys.clock(at))) for at in range(self.keys.partitions)]
        (seconds, micros), *floors = await self.read([(0, ("TIME",)), *clocks])
        self.highest = max(self.highest, int(seconds) * 1_000_000 + int(micros), *(int(each or 0) for each in floors))
        return self.highest / 1_000_000

    # -- writing ------------------------------------------------------------------------------------------------------

    async def act(self, name: Name, asked: Write | Removal | Addition) -> list[Reply]:
        """Do a write: what happened, the version or sum, the time, and the record's fields where it was lost or late.

        Raises `StoreUnavailable` also when too few replicas have it: it stands then, and may be lost with the master.
        """
        partition = self.keys.partition(*name)
        around = Around(self.highest, self.keys.channel, self._writer)
        try:
            with told(self._place):
                do = self._by_script if self.scripting else self._watched
                answer, acknowledged = await do(partition, asked, around)
        finally:
            self.waking.wrote()  # also when nobody knows whether it did
        self.highest = max(self.highest, int(answer[2]))
        if answer[0] == b"edited":
            raise edited(name[0], name[2])
        if answer[0] == b"event":
            raise StoreError(f"{name[0]} {name[2]}: event {int(answer[1])} exists already; events never change")
        if answer[0] == b"won" and self._behind and int(acknowledged) < self._place.min_replicas:
            raise StoreUnavailable(
                f"{self._place.shown}: {int(acknowledged)} of {self._place.min_replicas} replicas have the write; "
                "it may stand, and is lost if the server is"
            )
        return answer

    async def _by_script(
        self, partition: int, asked: Write | Removal | Addition, around: Around
    ) -> tuple[list[Reply], Reply]:
        script, values = _SCRIPTS[type(asked)], asked.values(around)
        replies = await self.servers.ask(partition, [script.known(asked.keys, values), *self._behind])
        if scripts.not_known(replies[0]):
            replies = await self.servers.ask(partition, [script.whole(asked.keys, values), *self._behind])
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies[0], replies[-1]

    async def _watched(
        self, partition: int, asked: Write | Removal | Addition, around: Around
    ) -> tuple[list[Reply], Reply]:
        for turn in range(_MOVES):
            try:
                async with self.servers.session(partition) as session:
                    return await watched.act(session, asked, around, self._behind)
            except (MovedError, AskError, TryAgainError):
                if turn == _MOVES - 1:
                    raise
                await asyncio.sleep(0.05 * turn)
        raise AssertionError("a loop of at least one turn")

    # -- reading ------------------------------------------------------------------------------------------------------

    async def read(self, asked: Sequence[tuple[int, Command]]) -> list[Reply]:
        """The answers of the servers of these partitions. Raises what they raise, as ours."""
        with told(self._place):
            replies = await self.servers.ask_each(asked)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            return replies

    async def one(self, name: Name, command: Command) -> Reply:
        """The answer of the server of one record."""
        return (await self.read([(self.keys.partition(*name), command)]))[0]

    async def rows(
        self, kind: str, names: Sequence[tuple[str, str]], dues: Sequence[float] | None = None
    ) -> list[Record | None]:
        """The records of these tenants and ids; None for one that is gone. ``dues`` is what a list says of each."""
        keys = self.keys
        found = await self.read(
            [(keys.partition(kind, *name), ("HMGET", keys.record(kind, *name), *READ)) for name in names]
        )
        whens: Sequence[float | None] = dues or [None] * len(names)
        return [listed(kind, *name, values, due) for name, values, due in zip(names, found, whens, strict=True)]

    async def matching(self, kind: str, tenant: str, ids: Sequence[str], where: Mapping[str, str]) -> list[str]:
        """Those of these ids whose records have these index fields; no body is read."""
        keys, wanted = self.keys, [text(value) for value in where.values()]
        found = await self.read(
            [(keys.partition(kind, tenant, id), ("HMGET", keys.record(kind, tenant, id), *where)) for id in ids]
        )
        return [id for id, values in zip(ids, found, strict=True) if values == wanted]

    async def page(
        self,
        key_of: Callable[[int], bytes],
        low: bytes,
        high: bytes,
        limit: int,
        take: Callable[[list[bytes]], Awaitable[list[T]]],
        many: int = 1,
    ) -> list[T]:
        """What ``take`` makes of the members between two bounds, over all partitions, until there are ``limit``.

        Members whose record has changed since are left out, so more are asked for until the page is full.
        """
        found: list[T] = []
        many = max(many, limit)
        while len(found) < limit:
            members = await self._members(key_of, low, high, many)
            found += await take(members)
            if len(members) < many:
                break
            low = b"(" + members[-1]
        return found[: max(limit, 0)]

    async def _members(self, key_of: Callable[[int], bytes], low: bytes, high: bytes, many: int) -> list[bytes]:
        asked: list[tuple[int, Command]] = [
            (at, ("ZRANGE", key_of(at), low, high, "BYLEX", "LIMIT", 0, many)) for at in range(self.keys.partitions)
        ]
        found: list[list[bytes]] = await self.read(asked)
        return found[0] if len(found) == 1 else sorted(member for each in found for member in each)[:many]

    async def fewest(self, kind: str, tenant: bytes, where: Mapping[str, str]) -> str:
        """Which of these index fields leaves the fewest records."""
        names = sorted(where)
        if len(names) == 1:
            return names[0]
        asked: list[tuple[int, Command]] = []
        for name in names:
            value = tenant + text(where[name]) + END
            for at in range(self.keys.partitions):
                asked.append((at, ("ZLEXCOUNT", self.keys.by(at, kind, name), b"[" + value, b"(" + value + LAST)))
        counts = await self.read(asked)
        step = self.keys.partitions
        return min(zip((sum(counts[at : at + step]) for at in range(0, len(counts), step)), names, strict=True))[1]
