"""A mail's subject, text and HTML, made from the one `Message`: both parts hold every argument in full, or none.

Some readers cut a mail off where it grows long (Gmail hides what is beyond 102 KB of HTML). A request of which a part
would be cut off is not shown at all: such a letter says so, holds no link that decides, and names where it is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from textwrap import indent
from typing import Final

from css_inline import CSSInliner
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from governor_agents.handlers.email.inert import address_as_html, as_html, inert
from governor_agents.handlers.message import Message, parse_visible, to_text

MOST: Final = 90_000
"""Bytes of the larger part of a letter; see the module."""

_MORE: Final = "There is more news than a mail has room for."

_ROOM: Final = 4_000
"""What a letter may need beside the request: ways to decide, with links."""

_SHORT, _FEW, _LINES = 300, 24, 8
"""Characters of a fact, facts and lines of news that a letter shows where the request as a whole has no room."""

NO_REPLY: Final = "Replies to this mail are not read and decide nothing."
FOOT: Final = f"It does not run before it is approved. {NO_REPLY}"
"""What stands below every letter, and below one about a request that waits."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How the reader of one letter may go on, in words.

    ``link`` is what only this reader may have, called ``label``; ``page`` is for everyone.
    """

    title: str
    lines: tuple[str, ...]
    link: str = field(default="", repr=False)
    label: str = "Look again and decide"
    page: str = ""
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail says. A link that decides stands in it, so its words are in no ``repr``."""

    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the larger part."""
        return max(len(self.text.encode()), len(self.html.encode()))


NO_WAYS: Final = Ways("", ())


def fitting(message: Message, news: tuple[str, ...]) -> Message | None:
    """The message as a letter can hold it: whole, or whole without the lines per path; None when it is too large."""
    if len(message.args) + sum(map(len, news)) > MOST:  # not worth the rendering
        return None
    for shown in (message, replace(message, arguments=())):
        if compose("", shown, news, NO_WAYS).size <= MOST - _ROOM:
            return shown
    return None


def compose(subject: str, message: Message, news: tuple[str, ...], ways: Ways) -> Letter:
    """A letter that holds the whole message."""
    html = _html(
        subject,
        ways,
        news=news,
        headline=message.headline,
        careful=tuple(filter(None, (message.restored, message.held))) if message.waits else (),
        arguments=message.arguments,
        args=message.args,
        args_are="Arguments as canonical JSON" + (": exactly what would run" if message.waits else ""),
        rewritten=message.rewritten,
        asked_args=message.asked_args,
        facts=tuple(message.facts()),
        foot=_foot(message),
    )
    return Letter(inert(subject), _text(to_text(message), ways, _foot(message), news), html)


def compose_brief(subject: str, message: Message, news: tuple[str, ...], ways: Ways) -> Letter:
    """A letter about a request that is too large for one: what it is, and where it stands whole. No argument of it."""
    headline = message.headline if len(message.headline) <= _SHORT else "A request that is too large for a mail"
    stored = parse_visible(message.args).encode("utf-8", "surrogatepass")
    size = f"{len(stored)} bytes of canonical JSON, SHA-256 {sha256(stored).hexdigest()}: too large for a mail"
    shown = [(label, text) for label, text in message.facts() if len(text) <= _SHORT][:_FEW]
    facts = (*shown, ("arguments", size))
    left = len(news) > _LINES or any(len(line) > _SHORT for line in news)
    news = tuple(line for line in news if len(line) <= _SHORT)[:_LINES] + (_MORE,) * left
    lines = "".join(f"{label}: {text}\n" for label, text in facts)
    html = _html(subject, ways, news=news, headline=headline, facts=facts, foot=_foot(message))
    return Letter(inert(subject), _text(f"{headline}\n\n{lines}", ways, _foot(message), news), html)


def compose_note(subject: str, ways: Ways) -> Letter:
    """A letter about no request: what to do, and a link for it."""
    html = _html(subject, ways, foot=NO_REPLY, headline=subject)
    return Letter(inert(subject), _text("", ways, NO_REPLY), html)


def _foot(message: Message) -> str:
    return FOOT if message.waits else NO_REPLY


def _text(request: str, ways: Ways, foot: str, news: tuple[str, ...] = ()) -> str:
    # Indented, so that no line of a request begins one that readers treat in a way of their own ("-- ", ">", "From ").
    parts = [*map(inert, news), "", indent(inert(request), "  ")]
    parts += [ways.title, *(f"  {inert(line)}" for line in ways.lines)]
    parts += [f"  {line}" for line in (ways.link or ways.page, *map(inert, ways.commands)) if line]
    return "\n".join([*parts, "", foot]).lstrip("\n") + "\n"


_NOTHING: Final[Mapping[str, object]] = {
    "news": (),
    "careful": (),
    "arguments": (),
    "args": "",
    "args_are": "",
    "rewritten": (),
    "asked_args": "",
    "facts": (),
}
"""What a letter shows where nothing else is said."""


def _html(subject: str, ways: Ways, **shown: object) -> str:
    return _inliner().inline(_template().render({**_NOTHING, **shown}, subject=inert(subject), ways=ways))


@lru_cache(maxsize=1)
def _template() -> Template:
    found = PackageLoader("governor_agents.handlers.email")
    environment = Environment(
        loader=found, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(as_html=as_html, address_as_html=address_as_html)
    return environment.get_template("request.html.j2")


@lru_cache(maxsize=1)
def _inliner() -> CSSInliner:
    return CSSInliner(load_remote_stylesheets=False)
