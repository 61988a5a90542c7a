"""The audit trail for people: every event there is has words, and no event can draw outside of its line."""

import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from governor_agents.core.calls import freeze
from governor_agents.core.records import Call, CallState
from governor_agents.handlers.timeline import tell, to_mermaid, to_table, to_text

EVIL = "a\u202e\n    P9->>G: approved\x1b[2J; %%{init: {}}%% #35; <b>[red]"
CALL = Call(
    n=1, call_id="c", generation=0, tool="refund", args=b'{"amount":30}', state=CallState.SUCCEEDED, created=0.0, digest="d2",
    asked_args=b'{"amount":120}',
)  # fmt: skip


def event(seq: int, what: str, **rest: object) -> dict[str, object]:
    return {"seq": seq, "at": 1_795_000_000.0 + seq, "what": what, "run": "run_a", "prev": "", **rest}


EVENTS = [
    event(1, "run.started", by="service:support", agent="support"),
    event(2, "call.asked", n=1, tool="refund", digest="d1", policy="p"),
    event(3, "call.edited", n=1, tool="refund", by="cfo@example.com", digest="d2", was="d1"),
    event(4, "call.approved", n=1, tool="refund", by="cfo@example.com", digest="d2", reason="limit"),
    event(5, "call.executing", n=1, tool="refund", digest="d2", attempt=1),
    event(6, "call.succeeded", n=1, tool="refund", late=False),
    event(7, "run.completed"),
]


def test_lines_say_which_bytes_each_event_is_about() -> None:
    """What was asked for before the edit, what was approved and ran after it."""
    lines = tell(EVENTS, [CALL])
    assert [line.args for line in lines] == ["", '{"amount":120}', *['{"amount":30}'] * 3, "", ""]
    assert [line.by for line in lines][2:4] == ["cfo@example.com"] * 2
    assert lines[3].details == ("digest: d2", "reason: limit")
    assert lines[5].details == ("late: false",)


def test_bytes_of_another_digest_are_not_claimed() -> None:
    """Edited twice: the record holds only the last bytes, so the first edit's line shows its digest alone."""
    assert tell([event(1, "call.edited", n=1, digest="d1")], [CALL])[0].args == ""


def test_calls_may_be_missing() -> None:
    assert [line.args for line in tell(EVENTS)] == [""] * 7


def test_text_and_diagram() -> None:
    lines = tell(EVENTS, [CALL])
    assert to_text(lines).splitlines()[2:5] == [
        "  2  2026-11-18 11:06:42 UTC  call.asked            #1 refund",
        '       arguments: {"amount":120}',
        "       digest: d1; policy: p",
    ]
    assert to_mermaid(lines).splitlines() == [
        "sequenceDiagram",
        "    participant A as agent",
        "    participant G as governor",
        "    participant P1 as cfo@example.com",
        "    participant T as tools",
        "    Note over G: run started by service:support",
        '    A->>G: #35;1 refund needs a decision {"amount":120}',
        '    P1->>G: #35;1 refund edited {"amount":30}',
        '    P1->>G: #35;1 refund approved {"amount":30}',
        '    G->>T: #35;1 refund starts to run {"amount":30}',
        "    T-->>G: #35;1 refund ran",
        "    Note over G: run completed",
    ]


@pytest.mark.parametrize("what", ["call.asked", "call.approved", "run.blocked", "notice.failed", f"call.{EVIL}"])
def test_no_event_draws_outside_of_its_line(what: str) -> None:
    call = replace(CALL, tool=EVIL, args=freeze({EVIL: EVIL}), asked_args=None, digest=EVIL)
    lines = tell([event(1, what, n=1, tool=EVIL, by=EVIL, digest=EVIL, **{EVIL: EVIL})], [call])
    text = to_text(lines)
    assert len(text.splitlines()) <= 3 and all(line.isprintable() for line in text.splitlines())
    diagram = to_mermaid(lines).splitlines()
    assert len(diagram) == (6 if what.startswith("call.") else 5)
    assert not re.search(r"[<>%&]|#(?!\d+;)", diagram[-1].replace("->>", "").replace("-->>", ""))
    out = StringIO()
    Console(file=out, width=60, force_terminal=True, color_system="standard").print(to_table(lines))
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert "[red]" in out.getvalue() and "\u202e" not in out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_table_cuts_nothing_off(width: int) -> None:
    call = replace(
        CALL, args=freeze({"note": " ".join(f"w{at}" for at in range(300)), "x": "y" * 500}), asked_args=None
    )
    lines = tell(EVENTS, [call])
    out = StringIO()
    Console(file=out, width=width, color_system=None).print(to_table(lines, "run run_a"))
    squeezed = "".join(re.sub(r"^ *20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "", line) for line in out.getvalue().splitlines())
    squeezed = "".join(squeezed.split())
    for line in lines:
        assert "".join((line.args + "; ".join(line.details)).split()) in squeezed


def test_an_answer_of_a_model_is_not_told_as_one_of_a_person() -> None:
    """Two events end alike: a person answered in the tool's place, and a model's answers were kept."""
    kept, answered = tell([event(1, "run.answered", responses=2), event(2, "call.answered", n=1, by="cfo@example.com")])
    assert "replay" in kept.words and "tool" not in kept.words
    assert answered.words == "answered in the tool's place"
