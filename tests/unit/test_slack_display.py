"""What a card in Slack shows: the arguments whole and exactly, or no Approve; nothing hidden, nothing that Slack would read.

Each check is made of Slack's own rules (`governor_agents.testing.slack_limits`) and of the blocks alone, and each is
tried on renderers that are wrong on purpose.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from slack_sdk.web.async_client import AsyncWebClient

from governor_agents.core.records import Approval, Comment, Decision, HandOver, TakenUp
from governor_agents.core.verdicts import Verdict
from governor_agents.handlers.message import parse_visible
from governor_agents.handlers.slack.blocks import JSON_BLOCK, ROOM, Controls, Drawing, draw, parse
from governor_agents.handlers.slack.home import MOST, Links, home
from governor_agents.testing.slack_limits import MESSAGE_ROOM, block_problems, room, view_problems
from governor_agents.testing.slack_server import SlackServer
from tests.unit.test_message import HOSTILE, NOW, approval_of, decided, generated, hides

NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))
EVERY = 1 if NIGHTLY else 20
"""Every which of the cards is posted to the local Slack by slack-sdk's client; the checks below see all of them."""

CONTROLS = Controls("c" + "a" * 26 + "." + "0" * 32, "https://approve.example.com/request/run_a.1")
DECIDING = {"approve", "edit", "respond"}

Render = Callable[[Approval], Drawing]


def rendered(approval: Approval) -> Drawing:
    return draw(approval, CONTROLS)


def sized(seed: int) -> dict[str, Any]:
    """A hostile argument set; one in ten lies about the size of a card, some reach a megabyte."""
    args = generated(seed)
    random = Random(seed)
    size = random.choice((ROOM // 2, ROOM)) + random.randrange(-3_000, 3_000) if seed % 10 == 0 else 0
    size = 100_000 if seed % 250 == 1 else 1_000_000 if seed % 1000 == 2 else size
    if size:
        words = random.choice((HOSTILE, ["word ", "x"], ["日本", "é"], ["&", "<", ">"]))
        text = "".join(random.choice(words) for _ in range(size // max(map(len, words)) or 1))
        args["long"] = text[:size]
    return args


# -- the judge ----------------------------------------------------------------------------------------------------------


def strings(value: Any) -> Iterator[str]:
    """Every text of the blocks, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for item in value.values() for text in strings(item))
    elif isinstance(value, list | tuple):
        yield from (text for item in value for text in strings(item))


def objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from objects(item)


def arguments_on(blocks: Any) -> list[bytes]:
    """What stands in the boxes of a card, each read back to what `visible` was given."""
    boxes = [each for each in objects(list(blocks)) if each.get("type") == "rich_text_preformatted"]
    return [parse_visible("".join(text["text"] for text in box["elements"])).encode() for box in boxes]


def faults(drawing: Drawing, approval: Approval) -> list[str]:
    """What is wrong with a card, by the target's words; empty when nothing is."""
    blocks = list(drawing.blocks)
    found = [f"refused by Slack: {problem}" for problem in block_problems(blocks)]
    if room(blocks) > MESSAGE_ROOM:
        found.append("msg_blocks_too_long")
    whole = approval.call.args in arguments_on(blocks)
    if not whole and DECIDING & drawing.actions:
        found.append("it can be approved without the arguments")
    if whole and "approve" not in drawing.actions and approval.call.state.value == "pending":
        found.append("the arguments are there, Approve is not")
    if not whole and approval.call.state.value == "pending" and "open" not in drawing.actions:
        found.append("neither the arguments nor the way to them")
    hidden = {character for text in strings(blocks) for character in text.replace("\n", "") if hides(character)}
    hidden |= {character for character in drawing.text if hides(character)}
    found += [f"hides {ord(character):04X}" for character in hidden]
    kinds = {each.get("type") for each in objects(blocks)}
    found += [f"Slack reads {kind}" for kind in kinds & {"mrkdwn", "markdown", "link", "user", "broadcast", "emoji"}]
    if any(each.get("emoji") is not False for each in objects(blocks) if each.get("type") == "plain_text"):
        found.append("Slack makes emoji of it")
    if "<" in drawing.text or ">" in drawing.text:
        found.append("the notification is read for mentions")
    return found


# -- the target ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(10))
def test_five_thousand_cards_are_whole_or_without_approve(block: int) -> None:
    """Of every one: the bytes read back are the stored bytes, or it has no Approve; no character hides; Slack takes it."""
    whole = 0
    for seed in range(block * 500, block * 500 + 500):
        approval = approval_of(sized(seed))
        drawing = rendered(approval)
        assert faults(drawing, approval) == [], seed
        assert (parse(drawing.blocks) == approval.call.args) is drawing.whole, seed
        whole += drawing.whole
    assert 400 < whole < 500  # both sorts are among them


async def test_cards_are_taken_by_slack_sdk_and_read_back_from_slack() -> None:
    """Posted by the real client to a server with Slack's limits, none is refused; the history gives the bytes back."""
    with SlackServer() as slack:
        space = slack.workspace("T01")
        space.channel("C1")
        client = AsyncWebClient(space.token, base_url=slack.url, retry_handlers=[])
        for seed in range(0, 5000, EVERY):
            approval = approval_of(sized(seed))
            drawing = rendered(approval)
            await client.chat_postMessage(channel="C1", blocks=list(drawing.blocks), text=drawing.text)
            (message,) = (await client.conversations_history(channel="C1", limit=1))["messages"]
            assert parse(message["blocks"]) == (approval.call.args if drawing.whole else None), seed
        assert slack.refusals() == []


@pytest.mark.parametrize("seed", range(0, 60 if not NIGHTLY else 600))
def test_edited_decided_and_crowded_cards_too(seed: int) -> None:
    """The same of cards in every state, with everything on them that people may have added."""
    random = Random(seed)
    said = [
        str(generated(seed + 7).get("a", "")) + "".join(random.choice(HOSTILE) for _ in range(4)) for _ in range(30)
    ]
    approval = approval_of(sized(seed * 10))
    call = replace(
        approval.call,
        headline="{tool} {args.long} for {requester}",
        risk=random.choice(("low", "normal", "high")),
        taken_up=TakenUp(said[0], NOW),
        comments=tuple(Comment(text, NOW, text * random.randrange(1, 40)) for text in said[: random.randrange(20)]),
        handed=(HandOver("cfo@example.com", said[2], "cfo@example.com", NOW),),
        why=said[3],
    )
    crowded = Approval(replace(approval.run, calls=(call,), requester=said[4], conversation=said[5]), call)
    new = {"amount": 1, **generated(seed + 1)}
    edit = decided(crowded, Decision.edit(new, reason=said[6]), verdict=Verdict("allow"))
    for each in (
        crowded,
        edit,
        decided(crowded, Decision.approve(said[7])),
        decided(crowded, Decision.reject(said[8])),
    ):
        drawing = rendered(each)
        assert faults(drawing, each) == []
        if drawing.whole and each is edit:
            assert crowded.call.args in arguments_on(drawing.blocks)  # what the agent had asked for
    others = [replace(each, run=replace(each.run, id=f"run_{at}")) for at, each in enumerate([crowded, edit] * 3)]
    assert faults(draw(crowded, CONTROLS, others=others), crowded) == []


# -- negative controls --------------------------------------------------------------------------------------------------


def changed(drawing: Drawing, change: Callable[[str], str]) -> Drawing:
    """The drawing with the texts of its boxes changed."""
    blocks = copy.deepcopy(list(drawing.blocks))
    for each in objects(blocks):
        if each.get("type") == "rich_text_preformatted":
            each["elements"] = [text | {"text": change(text["text"])} for text in each["elements"]]
    return replace(drawing, blocks=tuple(blocks))


def truncating(approval: Approval) -> Drawing:
    """Shortens what is long."""
    return changed(rendered(approval), lambda text: text if len(text) < 300 else text[:300] + "…")


def forgetting_visible(approval: Approval) -> Drawing:
    """Shows texts as they are."""
    return changed(rendered(approval), parse_visible)


def cleaning(approval: Approval) -> Drawing:
    """Drops what cannot be seen, as many renderers do."""
    return changed(rendered(approval), lambda text: "".join(c for c in parse_visible(text) if not hides(c)) or " ")


def marking_up(approval: Approval) -> Drawing:
    """Puts the arguments into markup."""
    drawing = rendered(approval)
    text = f"```{approval.call.args.decode()}```"[:3000]
    marked = {"type": "section", "text": {"type": "mrkdwn", "text": text}}
    return replace(drawing, blocks=(*drawing.blocks, marked))


def always_approving(approval: Approval) -> Drawing:
    """Leaves Approve on the card that has no room for the arguments."""
    drawing = rendered(approval)
    button = {
        "type": "button",
        "action_id": "approve",
        "value": "v",
        "text": {"type": "plain_text", "text": "Approve", "emoji": False},
    }
    return replace(drawing, blocks=(*drawing.blocks, {"type": "actions", "elements": [button]}))


def without_limit(approval: Approval) -> Drawing:
    """Puts the arguments there whatever their size."""
    box = {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": approval.call.args.decode() or " "}]}
    return replace(rendered(approval), blocks=(*rendered(approval).blocks, {"type": "rich_text", "elements": [box]}))


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (truncating, "it can be approved without the arguments"),
        (forgetting_visible, "hides 202E"),
        (cleaning, "it can be approved without the arguments"),
        (marking_up, "Slack reads mrkdwn"),
        (always_approving, "it can be approved without the arguments"),
        (without_limit, "msg_blocks_too_long"),
    ],
)
def test_a_wrong_renderer_is_found_out(broken: Render, found: str) -> None:
    """Negative controls: each of these shows something else than what runs, and the judge says so."""
    told = {
        fault for seed in range(200) for fault in faults(broken(approval_of(sized(seed))), approval_of(sized(seed)))
    }
    assert found in told


def test_the_markup_of_a_notification_is_found_out() -> None:
    """Negative control: the text beside the blocks is one more place where Slack looks for mentions."""
    approval = approval_of({"to": "<!channel>"})
    drawing = replace(rendered(approval), text="pay <!channel>")
    assert "the notification is read for mentions" in faults(drawing, approval)


# -- the rest -----------------------------------------------------------------------------------------------------------


def test_a_card_that_cannot_be_read_back_has_no_approve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is enforced where a card is made, not hoped for: another rendering of a byte costs the button."""
    from governor_agents.handlers.slack import blocks

    approval = approval_of({"to": "a\u200bb"})
    assert "approve" in rendered(approval).actions
    monkeypatch.setattr(blocks, "parse_visible", lambda shown: shown)
    assert not DECIDING & rendered(approval).actions


def test_bytes_that_are_no_text_have_no_approve() -> None:
    """Arguments that are not UTF-8 cannot be shown exactly."""
    approval = approval_of({"a": 1})
    call = replace(approval.call, args=b'{"a":"\xff"}')
    assert not DECIDING & rendered(Approval(replace(approval.run, calls=(call,)), call)).actions


def test_paths_go_before_approve_does() -> None:
    """Where the arguments fit once and not twice, they stand there as JSON; comments become a count."""
    approval = approval_of({"text": "x" * 7_000})
    assert len(arguments_on(rendered(approval).blocks)) == 1 and "approve" in rendered(approval).actions
    assert len(arguments_on(rendered(approval_of({"text": "x" * 2_000})).blocks)) == 2
    call = replace(approval.call, comments=(Comment("bob", NOW, "y" * 6_000),))
    crowded = rendered(Approval(approval.run, call))
    assert "approve" in crowded.actions and "1, in the full request" in json.dumps(crowded.blocks)


def test_without_pages_the_command_is_named() -> None:
    """A card too large for Slack says how to get at the request where no pages are served."""
    drawing = draw(approval_of({"text": "x" * 50_000}), Controls("c.0", "", "governor-agents inbox show run_a.1"))
    assert "governor-agents inbox show run_a.1" in json.dumps(drawing.blocks)
    assert drawing.actions == {"reject", "claim", "comment"}


def test_whoever_is_not_asked_gets_no_buttons() -> None:
    """Whatever else the card shows."""
    assert draw(approval_of({"a": 1}), replace(CONTROLS, asked=False)).actions == set()


def test_high_risk_is_asked_twice_and_labelled() -> None:
    """Approve has a question behind it."""
    approval = approval_of({"a": 1})
    risky = draw(Approval(approval.run, replace(approval.call, risk="high")), CONTROLS)
    (approve,) = [each for each in objects(list(risky.blocks)) if each.get("action_id") == "approve"]
    assert approve["confirm"]["title"]["text"] == "High risk" and "High risk: " in strings(list(risky.blocks))
    assert block_problems(list(risky.blocks)) == []


@pytest.mark.parametrize("count", [0, 1, 30, 45])
def test_a_home_tab_is_taken_by_slack(count: int) -> None:
    """However many requests wait, and whatever their words are."""
    waits = [approval_of(sized(seed)) for seed in range(count)]
    waits = [Approval(each.run, replace(each.call, headline="{args.long} {agent}")) for each in waits]
    links = [
        Links("https://x.slack.com/archives/D1/p1" if at % 2 else "", "https://a/r" if at % 3 else "")
        for at in range(count)
    ]
    view = home(waits, links)
    assert view_problems(view) == []
    assert ("more are not listed" in json.dumps(view)) is (count > MOST)
    assert not [character for text in strings(view) for character in text.replace("\n", "") if hides(character)]


def test_every_part_of_the_json_is_under_one_id() -> None:
    """A long text is several elements of one box, which reads back as one."""
    approval = approval_of({"text": "x" * 6_000})
    (block,) = [each for each in rendered(approval).blocks if str(each.get("block_id", "")).startswith(JSON_BLOCK)]
    assert len(block["elements"][-1]["elements"]) > 1
