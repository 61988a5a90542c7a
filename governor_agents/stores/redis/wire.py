"""Connections to one server: commands go out together, answers come back in their order.

Of redis-py this uses the connection classes (sockets, TLS, authentication, both protocols) and nothing above them. So
one piece of code serves single servers, Sentinel and Cluster over all its releases, a write and the ``WAIT`` behind it
share a connection and a round trip, and nothing is sent again that we do not know of.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as TimedOut

from governor_agents.stores.redis.place import Address, Place

Command = tuple[Any, ...]
Reply = Any
"""What a server answered; a `ResponseError` as it is, not raised."""


class _Quiet:
    """A connection that closes without a word when its store was forgotten.

    On its own loop only: in a forked child it would take the socket off the parent's loop too, and a loop that has
    ended leaves it to the system.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._home = (os.getpid(), asyncio.get_running_loop())

    def __del__(self, _warnings: Any = None) -> None:
        writer = getattr(self, "_writer", None)
        if writer is not None and (os.getpid(), asyncio._get_running_loop()) == self._home:
            writer.close()


class _Tcp(_Quiet, Connection):
    pass


class _Tls(_Quiet, SSLConnection):
    pass


class _Socket(_Quiet, UnixDomainSocketConnection):
    pass


Connect = Callable[[], Any]


def connector(place: Place, address: Address | None, **other: Any) -> Connect:
    """What makes a connection to a server of this place. ``other`` overrides what the place says."""
    options: dict[str, Any] = {
        "username": place.username or None,
        "password": place.password or None,
        "db": place.db,
        "protocol": place.protocol,
        **other,
    }
    if address is None:
        return partial(_Socket, path=place.socket, **options)
    options |= {"host": address[0], "port": address[1], "socket_keepalive": True}
    if not place.tls:
        return partial(_Tcp, **options)
    return partial(_Tls, **options, **_tls(place.files))


def _tls(files: Mapping[str, str]) -> dict[str, Any]:
    return {**files, "ssl_cert_reqs": "required", "ssl_check_hostname": True}


class Session:
    """One connection, for as long as somebody has it to himself. ``timeout`` is for connecting and for each answer."""

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    async def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all, then read all answers. Raises the errors of redis-py's connections, and `TimeoutError`."""
        connection, now = self._connection, asyncio.get_running_loop().time
        # Not the time limits of redis-py: they make a task for each command, and one that is cancelled just when it
        # ends goes on as if it were not.
        async with asyncio.timeout(self._timeout) as limit:
            if not connection.is_connected:
                await connection.connect()
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            replies = []
            for _ in commands:
                limit.reschedule(now() + self._timeout)
                replies.append(await self._reply())
            return replies

    async def _reply(self) -> Reply:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error


class Idle(NotConnected):
    """A connection that lay idle was closed meanwhile, as when a server restarts: only who uses it finds out."""


class Node:
    """One server, and the connections to it. ``lost`` counts those that broke: another may stand there now."""

    def __init__(self, place: Place, address: Address | None = None, **other: Any) -> None:
        self.address = address
        self._timeout = place.timeout
        self._connect = connector(place, address, **other)
        self._idle: list[Any] = []
        self._room = asyncio.Semaphore(place.connections)
        self._closed = False
        self.lost = 0

    async def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all over one connection, then read all answers; over a new one when it lay idle and was closed."""
        try:
            return await self.once(commands)
        except Idle:
            return await self.once(commands)

    async def once(self, commands: Sequence[Command]) -> list[Reply]:
        """The same, but whoever asks hears that it was closed (`Idle`), and looks first who is there now."""
        used = False
        try:
            async with self.session() as (session, used):
                return await session.ask(commands)
        except NotConnected as error:
            if used:
                raise Idle(str(error)) from error
            raise

    @asynccontextmanager
    async def session(self) -> AsyncIterator[tuple[Session, bool]]:
        """A connection to oneself, and whether it was used before. One that meets trouble is not used again.

        One that turns out closed was so, most likely, with all that lie idle beside it.
        """
        async with self._room:
            used = bool(self._idle)
            connection = self._idle.pop() if used else self._connect()
            try:
                yield Session(connection, self._timeout), used
            except BaseException as error:
                await connection.disconnect(nowait=True)
                self.lost += isinstance(error, NotConnected | TimedOut | OSError)
                if isinstance(error, NotConnected):
                    await self.drop()
                raise
            if self._closed:
                await connection.disconnect(nowait=True)
            else:
                self._idle.append(connection)

    async def drop(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close all connections, those in use when they are given back."""
        self._closed = True
        await self.drop()
