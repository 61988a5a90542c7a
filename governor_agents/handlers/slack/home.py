"""The home tab of one person: what waits for them, and where to go. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from governor_agents.core.records import Approval
from governor_agents.handlers.message import Message
from governor_agents.handlers.slack.blocks import URL, Block, bold, button_to, header, local, section, texts
from governor_agents.handlers.slack.controls import OPEN

MOST = 30
"""Requests that are listed. Slack takes 100 blocks, and more would help nobody."""


@dataclass(frozen=True, slots=True)
class Links:
    """Where a request is found: its card, and its page. Empty when there is none."""

    card: str = ""
    page: str = ""


def home(waits: Sequence[Approval], links: Iterable[Links]) -> dict[str, Any]:
    """The view: one entry for each request, the oldest first."""
    count = len(waits)
    waiting = f"{count} request{'s wait' if count > 1 else ' waits'} for you"
    blocks: list[Block] = [header(waiting if count else "Nothing waits for you")]
    for approval, where in list(zip(waits, links, strict=True))[:MOST]:
        blocks += [{"type": "divider"}, *_entry(Message.of(approval, paths=False), where)]
    if count > MOST:
        blocks.append(section(*texts(f"{count - MOST} more are not listed here; the oldest come first.")))
    return {"type": "home", "blocks": blocks}


def _entry(message: Message, where: Links) -> Iterator[Block]:
    parts = [*map(bold, (message.headline[at : at + 2_500] for at in range(0, len(message.headline), 2_500)))]
    asked = ", ".join(filter(None, (message.requester, message.agent and f"agent {message.agent}")))
    parts += texts(f"\nAsked for by {asked}") if asked else []
    if message.seconds is not None:
        parts += [*texts("\nTo be decided by "), local(message.seconds, message.deadline)]
    if message.risk == "high":
        parts += [*texts("\n"), bold("High risk")]
    if message.taken_up:
        parts += texts(f"\nLooked at by {message.taken_up}")
    yield section(*parts)
    target, text = (where.card, "Go to the card") if where.card else (where.page, "Open full request")
    if target and len(target) <= URL:
        yield {"type": "actions", "elements": [button_to(OPEN, text, target)]}
    else:
        yield section(*texts(f"governor-agents inbox show {message.id}"))
