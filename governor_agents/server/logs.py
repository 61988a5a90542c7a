"""One line of JSON for each request, by its route: no line holds a link, a cookie, a form or a query.

A server that prints paths itself (uvicorn's access log) is made to print them without what is secret.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from starlette.types import Scope

from governor_agents.handlers.visible import visible

log = logging.getLogger("governor_agents.server")

_SECRET = re.compile(r"^(/+(?:confirm|login)/+).+", re.DOTALL | re.IGNORECASE)


def masked(path: str) -> str:
    """A path without the secret of a link, and without its query."""
    return _SECRET.sub(r"\1*", path.partition("?")[0])


class MaskedPaths(logging.Filter):
    """For uvicorn's access log, whose records hold client, method, path, version and status."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the path; the record goes on."""
        if isinstance(record.args, tuple):
            record.args = tuple(masked(part) if isinstance(part, str) else part for part in record.args)
        return True


def mask_access_log() -> None:
    """See to it that uvicorn's access log prints no link. Twice is fine."""
    logger = logging.getLogger("uvicorn.access")
    if not any(isinstance(found, MaskedPaths) for found in logger.filters):
        logger.addFilter(MaskedPaths())


def request_line(scope: Scope, status: int, seconds: float, client: str) -> None:
    """Note a request that was answered. Its path is that of the route, so an id or a link is no part of it."""
    route = getattr(scope.get("route"), "path", "(none)")
    line: dict[str, Any] = {"method": scope["method"][:20], "route": route, "status": status}
    _line(logging.INFO, "http", line | {"ms": round(seconds * 1000, 1), "client": client})


def failure_line(scope: Scope, error: BaseException) -> None:
    """Note what broke and where. What the error says may quote a request, so it is left out."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = "" if at is None else f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}"
    route = getattr(scope.get("route"), "path", "(none)")
    _line(logging.ERROR, "http.failed", {"route": route, "error": type(error).__name__, "where": where})


def _line(level: int, what: str, rest: dict[str, Any]) -> None:
    shown = {name: visible(part) if isinstance(part, str) else part for name, part in rest.items()}
    log.log(level, "%s", json.dumps({"what": what, **shown}, ensure_ascii=True))


class JsonLines(logging.Formatter):
    """Every record as one line of JSON, with time and level. A traceback is left out: it may quote a request."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = record.getMessage()
        try:
            rest = json.loads(said)
        except ValueError:
            rest = None
        body = rest if isinstance(rest, dict) else {"what": "said", "text": visible(said), "by": record.name}
        return json.dumps({"at": at, "level": record.levelname.lower(), **body}, ensure_ascii=True)
