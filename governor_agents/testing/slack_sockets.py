"""Socket Mode of the local Slack: tickets, hello, envelopes and their acknowledgements, requests to come back."""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from governor_agents.background import Background
from governor_agents.testing.slack_interactions import Interaction

PATIENCE = 100.0
"""Seconds after which what a test waits for will never come, on a machine of any speed."""

Json = Any


@dataclass
class Envelope:
    """Something sent over Socket Mode; the future holds what it was acknowledged with, ``{}`` for nothing."""

    id: str
    interaction: Interaction
    future: Future[Json] = field(repr=False)

    @property
    def acknowledged(self) -> bool:
        """True when the app said that it took it."""
        return self.future.done()

    async def answer(self) -> Json:
        """The payload of the acknowledgement."""
        return await asyncio.wait_for(asyncio.wrap_future(self.future), PATIENCE)


class Sockets:
    """The connections of one app: those that are open, and how many were ``greeted`` so far.

    ``loop`` is the server's, ``tell`` is called when something came in.
    """

    def __init__(self, app_id: str, loop: Background, tell: Callable[[], None]) -> None:
        self._loop = loop
        self.greeted = 0
        self._app_id = app_id
        self._tell = tell
        self._tickets: set[str] = set()
        self._sockets: dict[web.WebSocketResponse, web.Request] = {}
        self._envelopes: dict[str, Envelope] = {}
        self._turn = 0

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._sockets)

    def ticket(self) -> str:
        """Good for one connection."""
        ticket = uuid.uuid4().hex
        self._tickets.add(ticket)
        return ticket

    async def link(self, request: web.Request) -> web.StreamResponse:
        """One connection, from hello to its end."""
        ticket = request.query.get("ticket", "")
        if ticket not in self._tickets:
            return web.Response(status=408, text="the ticket was used, or never given")
        self._tickets.discard(ticket)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[socket] = request
        await socket.send_json(self._hello())
        self.greeted += 1
        self._tell()
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._acknowledged(message.json())
        finally:
            self._sockets.pop(socket, None)
            self._tell()
        return socket

    def _hello(self) -> Json:
        return {
            "type": "hello",
            "num_connections": len(self._sockets),
            "connection_info": {"app_id": self._app_id},
            "debug_info": {"host": "applink-1", "build_number": 1, "approximate_connection_time": 18060},
        }

    def _acknowledged(self, said: Json) -> None:
        envelope = self._envelopes.get(said.get("envelope_id", ""))
        if envelope is not None and not envelope.future.done():
            envelope.future.set_result(said.get("payload") or {})
        self._tell()

    def emit(self, interaction: Interaction, *, again: Envelope | None, attempt: int) -> Envelope:
        """Send an envelope over one of the connections in turn."""
        envelope = Envelope(again.id if again else str(uuid.uuid4()), interaction, Future())
        self._envelopes[envelope.id] = envelope
        sent = {
            "envelope_id": envelope.id,
            "type": interaction.kind,
            "payload": interaction.payload,
            "accepts_response_payload": interaction.kind == "interactive",
        }
        if attempt:
            sent |= {"retry_attempt": attempt, "retry_reason": "timeout"}
        every = list(self._sockets)
        assert every, "no Socket Mode connection is open"
        self._turn += 1
        self._send(every[self._turn % len(every)], sent)
        return envelope

    def refresh(self, reason: str) -> None:
        """Say to every connection that it is to come back."""
        for socket in list(self._sockets):
            self._send(socket, {"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-1"}})

    def drop(self) -> None:
        """Cut every connection without a word."""
        self._loop.call(self._cut())

    async def _cut(self) -> None:
        for request in list(self._sockets.values()):
            if request.transport is not None:
                request.transport.abort()

    def _send(self, socket: web.WebSocketResponse, said: Json) -> None:
        self._loop.call(socket.send_json(said))
