"""A governor with its pages for tests: requests made by hand, a real uvicorn on loopback, and a browser that is one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import uvicorn
from fastapi import FastAPI

from governor_agents import Governor, PolicySet, ToolCall, Verdict
from governor_agents.core.records import Approval
from governor_agents.server import create_app
from tests.asking import ARGS, Silent, ask, refused

if TYPE_CHECKING:
    from playwright.sync_api import Browser

T = TypeVar("T")

CFO, BOSS, EVE = "cfo@example.com", "boss@example.com", "eve@example.com"
SERVICE = "service:mailer"


@dataclass
class Office:
    """A governor and its pages. ``mails`` are the login links that were sent, by address."""

    governor: Governor
    app: FastAPI
    url: str
    mails: list[tuple[str, str]] = field(default_factory=list)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await it on another thread: a test with a browser has a loop of the browser's on its own."""
        return self.governor.caller_loop.call(work)

    async def ask(self, args: dict[str, Any] | bytes = ARGS, **asked: Any) -> Approval:
        """A request that waits for people: see `ask`."""
        return await ask(self.governor, args, **asked)

    async def link(self, approval: Approval | str, person: str = CFO, *, within: float = 3600.0) -> str:
        """The path of a mail's link to this approval."""
        subject = approval if isinstance(approval, str) else approval.id
        return "/confirm/" + await self.governor.desk.tokens.issue("decide", person, subject, within=within)

    async def session(self, person: str = CFO) -> dict[str, str]:
        """The cookie of somebody who is logged in."""
        text = await self.governor.desk.tokens.issue("session", person, "", within=3600.0)
        return {"governor": text}

    async def refused(self) -> list[dict[str, Any]]:
        """See `refused`."""
        return await refused(self.governor)


def _nothing_more(call: ToolCall) -> Verdict:
    """What the policies say of edited arguments: no more than the request asked for already."""
    return Verdict("allow", "p#edited", "1")


def make_office(store: str, *, url: str = "http://testserver", tenant: str = "default", **settings: Any) -> Office:
    """The pages of a governor on this store."""
    of_governor = {name: settings.pop(name) for name in ("people", "keys") if name in settings}
    governor = Governor(
        PolicySet([_nothing_more]), store=store, handlers={"silent": Silent()}, tenant=tenant, **of_governor
    )
    mails: list[tuple[str, str]] = []

    async def send(address: str, link: str, within: float) -> None:
        mails.append((address, link))

    hosts = settings.pop("hosts", ("testserver",))
    public = "http://127.0.0.1" if url == "http://testserver" else url
    settings.setdefault("patience", 100.0)  # a busy machine is not a store that stalls
    app = create_app(governor, public_url=public, hosts=hosts, send_login=send, **settings)
    return Office(governor, app, url, mails)


def client(office: Office, **rest: Any) -> httpx.AsyncClient:
    """A client that speaks ASGI to the pages, from this machine, as a browser on a page of ours would."""
    peer = rest.pop("peer", "127.0.0.1")
    transport = httpx.ASGITransport(office.app, raise_app_exceptions=True, client=(peer, 50000))
    headers = {"Origin": "http://127.0.0.1", **rest.pop("headers", {})}
    return httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=headers, **rest)


def office_of(governor: Governor, **settings: Any) -> Office:
    """The pages of a governor that a test has made itself."""
    app = create_app(governor, public_url="http://127.0.0.1", hosts=("testserver",), patience=100.0, **settings)
    return Office(governor, app, "http://testserver")


@contextlib.contextmanager
def served(make: Any) -> Iterator[Office]:
    """``make(url)`` gives an office; it is served by uvicorn on a free port of loopback."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        office: Office = make(f"http://127.0.0.1:{listening.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(office.app, log_level="info", access_log=True, proxy_headers=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=50)) as probe:
                assert probe.get(f"{office.url}/healthz", timeout=60).status_code == 200
            yield office
        finally:
            server.should_exit = True
            thread.join(60)
            office.governor.close_sync()


def chromium_path() -> str | None:
    """The system's Chromium, None for playwright's own."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A real browser. Raises what says how to get one where there is none."""
    from playwright.sync_api import Error, sync_playwright

    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=arguments)
        except Error as error:
            raise RuntimeError(
                "no Chromium: apt-get install chromium, or python -m playwright install chromium"
            ) from error
        try:
            yield browser
        finally:
            browser.close()


class _Forms(HTMLParser):
    """Every form of a page, as a browser would send it with nothing filled in."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[dict[str, str]] = []
        self._area = self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append({})
        elif not self.forms or not given.get("name"):
            if tag == "option" and self._select and ("selected" in given or self._select not in self.forms[-1]):
                self.forms[-1][self._select] = given["value"]
        elif tag == "input" and (given.get("type") != "radio" or "checked" in given):
            self.forms[-1][given["name"]] = given.get("value", "")
        elif tag == "textarea":
            self._area = given["name"]
            self.forms[-1][self._area] = ""
        elif tag == "select":
            self._select = given["name"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            text = self.forms[-1][self._area]
            self.forms[-1][self._area] = text.removeprefix("\n").replace("\n", "\r\n")  # as browsers do
            self._area = ""
        elif tag == "select":
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.forms[-1][self._area] += data


_WORD = re.compile(r'<strong class="word">([a-z]+)</strong>')


def form_in(html: str, do: str = "", **filled: str) -> dict[str, str]:
    """What a browser would send with the page's form for this, filled in like this; the shown word is typed."""
    reading = _Forms()
    reading.feed(html)
    found = next(form for form in reading.forms if form.get("do", "") == do)
    word = _WORD.search(html)
    if word and "word" in found:
        found["word"] = word[1]
    return {**found, **filled}
