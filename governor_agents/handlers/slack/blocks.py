r"""A request as Slack's blocks, and the arguments read back from them.

Everything stands in literal elements (``rich_text`` texts, ``plain_text`` without emoji), which Slack takes for what
they are: no character in them becomes markup, a mention, a link or an emoji. All of it has been through `visible`.

**Whole, or without Approve.** The canonical arguments stand on a card in one block. What `parse` reads back from it
must be the stored bytes, and the card must have room in a message; otherwise the card says so, points to the full
request, and has no control that approves, edits or answers. Nothing is cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from governor_agents.core.records import Approval, CallState, waiting_alike
from governor_agents.handlers.message import Message, lasting, parse_visible, visible
from governor_agents.handlers.slack.controls import (
    APPROVE,
    CLAIM,
    COMMENT,
    DELEGATE,
    EDIT,
    OPEN,
    REJECT,
    RELEASE,
    RESPOND,
)

ROOM = 12_000
"""Bytes that the blocks of a message may take. Slack says nothing of it in its pages, and refuses some of 13,200."""

HEADER = 150
"""Characters in a header block; a longer headline is set in bold."""

URL = 3_000
"""Characters of a link behind a button."""

FALLBACK = 3_000
"""Characters of the text beside the blocks."""

PIECE = 2_500
"""Characters in one text element; longer texts go on in the next, without a gap."""

JSON_BLOCK = "arguments-"
"""How the id of the block that holds the canonical arguments begins."""

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A card as it is to be posted. ``text`` is for notifications, ``actions`` are the controls that it has.

    ``whole``: the arguments stand on it in full. ``shown`` is a hash of all that anybody sees.
    """

    blocks: tuple[Block, ...]
    text: str
    whole: bool

    @property
    def actions(self) -> frozenset[str]:
        """The ids of its buttons."""
        rows = (block["elements"] for block in self.blocks if block["type"] == "actions")
        return frozenset(button["action_id"] for row in rows for button in row)

    @property
    def shown(self) -> str:
        """Equal for equal drawings."""
        return sha256(json.dumps([self.text, self.blocks], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Controls:
    """What the buttons of a card carry (``value``), where the full request is (``link``), and what command shows it.

    ``asked``: the reader is among those who may decide now; nobody else gets buttons. ``users`` are Slack's ids of
    people to mention on the card.
    """

    value: str
    link: str = ""
    command: str = ""
    asked: bool = True
    users: tuple[str, ...] = ()

    @property
    def page(self) -> str:
        """The link, when Slack takes one of that length."""
        return self.link if len(self.link) <= URL else ""


def draw(approval: Approval, controls: Controls, *, others: Sequence[Approval] = (), small: bool = False) -> Drawing:
    """The card of an approval and of the ``others``, identical calls that share it.

    ``small``: without the arguments, whatever their size.
    """
    alike = [each.id for each in waiting_alike([approval, *others])[1:]] if _waits(approval) else []
    fits = len(approval.call.args) <= ROOM and not small
    message = Message.of(approval, alike=alike, paths=fits)
    extra = list(_others(message, others))
    if fits:
        for rows in _whole(message, controls, extra):
            if room(rows) <= ROOM and parse(rows) == approval.call.args:
                return Drawing(tuple(rows), _beside(message), True)
    fitting = (rows for rows in _pointing(message, controls, extra) if room(rows) <= ROOM)
    return Drawing(tuple(next(fitting)), _beside(message), False)


def _waits(approval: Approval) -> bool:
    return approval.call.state is CallState.PENDING


def parse(blocks: Iterable[Block]) -> bytes | None:
    """The arguments that a card shows, as bytes; None when they are not on it in full."""
    for block in blocks:
        if str(block.get("block_id", "")).startswith(JSON_BLOCK):
            shown = "".join(part["text"] for part in block["elements"][-1]["elements"])
            return parse_visible(shown).encode("utf-8", "surrogatepass")
    return None


def room(blocks: Sequence[Block]) -> int:
    """The bytes that Slack may count of them: as JSON, with the entities that it makes of ``&``, ``<`` and ``>``."""
    text = json.dumps(list(blocks), ensure_ascii=False, separators=(",", ":"))
    return len(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").encode("utf-8", "surrogatepass"))


def _beside(message: Message) -> str:
    """What a notification says."""
    told = message.headline if message.waits else f"{message.headline}: {message.lasting}"
    text = next((text for text in map(_inert, (told, message.headline)) if len(text) <= FALLBACK), "")
    return text or "A request for approval"


# -- cards -------------------------------------------------------------------------------------------------------------


def _whole(message: Message, controls: Controls, extra: list[Block]) -> Iterator[list[Block]]:
    """The card in full; then without what only makes it easier to read, then with a count in the place of comments."""
    head = [*_head(message), *_mentions(message, controls)]
    rest = [*_edited(message), *extra, *_buttons(message, controls, whole=True), *_foot(message)]
    full, bare = list(_arguments(message, paths=True)), list(_arguments(message, paths=False))
    yield [*head, *_facts(message, comments=True), *full, *rest]
    yield [*head, *_facts(message, comments=True), *bare, *rest]
    yield [*head, *_facts(message, comments=False), *bare, *rest]


def _pointing(message: Message, controls: Controls, extra: list[Block]) -> Iterator[list[Block]]:
    """The card without the arguments, and with ever fewer facts."""
    told = [section(_text(_elsewhere(message, controls)))]
    buttons = list(_buttons(message, controls, whole=False))
    head = [*_head(message), *_mentions(message, controls)]
    least = header("A request waits" if message.waits else "A request was decided")
    yield [*head, *_facts(message, comments=False), *told, *extra, *buttons, *_foot(message)]
    yield [*head, *told, *buttons]
    yield [least, *told, *buttons]
    yield [least, section(_text("It is too large for Slack: open the full request."))]


def _elsewhere(message: Message, controls: Controls) -> str:
    size = f"{len(message.args):,} characters"
    why = f"The arguments ({size}) do not fit on a card whole, so this one does not show them"
    if not message.waits:
        return f"{why}."
    way = "Open the full request" if controls.page else f"Use the command line ({controls.command})"
    return f"{why} and has no Approve. {way} to decide it."


def _head(message: Message) -> Iterator[Block]:
    yield header(message.headline)
    if not message.waits:
        yield section(bold(_capital(message.lasting)))
    for label, text in _warnings(message):
        yield section(bold(f"{label}: "), _text(text))


def _warnings(message: Message) -> Iterator[tuple[str, str]]:
    if message.risk == "high" and message.waits:
        yield "High risk", "read every argument"
    yield from ((_capital(label), text) for label, text in message.facts() if label in ("careful", "held", "identical"))


def _mentions(message: Message, controls: Controls) -> Iterator[Block]:
    if message.waits and controls.users:
        yield section(bold("Asked: "), *mention(controls.users))


def _others(message: Message, others: Sequence[Approval]) -> Iterator[Block]:
    """Identical calls on the same card that were decided otherwise, or apart from this one."""
    apart = [visible(other.id) for other in others if _waits(other) and visible(other.id) not in message.alike]
    if apart:  # one of them was edited, so they are not identical any more
        yield section(*texts(f"With other arguments or files, so not decided here: {', '.join(apart)}"))
    lines = [f"{visible(other.id)}: {lasting(other.call)}" for other in others if not (message.waits and _waits(other))]
    if lines and (message.waits or any(not line.endswith(f": {message.lasting}") for line in lines)):
        yield _quoted("Identical calls", "\n".join(lines))
    elif lines:
        ids = ", ".join(visible(other.id) for other in others)
        yield section(*texts(f"The same holds for {len(lines)} identical calls: {ids}"))


_PLACED = frozenset({"state", "id", "digest", "policy", "comment", "careful", "held", "identical", "risk"})
"""Facts that have a place of their own on the card."""


def _facts(message: Message, *, comments: bool) -> Iterator[Block]:
    rows = [(label, text) for label, text in message.facts() if label not in _PLACED]
    if message.waits and message.votes:
        rows.insert(0, ("state", message.outcome))
    if not message.waits:  # the one vote that there was is the outcome, and no deadline is left
        past = {"deadline"} if len(message.votes) > 1 else {"deadline", "vote"}
        rows = [(label, text) for label, text in rows if label not in past]
    if comments:
        rows += [("comment", comment) for comment in message.comments]
    elif message.comments:
        rows.append(("comments", f"{len(message.comments)}, in the full request"))
    parts: list[Block] = []
    for label, text in rows:
        parts += [_text("\n")] if parts else []
        parts += [bold(f"{_capital(label)}: "), *texts(text)]
        if label == "deadline" and message.waits and message.seconds is not None:
            parts += [_text(" ("), local(message.seconds, text), _text(" for you)")]
    if parts:
        yield section(*parts)


def _arguments(message: Message, *, paths: bool) -> Iterator[Block]:
    title = "Arguments, as edited" if message.asked_args else "Arguments"
    if paths and message.arguments:
        yield _quoted(title, "\n".join(map(str, message.arguments)))
        title = "The same as canonical JSON"
    yield _quoted(title, message.args) | {"block_id": f"{JSON_BLOCK}{message.digest[:32] or 'none'}"}


def _edited(message: Message) -> Iterator[Block]:
    if message.asked_args:
        if message.rewritten:
            yield _quoted("What the edit changed", "\n".join(map(str, message.rewritten)))
        yield _quoted("What the agent had asked for", message.asked_args)


def _foot(message: Message) -> Iterator[Block]:
    texts = [f"{message.id} · {message.policy}" if message.policy else message.id, f"digest {message.digest}"]
    if all(_units(text) <= 2_000 for text in texts):
        yield {"type": "context", "elements": [plain(text) for text in texts]}


# -- controls ----------------------------------------------------------------------------------------------------------


def _buttons(message: Message, controls: Controls, *, whole: bool) -> Iterator[Block]:
    if message.waits and controls.asked:
        first = [_approve(message, controls)] if whole else []
        first += [_button(REJECT, "Reject", controls.value, style="danger")]
        if whole:
            first += [_button(EDIT, "Edit", controls.value), _button(RESPOND, "Answer instead", controls.value)]
        claim = (RELEASE, "Leave it") if message.taken_up else (CLAIM, "I'm on it")
        second = [_button(*claim, controls.value), _button(COMMENT, "Comment", controls.value)]
        second += [_button(DELEGATE, "Hand over", controls.value)] if message.delegates else []
        yield {"type": "actions", "elements": [*_open(controls, whole), *first]}
        yield {"type": "actions", "elements": second}
    elif not whole and controls.page:
        yield {"type": "actions", "elements": _open(controls, whole)}


def _open(controls: Controls, whole: bool) -> list[Block]:
    return [] if whole or not controls.page else [button_to(OPEN, "Open full request", controls.page)]


def button_to(action: str, text: str, url: str) -> Block:
    """A button that opens a page; ``url`` has at most `URL` characters."""
    return {"type": "button", "action_id": action, "text": plain(text), "url": url, "style": "primary"}


def _approve(message: Message, controls: Controls) -> Block:
    several = f" all {message.count}" if message.count > 1 else ""
    button = _button(APPROVE, f"Approve{several}", controls.value, style="primary")
    if message.risk != "high":
        return button
    sure = "This tool is declared as high risk. Approve exactly what the card shows?"
    asked = {"title": "High risk", "text": sure, "confirm": "Approve", "deny": "Go back"}
    return button | {"confirm": {name: plain(text) for name, text in asked.items()} | {"style": "danger"}}


def _button(action: str, text: str, value: str, *, style: str = "") -> Block:
    made = {"type": "button", "action_id": action, "text": plain(text), "value": value}
    return made | {"style": style} if style else made


# -- elements ----------------------------------------------------------------------------------------------------------


def header(text: str) -> Block:
    """A headline of any length."""
    return {"type": "header", "text": plain(text)} if _units(text) <= HEADER else section(bold(text))


def section(*parts: Block) -> Block:
    """A paragraph."""
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": list(parts)}]}


def _quoted(title: str, text: str) -> Block:
    """A title, and a text of any length set as it is, in a box."""
    head = {"type": "rich_text_section", "elements": [bold(title)]}
    return {"type": "rich_text", "elements": [head, {"type": "rich_text_preformatted", "elements": texts(text)}]}


def texts(text: str) -> list[Block]:
    """A text of any length, as elements without a gap between them."""
    return [_text(text[at : at + PIECE]) for at in range(0, len(text), PIECE)]


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def bold(text: str) -> Block:
    """A text in bold."""
    return {"type": "text", "text": text, "style": {"bold": True}}


def mention(users: Iterable[str]) -> list[Block]:
    """People, by Slack's ids; each is told."""
    return [part for user in users for part in ({"type": "user", "user_id": user}, _text(" "))]


def local(seconds: float, text: str) -> Block:
    """A time as the reader's own clock says it."""
    return {"type": "date", "timestamp": int(seconds), "format": "{date_short_pretty} {time}", "fallback": text}


def plain(text: str) -> Block:
    """A text that is nothing else."""
    return {"type": "plain_text", "text": text, "emoji": False}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _units(text: str) -> int:
    """Characters as Slack counts them: one beyond the first plane is two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _inert(text: str) -> str:
    """For the text beside the blocks, in which Slack would look for mentions and links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
