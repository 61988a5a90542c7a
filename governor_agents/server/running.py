"""The app under uvicorn, as ``governor-agents serve`` runs it."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from governor_agents.errors import ConfigError
from governor_agents.server.logs import JsonLines

BACKLOG = 128
STOPPING = 10
"""Seconds for which requests in hand may go on when the server is told to stop."""


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `ConfigError`, one line, when it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        of_host = isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL
        mend = "name an address of this machine with --host" if of_host else "choose another with --port"
        raise ConfigError(f"cannot listen on {host} port {port}: {why}; {mend}") from None
    return listening


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Answer until SIGTERM or SIGINT. The app itself writes a line for each request, and decides who is a proxy."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        http="h11",  # bounds what a header may hold; the other one, where it is installed, does not
        limit_concurrency=512,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=STOPPING,
    )
    _Server(config).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Uvicorn, for which a signal is a reason to end well, and not to die of the same signal afterwards."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first signal lets requests in hand be answered, the second ends it at once."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def log_lines() -> None:
    """Everything that the server says as one line of JSON each, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in (("governor_agents", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
