"""Mails in a real browser: nothing in them runs, loads or opens, and what people see there is what is stored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from governor_agents.handlers.message import parse_visible
from tests.unit.test_email_letter import LINK, approval_of, composed, generated, large

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.timeout(300)

LOOK = """() => ({
    scripts: document.scripts.length,
    frames: document.querySelectorAll('iframe, object, embed, img, form, input, link, svg').length,
    links: [...document.querySelectorAll('a')].map(link => link.href),
    handlers: [...document.querySelectorAll('*')].filter(
        each => [...each.attributes].some(one => one.name.startsWith('on'))).length,
    seen: document.querySelector('#canonical').innerText,
    wide: document.documentElement.scrollWidth,
})"""
STRIPPED = re.compile(r' (?:style|class)="[^"]*"')


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of the width of a telephone, which may load nothing; what it tries stands in ``asked``."""
    context = browser.new_context(viewport={"width": 390, "height": 800})
    context.route("**/*", lambda route: route.abort())
    yield context.new_page()
    context.close()


def look(page: Page, html: str) -> dict[str, Any]:
    """What is there, once it is shown; ``asked`` are the addresses that the page tried to load."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_content(html)
    return {**page.evaluate(LOOK), "asked": asked}


HOSTILE = [
    {"note": "<script>document.title='run'</script><img src=x onerror=alert(1)><iframe src='//evil.example'>"},
    {"note": "</code></p><a href='https://evil.example'>approve</a><!--"},
    {"a b": "0  0   0", "lead": " x", "end": "x ", "many": " " * 16 + "y"},
    {"iban": "DE89370400440532013000" * 20, "k" * 200: "v" * 200},
    {"rtl": "אבג 100 (ע)", "\u202e": "\u2066"},
    {"style": "x\" style=\"display:none", "css": "</style><style>*{display:none}</style>"},
]  # fmt: skip


@pytest.mark.parametrize("strip", [False, True], ids=["styled", "styles stripped"])
def test_what_is_seen_in_a_mail_is_what_is_stored(page: Page, strip: bool) -> None:
    """As it is laid out, with its styles and without: the JSON with every space, one link, nothing that runs or loads."""
    cases = [*HOSTILE, *map(generated, range(0, 200, 10)), *map(large, (1, 4))]
    seen = 0
    for args in cases:
        approval = approval_of(args)
        made = composed(approval)
        if LINK not in made.text:
            continue
        found = look(page, STRIPPED.sub("", made.html) if strip else made.html)
        shown = found["seen"].replace("\N{NO-BREAK SPACE}", " ")
        assert parse_visible(shown).encode() == approval.call.args
        assert (found["scripts"], found["frames"], found["handlers"]) == (0, 0, 0)
        assert found["links"] == [LINK] and not found["asked"] and page.title() == f"Approval {approval.id}"
        seen += 1
    assert seen >= 25


def test_ordinary_mails_fit_a_telephone(page: Page) -> None:
    """With styles and without, nothing of a request lies beside the screen, however long its words are."""
    for args in HOSTILE:
        html = composed(approval_of(args)).html
        assert look(page, html)["wide"] <= 390
        assert look(page, STRIPPED.sub("", html))["wide"] <= 390


def test_the_look_finds_what_is_wrong(page: Page) -> None:
    """Control: a script, an image, a link and joined spaces are seen where they are."""
    approval = approval_of({"note": "two  spaces"})
    html = composed(approval).html
    bad = html.replace(
        "</h1>", "</h1><script>1</script><img src='https://evil.example/x'><a href='https://x.example/'>"
    )
    found = look(page, bad)
    assert found["scripts"] == 1 and found["frames"] == 1 and found["asked"] and len(found["links"]) > 1
    joined = STRIPPED.sub("", html.replace("&nbsp;", " "))
    assert parse_visible(look(page, joined)["seen"]).encode() != approval.call.args
    assert "two &nbsp;spaces" in html
