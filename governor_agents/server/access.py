"""Who may come in: every route names one of these guards, or the app does not start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from governor_agents.core.channels import Token
from governor_agents.errors import ConfigError, NotFound, TokenExpired
from governor_agents.server.refusal import link_over, unauthenticated, unknown_link
from governor_agents.server.site import Site, admit, site_of

DECIDE, LOGIN, SESSION = "decide", "login", "session"
"""What tokens are for: the link in a request's mail, the link that logs in, and what a login gives."""

_TEXT = re.compile(r"[A-Za-z0-9_-]{22,128}")


@dataclass(frozen=True, slots=True)
class Held:
    """A secret text that was shown, and what it stands for."""

    text: str = field(repr=False)
    token: Token


async def open_to_all() -> None:
    """For routes that show nothing of anybody and change nothing."""


async def signed() -> None:
    """For routes whose requests prove themselves by a signature, which the route checks before anything else."""


async def decide_link(token: str, request: Request) -> Held:
    """The link of a mail that asks for a decision. Raises `Refused`."""
    return await _link(token, DECIDE, request)


async def login_link(token: str, request: Request) -> Held:
    """The link of a mail that logs in. Raises `Refused`."""
    return await _link(token, LOGIN, request)


async def visitor(request: Request) -> None:
    """For forms that anybody may send; each of them is counted."""
    await admit(request)


async def session(request: Request) -> Held:
    """The login that the cookie stands for. Raises `Refused`."""
    await admit(request)
    site = site_of(request)
    text = request.cookies.get(cookie_name(site), "")
    try:
        token = await _look(site, text, SESSION)
    except (NotFound, TokenExpired):
        raise unauthenticated() from None
    if token.answer:
        raise unauthenticated()
    return Held(text, token)


DecideLink = Annotated[Held, Depends(decide_link)]
LoginLink = Annotated[Held, Depends(login_link)]
Session = Annotated[Held, Depends(session)]

GUARDS: frozenset[object] = frozenset({open_to_all, signed, visitor, decide_link, login_link, session})


async def _link(text: str, purpose: str, request: Request) -> Held:
    await admit(request)
    try:
        return Held(text, await _look(site_of(request), text, purpose))
    except NotFound:
        raise unknown_link() from None
    except TokenExpired:
        raise link_over() from None


async def _look(site: Site, text: str, purpose: str) -> Token:
    if not _TEXT.fullmatch(text):
        raise NotFound
    return await site.desk.tokens.look(text, purpose)


def cookie_name(site: Site) -> str:
    """The cookie of a session; over https its name lets no other host or path set it."""
    return "__Host-governor" if site.settings.secure else "governor"


def set_cookie(site: Site, answer: Response, name: str, value: str, seconds: float) -> None:
    """A cookie that no script reads and no other site sends with a form."""
    answer.set_cookie(
        name, value, max_age=int(seconds), path="/", secure=site.settings.secure, httponly=True, samesite="lax"
    )


def routes_of(app: FastAPI) -> Iterator[BaseRoute]:
    """Every route of the app, those of included routers too."""
    yield from _flat(app.routes)


def _flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    for route in routes:
        included = getattr(route, "original_router", None)  # newer versions of FastAPI keep a router as it is
        if included is None:
            yield route
        else:
            yield from _flat(included.routes)


def guards_of(route: BaseRoute) -> frozenset[object]:
    """Which guards stand before a route."""
    asked = [each.call for each in route.dependant.dependencies] if isinstance(route, APIRoute) else []
    return GUARDS.intersection(asked)


def check_routes(app: FastAPI) -> None:
    """Raise `ConfigError` when a route has no guard, so that none is open by mistake."""
    for route in routes_of(app):
        if len(guards_of(route)) != 1:
            raise ConfigError(
                f"the route {getattr(route, 'path', route)} does not say who may use it; see server.access"
            )
