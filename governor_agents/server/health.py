"""For whoever starts and watches the server: is it there, can it work. Both say nothing of anybody."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from governor_agents.errors import GovernorError
from governor_agents.server.access import open_to_all
from governor_agents.server.pages import icon, stylesheet
from governor_agents.server.site import site_of

READY_WITHIN = 2.0
"""Seconds in which the store must answer."""

SAID = ("ok", "starting")

router = APIRouter(dependencies=[Depends(open_to_all)])


@router.api_route("/healthz", methods=["GET", "HEAD"])
async def healthz() -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


@router.api_route("/readyz", methods=["GET", "HEAD"])
async def readyz(request: Request) -> Response:
    """200 while the store answers, else 503. A channel that cannot be used is named; the others go on."""
    site = site_of(request)
    try:
        async with asyncio.timeout(READY_WITHIN):
            await site.desk.now()
        store = "ok"
    except (GovernorError, TimeoutError, OSError):
        store = "unavailable"
    channels = {name: said if said in SAID else "unusable" for name, said in site.channels.items()}  # why: the log says
    body = {"status": "ready" if store == "ok" else "not ready", "store": store, "channels": channels}
    return JSONResponse(body, 200 if store == "ok" else 503)


@router.api_route("/pages.css", methods=["GET", "HEAD"])
async def css() -> Response:
    """The stylesheet."""
    return stylesheet()


@router.api_route("/icon.svg", methods=["GET", "HEAD"])
async def picture() -> Response:
    """The icon."""
    return icon()
