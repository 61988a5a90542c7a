"""People decide on the pages in a real browser: by mouse and keyboard, on a phone, without scripts; and nobody else does."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from governor_agents.core.records import CallState
from governor_agents.handlers.visible import parse_visible
from tests.browser.test_scripts import unlimited
from tests.pages import BOSS, CFO, Office, make_office, served
from tests.server.test_display import LARGE
from tests.unit.test_message import generated

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.timeout(600)

SCHEMA = b"""{"properties":{"amount":{"description":"In cents","maximum":50000,"minimum":1,"type":"integer"},
"note":{"type":"string"},"order":{"type":"string"},"urgent":{"type":"boolean"}},"required":["order","amount"],"type":"object"}"""
ARGS = {"order": "4711", "amount": 12000, "note": "line one\r\n line\u200b two \u202e", "urgent": False}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("deciding")
    with served(lambda url: make_office(f"sqlite:///{folder}/governor.db", url=url, **unlimited())) as made:
        yield made


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A browser without scripts, as the pages need none."""
    with opened(browser) as made:
        yield made


@contextmanager
def opened(browser: Browser, **context: object) -> Iterator[Page]:
    made = browser.new_context(**{"java_script_enabled": False, **context})  # type: ignore[arg-type]
    page = made.new_page()
    page.set_default_timeout(110_000)
    try:
        yield page
    finally:
        made.close()


def press(page: Page, name: str) -> None:
    with page.expect_navigation():
        page.get_by_role("button", name=name).click()


def state(office: Office, id: str) -> CallState:
    return office.run(office.governor.approval(id)).call.state


@pytest.mark.parametrize(
    ("choice", "ends"),
    [("Approve", CallState.APPROVED), ("Reject", CallState.REJECTED), ("Answer", CallState.ANSWERED)],
)
def test_a_link_is_opened_and_decided(office: Office, page: Page, choice: str, ends: CallState) -> None:
    """Open, read, choose, type the word, send: the page says who decided what and when, also when it is opened again."""
    asked = office.run(office.ask(ARGS))
    link = office.url + office.run(office.link(asked))
    page.goto(link)
    shown = page.locator("#args").inner_text()
    assert parse_visible(shown).encode() == asked.call.args
    page.get_by_role("radio", name=choice).check()
    if choice == "Answer":
        page.get_by_label("Your answer to the agent").fill("It was paid yesterday.")
    page.locator("#reason-decide").fill("Checked with the bank")
    page.locator("#word-decide").fill(page.locator(".word").first.inner_text().upper())
    press(page, "Send the decision")
    assert page.get_by_role("status").inner_text() == "Your decision is recorded."
    assert state(office, asked.id) is ends
    page.goto(link)
    assert CFO in page.inner_text("main") and "UTC" in page.inner_text("main")
    assert page.locator("form").count() == 0


def test_an_untouched_field_keeps_its_bytes(office: Office, page: Page) -> None:
    """One argument is edited; the line breaks, spaces and invisible characters of the others come back as they were."""
    asked = office.run(office.ask(ARGS, schema=SCHEMA))
    page.goto(office.url + office.run(office.link(asked)))
    page.get_by_text("Edit the arguments").click()
    page.get_by_label("amount").fill("900000")
    page.locator("#word-edit").fill(page.locator(".word").first.inner_text())
    press(page, "Approve as edited")
    assert "at most 50000" in page.inner_text("main") and state(office, asked.id) is CallState.PENDING
    page.get_by_label("amount").fill("9000")
    page.locator("#word-edit").fill(page.locator(".word").first.inner_text())
    press(page, "Approve as edited")
    call = office.run(office.governor.approval(asked.id)).call
    assert call.state is CallState.APPROVED
    assert call.args == asked.call.args.replace(b"12000", b"9000")


def test_comments_and_claims(office: Office, page: Page) -> None:
    """A comment and "I'm on it" stand on the page for everybody who is asked; neither decides."""
    asked = office.run(office.ask(people=(CFO, BOSS)))
    page.goto(office.url + office.run(office.link(asked)))
    page.get_by_text("Comment, or say").click()
    page.get_by_label("Your comment").fill("I wait for the bank")
    page.locator("#word-comment").fill(page.locator(".word").first.inner_text())
    press(page, "Send the comment")
    page.get_by_text("Comment, or say").click()
    page.locator("#word-take-up").fill(page.locator(".word").first.inner_text())
    press(page, "I’m on it")
    page.goto(office.url + office.run(office.link(asked, BOSS)))
    text = page.inner_text("main")
    assert "I wait for the bank" in text and f"Looked at by {CFO}" in text
    assert state(office, asked.id) is CallState.PENDING


def test_login_and_out(office: Office, page: Page) -> None:
    """The page of a request asks for a login, the mail's link gives it in this browser, and the request is shown."""
    asked = office.run(office.ask())
    office.mails.clear()
    page.goto(f"{office.url}/requests/{asked.id}")
    page.get_by_label("Your email address").fill(CFO)
    press(page, "Send me the link")
    assert page.get_by_role("heading").inner_text() == "Look into your mail"
    while not office.mails:
        page.wait_for_timeout(20)
    page.goto(office.mails[-1][1])
    page.locator("#word-login").fill(page.locator(".word").inner_text())
    press(page, "Log in")
    assert page.url == f"{office.url}/requests/{asked.id}" and "4711" in page.locator("#args").inner_text()
    press(page, "Log out")
    page.goto(f"{office.url}/requests/{asked.id}")
    assert page.locator("#args").count() == 0


def test_the_keyboard_reaches_everything(office: Office, page: Page) -> None:
    """Tab, arrows and typing alone decide; focus is where it can be seen; Enter in a field never decides by itself."""
    asked = office.run(office.ask())
    page.goto(office.url + office.run(office.link(asked)))
    page.get_by_role("radio", name="Approve").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the word is missing: the browser says so and sends nothing
    assert state(office, asked.id) is CallState.PENDING
    page.keyboard.type(page.locator(".word").first.inner_text())
    page.keyboard.press("Tab")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert state(office, asked.id) is CallState.REJECTED


AUDIT = """() => {
    const problems = [];
    for (const each of document.querySelectorAll('input:not([type=hidden]), select, textarea, button')) {
        const name = each.tagName === 'BUTTON' ? each.textContent : [...(each.labels || [])].map(one => one.textContent).join('');
        if (!name.trim()) problems.push('no label: ' + each.outerHTML.slice(0, 80));
    }
    const ids = [...document.querySelectorAll('[id]')].map(each => each.id);
    if (new Set(ids).size !== ids.length) problems.push('an id twice');
    for (const each of document.querySelectorAll('[aria-describedby], [aria-labelledby]'))
        for (const id of ((each.getAttribute('aria-describedby') || '') + ' ' + (each.getAttribute('aria-labelledby') || '')).trim().split(/\\s+/))
            if (!document.getElementById(id)) problems.push('points nowhere: ' + id);
    if (document.querySelectorAll('h1').length !== 1 || !document.title || !document.documentElement.lang) problems.push('no title');
    if (document.documentElement.scrollWidth > document.documentElement.clientWidth) problems.push('scrolls sideways');
    const light = text => {
        const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = each => { for (; each; each = each.parentElement) { const c = getComputedStyle(each).backgroundColor; if (!/, 0\\)$/.test(c)) return c; } return 'rgb(255,255,255)'; };
    for (const each of document.querySelectorAll('main *, header *')) {
        if (![...each.childNodes].some(one => one.nodeType === 3 && one.textContent.trim()) || !each.getClientRects().length) continue;
        const [one, two] = [light(getComputedStyle(each).color), light(ground(each))].sort((x, y) => y - x);
        if ((one + 0.05) / (two + 0.05) < 4.5) problems.push('contrast: ' + each.outerHTML.slice(0, 80));
    }
    return problems;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280], ids=["phone, or 400 % zoom", "desk"])
def test_everybody_can_use_the_pages(office: Office, browser: Browser, scheme: str, width: int) -> None:
    """Labels, one heading, references that exist, contrast of 4.5, no sideways scrolling at 320 pixels, dark and light."""
    asked = office.run(
        office.ask({**generated(7), **ARGS, "long": "x" * 400}, schema=SCHEMA, reason="refunds over 50 EUR")
    )
    link = office.run(office.link(asked))
    with opened(
        browser, java_script_enabled=True, viewport={"width": width, "height": 800}, color_scheme=scheme
    ) as page:
        for path in (link, "/login", "/confirm/unknown", f"/requests/{asked.id}"):
            page.goto(office.url + path)
            for details in page.locator("details").all():
                details.evaluate("each => { each.open = true }")
            assert page.evaluate(AUDIT) == [], path
        page.goto(office.url + link)
        page.evaluate("() => { document.querySelector('#word-decide').labels[0].remove() }")
        assert [each for each in page.evaluate(AUDIT) if each.startswith("no label")], (
            "control: a label that is missing"
        )


def test_large_and_strange_arguments_in_a_browser(office: Office, page: Page) -> None:
    """[22] What a reader sees, read back, is what is stored: also of almost 1 MB, and of generated sets."""
    (cookie,) = office.run(office.session()).values()
    page.context.add_cookies([{"name": "governor", "value": cookie, "url": office.url}])
    for args in (LARGE, *(generated(seed) for seed in range(900, 908))):
        asked = office.run(office.ask(args))
        page.goto(f"{office.url}/requests/{asked.id}")
        assert parse_visible(page.locator("#args").inner_text()).encode() == asked.call.args
        assert page.locator("script").count() == 0


# -- attacks ------------------------------------------------------------------------------------------------------------


@contextmanager
def evil(body: str) -> Iterator[str]:
    """Another site (another port, hence another origin) with one page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


DRAWN = """element => {
  const place = (node, at) => { const range = document.createRange(); range.setStart(node, at);
    range.setEnd(node, at + 1); return range.getBoundingClientRect().left; };
  const node = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode();
  return [...node.data].map((each, at) => [place(node, at), each]).sort((a, b) => a[0] - b[0]).map(each => each[1]).join("");
}"""
"""The text of an element on one line, in the order in which the browser draws it."""


def test_what_is_read_from_the_right_is_drawn_in_its_place(office: Office, browser: Browser) -> None:
    """The route from one place to another is not drawn the other way round; as the JSON that it is, it would be."""
    asked = office.run(office.ask({"route": ["\u05d0", 5, "\u05d1"]}))
    with opened(browser, java_script_enabled=True) as page:
        page.goto(office.url + office.run(office.link(asked)))
        shown = page.locator("#args code")
        assert shown.evaluate(DRAWN) == shown.inner_text()
        shown.evaluate("(element, text) => { element.textContent = text }", asked.call.args.decode())
        assert shown.evaluate(DRAWN) != asked.call.args.decode()


def test_a_form_on_another_site_decides_nothing(office: Office, browser: Browser) -> None:
    """CSRF: with somebody's login and even everything that the form needs, a form of another site is 403."""
    from tests.pages import form_in

    asked = office.run(office.ask())
    (cookie,) = office.run(office.session()).values()
    path = f"/requests/{asked.id}"
    with opened(browser, java_script_enabled=True) as page:
        page.context.add_cookies([{"name": "governor", "value": cookie, "url": office.url}])
        page.goto(office.url + path)
        fields = form_in(page.content(), "decide", decision="approve")
        inputs = "".join(
            f"<input name='{name}' value='{value.replace(chr(39), '&#39;')}'>" for name, value in fields.items()
        )
        form = f"<form method=post action='{office.url}{path}'>{inputs}</form>"
        with evil(f"<body>{form}<script>document.forms[0].submit()</script>") as site:
            page.goto(site)
            page.wait_for_url(office.url + path)
            assert page.get_by_role("heading").inner_text() == "Not from here"
        assert state(office, asked.id) is CallState.PENDING
        page.goto(office.url + path)
        page.get_by_role("radio", name="Approve").check()
        page.locator("#word-decide").fill(fields["word"])
        press(page, "Send the decision")  # control: the same from our own page
        assert state(office, asked.id) is CallState.APPROVED


def test_no_page_can_be_framed(office: Office, browser: Browser) -> None:
    """Clickjacking: a frame on another site, or on one of ours, stays empty; a page that allows it would be shown."""
    link = office.url + office.run(office.link(office.run(office.ask())))
    with contextlib.ExitStack() as stack:
        page = stack.enter_context(opened(browser, java_script_enabled=True))
        plain = stack.enter_context(evil("<p id=bait>framed</p>"))
        site = stack.enter_context(evil(f"<iframe src='{link}'></iframe><iframe src='{plain}'></iframe>"))
        page.goto(site)
        page.frame_locator("iframe >> nth=1").locator("#bait").wait_for()  # control: what may be framed is shown
        framed = [frame for frame in page.frames if frame.parent_frame and plain not in frame.url]
        assert len(framed) == 1 and framed[0].locator("form").count() == 0
        assert "refused" in framed[0].content() or framed[0].url.startswith("chrome-error")


def test_nothing_is_loaded_from_anywhere_else(office: Office, browser: Browser) -> None:
    """One stylesheet and one icon of ours; no referrer leaves a page; no copy of it is kept."""
    asked = office.run(office.ask())
    with opened(browser, java_script_enabled=True) as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url))
        answer = page.goto(office.url + office.run(office.link(asked)))
        assert answer is not None and answer.headers["cache-control"] == "no-store"
        assert {url for url in sent if "/confirm/" not in url} <= {f"{office.url}/pages.css", f"{office.url}/icon.svg"}
        assert page.evaluate("() => [document.referrer, window.localStorage.length, document.cookie]") == ["", 0, ""]
