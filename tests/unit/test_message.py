"""What people are shown: everything, exactly, and nothing that hides."""

import json
import os
import re
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from governor_agents.core import decisions
from governor_agents.core.calls import Tool, ToolCall, freeze, thaw
from governor_agents.core.identity import Voter
from governor_agents.core.records import Approval, CallState, Decision, Run, RunState, Snapshot
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.handlers.message import (
    Message,
    flatten,
    outcome,
    parse_visible,
    to_text,
    visible,
    visible_json,
    when,
)
from governor_agents.handlers.notebook import approval_html, run_html, show
from governor_agents.handlers.terminal import print_message
from governor_agents.handlers.visible import in_order

NOW = 1_795_000_000.0
NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))
"""Then five thousand displays of each sort, else a part of them."""

# Written down from Unicode's Default_Ignorable_Code_Point and its blanks, apart from the code under test.
IGNORABLE = {
    *(0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180E, 0x180F, 0x2800, 0x3164),
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),
    *(0xFEFF, 0xFFA0, 0xFFF9, 0xFFFA, 0xFFFB, 0xFFFC, 0x1D159, 0x1D173, 0xE0001),
    *range(0xE0020, 0xE0080),
    *range(0xE0100, 0xE01F0),
}
OTHER_SPACES = [0x00A0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
HOSTILE = [
    "\u202eevil\u202c",
    "\u2066\u2069",
    "a\u200bb\u200d\ufeff",
    "".join(map(chr, range(0xE0061, 0xE0067))),
    "```\n`x`",
    "<script>alert(1)</script><b>",
    "<!channel> <@U1> <https://a|b>",
    "[red]hidden[/red] [link=x]",
    "\x1b[2J\x1b]0;title\x07\r\n\t\x00\x7f\x9b31m",
    "\\u{200B} \\\\u{0041} \\u200b",
    "\u3164\u115f\u2800\u00ad\u034f",
    "e\u0301 x\u0336 1\u20e3 \u0300",
    "z" + "\u0315" * 40,
    "אבג amount = 1 (ע)",
    " " * 300 + "approve",
    "&lt;&amp;\u00a0;",
    'arguments:\n  amount = 1\n\n"',
    "аdmin",
    "💥👩\u200d🚀🏳️\u200d🌈",
    "\ue000\U000f0000\u0378",
]

texts = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(HOSTILE), max_size=4).map("".join),
    st.text(st.sampled_from([chr(code) for code in (*IGNORABLE, *OTHER_SPACES)] + list('\\u{}"ab ')), max_size=20),
)
numbers = st.one_of(
    st.integers(),
    st.sampled_from([10**4000, -(10**400)]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1, 1.0, -0.0, 2**53, 2**53 + 1, 1e308, 5e-324]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
arguments = st.one_of(
    st.dictionaries(texts, values, max_size=5),
    st.builds(
        lambda leaf, depth: {"deep": json.loads("[" * depth + json.dumps(leaf) + "]" * depth)},
        texts,
        st.integers(1, 50),
    ),
)


def generated(seed: int) -> dict:
    """A hostile argument set, the same for the same seed; many times faster than Hypothesis, for the thousands."""
    random = Random(seed)

    def text() -> str:
        pieces = (random.choice(HOSTILE), random.choice('abc xyz\\"{}[]=.'), chr(random.randrange(0xD800)))
        return "".join(random.choice(pieces) for _ in range(random.randrange(5)))

    def value(depth: int) -> object:
        kind = random.randrange(9 if depth < 8 else 6)
        if kind < 3:
            return text()
        if kind < 6:
            return random.choice(
                [None, True, random.randrange(-9, 10**20), random.random() * 10**9, 10**4000, 1, 1.0, -0.0]
            )
        if kind == 6:
            return [value(depth + 1) for _ in range(random.randrange(4))]
        return {text(): value(depth + 1) for _ in range(random.randrange(4))}

    return {text(): value(0) for _ in range(random.randrange(5))}


def hides(character: str) -> bool:
    """True for what a reader cannot see, or that moves what a reader sees."""
    if character == " ":
        return False
    category = unicodedata.category(character)
    return category[0] in "CZ" or ord(character) in IGNORABLE or category == "Me"


def approval_of(args: dict | bytes, **rest: object) -> Approval:
    """A waiting approval, made as the package makes them."""
    run = Run("default", "run_a", "support", "fake", "service:support", RunState.ACTIVE, NOW)
    frozen = args if isinstance(args, bytes) else freeze(args)
    call = ToolCall("refund", frozen, "call_1", agent="support", run="run_a", requester="service:support")
    verdict = Verdict(
        "require_approval",
        policy="governor.yaml#refunds",
        version="v1",
        reason="refunds need finance",
        stages=(Stage(("group:finance",), ("cfo@example.com", "local:alice")),),
        **rest,
    )
    made = decisions.make_call(run, call, Tool("refund"), verdict, now=NOW, nonce="n")
    return Approval(replace(run, state=RunState.WAITING, calls=(made,), count=1, snapshot=Snapshot("b", "fake")), made)


def decided(
    approval: Approval, decision: Decision, by: str = "cfo@example.com", verdict: Verdict | None = None
) -> Approval:
    change = decisions.decide(
        approval.run,
        1,
        decision,
        by=Voter.plain(by),
        now=NOW + 60,
        digest=approval.call.digest,
        verdict=verdict,
        nonce="m",
    )
    return Approval(change.run, change.run.calls[0])


# -- reading a display back ---------------------------------------------------------------------------------------------


def read_path(shown: str) -> tuple[list[str | int], str]:
    """The keys and positions at the head of a displayed line, and the rest of it."""
    keys: list[str | int] = []
    while shown and not shown.startswith(" = "):
        if plain := re.match(r"\.?([A-Za-z_][A-Za-z0-9_-]*)", shown):
            keys.append(plain[1])
            shown = shown[plain.end() :]
        elif position := re.match(r"\[(\d+)\]", shown):
            keys.append(int(position[1]))
            shown = shown[position.end() :]
        else:
            key, end = json.JSONDecoder().raw_decode(shown[1:])
            assert shown[0] == "[" and shown[1 + end] == "]"
            keys.append(key)
            shown = shown[2 + end :]
    return keys, shown.removeprefix(" = ")


def put(tree: dict, keys: list[str | int], leaf: object) -> None:
    """Grow a tree of dicts; lists are dicts with whole numbers for keys until they are complete."""
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    assert keys[-1] not in tree
    tree[keys[-1]] = leaf


def grown(tree: object) -> object:
    if not isinstance(tree, dict) or not tree:
        return tree
    if all(type(key) is int for key in tree):
        assert list(tree) == list(range(len(tree)))
        return [grown(item) for item in tree.values()]
    return {key: grown(item) for key, item in tree.items()}


def read_lines(lines: list[str]) -> object:
    """The value that `path = value` lines speak of."""
    read = [read_path(parse_visible(line)) if not line.startswith("{}") else ([], "{}") for line in lines]
    if read == [([], "{}")]:
        return {}
    tree: dict = {}
    for keys, leaf in read:
        put(tree, keys, thaw(leaf))
    return grown(tree)


def read_text(text: str) -> tuple[list[str], str]:
    """Argument lines and canonical JSON of a message in plain text."""
    lines = text.split("\n")
    first = lines.index("arguments:") + 1 if "arguments:" in lines else 0
    end = lines.index("", first)
    whole = lines[lines.index("arguments as canonical JSON:") + 1]
    return [line[2:] for line in lines[first:end]] if first else [], whole[2:]


class Cells(HTMLParser):
    """The texts of an HTML card, by the element they stand in; which elements there are at all."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        self.texts[-1] += data


# -- visible ------------------------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(st.one_of(texts, st.text(st.characters(), max_size=40)))
@example("\\u{200B}")
@example("\\\\u{005C}u{200B}")
@example("\ud800")
def test_visible_is_reversible_and_shows_everything(text: str) -> None:
    """Nothing in a display hides, and the original can be read back from it."""
    shown = visible(text)
    assert parse_visible(shown) == text
    assert not [character for character in shown if hides(character)]
    assert len(shown) >= len(text)


def test_visible_escapes_every_character_that_hides() -> None:
    """All of Unicode that is assigned, one by one: hidden characters are escaped, ASCII stays, and so do nearly all letters."""
    for code in range(0x110000):
        character = chr(code)
        if code % 50 and unicodedata.category(character) in ("Cn", "Co"):
            continue  # a million of them, all alike
        shown = visible(character)
        if hides(character):
            assert shown == f"\\u{{{code:04X}}}", hex(code)
        assert parse_visible(shown) == character
    assert visible("".join(map(chr, range(0x20, 0x7F)))) == "".join(map(chr, range(0x20, 0x7F)))


@pytest.mark.parametrize(
    "text",
    [
        "Größe 5 €, naïve",
        "nai\u0308ve",
        "日本語のテキスト",
        "हिन्दी में",
        "ภาษาไทย",
        "العربية",
        "עברית",
        "한국어",
        "Tiếng Việt",
        "ខ្មែរ",
        "👍",
    ],
)
def test_visible_leaves_ordinary_languages_alone(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200bb", "a\\u{200B}b"),
        ("\u202e", "\\u{202E}"),
        ("\\u{200B}", "\\u{005C}u{200B}"),
        ("C:\\users", "C:\\users"),
        ("line\nbreak", "line\\u{000A}break"),
        ('"\u0301', '"\\u{0301}'),
        ("a\u0336", "a\\u{0336}"),
        ("\u00a0", "\\u{00A0}"),
        (" " * 16, " " * 16),
        (" " * 17 + "x", " " * 16 + "\\u{0020}x"),
        ("z" + "\u0315" * 5, "z" + "\u0315" * 4 + "\\u{0315}"),
    ],
)
def test_visible_writes_out(text: str, shown: str) -> None:
    assert visible(text) == shown


RIGHT = st.text(st.sampled_from('\u05d0\u05d1\u0627\u0661\u0662 1,:"\\\u00e9x\u200f'), max_size=4)


@settings(max_examples=200)
@given(
    st.recursive(RIGHT | st.integers(0, 9), lambda each: st.lists(each) | st.dictionaries(RIGHT, each), max_leaves=6)
)
def test_texts_that_are_read_from_the_right_keep_their_place(value: object) -> None:
    """Between the ends of two texts of a JSON line stands a letter that keeps them apart; the line reads back."""
    stored = freeze(value).decode()
    shown = visible_json(stored)
    assert parse_visible(shown) == stored
    assert not runs_together(shown)
    assert in_order(shown) == shown


def runs_together(shown: str) -> list[str]:
    """Stretches without a letter read from the left that hold the end of a text and, on both sides, what moves it."""
    kinds = [unicodedata.bidirectional(character) for character in shown]
    stretches = "".join(c if kind != "L" else "L" for c, kind in zip(shown, kinds, strict=True)).split("L")
    return [each for each in stretches if re.search(r'[\u05d0-\u06ff].*(?<!\\)(\\\\)*".*[\u05d0-\u06ff0-9]', each)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('["\u05d0","\u05d1"]', '["\u05d0\\u{0022},"\u05d1"]'),
        ('{"\u05d0":1}', '{"\u05d0\\u{0022}:1}'),
        ('"\u05d0" \u2192 "\u05d1"', '"\u05d0\\u{0022} \u2192 "\u05d1"'),
        ('{"a":"\u05d0","b":"\u05d1"}', '{"a":"\u05d0","b":"\u05d1"}'),
        ('{"to":"\u05d0 \u05d1 5"}', '{"to":"\u05d0 \u05d1 5"}'),
        ('["\u05d0\\"\u05d1"]', '["\u05d0\\"\u05d1"]'),
    ],
)
def test_the_end_of_a_text_is_written_out_where_another_would_be_drawn_before_it(text: str, shown: str) -> None:
    """Only there: a sentence, an acronym with its mark, and texts with Latin keys between them stay as they are."""
    assert visible_json(text) == shown


def test_lines_of_a_message_keep_their_order() -> None:
    """Headline, argument lines, canonical JSON and an edit's changes: what stands first is drawn first."""
    args = freeze({"\u05d0": ["\u05d1", 5, "\u05d2"]})
    asked = approval_of({"\u05d0": ["\u05d3", 5, "\u05d2"]})
    edited = replace(asked, call=replace(asked.call, args=args, asked_args=asked.call.args))
    message = Message.of(edited)
    assert [line for line in to_text(message).split("\n") if runs_together(line)] == []
    assert [line for line in to_text(message).split("\n") if runs_together(parse_visible(line))] != []


# -- the arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(5))
def test_five_thousand_displays_read_back_to_the_stored_bytes(block: int) -> None:
    for seed in range(block * 1000, block * 1000 + 1000):
        reads_back(generated(seed))


@settings(max_examples=150)
@given(arguments)
def test_display_reads_back_to_the_stored_bytes(args: dict) -> None:
    reads_back(args)


def reads_back(args: dict) -> None:
    """Plain text: by path and whole, both say exactly what is stored, and neither hides a character."""
    approval = approval_of(args)
    text = to_text(Message.of(approval))
    by_path, whole = read_text(text)
    assert parse_visible(whole).encode() == approval.call.args
    assert freeze(read_lines(by_path)) == approval.call.args
    assert not [character for character in text.replace("\n", "") if hides(character)]


@pytest.mark.parametrize("seed", range(0, 5000 if NIGHTLY else 500, 100))
def test_html_reads_back_to_the_stored_bytes(seed: int) -> None:
    """A notebook's card: the same, in elements and attributes of a closed list."""
    for args in map(generated, range(seed, seed + 100)):
        html_reads_back(args)


def html_reads_back(args: dict) -> None:
    approval = approval_of(args)
    cells = Cells(approval_html(approval))
    assert approval.call.args in [parse_visible(text).encode() for text in cells.texts]
    at = cells.texts.index("arguments")
    pairs = cells.texts[at + 2 : cells.texts.index("arguments as canonical JSON")]
    read = [" = ".join(pair) for pair in zip(pairs[1::3], pairs[2::3], strict=True)]
    assert freeze(read_lines([line.removeprefix("(all) = ") for line in read])) == approval.call.args
    assert cells.tags == {"div", "table", "tr", "th", "td"}
    assert cells.attributes <= {"style", "dir", "scope"}
    assert not [character for text in cells.texts for character in text if hides(character)]


@pytest.mark.parametrize("width", [20, 80, 200])
def test_terminal_reads_back_to_the_stored_bytes(width: int) -> None:
    """On a terminal of any width the JSON stands there whole, and no escape sequence comes from an argument."""
    for seed in range(1700 if NIGHTLY else 100):
        approval = approval_of(generated(seed))
        out = StringIO()
        print_message(
            Console(file=out, width=width, force_terminal=True, color_system="standard"), Message.of(approval)
        )
        plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
        assert approval.call.args in [parse_visible(line.removeprefix("  ")).encode() for line in plain.split("\n")]
        assert not [character for character in plain.replace("\n", "") if hides(character)]


@pytest.mark.parametrize("width", [60, 61, 73, 80, 120, 200])
def test_terminal_columns_lose_no_letter(width: int) -> None:
    """Side by side with their labels, texts are folded, never cut: each is there but for its white space."""
    for seed in range(40):
        random = Random(seed)
        words = [
            "x" * random.randrange(1, 90) if random.random() < 0.3 else f"w{at}é日"
            for at in range(random.randrange(60))
        ]
        approval = approval_of({"long": " ".join(words), "n" * random.randrange(1, 20): "日本" * random.randrange(80)})
        message = Message.of(approval)
        out = StringIO()
        print_message(Console(file=out, width=width, force_terminal=True, color_system=None), message)
        grids = out.getvalue().partition("arguments as canonical JSON")[0]
        for label, text in [*message.facts(), *((line.path, line.value) for line in message.arguments)]:
            assert "".join((label + text).split()) in "".join(grids.split())


def test_a_display_that_shortens_does_not_read_back() -> None:
    """Negative control: the reading above notices a cut, a dropped line and a cleaned character."""
    approval = approval_of({"note": "x" * 300, "to": "a\u200bb", "amount": 1})
    lines, whole = read_text(to_text(Message.of(approval)))
    assert freeze(read_lines(lines)) == approval.call.args
    with pytest.raises(Exception, match=r"."):
        assert freeze(read_lines([line[:200] for line in lines])) == approval.call.args
    assert freeze(read_lines(lines[1:])) != approval.call.args
    assert freeze(read_lines([line.replace("\\u{200B}", "") for line in lines])) != approval.call.args
    assert parse_visible(whole[:200] + "…").encode() != approval.call.args


def test_one_and_one_point_zero_look_different() -> None:
    assert flatten('{"a":1}') != flatten('{"a":1.0}')


def test_paths_name_odd_keys_and_positions() -> None:
    shown = [str(line) for line in flatten(freeze({"a b": {"c": [1, {"d-e": []}]}, "": 0}).decode())]
    assert shown == ['[""] = 0', '["a b"].c[0] = 1', '["a b"].c[1].d-e = []']


def test_arguments_without_paths_still_stand_there_whole() -> None:
    """A long key around a long list would repeat itself a thousand times: the JSON alone is shown, complete."""
    approval = approval_of({"k" * 5000: list(range(2000))})
    message = Message.of(approval)
    assert message.arguments == ()
    assert parse_visible(read_text(to_text(message))[1]).encode() == approval.call.args
    assert approval.call.args.decode() in Cells(approval_html(approval)).texts


def test_a_hundred_thousand_arguments_are_shown_whole_and_soon() -> None:
    """On a terminal too, where a laid-out table of them would take a minute."""
    approval = approval_of({"l": list(range(100_000))})
    out = StringIO()
    print_message(Console(file=out, width=80, force_terminal=True, color_system=None), Message.of(approval))
    lines = out.getvalue().split("\n")
    assert approval.call.args.decode() in lines and "  l[99999] = 99999" in lines


def test_a_megabyte_is_shown_whole() -> None:
    approval = approval_of({"text": "word \u202e" * 100_000})
    assert parse_visible(read_text(to_text(Message.of(approval)))[1]).encode() == approval.call.args


# -- the rest of the message --------------------------------------------------------------------------------------------


def test_message_says_who_asks_what_and_whom() -> None:
    message = Message.of(approval_of({"order": "4711", "amount": 120}))
    assert message.headline == "support asks to run refund"
    assert dict(message.facts()) == {
        "id": "run_a.1",
        "state": "pending: waits for a decision",
        "tool": "refund",
        "asked for by": "service:support, agent support",
        "because": "refunds need finance",
        "policy": "governor.yaml#refunds",
        "approvers": "group:finance",
        "may decide": "cfo@example.com, local:alice",
        "deadline": when(NOW + 86_400),
        "digest": approval_of({"order": "4711", "amount": 120}).call.digest,
    }


@given(texts, texts, texts)
@settings(max_examples=100)
def test_no_field_breaks_a_line_or_hides(agent: str, reason: str, tool: str) -> None:
    """Agent, tool, requester and reasons are foreign text too."""
    approval = approval_of({"a": 1})
    call = replace(approval.call, tool=tool, why=reason, policy=agent, digest=tool)
    run = replace(approval.run, agent=agent, requester=reason, conversation=tool, calls=(call,))
    vote = replace(decided(approval, Decision.approve()).call.votes[0], by=agent, reason=reason)
    for state in CallState:
        changed = Approval(run, replace(call, state=state, told=tool, votes=(vote,)))
        shown = [*dict(Message.of(changed).facts()).values(), Message.of(changed).headline, outcome(changed.call)]
        assert not [character for text in shown for character in text if hides(character)]
    assert not [
        character for text in Cells(run_html(run)).texts for character in text.replace("\n", "") if hides(character)
    ]


def test_nobody_left_is_said() -> None:
    approval = approval_of({"a": 1})
    call = replace(approval.call, stages=(Stage((), ()),))
    assert dict(Message.of(Approval(approval.run, call)).facts())["may decide"] == "nobody (no listed person is left)"
    assert "may decide" not in dict(Message.of(decided(approval, Decision.approve())).facts())


def test_an_edit_shows_both_sides() -> None:
    edited = decided(
        approval_of({"amount": 120, "order": "4711", "note": "x"}),
        Decision.edit({"amount": 50, "order": "4711", "to": ["a"]}, reason="limit"),
        verdict=Verdict("allow"),
    )
    message = Message.of(edited)
    assert [str(line) for line in message.rewritten] == [
        "amount: 120 -> 50",
        'note: "x" -> (removed)',
        'to[0]: (nothing) -> "a"',
    ]
    assert message.asked_args == '{"amount":120,"note":"x","order":"4711"}'
    assert (
        message.outcome.startswith("edited and approved by cfo@example.com at 2026-") and "(limit)" in message.outcome
    )
    text = to_text(message)
    assert message.asked_args in text and "amount: 120 -> 50" in text
    assert {message.asked_args, message.args} <= set(Cells(approval_html(edited)).texts)


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (Decision.approve("checked"), "approved by cfo@example.com at 2026-11-18 11:07:40 UTC (checked); not run yet"),
        (Decision.reject("no"), "rejected by cfo@example.com at 2026-11-18 11:07:40 UTC (no)"),
        (Decision.respond("42"), "answered by cfo@example.com at 2026-11-18 11:07:40 UTC in the tool's place: 42"),
    ],
)
def test_outcome_says_who_decided_when_and_why(decision: Decision, words: str) -> None:
    message = Message.of(decided(approval_of({"a": 1}), decision))
    assert message.outcome == words
    assert message.lasting == words.removesuffix("; not run yet"), "what stands on a card stays true when it runs"


def test_show_gives_html_to_a_notebook_and_text_elsewhere() -> None:
    approval = approval_of({"order": "4711"})
    for what in (approval, approval.run):
        card = show(what)
        assert "4711" in card._repr_html_() and "<script" not in card._repr_html_()
        assert 'order = "4711"' in repr(card)
