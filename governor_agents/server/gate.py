"""What stands before every route: which host is meant, how large a body may be, the headers of every answer, the log.

It is plain ASGI, so it holds for whatever is mounted behind it, and for answers that no route has made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from governor_agents.errors import GovernorError
from governor_agents.server.addresses import client_address
from governor_agents.server.logs import failure_line, request_line
from governor_agents.server.refusal import Refused, too_large
from governor_agents.server.settings import Settings

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
}
"""On every answer. No script may run, nothing is loaded from elsewhere, nobody may frame a page or keep a copy."""

HSTS = "max-age=31536000"

ANY_HOST = frozenset({"/healthz", "/readyz"})
"""Where a load balancer asks by address."""

Trouble = Refused | GovernorError | TimeoutError

Answering = Callable[[Scope, Trouble], Awaitable[Response]]
"""Makes the answer to a request that is refused, or that the store did not answer in time, and notes it."""


class Gate:
    """Stands between the server and the app. ``answering`` makes the page for what is refused here."""

    def __init__(self, app: ASGIApp, settings: Settings, answering: Answering) -> None:
        self._app = app
        self._settings = settings
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's request; anything but HTTP is turned away."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers = Headers(scope=scope)
        peer = scope["client"][0] if scope.get("client") else ""
        client = client_address(peer, headers.getlist("x-forwarded-for"), self._settings.trusted_proxies)
        scope.setdefault("state", {})["client"] = client
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._dress(message)
            await send(message)

        body = _Body(receive, self._settings.max_body)
        try:
            trouble = await self._run(scope, headers, body, sending)
            if trouble is not None and not status:  # once the answer has begun, nothing can be added to it
                await (await self._answering(scope, trouble))(scope, receive, sending)
        finally:
            request_line(scope, status, time.perf_counter() - began, client)

    async def _run(self, scope: Scope, headers: Headers, body: _Body, send: Send) -> Trouble | None:
        """Let the app answer; what it could not do."""
        try:
            self._check(scope, headers)
            async with asyncio.timeout(self._settings.patience):
                await self._app(scope, body, send)
        except TimeoutError as error:
            return error if body.whole else Refused(408, "too_slow", "The form did not arrive in time.")
        except ClientDisconnect:  # nobody reads this answer; the line is for whoever looks who does so
            return Refused(408, "cut_off", "The form did not arrive.")
        except (Refused, GovernorError) as error:
            return error
        except Exception as error:
            failure_line(scope, error)
            return Refused(500, "failed", "Something broke here. Nothing was confirmed.", noted=True)
        return None

    def _check(self, scope: Scope, headers: Headers) -> None:
        if scope["path"] not in ANY_HOST and _host(headers.get("host", "")) not in self._settings.hosts:
            raise Refused(404, "foreign_host", "No pages are served under this name.")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or len(length) > 18 or int(length) > self._settings.max_body:
            raise too_large(self._settings.max_body)

    def _dress(self, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            if name != "Cache-Control" or name not in headers:  # the stylesheet may be kept
                headers[name] = value
        if self._settings.secure:
            headers["Strict-Transport-Security"] = HSTS


class _Body:
    """``receive`` that takes no more than may be sent, whatever the header said, and knows whether all has come."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = self._left = most
        self.whole = False

    async def __call__(self) -> Message:
        """The next piece. Raises `Refused`."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise too_large(self._most)
        self.whole = self.whole or not message.get("more_body", False)
        return message


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
