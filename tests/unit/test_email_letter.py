"""What a mail shows: both parts every argument exactly, or none and no link that decides; nothing in it opens or hides.

``GOVERNOR_NIGHTLY=1`` reads all of the 5,000 generated argument sets back, else every twentieth is.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from markupsafe import Markup

from governor_agents.core.calls import freeze
from governor_agents.core.records import Approval, Comment, Decision
from governor_agents.handlers.email import letter, mime
from governor_agents.handlers.email.inert import as_html, inert
from governor_agents.handlers.email.ways import Link, ways
from governor_agents.handlers.links import confirm_page, request_page
from governor_agents.handlers.message import Message, parse_visible, visible
from tests.mailing import PUBLIC, Read, shown_json
from tests.unit.test_message import HOSTILE, approval_of, arguments, decided, generated, hides, read_lines, texts

TOKEN = "t" * 43
LINK = confirm_page(PUBLIC, TOKEN)
EVERY = 1 if os.environ.get("GOVERNOR_NIGHTLY") else 20
TAGS = {
    *("html", "head", "meta", "title", "body", "div", "p", "h1", "h2"),
    *("table", "tbody", "tr", "th", "td", "code", "a", "br", "wbr"),
}
ATTRIBUTES = {
    *("lang", "dir", "charset", "name", "content", "class", "style", "id", "href"),
    *("border", "cellspacing", "cellpadding", "scope", "align", "valign"),
}


def composed(approval: Approval, news: tuple[str, ...] = ("You are asked to decide.",)) -> letter.Letter:
    """The mail that somebody who is asked gets, as the handler composes it: the link only where the request fits."""
    message = Message.of(approval)
    shown = letter.fitting(message, news)
    link = Link(LINK, 1_795_000_000.0) if shown is not None else None
    by = ways(message, approval.id, "default", PUBLIC, asked=True, whole=shown is not None, link=link)
    if shown is None:
        return letter.compose_brief(f"Approval {approval.id}", message, news, by)
    return letter.compose(f"Approval {approval.id}", shown, news, by)


def delivered(made: letter.Letter) -> tuple[str, str]:
    """Both parts of the mail, as they come out at the other end."""
    raw = mime.mail(
        made, mime.Envelope("approvals@example.com", "cfo@example.com", "<c.1@example.com>"), "run_a.1", "d"
    )
    assert max(map(len, raw.split(b"\r\n"))) <= 998 and b"\n" not in raw.replace(b"\r\n", b"")
    mail = message_from_bytes(raw, _class=EmailMessage, policy=policy.default)
    parts = [mail.get_body((kind,)) for kind in ("plain", "html")]
    text, html = (str(part.get_content()).replace("\r\n", "\n") for part in parts if part is not None)
    return text, html


def wrong(approval: Approval) -> list[str]:
    """Everything that is wrong with the mail about it; empty when it keeps the display rule."""
    made = composed(approval)
    text, html = delivered(made)
    read = Read(html)
    found = list(_opens(text, read, approval))
    if any(hides(character) for character in text.replace("\n", "")):
        found.append("the text hides something")
    if any(hides(character) for character in read.text.replace("\n", "")):
        found.append("the HTML hides something")
    if TOKEN not in text + html:
        whole = approval.call.args.decode()
        return found + ["an argument in a mail without a link"] * (len(whole) > 60 and whole[:60] in text + read.text)
    stored = approval.call.args
    if parse_visible(shown_json(text)).encode() != stored:
        found.append("the text does not say what runs")
    if parse_visible(read.ids.get("canonical", "")).encode() != stored:
        found.append("the HTML does not say what runs")
    if (
        read.rows
        and freeze(read_lines([f"{path} = {value}" if path else value for path, value in read.rows])) != stored
    ):
        found.append("the HTML's lines do not say what runs")
    if made.size > letter.MOST:
        found.append("it is so large that readers cut it off")
    return found


def _opens(text: str, read: Read, approval: Approval) -> list[str]:
    """What a reader could open, or run, beside the one link."""
    page = request_page(PUBLIC, approval.id)
    found = []
    if read.tags - TAGS or read.attributes - ATTRIBUTES:
        found.append(f"elements: {sorted(read.tags - TAGS) + sorted(read.attributes - ATTRIBUTES)}")
    if read.links not in ([LINK], [page]):
        found.append("another link")
    for said in (text, read.text):
        bare = said.replace(LINK, "").replace(page, "")
        if "://" in bare or "www." in bare.lower() or "mailto:" in bare.lower():
            found.append("something that readers make a link")
    return found


@pytest.mark.parametrize("block", range(5))
def test_five_thousand_mails_read_back_to_the_stored_bytes(block: int) -> None:
    """Both parts, through MIME, say exactly the stored bytes, by path and whole, and nothing in them opens or hides."""
    for seed in range(block * 1000, block * 1000 + 1000, EVERY):
        assert not wrong(approval_of(generated(seed))), seed


@settings(max_examples=60)
@given(arguments)
def test_any_mail_reads_back_to_the_stored_bytes(args: dict[str, Any]) -> None:
    """The same for whatever Hypothesis finds."""
    assert not wrong(approval_of(args))


def large(seed: int) -> dict[str, Any]:
    """A hostile argument set of up to about 1 MB."""
    random = Random(seed)
    size = int(10 ** random.uniform(3.5, 6.0))
    pieces: list[str] = []
    while sum(map(len, pieces)) < size:
        pieces.append(random.choice(HOSTILE) * random.randrange(1, 60))
    kind = random.randrange(3)
    if kind == 0:
        return {"text": "".join(pieces)[:size]}
    if kind == 1:
        return {"list": pieces}
    return {f"{piece[:40]} {at}": at for at, piece in enumerate(pieces)}


@pytest.mark.parametrize("block", range(4))
def test_large_mails_read_back_or_link_to_no_decision(block: int) -> None:
    """Around the limit and far beyond it: exact, or without any argument and any link that decides."""
    whole = []
    for seed in range(block, 40, 4 if EVERY == 1 else 8):
        approval = approval_of(large(seed))
        assert not wrong(approval), seed
        whole.append(TOKEN in composed(approval).text)
    assert len(whole) >= 5


def test_the_limit_is_where_it_says() -> None:
    """Both sides of it happen, and what is beyond has no link whatever its size."""
    links = [TOKEN in composed(approval_of({"text": "x" * size})).text for size in (10, 20_000, 90_000, 1_000_000)]
    assert links == [True, True, False, False]
    lines = [bool(Read(composed(approval_of({"n": list(range(count))})).html).rows) for count in (10, 3000)]
    assert lines == [True, False], "the lines per path go first"


def test_other_peoples_words_make_a_mail_neither_cut_off_nor_linked() -> None:
    """News that is too long counts too: such a mail has no link, and none of the news."""
    approval = approval_of({"n": 1})
    long = (f"eve@example.com wrote: {'y' * 95_000}",)
    made = composed(approval, long)
    assert TOKEN not in made.text + made.html and "yyyy" not in made.text and made.size < letter.MOST


def test_the_mail_about_a_request_that_is_too_large_is_small_itself() -> None:
    """Thousands of comments, names of any length, news without end: what is shown instead is bounded, and has no link."""
    call = approval_of({"text": "x" * 100_000}).call
    comments = tuple(Comment("eve@example.com", float(at), "&" * 250) for at in range(3000))
    large_one = Approval(approval_of({}).run, replace(call, comments=comments, tool="&" * 300))
    made = composed(large_one, tuple(f"{'&' * 290} {at}" for at in range(500)))
    assert made.size < letter.MOST and TOKEN not in made.text + made.html
    assert "more news than a mail has room for" in made.text and "100011 bytes of canonical JSON" in made.text
    few = composed(approval_of({}), ("one",))
    assert "more news" not in few.text


def test_an_edited_request_shows_both_versions() -> None:
    """What runs now and what was asked for, exactly, in both parts."""
    before = approval_of({"amount": 120, "note": "<b>\u202e"})
    edited = Approval(before.run, replace(before.call, args=b'{"amount":60}', asked_args=before.call.args))
    text, html = delivered(composed(edited))
    read = Read(html)
    assert parse_visible(read.ids["canonical"]).encode() == b'{"amount":60}'
    assert parse_visible(read.ids["asked"]).encode() == before.call.args
    assert "amount: 120 -> 60" in text and visible(before.call.args.decode()) in text
    assert not _opens(text, read, edited)


def test_an_outcome_holds_no_link() -> None:
    """Who decided, when and why, and nothing that decides."""
    approval = decided(approval_of({"n": 1}), Decision.reject("see https://evil.example <b>"))
    message = Message.of(approval)
    by = ways(message, approval.id, "default", PUBLIC, asked=False, whole=True, link=None)
    made = letter.compose("Approval", message, (f"Closed: {message.outcome}.",), by)
    text, html = delivered(made)
    assert (
        "Closed: rejected by cfo@example.com at 2026-11-18 " in text and "see https:\\u{002F}/evil.example <b>" in text
    )
    assert not Read(html).links and "http" not in text.replace("https:\\u{002F}/", "")


SEEDED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a link is left in": lambda patch: patch.setattr(letter, "inert", lambda text: text),
    "markup is left in": lambda patch: patch.setitem(letter._template().environment.filters, "as_html", Markup),
    "a part is cut off": lambda patch: patch.setattr(letter, "compose", _cut),
    "spaces are joined": lambda patch: patch.setattr(letter, "to_text", lambda message: _to_text(message).replace("  ", " ")),
    "the limit is gone": lambda patch: patch.setattr(letter, "fitting", lambda message, news: message),
    "nothing is made visible": lambda patch: patch.setattr(
        Message, "of", classmethod(lambda cls, approval: _raw(approval))
    ),
}  # fmt: skip

_compose, _to_text, _of = letter.compose, letter.to_text, Message.of


def _cut(subject: str, message: Message, news: tuple[str, ...], by: letter.Ways) -> letter.Letter:
    return _compose(subject, replace(message, args=message.args[:200], arguments=message.arguments[:9]), news, by)


def _raw(approval: Approval) -> Message:
    return replace(_of(approval), args=approval.call.args.decode())


@cache
def samples() -> tuple[Approval, ...]:
    """Some mails of each kind."""
    made = [approval_of(generated(seed)) for seed in range(25)] + [approval_of(large(seed)) for seed in range(2)]
    made.append(approval_of({"note": "see https://evil.example/x  <b>now</b>", "hidden": "\u202e", "text": "x" * 400}))
    return (*made, approval_of({"text": "x" * 200_000}))


def test_the_samples_of_the_controls_are_right() -> None:
    """Without a fault nothing is found in them."""
    assert not any(map(wrong, samples()))


@pytest.mark.parametrize("fault", SEEDED)
def test_the_check_finds_a_seeded_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without this part of the rendering some of the same mails are found to be wrong."""
    SEEDED[fault](monkeypatch)
    assert any(map(wrong, reversed(samples())))


@settings(max_examples=200)
@given(texts)
def test_inert_text_reads_back(text: str) -> None:
    """What is written out to be no link is read back like all else; its HTML says the same."""
    shown = visible(text)
    assert parse_visible(inert(shown)) == text
    assert Read(f'<p id="x">{as_html(shown)}</p>').ids.get("x", "") == inert(shown)


def test_a_line_breaks_where_it_may_and_never_before_a_mark() -> None:
    """Long words have places to break; a letter keeps the marks that belong to it."""
    for word in ("e\u0301" * 100, "\u0928\u093f" * 100, "x" * 200, "a.\u0301b" * 20):
        pieces = str(as_html(visible(word))).split("<wbr>")
        assert len(pieces) > 5
        assert not [piece for piece in pieces if unicodedata.category(piece[0]).startswith("M")]
    assert str(as_html("short")) == "short"


LINKLIKE = [
    "https://evil.example",
    "HTTP://EVIL.EXAMPLE",
    "ftp://x",
    "slack://user",
    "www.evil.example",
    "WWW.evil.example",
    "mailto:a@b.c",
    "tel:+123",
    "javascript:alert(1)",
    "data:text/html,x",
    "https:////x",
]


@pytest.mark.parametrize("text", LINKLIKE)
def test_what_begins_like_a_link_is_written_out(text: str) -> None:
    """Readers find addresses by how they begin; none of these is left, and each can be read back."""
    shown = inert(text)
    assert shown != text and parse_visible(shown) == text
    assert not any(sign in shown.lower() for sign in ("://", "www.", "mailto:", "tel:", "javascript:", "data:"))


def test_ordinary_words_stay_as_they_are() -> None:
    """Prices, times, ratios, paths and host names are not written out."""
    for text in ("12:30", "a/b//c", "metadata: x", "C:\\users", "example.com", "hotel: yes", "ratio 1:/2"):
        assert inert(text) == text
