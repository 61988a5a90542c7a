"""Modals: what a person is asked when a click alone is not enough. Pure, and within Slack's limits.

An edit has two steps. The form comes first; what it stands for is then shown whole, as the canonical arguments that
will run, and only the second step counts. So nobody approves arguments that they did not see, also where Slack changed
what was typed (it writes an emoji as ``:name:``).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from governor_agents.core.attending import MAX_COMMENT
from governor_agents.core.calls import Json, thaw
from governor_agents.errors import ArgumentsError
from governor_agents.handlers.forms import Field, Form
from governor_agents.handlers.slack.controls import APPROVE, COMMENT, DELEGATE, EDIT, REJECT, RESPOND, Spot
from governor_agents.handlers.visible import visible, visible_json

CONFIRM = "confirm"
"""The ``callback_id`` of an edit's second step; the others are called like the action that opens them."""

INPUT = "input"
"""The ``action_id`` of every input; its ``block_id`` is the field's name."""

REASON, ANSWER, TEXT, TO = "reason", "answer", "text", "to"

TEXT_ROOM = 3_000
"""Characters of one text, as Slack counts them: an emoji is two."""

METADATA_ROOM = 3_000
BLOCKS = 100
OPTIONS, OPTION_ROOM = 100, 75
LABEL_ROOM = 2_000

_TITLES = {
    APPROVE: ("Approve", "Approve"),
    REJECT: ("Reject", "Reject"),
    RESPOND: ("Answer in its place", "Send the answer"),
    COMMENT: ("Comment", "Comment"),
    DELEGATE: ("Hand over", "Hand over"),
    EDIT: ("Edit the arguments", "Look at the result"),
    CONFIRM: ("This will run", "Approve as edited"),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """The card that a modal was opened from: its control's value, where it stands; and the arguments of an edit."""

    value: str
    spot: Spot
    args: str = dataclasses.field(default="", repr=False)

    def metadata(self) -> str:
        """As a modal's ``private_metadata``, which nobody but this app writes."""
        held = {"value": self.value, "spot": self.spot.ref(), "args": self.args}
        return json.dumps(held, separators=(",", ":"))

    @classmethod
    def of(cls, metadata: str) -> Origin | None:
        """The origin behind a ``private_metadata``; None for anything else."""
        try:
            held = thaw(metadata)
            spot = Spot.of(held["spot"])
            return cls(str(held["value"]), spot, str(held["args"])) if spot else None
        except (ArgumentsError, KeyError, TypeError, ValueError, RecursionError):
            return None


def length(text: str) -> int:
    """Characters as Slack counts them."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def reason(action: str, origin: Origin, headline: str, *, needed: bool) -> Json:
    """Asks for a reason to approve or to reject."""
    return _modal(action, origin, [*_head(headline), _text_input(REASON, "Reason", needed=needed)])


def respond(origin: Origin, headline: str, *, needed: bool) -> Json:
    """Asks for the answer that takes the place of the tool's result."""
    answer = _text_input(ANSWER, "The answer that the agent gets instead of the tool's result", needed=True)
    return _modal(RESPOND, origin, [*_head(headline), answer, _text_input(REASON, "Reason", needed=needed)])


def comment(origin: Origin, headline: str) -> Json:
    """Asks for a comment."""
    asked = _text_input(TEXT, "Comment (it decides nothing)", needed=True, most=MAX_COMMENT)
    return _modal(COMMENT, origin, [*_head(headline), asked])


def delegate(origin: Origin, headline: str, people: Sequence[str]) -> Json | None:
    """Asks whom to hand one's seat to; None when there is nobody, or too many for Slack."""
    labels = [visible(person) for person in people]
    if not people or len(people) > OPTIONS or any(length(label) > OPTION_ROOM for label in labels):
        return None
    select = {"type": "static_select", "action_id": INPUT, "options": _options(labels)}
    asked = _input(TO, "Who may decide in your place too", select, needed=True)
    return _modal(DELEGATE, origin, [*_head(headline), asked])


def edit(form: Form, origin: Origin, headline: str) -> Json | None:
    """The form; None when it does not fit into a modal."""
    blocks = _head(headline)
    for field in form.fields:
        block = _field(field)
        if block is None:
            return None
        blocks.append(block)
    fits = len(blocks) <= BLOCKS and length(confirmable(origin, form.args.decode())) <= METADATA_ROOM
    return _modal(EDIT, origin, blocks) if fits else None


def confirmable(origin: Origin, args: str) -> str:
    """The metadata of the second step."""
    return Origin(origin.value, origin.spot, args).metadata()


def confirm(origin: Origin, headline: str, changed: Sequence[str], *, needed: bool) -> Json | None:
    """Shows the new arguments whole and asks whether they are meant; None when they do not fit."""
    if length(origin.metadata()) > METADATA_ROOM:
        return None
    names = ", ".join(changed)
    what = names if length(names) <= TEXT_ROOM else f"{len(changed)} arguments"
    told = f"Changed: {what}. These are the complete arguments as they will run:"
    blocks = [*_head(headline), *_words(told), *literal(visible_json(origin.args))]
    return _modal(CONFIRM, origin, [*blocks, _text_input(REASON, "Reason", needed=needed)])


def notice(title: str, text: str, url: str = "") -> Json:
    """Says something; nothing to submit. ``url`` is a page to go on at."""
    blocks = _words(text)
    if url:
        link = {"type": "button", "action_id": "open", "text": _plain("Open full request"), "url": url}
        blocks.append({"type": "actions", "elements": [link]})
    return {"type": "modal", "title": _plain(title), "close": _plain("Close"), "blocks": blocks}


def literal(text: str) -> list[Json]:
    """A text in which Slack finds no markup, whole, over as many blocks as it needs."""
    parts = [text[at : at + TEXT_ROOM // 2] for at in range(0, len(text), TEXT_ROOM // 2)] or [" "]
    inner = [[{"type": "text", "text": part}] for part in parts]
    return [{"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "elements": each}]} for each in inner]


def given(values: Json, name: str) -> str | None:
    """What was put into the input of this name: a text, the value of an option, a date. None when it is not there."""
    held = values.get(name, {}).get(INPUT) if isinstance(values, dict) and isinstance(values.get(name), dict) else None
    if not isinstance(held, dict):
        return None
    chosen = held.get("selected_option")
    found = chosen.get("value") if isinstance(chosen, dict) else held.get("selected_date", held.get("value"))
    return found if isinstance(found, str) else ""


def filled(form: Form, values: Json) -> Mapping[str, str]:
    """What was put into the fields of a form, by their names."""
    texts = {field.name: given(values, field.name) for field in form.fields}
    return {name: text for name, text in texts.items() if text is not None}


def _modal(action: str, origin: Origin, blocks: list[Json]) -> Json:
    title, submit = _TITLES[action]
    return {
        "type": "modal",
        "callback_id": action,
        "title": _plain(title),
        "submit": _plain(submit),
        "close": _plain("Cancel"),
        "private_metadata": origin.metadata(),
        "blocks": blocks,
    }


def _plain(text: str) -> Json:
    return {"type": "plain_text", "text": text, "emoji": False}


def _head(headline: str) -> list[Json]:
    """The headline, unless values in it have made it longer than anybody reads; the card names the request then."""
    return _words(headline if length(headline) <= 3 * TEXT_ROOM else "The request on the card that you came from")


def _words(text: str) -> list[Json]:
    """Visible texts that may be longer than one block holds."""
    parts = [text[at : at + TEXT_ROOM // 2] for at in range(0, len(text), TEXT_ROOM // 2)]
    return [{"type": "section", "text": _plain(part)} for part in parts]


def _input(name: str, label: str, element: Json, *, needed: bool, hint: str = "") -> Json:
    block: dict[str, Any] = {"type": "input", "block_id": name, "label": _plain(label), "element": element}
    block["optional"] = not needed
    if hint and length(hint) <= LABEL_ROOM:  # it comes from the tool's author, and is left out rather than cut
        block["hint"] = _plain(hint)
    return block


def _text_input(name: str, label: str, *, needed: bool, most: int = TEXT_ROOM) -> Json:
    element = {"type": "plain_text_input", "action_id": INPUT, "multiline": True, "max_length": most}
    return _input(name, label, element, needed=needed)


def _options(labels: Sequence[str]) -> list[Json]:
    return [{"text": _plain(label), "value": str(at)} for at, label in enumerate(labels)]


def _field(field: Field) -> Json | None:
    """The input for one field, None when Slack has no room for it."""
    if length(field.label) > LABEL_ROOM:
        return None
    element = _choice(field) if field.choices else _date(field) if field.kind == "date" else _typed(field)
    # Slack writes "(optional)" on whatever may be left empty, and an argument that the tool needs is not that. Whoever
    # means an empty text there writes it on the page of the full request.
    needed = field.required or bool(field.shown and field.empty in (("",), ([],)))
    return None if element is None else _input(field.name, field.label, element, needed=needed, hint=field.hint)


def _choice(field: Field) -> Json | None:
    if len(field.choices) > OPTIONS or any(not 0 < length(label) <= OPTION_ROOM for label in field.choices):
        return None
    options = _options(field.choices)
    element = {"type": "static_select", "action_id": INPUT, "options": options}
    return element | ({"initial_option": options[int(field.shown)]} if field.shown else {})


def _date(field: Field) -> Json:
    element = {"type": "datepicker", "action_id": INPUT}
    return element | ({"initial_date": field.shown} if field.shown else {})


def _typed(field: Field) -> Json | None:
    """A text input also for numbers: Slack's own input for them does not keep large ones exactly."""
    shown = _escaped(field.shown) if field.kind in ("text", "lines") else field.shown
    if length(shown) > TEXT_ROOM:
        return None
    element = {"type": "plain_text_input", "action_id": INPUT, "multiline": field.long, "max_length": TEXT_ROOM}
    return element | ({"initial_value": shown} if shown else {})


def _escaped(text: str) -> str:
    r"""Emoji as ``\u{...}``, which a field reads as well: as they are, Slack sends them back by name."""
    return "".join(
        f"\\u{{{ord(each):04X}}}" if ord(each) > 0xFFFF or 0x2600 <= ord(each) < 0x27C0 else each for each in text
    )
