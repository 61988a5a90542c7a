"""[28] Whatever opens, follows, checks or submits links by itself changes nothing: 1,000 visits, 0 changes of state.

What counts as a change: any record of the store beside counters (how often somebody came) and the stream of refused
requests. The same visits to a page that decides when it is opened, and to one that asks for no word, are seen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from governor_agents import Decision
from governor_agents.server import answering, login
from governor_agents.server.access import DecideLink, open_to_all
from tests.browser.test_scripts import unlimited
from tests.pages import CFO, Office, form_in, make_office, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GET, HEAD, OPTIONS, CHROMIUM, BOT = 530, 200, 150, 40, 80
"""How many visits of each kind: 1,000 together."""

KINDS = ("card", "run", "thread", "token")
SCRIPT = """() => {
    for (const each of document.querySelectorAll('input:not([type=hidden]), textarea')) {
        if (each.type === 'radio') each.checked = true; else each.value = 'x@example.com';
    }
    const forms = [...document.forms];
    if (forms.length) forms[Math.floor(forms.length * %f)].submit();
}"""


@pytest.fixture
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("prefetch")
    with served(lambda url: make_office(f"sqlite:///{folder}/governor.db", url=url, **unlimited())) as made:
        yield made


def links(office: Office) -> list[str]:
    """Links of mails: five that ask for a decision, one that logs in."""
    asked = [office.run(office.ask()) for _ in range(5)]
    found = [office.run(office.link(each)) for each in asked]
    login = office.run(office.governor.desk.tokens.issue("login", CFO, "", within=3600.0))
    return [*found, f"/login/{login}"]


def stored(office: Office) -> list[tuple[str, str, int, bytes]]:
    """Everything that could have been changed."""

    async def look() -> list[tuple[str, str, int, bytes]]:
        found = []
        for kind in KINDS:
            found += [(kind, each.record.id, each.record.v, each.record.body) for each in await scan(kind)]
        return found

    scan = office.governor.store.scan
    return office.run(office.governor.loop.bridge(look()))


def plain_visits(office: Office, paths: list[str], many: int = 1) -> int:
    """GET, HEAD and OPTIONS, as scanners of links send them; how many there were."""
    done = 0
    with httpx.Client(base_url=office.url, timeout=60) as scanner:
        for method, count in (("GET", GET), ("HEAD", HEAD), ("OPTIONS", OPTIONS)):
            for at in range(count // many):
                answer = scanner.request(method, paths[at % len(paths)], headers={"User-Agent": "SafeLinks/1.0"})
                assert answer.status_code in (200, 405), answer
                done += 1
    return done


def chromium_visits(office: Office, browser: Browser, paths: list[str], many: int = 1) -> int:
    """A headless browser that runs scripts, reads ahead, presses every button it sees, and submits forms by script."""
    page = browser.new_context(java_script_enabled=True).new_page()
    page.set_default_timeout(60_000)
    for at in range(CHROMIUM // many):
        page.goto(office.url + paths[at % len(paths)])
        if page.locator("form").count() == 0:  # it was decided: the control for this test
            continue
        if at % 2:
            with page.expect_navigation():
                page.evaluate(SCRIPT % (at % 7 / 7))
        else:
            for button in page.get_by_role("button").all():
                button.click(no_wait_after=True)
    page.context.close()
    return CHROMIUM // many


def bot_visits(office: Office, paths: list[str], many: int = 1) -> int:
    """Reads each form of a page, fills in what scanners fill in, and sends it as a browser on the page would."""
    dice = random.Random(28)
    with httpx.Client(base_url=office.url, timeout=60, headers={"Origin": office.url}) as bot:
        for at in range(BOT // many):
            path = paths[at % len(paths)]
            html = bot.get(path).text
            do = "" if path.startswith("/login") else dice.choice(("decide", "edit", "comment", "take-up"))
            form = form_in(html, do)
            for name, value in form.items():
                if name in ("decision", "reason", "answer", "comment", "word") or not value:
                    form[name] = dice.choice(("", "test", "approve", "yes", "1", "x@example.com", CFO))
            form["decision"] = dice.choice(("approve", "reject", "respond"))
            if form["word"] == form_in(html, do)["word"]:
                form["word"] = ""
            assert bot.post(path, data=form).status_code in (422, 429)
    return BOT // many


@pytest.mark.timeout(600)
def test_a_thousand_prefetches_change_nothing(office: Office, browser: Browser) -> None:
    """GET, HEAD, OPTIONS, Chromium with scripts on, a bot that submits forms: 1,000 visits, 0 changes."""
    paths = links(office)
    before = stored(office)
    visits = plain_visits(office, paths) + chromium_visits(office, browser, paths) + bot_visits(office, paths)
    assert visits == 1000
    assert stored(office) == before


@pytest.mark.timeout(300)
def test_a_page_that_decides_when_it_is_opened_is_seen(office: Office) -> None:
    """Control: a GET that decides shows as a change of the run."""
    router = office.app.router

    @router.get("/decides/{token}", dependencies=[Depends(open_to_all)])
    async def decides(link: DecideLink, request: Request) -> Response:
        approval = await office.governor.approval(link.token.subject)
        desk = office.governor.desk
        await desk.decide(approval.id, Decision.approve(), by=CFO, digest=approval.call.digest, channel="web")
        return Response("thanks")

    paths = [path.replace("/confirm/", "/decides/") for path in links(office) if "/confirm/" in path]
    before = stored(office)
    plain_visits(office, paths, many=50)
    assert {each[0] for each in set(stored(office)) - set(before)} == {"run"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("where", [answering, login])
def test_a_page_that_asks_for_no_word_is_seen(
    office: Office, browser: Browser, monkeypatch: pytest.MonkeyPatch, where: object
) -> None:
    """Control: where any word will do, the browser that submits forms by script decides, or logs in."""
    monkeypatch.setattr(where, "typed", lambda given, word: bool(given))
    paths = links(office)
    before = stored(office)
    chromium_visits(office, browser, paths[:1] if where is answering else paths[-1:], many=10)
    assert stored(office) != before
