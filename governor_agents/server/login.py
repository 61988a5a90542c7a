"""Logging in by a link that works once, and out again. Whether an address is known, no answer tells."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Coroutine
from typing import Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from governor_agents.core.identity import EMAIL, kind_of
from governor_agents.errors import GovernorError, TokenExpired, TokenUsed
from governor_agents.handlers.answers import refusal
from governor_agents.handlers.links import REQUEST
from governor_agents.policies import person_id
from governor_agents.server.access import (
    LOGIN,
    SESSION,
    LoginLink,
    Session,
    cookie_name,
    set_cookie,
    visitor,
)
from governor_agents.server.pages import page
from governor_agents.server.posted import SHORT, read_form
from governor_agents.server.refusal import Refused, malformed
from governor_agents.server.site import Site, site_of
from governor_agents.server.words import form_token, typed, word_for

log = logging.getLogger("governor_agents.server")

router = APIRouter()

_ADDRESS = re.compile(r"[^\s@:\"<>,;]{1,64}@[A-Za-z0-9.-]{1,189}", re.ASCII)
_NEXT = re.compile(re.escape(REQUEST) + r"[A-Za-z0-9_.~%/-]{1,300}")
_VISITOR = re.compile(r"[A-Za-z0-9_-]{43}")

VISIT = 3600.0
"""Seconds for which the form that asks for a link may stand open."""


@router.api_route("/login", methods=["GET", "HEAD"], dependencies=[Depends(visitor)])
async def ask(request: Request) -> Response:
    """The form that asks for a link."""
    return login_form(request, request.query_params.get("next", ""))


@router.post("/login", dependencies=[Depends(visitor)])
async def send(request: Request) -> Response:
    """Send a link to whoever is known; the answer is the same for everybody, and does not wait for the mail."""
    site = site_of(request)
    form = await read_form(request, site.settings, most=SHORT)
    form.prove(form_token(_visitor_of(request, site), "/login", ""))
    address = person_id(form.text("email").strip())
    if not _ADDRESS.fullmatch(address):
        raise malformed("Write an email address, such as you@example.com.")
    rates = site.settings.rates
    await site.take(f"login:{request.state.client}", rates.login)
    await site.take("login", rates.login_tenant)
    wait = await site.desk.take(f"http:login-to:{address}", rates.login.most, rates.login.per)
    if wait <= 0.0:  # over that limit nothing is sent, and nothing is said of it
        _behind(request, _send(site, address, _next(form.get("next", ""))))
    return page("login_sent.html", title="Look into your mail", minutes=round(site.settings.login / 60))


@router.api_route("/login/{token}", methods=["GET", "HEAD"])
async def confirm(link: LoginLink, request: Request) -> Response:
    """Whom the link logs in, and a form for it: opening the link alone logs nobody in."""
    return _confirm_page(link.token.person, link.text, "" if not link.token.answer else str(TokenUsed()))


@router.post("/login/{token}")
async def enter(link: LoginLink, request: Request) -> Response:
    """Begin a session, under a secret that nobody had before."""
    site = site_of(request)
    form = await read_form(request, site.settings, most=SHORT)
    form.prove(form_token(link.text, "/login", ""))
    if not typed(form.text("word"), word_for(link.text, "login")):
        site.refused(request.scope, "wrong_word", by=link.token.person)
        return _confirm_page(link.token.person, link.text, "Type the word below to log in.", 422)
    try:
        await site.desk.tokens.use(link.text, LOGIN, secrets.token_hex(16))
    except (TokenExpired, TokenUsed) as error:
        raise Refused(410, error.code, f"{error} Ask for another.", by=link.token.person) from None
    within = site.settings.session
    text = await site.desk.tokens.issue(SESSION, link.token.person, "", within=within)
    answer = RedirectResponse(link.token.subject or "/", 303)
    set_cookie(site, answer, cookie_name(site), text, within)
    return answer


@router.post("/logout")
async def leave(held: Session, request: Request) -> Response:
    """End the session, here and wherever its cookie was copied to."""
    site = site_of(request)
    (await read_form(request, site.settings, most=SHORT)).prove(leaving(held.text))
    await site.desk.tokens.revoke(held.text)
    answer = page("left.html", title="Logged out")
    answer.delete_cookie(cookie_name(site), path="/", secure=site.settings.secure, httponly=True, samesite="lax")
    return answer


def leaving(session: str) -> str:
    """What the form that logs out carries."""
    return form_token(session, "/logout", "")


def login_form(request: Request, next: str, *, status: int = 200, words: str = "") -> Response:
    """The form that asks for a link; ``next`` is the page to go on to."""
    site = site_of(request)
    held = _visitor_of(request, site)
    secret = held or secrets.token_urlsafe(32)
    token = form_token(secret, "/login", "")
    answer = page("login.html", status=status, title="Log in", words=words, form=token, next=_next(next))
    if not held:
        set_cookie(site, answer, _visitor_cookie(site), secret, VISIT)
    return answer


def _confirm_page(person: str, text: str, problem: str, status: int = 200) -> Response:
    token, word = form_token(text, "/login", ""), word_for(text, "login")
    fields = {"person": person, "form": token, "word": word, "problem": problem}
    return page("login_confirm.html", status=status, title="Log in", **fields)


def _visitor_cookie(site: Site) -> str:
    return cookie_name(site) + "-visitor"


def _visitor_of(request: Request, site: Site) -> str:
    """The secret of a browser that is not logged in, by which it shows that a form came from its own page."""
    text = request.cookies.get(_visitor_cookie(site), "")
    return text if _VISITOR.fullmatch(text) else ""


def _next(text: str) -> str:
    """The page of a request, or nothing: no address of a stranger's gets into a redirect."""
    return text if _NEXT.fullmatch(text) and ".." not in text and "//" not in text else ""


def _behind(request: Request, work: Coroutine[Any, Any, None]) -> None:
    """Do it beside the answer, so that how long it takes tells nobody anything."""
    tasks: set[asyncio.Task[None]] = request.app.state.behind
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _send(site: Site, address: str, next: str) -> None:
    """A link for an address at which somebody is known; whatever goes wrong is for the log."""
    try:
        if site.send_login is None or not await _known(site, address):
            return
        text = await site.desk.tokens.issue(LOGIN, address, next, within=site.settings.login)
        await site.send_login(address, f"{site.settings.public_url}/login/{text}", site.settings.login)
    except GovernorError as error:
        log.warning("a login link was not sent: %s", refusal(error).code)


async def _known(site: Site, address: str) -> bool:
    """True for an address of the directory's, or of somebody for whom something waits."""
    voter = await site.desk.voter(address)
    if voter.service or kind_of(address) != EMAIL:
        return False
    return site.governor.identities.person(address) is not None or bool(await site.desk.inbox(address))
