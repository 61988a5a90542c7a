"""The app: its routes, and what becomes of everything that goes wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from governor_agents.errors import GovernorError, StoreError
from governor_agents.handlers.answers import UNKNOWN, refusal
from governor_agents.server import confirm, health, login, mail, request, slack
from governor_agents.server.access import check_routes
from governor_agents.server.gate import Gate
from governor_agents.server.logs import mask_access_log
from governor_agents.server.pages import page
from governor_agents.server.refusal import Refused
from governor_agents.server.settings import Settings
from governor_agents.server.site import SendLogin, Site

if TYPE_CHECKING:
    from governor_agents.governor import Governor

TITLES = {
    400: "That could not be read",
    401: "Log in",
    403: "Not from here",
    404: "Nothing here",
    405: "Not in this way",
    408: "That took too long",
    409: "Decided already",
    410: "Too late",
    413: "Too large",
    422: "Something is missing",
    429: "Too many requests",
    500: "Something broke",
    503: "Not confirmed yet",
}


def create_app(
    governor: Governor,
    *,
    public_url: str,
    hosts: tuple[str, ...] = (),
    trusted_proxies: tuple[str, ...] = (),
    send_login: SendLogin | None = None,
    **settings: Any,
) -> FastAPI:
    """The pages of one governor, as an ASGI app.

    ``public_url``, ``hosts``, ``trusted_proxies`` and the rest are those of `Settings.of`. ``send_login`` sends the
    mail that logs somebody in; by default the e-mail channel does, where it is set up. Raises `ConfigError`.
    """
    mask_access_log()
    known = Settings.of(public_url, hosts=hosts, trusted_proxies=trusted_proxies, **settings)
    app = FastAPI(
        title="governor-agents",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    app.state.site = Site(governor, governor.desk, known, send_login)
    app.state.behind = set()
    for part in (health, confirm, login, request, slack):
        app.include_router(part.router)
    check_routes(app)
    app.add_exception_handler(HTTPException, _of_the_framework)
    app.add_middleware(Gate, settings=known, answering=lambda scope, error: _answer(app, scope, error))
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    starting = asyncio.create_task(mail.start(app.state.site))
    app.state.behind.add(starting)
    starting.add_done_callback(app.state.behind.discard)
    async with slack.slack_open(app.state.site, app.state):
        yield
    if app.state.behind:
        await asyncio.wait(app.state.behind, timeout=5.0)


async def _of_the_framework(request: Request, error: Exception) -> Response:
    """A path or a method that no route knows."""
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: ("no_route", UNKNOWN), 405: ("wrong_method", "This page is not used in this way.")}
    reason, words = codes.get(error.status_code, ("malformed", "This could not be read."))
    request.app.state.site.refused(request.scope, reason)
    answer = _error_page(error.status_code, words)
    answer.headers.update(error.headers or {})
    return answer


async def _answer(app: FastAPI, scope: Scope, error: Refused | GovernorError | TimeoutError) -> Response:
    """The page for what was refused on the way, and its line in the stream of refused requests."""
    site: Site = app.state.site
    if isinstance(error, TimeoutError):
        error = StoreError("the store does not answer in time")
    if isinstance(error, GovernorError):
        said = refusal(error)
        asked = isinstance(error, StoreError) and scope["method"] != "POST"  # nothing was to be written
        words = "The store does not answer just now. Please try again in a moment." if asked else said.text
        error = Refused(said.status, said.code, words, noted=said.status >= 500)
    if not error.noted:
        site.refused(scope, error.reason, id=error.id, by=error.by)
    if error.status == 401 and scope["method"] in ("GET", "HEAD"):
        return login.login_form(Request(scope), quote(scope["path"]), status=401, words=error.words)
    answer = _error_page(error.status, error.words)
    if error.wait or error.status == 503:
        answer.headers["Retry-After"] = str(max(1, round(error.wait)))
    return answer


def _error_page(status: int, words: str) -> Response:
    return page(
        "error.html",
        status=status,
        title=TITLES.get(status, "That did not work"),
        words=words,
        login=status in (404, 410),
    )
