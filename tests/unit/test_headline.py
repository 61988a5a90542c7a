"""The line that people read first: the policy's words, and values that cannot pose as words."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor_agents.core.headline import MAX_HEADLINE, read_headline
from governor_agents.core.records import Approval, Comment, HandOver, Notice, TakenUp, Vote
from governor_agents.errors import ConfigError
from governor_agents.handlers.message import HEADLINE_VALUE, HELD, Message, to_text
from tests.unit.test_message import NOW, approval_of, hides, texts


def headline(template: str, args: dict) -> str:
    approval = approval_of(args)
    call = replace(approval.call, headline=template)
    return Message.of(Approval(replace(approval.run, calls=(call,)), call)).headline


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("Refund {args.amount} of order {args.order}", 'Refund 120 of order "4711"'),
        ("{tool} by {agent} for {requester}", "refund by support for service:support"),
        ("{args.lines[1].sku} of {args.lines}", '"b" of (lines, 2 entries: see below)'),
        ("{{{args.amount}}}", "{120}"),
        ("Pay {args.nobody}, {args.lines[7]}, {args.amount.cents}", "Pay (no nobody), (no 7), (no cents)"),
        ("", "support asks to run refund"),
        ("   ", "support asks to run refund"),
        ("wrong {args.}", "support asks to run refund"),
    ],
)
def test_headline_is_the_policys_template(template: str, shown: str) -> None:
    """Filled with values as JSON; a template that cannot be read is as good as none."""
    assert headline(template, {"amount": 120, "order": "4711", "lines": [{"sku": "a"}, {"sku": "b"}]}) == shown


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{amount}", "knows no {amount}"),
        ("{args.amount:>9}", "knows no"),
        ("{args.amount!r}", "knows no"),
        ("{args.__class__}", ""),
        ("{args['a']}", "knows no"),
        ("{", "write {{ for a brace"),
        ("a } b", "write }} for a brace"),
        ("x" * (MAX_HEADLINE + 1), "at most 200 characters"),
    ],
)
def test_what_a_headline_may_not_hold(template: str, why: str) -> None:
    """No formats, no attributes; a name such as ``__class__`` is a key like any other."""
    if not why:
        assert read_headline(template) == (("args", "__class__"),)
        return
    with pytest.raises(ConfigError, match=why):
        read_headline(template)


def test_values_that_are_read_from_the_right_stay_in_their_places() -> None:
    """From and to would else be drawn in each other's place."""
    args = {"from": "\u05d0", "to": "\u05d1"}
    assert headline("{args.from} \u2192 {args.to}", args) == '"\u05d0\\u{0022} \u2192 "\u05d1"'


def test_a_long_value_is_named_and_not_cut() -> None:
    """It stands below in full; a part of it would be another value."""
    assert headline("Order {args.order}", {"order": "x" * 5000}) == "Order (order, 5000 characters: see below)"
    assert headline("Order {args.order}", {"order": "x" * (HEADLINE_VALUE - 2)}) == f'Order "{"x" * 58}"'


@pytest.mark.parametrize(
    "value", ["Größe 5, naïve", "nai\u0308ve", "हिन्दी", "日本語", "コーヒー", "a.b@example.com", "DE89 3704", "-5 %"]
)
def test_ordinary_values_stand_in_the_headline(value: str) -> None:
    """In every script, with the signs that amounts and addresses are written with."""
    assert headline("Pay {args.to}", {"to": value}) == f'Pay "{value}"'


@pytest.mark.parametrize("quote", "\u02ba\u02bc\u02ee\u07f4\u07f5\ua78c\u01c3\ua4f8\ua4fd\u02d0")
def test_letters_that_look_like_quotes_or_signs_are_no_letters_here(quote: str) -> None:
    """Unicode has letters of that shape; a value could seem to end, and go on as the policy's words."""
    assert quote.isalpha()
    shown = headline("Pay {args.to} now", {"to": f"1{quote} checked by the CFO {quote}"})
    assert shown == "Pay (to, 23 characters: see below) now"


@pytest.mark.parametrize(
    "value", ["1\u201d is free \u201c", 'a" (approved) "', "<!channel>", "*b*", "a\nb", "\u202ea", "\u2033", "💥"]
)
def test_what_could_look_like_the_end_of_a_value_is_named(value: str) -> None:
    """Quotes of any kind, markup, line breaks, what hides: none of it is next to the policy's words."""
    assert headline("Pay {args.to}", {"to": value}) == f"Pay (to, {len(value)} characters: see below)"


@given(texts)
def test_no_value_poses_as_the_policys_words(value: str) -> None:
    """It keeps its quotes and holds none, or is named; nothing hides and no line breaks."""
    shown = headline("Pay {args.to} now", {"to": value})
    inner = shown.removeprefix("Pay ").removesuffix(" now")
    assert (inner[0], inner[-1]) in ((chr(34), chr(34)), ("(", ")"))
    assert chr(34) not in inner[1:-1]
    assert not [character for character in shown if hides(character)]


@given(st.text(max_size=60))
def test_every_template_is_read_or_refused(template: str) -> None:
    """Nothing else comes out of it."""
    try:
        read_headline(template)
    except ConfigError:
        assert headline(template, {}) == "support asks to run refund"


def test_message_tells_who_looks_who_was_handed_the_seat_and_what_was_written() -> None:
    """Claims, hand-overs, comments, substitutes' votes, risk, identical calls and what was held back."""
    approval = approval_of({"a": 1})
    call = replace(
        approval.call,
        risk="high",
        taken_up=TakenUp("bob", NOW),
        handed=(HandOver("alice", "bob", "alice", NOW), HandOver("cfo", "eve", "coordinator", NOW, moved=True)),
        comments=(Comment("bob", NOW, "looks\u202e fine"),),
        votes=(Vote("bob", "approve", NOW, approval.call.digest, seat="alice", standing="substitute"),),
    )
    notice = Notice("1:asked:slack", call.n, "asked", "slack", NOW, held=True)
    message = Message.of(Approval(replace(approval.run, outbox=(notice,)), call), alike=["run_b.1"])
    told = list(message.facts())
    assert ("risk", "high") in told and message.count == 2
    assert ("identical", "2 identical calls wait; a decision here counts for each: also run_b.1") in told
    assert ("looked at by", "bob, since 2026-11-18 11:06:40 UTC") in told
    assert [text for label, text in told if label == "handed over"] == [
        "seat of alice: bob may decide too (handed over at 2026-11-18 11:06:40 UTC)",
        "seat of cfo: eve decides instead (handed over by coordinator at 2026-11-18 11:06:40 UTC)",
    ]
    assert ("comment", "bob at 2026-11-18 11:06:40 UTC: looks\\u{202E} fine") in told
    assert ("vote", "approved by bob in the place of alice (substitute) at 2026-11-18 11:06:40 UTC") in told
    assert ("held", HELD) in told
    assert "held" not in dict(Message.of(Approval(approval.run, call)).facts())
    assert "looks\\u{202E} fine" in to_text(message)
