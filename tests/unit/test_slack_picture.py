"""Pictures of cards and modals: every text is there as it is, and none of it becomes markup."""

import re
from html import unescape
from typing import Any

import pytest

from governor_agents.testing import slack_picture as picture
from governor_agents.testing.slack_limits import block_problems, view_problems

HOSTILE = '<script>alert(1)</script> & "quotes" <@U02> *bold* :tada: \\u{202E} \' <b>'


def plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def blocks(text: str) -> list[dict[str, Any]]:
    """One of each kind of block, with this text wherever a text may stand."""
    inline = [
        {"type": "text", "text": text, "style": {"bold": True}},
        {"type": "user", "user_id": "U02"},
        {"type": "date", "timestamp": 1_800_000_000, "format": "{date}", "fallback": f"at {text}"},
    ]
    rich = [
        {"type": "rich_text_section", "elements": inline},
        {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": f"{text}\n{text}"}]},
        {
            "type": "rich_text_list",
            "style": "bullet",
            "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}],
        },
    ]
    typed = {"type": "plain_text_input", "action_id": "input", "multiline": True, "initial_value": text}
    return [
        {"type": "header", "text": plain(text)},
        {"type": "section", "text": {"type": "mrkdwn", "text": text}, "fields": [plain(text)]},
        {"type": "context", "elements": [plain(text)]},
        {"type": "divider"},
        {"type": "actions", "elements": [{"type": "button", "action_id": "approve", "text": plain(text[:70])}]},
        {"type": "input", "block_id": "reason", "label": plain(text), "optional": True, "element": typed},
        {"type": "rich_text", "elements": rich},
    ]


def text_of(html: str) -> str:
    """What a browser would show of it."""
    return unescape(re.sub(r"<[^>]*>", "", html))


def test_every_text_stands_in_the_html_and_none_becomes_markup() -> None:
    """Twelve places, each literal; the only tags are ours."""
    assert block_problems(blocks(HOSTILE)) == []
    html = picture.message_html(blocks(HOSTILE))
    assert text_of(html).count(HOSTILE) == 11
    assert "<script" not in html and "<@U02>" not in html and "<b><" not in html
    assert "@U02" in text_of(html)


def test_the_count_notices_a_text_that_is_left_out() -> None:
    """The same count over a message that lacks one of its blocks is another."""
    html = picture.message_html(blocks(HOSTILE)[1:])
    assert text_of(html).count(HOSTILE) < 11


def test_every_text_stands_in_the_terminal_form() -> None:
    """A preformatted text line by line, a button in brackets."""
    text = picture.message_text(blocks("one"))
    assert text.count("one") == 12 and "[ one ]" in text and "  | one\n  | one\n" in text and "@U02" in text


def test_a_modal_has_its_title_and_both_ways_out() -> None:
    """As HTML and as text."""
    modal = {"type": "modal", "title": plain("Reject"), "submit": plain("Send"), "close": plain("Cancel")}
    modal["blocks"] = blocks("x")[5:6]
    assert view_problems(modal) == []
    for shown in (text_of(picture.view_html(modal)), picture.view_text(modal)):
        assert all(word in shown for word in ("Reject", "Send", "Cancel", "x (optional)"))


def test_a_page_is_whole_and_loads_nothing() -> None:
    """No script, nothing from elsewhere."""
    html = picture.page("a < b", [picture.caption("as <asked>"), picture.message_html(blocks("x"))])
    assert "a &lt; b" in html and "as &lt;asked&gt;" in html
    assert not re.search(r"<script|src=|https?:|@import|url\(", html)


@pytest.mark.parametrize("draw", [picture.message_html, picture.message_text])
def test_a_block_that_cannot_be_drawn_is_named(draw: Any) -> None:
    """Nothing is left out in silence."""
    with pytest.raises(ValueError, match="video"):
        draw([{"type": "video"}])
