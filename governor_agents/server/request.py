"""For people who have logged in: the whole request, where a card leads that is too large, and what waits for them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from governor_agents.handlers.links import REQUEST, request_page
from governor_agents.handlers.message import Message
from governor_agents.server.access import Held, Session
from governor_agents.server.answering import answer
from governor_agents.server.asking import Told, show
from governor_agents.server.login import leaving
from governor_agents.server.pages import page
from governor_agents.server.reading import Reader
from governor_agents.server.site import site_of

router = APIRouter()


@router.api_route("/", methods=["GET", "HEAD"])
async def waiting(held: Session, request: Request) -> Response:
    """What waits for whoever is logged in, oldest first: where a login leads that began nowhere else."""
    found = await site_of(request).desk.inbox(held.token.person)
    rows = [(request_page("", approval.id), Message.of(approval, paths=False)) for approval in found]
    return page("waiting.html", title="What waits for you", who=held.token.person, leave=leaving(held.text), rows=rows)


@router.api_route(f"{REQUEST}{{id:path}}", methods=["GET", "HEAD"])
async def read(id: str, held: Session, request: Request) -> Response:
    """The request as it stands. Whoever has nothing to do with it sees what an unknown one looks like."""
    return await show(site_of(request), _reader(held, id), id, Told())


@router.post(f"{REQUEST}{{id:path}}")
async def take(id: str, held: Session, request: Request) -> Response:
    """Decide it, edit it, write beside it."""
    return await answer(request, site_of(request), _reader(held, id), id)


def _reader(held: Held, id: str) -> Reader:
    return Reader(held.token.person, held.text, f"{REQUEST}{id}", leave=leaving(held.text))
