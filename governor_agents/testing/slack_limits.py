"""What Slack refuses in blocks and views: the limits of its reference pages, and the one of whole messages.

`block_problems` and `view_problems` give one line per offence, in the words in which Slack answers. The limit of a
whole message is in no page of Slack's: people met ``msg_blocks_too_long`` between 11,300 characters of text spread over
many elements and 13,300 in a single block (slackapi/bolt-js#2509, #2867). Taken here is the strictest reading of that:
the bytes of the blocks as JSON, with ``&``, ``<`` and ``>`` as the entities that Slack makes of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MESSAGE_BLOCKS = 50
VIEW_BLOCKS = 100
MESSAGE_ROOM = 13_200
VIEW_ROOM = 250_000
TEXT = 3_000
FALLBACK_TEXT = 4_000
VALUE = 2_000
ID = 255
METADATA_ROOM = 8_000

Json = Any
Problems = Iterator[str]


def room(blocks: Sequence[Json]) -> int:
    """How much of `MESSAGE_ROOM` these blocks take, read strictly."""
    text = json.dumps(list(blocks), ensure_ascii=False, separators=(",", ":"))
    return len(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").encode("utf-8", "surrogatepass"))


def block_problems(blocks: Json, *, most: int = MESSAGE_BLOCKS) -> list[str]:
    """What Slack's schema finds wrong with the blocks of a message (or of a view, with ``most=VIEW_BLOCKS``)."""
    if not isinstance(blocks, list):
        return ["must be an array [json-pointer:/blocks]"]
    found = [f"no more than {most} items allowed [json-pointer:/blocks]"] if len(blocks) > most else []
    ids = [block["block_id"] for block in blocks if isinstance(block, dict) and "block_id" in block]
    found += [f"block_id `{id}` already exists" for id in {id for id in ids if ids.count(id) > 1}]
    for at, block in enumerate(blocks):
        found += _block(block, f"/blocks/{at}")
    return found


def view_problems(view: Json) -> list[str]:
    """What Slack finds wrong with a modal or a home tab."""
    if not isinstance(view, dict) or view.get("type") not in ("modal", "home"):
        return ["must be a valid view type [json-pointer:/view/type]"]
    found = block_problems(view.get("blocks"), most=VIEW_BLOCKS)
    found += _short(view.get("private_metadata"), 3_000, "/view/private_metadata")
    found += _short(view.get("callback_id"), ID, "/view/callback_id")
    if view["type"] == "modal":
        found += _plain(view.get("title"), 24, "/view/title")
        for name in ("submit", "close"):
            found += _plain(view[name], 24, f"/view/{name}") if name in view else ()
        if any(block.get("type") == "input" for block in view["blocks"]) and "submit" not in view:
            found.append("a submit button is required when an input block is there [json-pointer:/view/submit]")
    elif any(name in view for name in ("title", "submit", "close")):
        found.append("additional property is not allowed in a home tab [json-pointer:/view]")
    return found


def metadata_problem(metadata: Json) -> str:
    """The error code for metadata that Slack does not take; empty when it does."""
    if not isinstance(metadata, dict) or set(metadata) != {"event_type", "event_payload"}:
        return "invalid_metadata_format"
    if not re.fullmatch(r"[A-Za-z0-9_]{1,255}", str(metadata["event_type"])):
        return "invalid_metadata_format"
    if not isinstance(metadata["event_payload"], dict):
        return "invalid_metadata_schema"
    if not all(isinstance(item, str | int | float | bool) for item in metadata["event_payload"].values()):
        return "invalid_metadata_schema"
    return "metadata_too_large" if len(json.dumps(metadata)) > METADATA_ROOM else ""


# -- one block ---------------------------------------------------------------------------------------------------


def _block(block: Json, at: str) -> Problems:
    known = _BLOCKS.get(block.get("type", "")) if isinstance(block, dict) else None
    if known is None:
        yield f"unsupported type: {block.get('type') if isinstance(block, dict) else block} [json-pointer:{at}/type]"
        return
    yield from _short(block.get("block_id"), ID, f"{at}/block_id")
    yield from known(block, at)


def _header(block: Json, at: str) -> Problems:
    yield from _plain(block.get("text"), 150, f"{at}/text")


def _section(block: Json, at: str) -> Problems:
    if "text" not in block and not block.get("fields"):
        yield f"missing required field: text or fields [json-pointer:{at}]"
    if "text" in block:
        yield from _text(block["text"], TEXT, f"{at}/text")
    yield from _many(block.get("fields", []), 10, f"{at}/fields")
    for number, field in enumerate(block.get("fields", [])):
        yield from _text(field, 2_000, f"{at}/fields/{number}")
    if "accessory" in block:
        yield from _element(block["accessory"], f"{at}/accessory")


def _context(block: Json, at: str) -> Problems:
    yield from _many(block.get("elements"), 10, f"{at}/elements", least=1)
    for number, element in enumerate(block.get("elements", [])):
        yield from _text(element, TEXT, f"{at}/elements/{number}")


def _actions(block: Json, at: str) -> Problems:
    yield from _many(block.get("elements"), 25, f"{at}/elements", least=1)
    ids = [element.get("action_id") for element in block.get("elements", [])]
    yield from (
        f"action_id `{id}` already exists [json-pointer:{at}]" for id in {id for id in ids if ids.count(id) > 1}
    )
    for number, element in enumerate(block.get("elements", [])):
        yield from _element(element, f"{at}/elements/{number}")


def _input(block: Json, at: str) -> Problems:
    yield from _plain(block.get("label"), 2_000, f"{at}/label")
    if "hint" in block:
        yield from _plain(block["hint"], 2_000, f"{at}/hint")
    yield from _element(block.get("element"), f"{at}/element")


def _rich(block: Json, at: str) -> Problems:
    yield from _many(block.get("elements"), 10_000, f"{at}/elements", least=1)
    for number, element in enumerate(block.get("elements", [])):
        yield from _rich_part(element, f"{at}/elements/{number}")


def _rich_part(part: Json, at: str) -> Problems:
    kind = part.get("type")
    if kind == "rich_text_list":
        for number, item in enumerate(part.get("elements", [])):
            yield from _rich_part(item, f"{at}/elements/{number}")
        return
    inline = {"text", "link"} if kind == "rich_text_preformatted" else _RICH
    if kind not in ("rich_text_section", "rich_text_preformatted", "rich_text_quote"):
        yield f"unsupported type: {kind} [json-pointer:{at}/type]"
        return
    yield from _many(part.get("elements"), 10_000, f"{at}/elements", least=1)
    for number, element in enumerate(part.get("elements", [])):
        here = f"{at}/elements/{number}"
        if element.get("type") not in inline:
            yield f"unsupported type: {element.get('type')} [json-pointer:{here}/type]"
        elif element["type"] == "text" and not element.get("text"):
            yield f"must be more than 0 characters [json-pointer:{here}/text]"
        elif set(element) - {"type"} - _RICH_FIELDS[element["type"]]:
            yield f"additional property is not allowed [json-pointer:{here}]"


def _markdown(block: Json, at: str) -> Problems:
    yield from _short(block.get("text"), 12_000, f"{at}/text", needed=True)


_RICH_FIELDS = {
    "text": {"text", "style"},
    "link": {"url", "text", "unsafe", "style"},
    "emoji": {"name", "unicode", "skin_tone", "style"},
    "user": {"user_id", "style"},
    "usergroup": {"usergroup_id", "style"},
    "channel": {"channel_id", "style"},
    "broadcast": {"range", "style"},
    "date": {"timestamp", "format", "url", "fallback", "style"},
}
_RICH = set(_RICH_FIELDS)
_BLOCKS: Mapping[str, Callable[[Json, str], Problems]] = {
    "header": _header,
    "section": _section,
    "context": _context,
    "actions": _actions,
    "input": _input,
    "rich_text": _rich,
    "markdown": _markdown,
    "divider": lambda block, at: iter(()),
}


# -- one element -------------------------------------------------------------------------------------------------


def _element(element: Json, at: str) -> Problems:
    known = _ELEMENTS.get(element.get("type", "")) if isinstance(element, dict) else None
    if known is None:
        yield f"unsupported type: {element.get('type') if isinstance(element, dict) else element} [json-pointer:{at}]"
        return
    yield from _short(element.get("action_id"), ID, f"{at}/action_id")
    if "confirm" in element:
        yield from _confirm(element["confirm"], f"{at}/confirm")
    if "placeholder" in element:
        yield from _plain(element["placeholder"], 150, f"{at}/placeholder")
    yield from known(element, at)


def _button(element: Json, at: str) -> Problems:
    yield from _plain(element.get("text"), 75, f"{at}/text")
    yield from _short(element.get("value"), VALUE, f"{at}/value")
    yield from _short(element.get("url"), 3_000, f"{at}/url")
    yield from _short(element.get("accessibility_label"), 75, f"{at}/accessibility_label")
    if element.get("style", "primary") not in ("primary", "danger"):
        yield f"must be a valid enum value [json-pointer:{at}/style]"


def _confirm(confirm: Json, at: str) -> Problems:
    for name, most in (("title", 100), ("text", 300), ("confirm", 30), ("deny", 30)):
        check = _text if name == "text" else _plain
        yield from check(confirm.get(name), most, f"{at}/{name}")


def _choice(most: int) -> Callable[[Json, str], Problems]:
    def check(element: Json, at: str) -> Problems:
        options = element.get("options", [])
        yield from _many(options, most, f"{at}/options", least=1)
        for number, option in enumerate(options):
            yield from _option(option, f"{at}/options/{number}")
        chosen = element.get("initial_options", [element["initial_option"]] if "initial_option" in element else [])
        yield from (
            f"initial option is not among the options [json-pointer:{at}]" for one in chosen if one not in options
        )

    return check


def _option(option: Json, at: str) -> Problems:
    yield from _text(option.get("text"), 75, f"{at}/text")
    yield from _short(option.get("value"), 150, f"{at}/value", needed=True)
    if "description" in option:
        yield from _text(option["description"], 75, f"{at}/description")


def _typed(element: Json, at: str) -> Problems:
    most = element.get("max_length", TEXT)
    if not 1 <= most <= TEXT:
        yield f"must be between 1 and {TEXT} [json-pointer:{at}/max_length]"
    yield from _short(element.get("initial_value"), min(most, TEXT), f"{at}/initial_value")


def _number(element: Json, at: str) -> Problems:
    if "is_decimal_allowed" not in element:
        yield f"missing required field: is_decimal_allowed [json-pointer:{at}]"
    for name in ("initial_value", "min_value", "max_value"):
        if name in element and not re.fullmatch(r"-?\d+(\.\d+)?", str(element[name])):
            yield f"must be a number [json-pointer:{at}/{name}]"


_ELEMENTS: Mapping[str, Callable[[Json, str], Problems]] = {
    "button": _button,
    "static_select": _choice(100),
    "multi_static_select": _choice(100),
    "radio_buttons": _choice(10),
    "checkboxes": _choice(10),
    "overflow": _choice(5),
    "plain_text_input": _typed,
    "email_text_input": _typed,
    "url_text_input": _typed,
    "number_input": _number,
    "datepicker": lambda element, at: iter(()),
    "users_select": lambda element, at: iter(()),
}


# -- texts -------------------------------------------------------------------------------------------------------


def _plain(text: Json, most: int, at: str) -> Problems:
    if not isinstance(text, dict) or text.get("type") != "plain_text":
        yield f"must be a plain_text object [json-pointer:{at}]"
        return
    yield from _text(text, most, at)


def _text(text: Json, most: int, at: str) -> Problems:
    if not isinstance(text, dict) or text.get("type") not in ("plain_text", "mrkdwn"):
        yield f"failed to match all allowed schemas [json-pointer:{at}]"
        return
    allowed = {"type", "text", "emoji"} if text["type"] == "plain_text" else {"type", "text", "verbatim"}
    if set(text) - allowed:
        yield f"additional property is not allowed [json-pointer:{at}]"
    yield from _short(text.get("text"), most, f"{at}/text", needed=True)


def _short(text: Json, most: int, at: str, *, needed: bool = False) -> Problems:
    if text is None and not needed:
        return
    if not isinstance(text, str):
        yield f"must be a string [json-pointer:{at}]"
    elif needed and not text:
        yield f"must be more than 0 characters [json-pointer:{at}]"
    elif _length(text) > most:
        yield f"must be less than {most + 1} characters [json-pointer:{at}]"


def _many(items: Json, most: int, at: str, *, least: int = 0) -> Problems:
    if not isinstance(items, list) or len(items) < least:
        yield f"no fewer than {least} items allowed [json-pointer:{at}]"
    elif len(items) > most:
        yield f"no more than {most} items allowed [json-pointer:{at}]"


def _length(text: str) -> int:
    """Characters as JavaScript counts them: an emoji is two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
