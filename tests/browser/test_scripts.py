"""120 attempts at making a page do something, each in every field that a page shows: nothing runs, nothing is added.

A page is compared with the same page of a harmless request, element by element: where a text became markup, they differ.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jinja2
import pytest

from governor_agents import Decision
from governor_agents.core.records import Approval, Comment, HandOver, TakenUp
from governor_agents.handlers.visible import visible
from governor_agents.nonces import nonce
from governor_agents.server import pages
from tests.browser.payloads import PAYLOADS
from tests.pages import BOSS, CFO, Office, make_office, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))
SHAPE = """() => ({
    shape: [...document.querySelectorAll('*')].map(
        each => each.tagName + ' ' + [...each.attributes].map(one => one.name).sort().join(' ')
    ),
    scripts: document.scripts.length + [...document.querySelectorAll('script, iframe, object, embed, base, style')].length,
    handlers: [...document.querySelectorAll('*')].filter(
        each => [...each.attributes].some(one => /^on/i.test(one.name) || (/^(href|src|action|formaction|data)$/.test(one.name) && /script:/i.test(one.value)))
    ).length,
    text: document.querySelector('#args') ? document.querySelector('#args').textContent : '',
})"""


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("scripts")
    with served(lambda url: make_office(f"sqlite:///{folder}/governor.db", url=url, **unlimited())) as made:
        yield made


def like(payload: str) -> str:
    """A harmless text that gets fields of the same kind: one line or several, short or long."""
    word = "x" * (90 if len(visible(payload)) > 70 else 10)
    return f"{word}\n{word}" if "\n" in payload else word


def unlimited() -> dict[str, Any]:
    from governor_agents.server.settings import Rate, Rates

    much = Rate(10**6, 60.0)
    return {"rates": Rates(much, much, much, much, much)}


async def hostile(office: Office, text: str, reader: str) -> Approval:
    """A request with this text wherever the record holds one."""
    schema = {
        "type": "object",
        "properties": {
            "note": {"type": "string", "description": text, "title": text},
            "choice": {"enum": [text, "other"], "description": text},
            text: {"type": "string", "description": text},
        },
    }
    asked = await office.ask(
        {"note": text, "choice": text, text: text, "deep": [{text: [text]}], "lines": f"{text}\n{text}"},
        tool=text,
        agent=text,
        requester=text,
        conversation=text,
        reason=text,
        policy=text,
        names=(text,),
        people=(CFO, BOSS, reader, text),
        quorum=2,
        headline=text + " {{ call.tool }} {{ args.note }}",
        schema=json.dumps(schema).encode(),
        call={
            "comments": (Comment(text, 1.0, text),),
            "taken_up": TakenUp(text, 1.0),
            "handed": (HandOver(text, text, text, 1.0),),
            "restored": text,
        },
    )
    await office.governor.decide(asked.id, Decision.approve(text), by=BOSS)
    return asked


def shapes(office: Office, page: Page, text: str, whole: bool) -> list[dict[str, Any]]:
    """The request after a login; as a ``whole`` also by a link, with a form that came back, and decided."""
    reader = f"{nonce()}@example.com"  # for whom nothing else waits
    asked = office.run(hostile(office, text, reader))
    (cookie,) = office.run(office.session()).values()
    found = [look(page, f"{office.url}/requests/{asked.id}", cookie)]
    if not whole:
        return found
    (theirs,) = office.run(office.session(reader)).values()
    found.append(look(page, f"{office.url}/", theirs))
    found.append(look(page, office.url + office.run(office.link(asked))))
    form = page.locator("form:has(input[value=decide])")
    form.locator("input[value=reject]").check()
    form.locator("textarea[name=reason]").fill(text.replace("\x00", ""))
    form.locator("input[name=word]").fill("wrong")
    send(page)
    assert "Nothing was sent" in page.get_by_role("alert").inner_text()
    found.append(page.evaluate(SHAPE))
    form.locator("input[name=word]").fill(page.locator(".word").first.inner_text())
    send(page)
    assert page.get_by_role("status").inner_text() == "Your decision is recorded."
    found.append(page.evaluate(SHAPE))
    return found


def send(page: Page) -> None:
    with page.expect_navigation():
        page.get_by_role("button", name="Send the decision").click()


def look(page: Page, url: str, cookie: str = "") -> dict[str, Any]:
    page.context.clear_cookies()
    if cookie:
        page.context.add_cookies([{"name": "governor", "value": cookie, "url": url}])
    answer = page.goto(url)
    assert answer is not None and answer.status == 200, url
    shape: dict[str, Any] = page.evaluate(SHAPE)
    return shape


def differences(office: Office, browser: Browser, payloads: tuple[str, ...], every: int) -> list[str]:
    """Where a payload became more than text: another element, a script, a handler, a dialog, a request elsewhere.

    All five pages for each ``every``-th payload, of which 0 is none.
    """
    found: list[str] = []
    context = browser.new_context(java_script_enabled=True)
    context.on("dialog", lambda dialog: (found.append(f"dialog {dialog.message}"), dialog.dismiss()))
    context.on("request", lambda sent: sent.url.startswith(office.url) or found.append(f"request {sent.url}"))
    page = context.new_page()
    page.set_default_timeout(110_000)
    plain: dict[str, list[dict[str, Any]]] = {}
    for n, payload in enumerate(payloads):
        alike = like(payload)
        if alike not in plain:
            plain[alike] = shapes(office, page, alike, every > 0)
        for at, each in enumerate(shapes(office, page, payload, every > 0 and n % every == 0)):
            if each["scripts"] or each["handlers"] or each["shape"] != plain[alike][at]["shape"]:
                found.append(f"{payload!r} on page {at}")
    context.close()
    return found


@pytest.mark.timeout(900)
def test_no_text_becomes_more_than_text(office: Office, browser: Browser) -> None:
    """120 payloads in every field: 0 script nodes, 0 handlers, 0 dialogs, 0 requests elsewhere.

    Each on the page of a request; each twentieth, or in the nightly size each, on those of a link and of its answers too.
    """
    assert len(set(PAYLOADS)) == 120
    assert differences(office, browser, PAYLOADS, 1 if NIGHTLY else 20) == []


@pytest.mark.timeout(300)
def test_a_page_without_escaping_is_caught(
    office: Office,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control: the same templates with escaping switched off add script nodes."""
    loader = jinja2.PackageLoader("governor_agents.server")
    raw = jinja2.Environment(loader=loader, autoescape=False, trim_blocks=True, lstrip_blocks=True)
    raw.filters["visible"] = str
    monkeypatch.setattr(pages, "_templates", lambda: raw)
    payloads = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>")
    assert len(differences(office, browser, payloads, 0)) >= len(payloads)
