"""[22] What a page shows is what is stored: read back from its HTML the display gives the stored bytes, or nothing can be
approved by it. (5,000 generated argument sets nightly, a few hundred here; in Chromium, a sample of them.)
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from governor_agents.core.calls import freeze, thaw
from governor_agents.handlers.forms import Form
from governor_agents.handlers.message import Message
from governor_agents.handlers.visible import HIDDEN_CATEGORIES, parse_visible
from governor_agents.server import asking
from governor_agents.server.settings import Rate, Rates
from tests.pages import Office, client, form_in, make_office
from tests.unit.test_message import generated

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

SETS = 5000 if os.environ.get("GOVERNOR_NIGHTLY") else 80
LARGE = {"big": "\u202e<!channel>`" * 70_000, "keys": {f"k{n}": [n, "x" * 20] for n in range(3000)}}
"""Almost 1 MB as stored."""


class Shown(HTMLParser):
    """What a page shows: the exact text, the rows of the table, every text of it; and whether it can be approved."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.args: str | None = None
        self.rows: list[str] = []
        self.text: list[str] = []
        self.approves = self.scripts = False
        self._exact = self._table = self._row = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.scripts = self.scripts or tag == "script"
        self.approves = self.approves or given.get("value") == "approve" or given.get("value") == "edit"
        if tag == "pre" and given.get("id") == "args":
            self._exact, self.args = True, ""
        elif tag == "table":
            self._table = "arguments" in (given.get("class") or "")
        elif tag == "code" and self._table:
            self._row = True
            self.rows.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._exact = False
        elif tag == "code":
            self._row = False
        elif tag == "table":
            self._table = False

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._exact:
            self.args = (self.args or "") + data
        if self._row:
            self.rows[-1] += data


def hidden(texts: list[str]) -> set[str]:
    """Characters of a page that a reader would not see, but for the spaces and line ends between its elements."""
    characters = set("".join(texts)) - set(" \n")
    return {each for each in characters if unicodedata.category(each) in HIDDEN_CATEGORIES}


def wrong(html: str, stored: bytes) -> list[str]:
    """What a page shows that is not so."""
    shown, found = Shown(html), []
    if hidden(shown.text):
        found.append(f"hidden {hidden(shown.text)!r}")
    if shown.scripts:
        found.append("a script")
    if not shown.approves:
        return found
    if shown.args is None or parse_visible(shown.args).encode() != stored:
        found.append("the exact text is not the stored one")
    leaves = [parse_visible(value) for value in shown.rows[1::2]]
    if shown.rows and not all(freeze(thaw(leaf)).decode() == leaf for leaf in leaves):
        found.append("a value of the table is no JSON")
    form = form_in(html, "edit")
    if Form.of(stored).read(form).args != stored:
        found.append("the untouched form stands for something else")
    return found


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    much = Rate(10**6, 60.0)
    made = make_office(f"sqlite:///{tmp_path}/governor.db", rates=Rates(much, much, much, much, much))
    yield made
    await made.governor.close()


def sets() -> Iterator[dict[str, Any]]:
    yield LARGE
    yield {}
    for seed in range(SETS - 2):
        yield generated(seed)


async def test_what_a_page_shows_is_what_is_stored(office: Office) -> None:
    """Exact text, table and form of each page read back to the stored bytes; nothing hides, nothing is a script."""
    count = approvable = 0
    cookies = await office.session()
    async with client(office, cookies=cookies) as web:
        for args in sets():
            asked = await office.ask(args)
            html = (await web.get(f"/requests/{asked.id}")).text
            assert wrong(html, asked.call.args) == [], args
            count, approvable = count + 1, approvable + Shown(html).approves
    assert (count, approvable) == (SETS, SETS)


@pytest.mark.parametrize("fault", ["cut", "raw", "other"])
async def test_a_page_that_shows_something_else_is_caught(
    office: Office, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Control: a display that is cut off, one that lets characters hide, one of other arguments."""
    asked = await office.ask({"note": "\u202e" + "x" * 300})
    exact = Message.of(asked).args
    texts = {"cut": exact[:200], "raw": parse_visible(exact), "other": exact.replace("x", "y")}
    real = Message.of

    class Faulty:
        @staticmethod
        def of(approval: Any, **rest: Any) -> Message:
            from dataclasses import replace

            return replace(real(approval, **rest), args=texts[fault])

    monkeypatch.setattr(asking, "Message", Faulty)
    async with client(office, cookies=await office.session()) as web:
        html = (await web.get(f"/requests/{asked.id}")).text
    assert wrong(html, asked.call.args) != []
