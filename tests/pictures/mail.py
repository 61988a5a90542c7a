"""The pictures of mails: as a reader shows them, as one shows them that strips styles, and their text part."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

from governor_agents.core.records import Approval, Decision
from governor_agents.handlers.email import letter
from governor_agents.handlers.email.standing import ASKED, Standing, news
from governor_agents.handlers.email.ways import Link, ways
from governor_agents.handlers.links import confirm_page
from governor_agents.handlers.message import Message
from tests.pictures.slack import HOSTILE, REFUND, after, request

PUBLIC = "https://approvals.example.com"
LINK = Link(confirm_page(PUBLIC, "Zk3v1uJmQ0y7mP2sXc9bTn4hLr8wEaGd5oFqIi6KjVY"), 1_795_024_800.0)
READER = "controller@example.com"
STYLE = (
    "body{margin:0;padding:12px 18px;background:#fff}"
    ".is{font:600 13px sans-serif;color:#555;margin:18px 0 6px}"
    ".panel{border:1px solid #aaa;overflow:hidden}"
    ".text{font:13px/1.4 monospace;white-space:pre-wrap;overflow-wrap:anywhere;padding:12px;margin:0}"
)


def mail(approval: Approval, told: tuple[str, ...], *, asked: bool = True) -> letter.Letter:
    """The mail to one reader, as the channel composes it."""
    message = Message.of(approval)
    shown = letter.fitting(message, told)
    link = LINK if asked and shown is not None else None
    by = ways(message, approval.id, "default", PUBLIC, asked=asked, whole=shown is not None, link=link)
    subject = f"Approval {approval.id}: support asks to run refund"
    make = letter.compose if shown is not None else letter.compose_brief
    return make(subject, shown or message, told, by)


def stripped(html: str) -> str:
    """The mail in a reader that takes styles away."""
    return re.sub(r' (?:style|class)="[^"]*"', "", html)


def seen(made: letter.Letter) -> str:
    """All three views of a mail under one another."""
    views = [
        ("HTML", _body(made.html)),
        ("HTML in a reader that strips styles", _body(stripped(made.html))),
        ("Text part", f'<pre class="text">{escape(made.text)}</pre>'),
    ]
    panels = "".join(f'<div class="is">{name}</div><div class="panel">{shown}</div>' for name, shown in views)
    return f'<!doctype html><html lang="en"><head><meta charset="utf-8"><style>{STYLE}</style></head><body>{panels}</body></html>'


def _body(html: str) -> str:
    found = re.search(r"<body([^>]*)>(.*)</body>", html, re.DOTALL)
    assert found is not None
    return f"<div{found[1]}>{found[2]}</div>"


def _told(before: Approval, now: Approval) -> tuple[str, ...]:
    """What the reader hears who had a mail about the first and now gets one about the second."""
    known, fresh = Standing.of(before, READER), Standing.of(now, READER)
    return news({now.id: known}, {now.id: fresh}, {now.id: now}, READER)


def ordinary() -> str:
    """A request as most are."""
    return seen(mail(request(REFUND), (ASKED,)))


def long() -> str:
    """One too large for a mail."""
    lines = [{"sku": f"A-{at:04}", "quantity": at % 7 + 1, "price": 9.99, "note": "as agreed"} for at in range(1600)]
    return seen(mail(request({**REFUND, "lines": lines}), (ASKED,)))


def hostile() -> str:
    """Arguments that try to be something else."""
    more = {**HOSTILE, "see": "https://evil.example/confirm www.evil.example", "spaces": "0  0   0"}
    return seen(mail(request(more, headline="Refund order {args.order}"), (ASKED,)))


def edited() -> str:
    """One person edited it, and another must still agree."""
    before = request(REFUND, quorum=2)
    now = after(before, Decision.edit({**REFUND, "amount": 80.0}, reason="the shipping is not refunded"))
    return seen(mail(now, _told(before, now)))


def outcome() -> str:
    """What everybody who was asked hears in the end."""
    before = request(REFUND)
    now = after(before, Decision.reject("order 4711 was never paid, see https://shop.example/4711"))
    return seen(mail(now, _told(before, now), asked=False))


SCENES: dict[str, Callable[[], str]] = {
    "mail": ordinary,
    "mail-edited": edited,
    "mail-hostile": hostile,
    "mail-long": long,
    "mail-outcome": outcome,
}
