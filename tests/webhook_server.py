"""A real HTTPS receiver on loopback for tests, with switches for everything that goes wrong.

::

    with WebhookServer() as server:
        handler = server.handler()
        server.answers.append((429, {"Retry-After": "7"}))     # for the next request; then 200 again
        server.trouble = "hangs"                               # see `Trouble`
        [post] = server.posts
        received(post.body, post.headers["governor-signature"], [SECRET])
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from governor_agents.background import Background
from governor_agents.handlers.webhook import WebhookHandler, webhook
from governor_agents.testing.smtp_server import authority

SECRET = "a secret that signs webhooks in tests"

Trouble = Literal["", "hangs", "resets", "forgets", "drips"]
"""``hangs``: reads and says nothing; ``resets``: cuts; ``forgets``: takes it, then cuts; ``drips``: answers for ever."""


@dataclass(frozen=True)
class Post:
    """One request as it came. Names of headers are in lower case; ``server_name`` is what TLS asked for."""

    path: str
    headers: dict[str, str]
    body: bytes = field(repr=False)
    server_name: str = ""

    @property
    def said(self) -> dict[str, Any]:
        """The body."""
        made = json.loads(self.body)
        assert isinstance(made, dict)
        return made


class WebhookServer:
    """See the module. ``posts`` are those it took; a context manager."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.standing: tuple[int, dict[str, str]] = (200, {})
        self.trouble: Trouble = ""
        self.connections = 0
        self.port = 0
        self._names: dict[int, str] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = Background("webhook-server")
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return url(self.port)

    def handler(self, *secrets: str, **options: Any) -> WebhookHandler:
        """A handler whose receiver ``orders`` this is; it may reach this machine and trusts the test authority."""
        return handler_of(self.port, *secrets, **options)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self._loop.stop()

    def up(self) -> None:
        """Listen (again, at the same port)."""
        self._loop.call(self._up())

    def down(self) -> None:
        """Cut every connection and listen no more; clients are refused."""
        self._loop.call(self._down())

    async def _up(self) -> None:
        context = authority()[1]
        context.sni_callback = self._note_name
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._listener.sockets[0].getsockname()[1]

    def _note_name(self, channel: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        self._names[id(channel)] = name or ""

    async def _down(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await self._answer(reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.trouble == "resets":
            writer.transport.abort()
            return
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if self.trouble == "hangs":
            await asyncio.Event().wait()  # until the connection is cut
        name = self._names.pop(id(writer.get_extra_info("ssl_object")), "")
        self.posts.append(Post(head[0].split(" ")[1], headers, body, name))
        if self.trouble == "forgets":
            writer.transport.abort()
            return
        status, more = self.answers.pop(0) if self.answers else self.standing
        lines = [f"HTTP/1.1 {status} As said", *(f"{name}: {value}" for name, value in more.items())]
        drips = self.trouble == "drips"
        lines.append("Transfer-Encoding: chunked" if drips else "Content-Length: 0")
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        while drips and not writer.is_closing():
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0)


def url(port: int) -> str:
    return f"https://localhost:{port}/hook?of=tests"


def handler_of(port: int, *secrets: str, ca: str = "", **options: Any) -> WebhookHandler:
    """The same for the server at this port, also of another process."""
    receiver = webhook(url(port), *(secrets or (SECRET,)), hosts=[f"localhost:{port}"])
    tls = ssl.create_default_context(cafile=ca or str(authority()[0]))
    return WebhookHandler({"orders": receiver}, **{"loopback": True, "tls": tls, "resolve": here, **options})


async def here(host: str, port: int) -> tuple[str, ...]:
    """Every name is this machine."""
    return ("127.0.0.1",)
