"""Slack's blocks as people see them: as HTML, for pictures, and as text, for terminals.

Texts stand there as they are: an element that Slack takes literally is shown literally, and so is ``mrkdwn``, whose
marks are left in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from html import escape
from typing import Any

Json = Any

STYLE = """
body { margin: 0; padding: 24px; background: #fff; color: #1d1c1d; font: 15px/1.46 Lato, Arial, sans-serif; }
.message, .modal { max-width: 680px; margin-bottom: 24px; }
.message { display: grid; grid-template-columns: 44px 1fr; }
.avatar { width: 36px; height: 36px; border-radius: 8px; background: #4a154b; color: #fff; font: bold 20px/36px Arial;
  text-align: center; }
.who { font-weight: 900; } .app { font-size: 10px; background: #ddd; border-radius: 2px; padding: 1px 3px; }
.modal { border: 1px solid #bbb; border-radius: 8px; box-shadow: 0 4px 14px #0003; }
.modal > header, .modal > footer { padding: 14px 20px; } .modal > .blocks { padding: 0 20px; }
.modal > header { font: 900 22px/1.2 Lato, Arial, sans-serif; } .modal > footer { text-align: right; }
h3 { font-size: 18px; margin: 6px 0; overflow-wrap: anywhere; }
.block { margin: 8px 0; white-space: pre-wrap; overflow-wrap: anywhere; }
pre { background: #f8f8f8; border: 1px solid #ddd; border-radius: 4px; padding: 8px; margin: 4px 0; font-size: 12px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.context { font-size: 12px; color: #616061; } .context span { display: block; }
.button { display: inline-block; border: 1px solid #bbb; border-radius: 4px; padding: 5px 12px; margin: 0 8px 8px 0;
  font-weight: 700; color: #1d1c1d; background: #fff; text-decoration: none; }
.primary { background: #007a5a; border-color: #007a5a; color: #fff; }
.danger { color: #e01e5a; border-color: #e01e5a; }
label { font-weight: 700; display: block; margin-bottom: 4px; }
.field { border: 1px solid #888; border-radius: 4px; padding: 7px 10px; min-height: 22px; white-space: pre-wrap; }
.long { min-height: 66px; } .hint { font-size: 13px; color: #616061; }
.user { background: #e8f5fa; color: #1264a3; border-radius: 3px; padding: 0 2px; }
h2 { font: 700 13px/1 Arial; color: #888; text-transform: uppercase; letter-spacing: .06em; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole HTML document of messages and modals; it loads nothing and has no script."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def caption(text: str) -> str:
    """A small heading between two pictures of one page."""
    return f"<h2>{escape(text)}</h2>"


def message_html(blocks: Iterable[Json], *, by: str = "governor") -> str:
    """A message as it stands in a conversation."""
    head = f'<div><span class="who">{escape(by)}</span> <span class="app">APP</span></div>'
    body = f"<div>{head}{_html(blocks)}</div>"
    return f'<div class="message"><div class="avatar">{escape(by[:1].upper())}</div>{body}</div>'


def view_html(view: Json) -> str:
    """A modal, or a home tab."""
    title = f"<header>{escape(_plain(view.get('title')))}</header>" if "title" in view else ""
    ends = [("close", "button"), ("submit", "button primary")]
    buttons = "".join(
        f'<span class="{look}">{escape(_plain(view[name]))}</span>' for name, look in ends if name in view
    )
    return (
        f'<div class="modal">{title}<div class="blocks">{_html(view["blocks"])}</div><footer>{buttons}</footer></div>'
    )


def message_text(blocks: Iterable[Json]) -> str:
    """A message as lines of text, buttons as ``[ Approve ]``; ends in a line break."""
    return "\n".join(line for block in blocks for line in _lines(block)) + "\n"


def view_text(view: Json) -> str:
    """A modal, or a home tab, as lines of text."""
    ends = [f"[ {_plain(view[name])} ]" for name in ("close", "submit") if name in view]
    head = [f"== {_plain(view['title'])} =="] if "title" in view else []
    return "\n".join([*head, message_text(view["blocks"]).rstrip("\n"), "  ".join(ends)]).rstrip("\n") + "\n"


def _plain(text: Json) -> str:
    return str(text["text"]) if isinstance(text, dict) else ""


# -- HTML -------------------------------------------------------------------------------------------------------------


def _html(blocks: Iterable[Json]) -> str:
    return "".join(_block_html(block) for block in blocks)


def _block_html(block: Json) -> str:
    match block["type"]:
        case "header":
            return f"<h3>{escape(_plain(block['text']))}</h3>"
        case "divider":
            return "<hr>"
        case "section":
            texts = [_plain(text) for text in (block.get("text"), *block.get("fields", ())) if text]
            beside = _element_html(block["accessory"]) if "accessory" in block else ""
            return "".join(f'<div class="block">{escape(text)}</div>' for text in texts) + beside
        case "context":
            texts = [f"<span>{escape(_plain(text))}</span>" for text in block["elements"]]
            return f'<div class="block context">{"".join(texts)}</div>'
        case "actions":
            return f'<div class="block">{"".join(map(_element_html, block["elements"]))}</div>'
        case "input":
            hint = f'<div class="hint">{escape(_plain(block["hint"]))}</div>' if "hint" in block else ""
            wish = " (optional)" if block.get("optional") else ""
            label = f"<label>{escape(_plain(block['label']))}{wish}</label>"
            return f'<div class="block">{label}{_element_html(block["element"])}{hint}</div>'
        case "rich_text":
            return "".join(map(_rich_html, block["elements"]))
    raise ValueError(f"a block of type {block['type']} cannot be drawn")


def _element_html(element: Json) -> str:
    if element["type"] == "button":
        return f'<span class="button {element.get("style", "")}">{escape(_plain(element["text"]))}</span>'
    look = "field long" if element.get("multiline") else "field"
    return f'<div class="{look}">{escape(_value(element))}</div>'


def _rich_html(part: Json) -> str:
    if part["type"] == "rich_text_list":
        items = "".join(f"<li>{_rich_html(item)}</li>" for item in part["elements"])
        return f"<ul>{items}</ul>"
    inner = "".join(map(_inline_html, part["elements"]))
    if part["type"] == "rich_text_preformatted":
        return f"<pre>{inner}</pre>"
    return f'<div class="block">{inner}</div>'


def _inline_html(element: Json) -> str:
    text = escape(_inline(element))
    style = element.get("style", {})
    for name, tag in (("bold", "b"), ("italic", "i"), ("strike", "s"), ("code", "code")):
        text = f"<{tag}>{text}</{tag}>" if style.get(name) else text
    return f'<span class="user">{text}</span>' if element["type"] in ("user", "usergroup", "broadcast") else text


# -- text -------------------------------------------------------------------------------------------------------------


def _lines(block: Json) -> Iterator[str]:
    match block["type"]:
        case "header":
            yield from (f"*{_plain(block['text'])}*", "")
        case "divider":
            yield "-" * 40
        case "section":
            yield from (_plain(text) for text in (block.get("text"), *block.get("fields", ())) if text)
            yield from (_button(block["accessory"]),) if "accessory" in block else ()
        case "context":
            yield from (_plain(text) for text in block["elements"])
        case "actions":
            yield "  ".join(map(_button, block["elements"]))
        case "input":
            wish = " (optional)" if block.get("optional") else ""
            yield f"{_plain(block['label'])}{wish}: [{_value(block['element'])}]"
        case "rich_text":
            for part in block["elements"]:
                yield from _rich_lines(part)
        case _:
            raise ValueError(f"a block of type {block['type']} cannot be drawn")


def _rich_lines(part: Json) -> Iterator[str]:
    if part["type"] == "rich_text_list":
        for item in part["elements"]:
            yield from (f"- {line}" for line in _rich_lines(item))
        return
    boxed = "  | " if part["type"] == "rich_text_preformatted" else ""
    yield from (f"{boxed}{line}" for line in "".join(map(_inline, part["elements"])).split("\n"))


def _inline(element: Json) -> str:
    match element["type"]:
        case "user" | "usergroup":
            return f"@{element.get('user_id') or element.get('usergroup_id')}"
        case "broadcast":
            return f"@{element['range']}"
        case "channel":
            return f"#{element['channel_id']}"
        case "emoji":
            return f":{element['name']}:"
        case "date":
            return _date(element)
    return str(element.get("text") or element.get("url", ""))


def _date(element: Json) -> str:
    """A time as a client in London would show it; the fallback for a format that this module does not know."""
    at = datetime.fromtimestamp(element["timestamp"], UTC)
    known = {"{date_short_pretty}": f"{at:%b} {at.day}", "{time}": f"{at.hour % 12 or 12}:{at:%M %p}"}
    text = str(element["format"])
    for token, shown in known.items():
        text = text.replace(token, shown)
    return str(element.get("fallback") or element["timestamp"]) if "{" in text else text


def _button(element: Json) -> str:
    return f"[ {_plain(element['text'])} ]" if element["type"] == "button" else f"[{_value(element)}]"


def _value(element: Json) -> str:
    """What an input shows before anybody typed."""
    chosen = element.get("initial_option")
    if chosen is not None:
        return _plain(chosen["text"])
    return str(element.get("initial_value") or element.get("initial_date") or _plain(element.get("placeholder")))
