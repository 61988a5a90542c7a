"""How whoever reads a mail may decide: by its link, on the full-request page, or at a terminal."""

from __future__ import annotations

from dataclasses import dataclass, field

from governor_agents.handlers.email.letter import Ways
from governor_agents.handlers.links import request_page
from governor_agents.handlers.message import Message, when
from governor_agents.handlers.words import Commands


@dataclass(frozen=True, slots=True)
class Link:
    """A link that decides, once, for one person, until a time (epoch seconds)."""

    url: str = field(repr=False)
    until: float


def ways(
    message: Message, id: str, tenant: str, public_url: str, *, asked: bool, whole: bool, link: Link | None
) -> Ways:
    """What a letter says about deciding. ``whole``: it holds the request in full; without that it links to no decision.

    ``id`` is the approval's, as it is stored.
    """
    page = request_page(public_url, id) if public_url else ""
    if not message.waits:
        return Ways("Nothing is left to decide", ("You are told because you were asked.",))
    if not asked:
        return Ways("You need not decide", ("You have voted, or others are asked now.",))
    shown, *decided = Commands(tenant=tenant).deciding(message, id)
    if not whole:
        return _elsewhere(page, shown)
    if link is not None:
        return Ways(
            "Decide",
            (
                f"The link is for you alone, works once, and until {when(link.until)}. It opens a page that shows the "
                "request again; opening it decides nothing.",
            ),
            link=link.url,
        )
    return Ways("Decide", ("This mail holds no link that decides. At a terminal:",), commands=(shown, *decided))


def _elsewhere(page: str, command: str) -> Ways:
    why = "The request is too large to be shown whole in a mail, so nothing in this mail approves it."
    if page:
        return Ways("Open full request", (why, "The page asks you to log in with this address."), page=page)
    return Ways("Open full request", (why, "It stands whole at a terminal:"), commands=(command,))


def login_ways(url: str, within: float) -> Ways:
    """What a mail with a login link says."""
    lines = (
        f"Somebody, probably you, asked to log in. The link works once, within {within / 60:.0f} minutes, and opens a "
        "page that asks again; opening it logs nobody in.",
        "If it was not you, do nothing.",
    )
    return Ways("Log in", lines, link=url, label="Log in")
