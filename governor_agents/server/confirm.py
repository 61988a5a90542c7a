"""The link of a mail: one person, one request, one answer. Only its form changes anything."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from governor_agents.handlers.links import CONFIRM
from governor_agents.server.access import DecideLink, Held
from governor_agents.server.answering import answer
from governor_agents.server.asking import Told, show
from governor_agents.server.reading import Reader
from governor_agents.server.site import site_of

router = APIRouter()


@router.api_route(f"{CONFIRM}{{token}}", methods=["GET", "HEAD"])
async def ask(link: DecideLink, request: Request) -> Response:
    """The request that the mail was about, or who has decided it."""
    reader = _reader(link)
    return await show(site_of(request), reader, link.token.subject, Told())


@router.post(f"{CONFIRM}{{token}}")
async def take(link: DecideLink, request: Request) -> Response:
    """The answer. The same one again gives the same page, another one 410."""
    return await answer(request, site_of(request), _reader(link), link.token.subject)


def _reader(link: Held) -> Reader:
    return Reader(link.token.person, link.text, f"{CONFIRM}{link.text}", link=True)
