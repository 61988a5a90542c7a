"""A TCP proxy on loopback that breaks the line at a chosen request: before the server saw it, or after it was done.

Everything else goes through untouched. `Fault` says which request is hit and how; the driver behind it is a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.faults.framing import Framing, Message

How = Literal["before", "after", "half", "silent"]
"""``before``: the server never sees it. ``after``: it is done, the reply is not told. ``half``: half of the reply is.

``silent``: it is done, and the line stays open without a word. All others close the line.
"""


HANDSHAKE = frozenset({"AUTH", "CLIENT", "HELLO", "PING", "SELECT", "endSessions", "hello", "ismaster", "ping"})
"""What clients ask for their own sake: never hit, unless a fault names it."""


@dataclass(slots=True)
class Fault:
    """Hits the requests of these names (all when there are none) behind the first ``skip`` of them, ``times`` in a row."""

    how: How
    names: Collection[str] = ()
    skip: int = 0
    times: int = 1
    struck: list[str] = field(default_factory=list)

    def strikes(self, name: str) -> bool:
        """Count a request; True when it is to be hit."""
        chosen = name in self.names if self.names else name not in HANDSHAKE
        if len(self.struck) >= self.times or not chosen:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.struck.append(name)
        return True


class Proxy:
    """One listening port in front of one server. ``fault`` may be changed at any moment; None breaks nothing.

    ``tls`` is what clients must speak; ``rewrites`` changes replies, such as what a server says of itself.
    """

    def __init__(
        self,
        host: str,
        port: int,
        framing: Callable[[], Framing],
        *,
        tls: ssl.SSLContext | None = None,
        rewrites: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._server = (host, port)
        self._framing = framing
        self._tls = tls
        self.rewrites = rewrites
        self._listening: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self.fault: Fault | None = None
        self.seen: list[str] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listening is not None
        port: int = self._listening.sockets[0].getsockname()[1]
        return port

    @contextlib.contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        """Inside the block the fault may strike."""
        self.fault = fault
        try:
            yield
        finally:
            self.fault = None

    async def __aenter__(self) -> Proxy:
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listening is not None
        self._listening.close()
        for task in [*self._lines]:
            task.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    async def _accept(self, asked: asyncio.StreamReader, tell: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        try:
            told, ask = await asyncio.open_connection(*self._server)
        except OSError:
            tell.transport.abort()
            self._lines.discard(task)
            return
        try:
            line = _Line(self, self._framing(), ask, tell)
            await line.carry(asked, told)
        except asyncio.CancelledError:
            pass  # the proxy was closed; nobody waits for this task
        finally:
            self._lines.discard(task)
            ask.transport.abort()
            tell.close()  # what was written still goes out


class _Line:
    """One client's connection and the one that was made to the server for it."""

    def __init__(self, proxy: Proxy, framing: Framing, ask: asyncio.StreamWriter, tell: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._framing = framing
        self._ask, self._tell = ask, tell
        self._hit: dict[int, How] = {}
        self._mute = False

    async def carry(self, asked: asyncio.StreamReader, told: asyncio.StreamReader) -> None:
        """Both directions, until either ends."""
        both = {
            asyncio.create_task(self._pump(asked, self._framing.requests, self._request)),
            asyncio.create_task(self._pump(told, self._framing.replies, self._reply)),
        }
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
        await asyncio.gather(*both, return_exceptions=True)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        cut: Callable[[bytes], list[Message]],
        hand_on: Callable[[Message], bool],
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                for message in cut(data):
                    if not hand_on(message):
                        return
                await self._tell.drain()
                await self._ask.drain()

    def _request(self, message: Message) -> bool:
        """Hand a request on; False when the line is to be cut."""
        if message.id is not None:
            self._proxy.seen.append(message.name)
            fault = self._proxy.fault
            if fault is not None and fault.strikes(message.name):
                if fault.how == "before":
                    return False
                self._hit[message.id] = fault.how
        self._ask.write(message.raw)
        return True

    def _reply(self, message: Message) -> bool:
        """Hand a reply on; False when the line is to be cut."""
        how = self._hit.pop(message.id, None) if message.id is not None else None
        if how == "silent":
            self._mute = True
        if how == "half":
            self._tell.write(message.raw[: max(1, len(message.raw) // 2)])
        if how is None and not self._mute:
            self._tell.write(self._proxy.rewrites(message.raw))
        return how in (None, "silent")
