"""The terminal as a channel: it shows everything, asks until it understands, and decides nothing by accident."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from governor_agents.core import decisions
from governor_agents.core.calls import Tool, ToolCall, freeze
from governor_agents.core.channels import Handler
from governor_agents.core.identity import Voter
from governor_agents.core.records import Approval, Decision, Run, RunState, Snapshot
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.handlers.terminal import TerminalHandler, ask_in_place, local_person
from governor_agents.handlers.words import Commands, shell_word
from tests.terminal import at_a_terminal

NOW = 1_795_000_000.0
HOSTILE = {"note": "\x1b[2J\u202e[bold]x[/bold]\r", "amount": 120, "order": "4711"}


def approval_of(args: dict = HOSTILE, run: str = "run_a", **rest: object) -> Approval:
    made_run = Run(
        "default", run, "support", "fake", "service:support", RunState.WAITING, NOW, snapshot=Snapshot("b", "fake")
    )
    call = ToolCall("refund", freeze(args), "call_1", agent="support", run=run, requester="service:support")
    verdict = Verdict("require_approval", policy="p", version="1", stages=(Stage(("local:a",), ("local:a",)),), **rest)
    made = decisions.make_call(made_run, call, Tool("refund"), verdict, now=NOW, nonce="n")
    return Approval(replace(made_run, calls=(made,), count=1), made)


def asked(said: str, approval: Approval | None = None) -> tuple[Decision | None, str]:
    """What came of a dialogue in which a person said these lines, and what the person saw."""
    out = StringIO()
    decision = ask_in_place(approval or approval_of(), stdin=StringIO(said), stdout=out)
    return decision, out.getvalue()


def test_handler_keeps_the_contract() -> None:
    assert isinstance(TerminalHandler(), Handler)


async def test_notify_prints_the_request_and_the_commands() -> None:
    """Everything about the request, and lines to paste that decide it."""
    out = StringIO()
    assert await TerminalHandler(out, store="sqlite:///a b.db").notify(approval_of(reason_required=True)) == ""
    printed = out.getvalue()
    assert '{"amount":120,"note":"\\u001b[2J\\u{202E}[bold]x[/bold]\\r","order":"4711"}' in printed
    assert "governor-agents inbox approve --store 'sqlite:///a b.db' --reason TEXT run_a.1" in printed
    assert "\x1b" not in printed and "\u202e" not in printed and "\r" not in printed


async def test_update_prints_the_outcome() -> None:
    approval = approval_of()
    change = decisions.decide(
        approval.run, 1, Decision.reject("no"), by=Voter.plain("local:a"), now=NOW + 1, digest=approval.call.digest
    )
    out = StringIO()
    await TerminalHandler(out).update(Approval(change.run, change.run.calls[0]), "")
    assert out.getvalue() == "run_a.1 refund is rejected: rejected by local:a at 2026-11-18 11:06:41 UTC (no)\n"


async def test_handler_writes_to_the_stderr_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    await TerminalHandler().update(approval_of(), "")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("run_a.1 refund is pending")


@pytest.mark.parametrize(
    ("said", "decision"),
    [
        ("approve\n\n", Decision.approve()),
        ("a\ninvoice checked\n", Decision.approve("invoice checked")),
        ("REJECT\ntoo much\n", Decision.reject("too much")),
        ("rej\n\n", Decision.reject()),
        ("respond\n\nit is 42\n\n", Decision.respond("it is 42")),
        ('edit\n{"amount": 5}\nlimit\n', Decision.edit({"amount": 5}, "limit")),
        ("skip\n", None),
        ("s\n", None),
        ("perhaps\n\nr\na\n\n", Decision.approve()),
    ],
)
def test_ask_takes(said: str, decision: Decision | None) -> None:
    """First letters do; what is unclear or unknown is asked again; Enter alone decides nothing."""
    assert asked(said)[0] == decision


@pytest.mark.parametrize(
    "said", ["", "\n", "r\n", "approve\n", "reject\n", "respond\n", "respond\n42\n", "edit\n", 'edit\n{"a": 1}\n']
)
def test_ask_decides_nothing_when_the_input_ends(said: str) -> None:
    """Closing the terminal in the middle of anything is no decision."""
    decision, shown = asked(said)
    assert decision is None
    assert "nothing was decided" in shown


def test_ask_decides_nothing_on_ctrl_c() -> None:
    class Interrupted(StringIO):
        def readline(self, *_: object) -> str:
            raise KeyboardInterrupt

    assert ask_in_place(approval_of(), stdin=Interrupted(), stdout=StringIO()) is None


def test_ask_shows_the_whole_request_first() -> None:
    shown = asked("skip\n")[1]
    assert shown.index('order = "4711"') < shown.index("approve, reject, edit, respond, skip?")
    assert "\\u001b[2J\\u{202E}[bold]x[/bold]" in shown and "\x1b" not in shown


def test_ask_insists_on_a_reason_where_the_policy_does() -> None:
    assert asked("approve\n\n   \nchecked\n", approval_of(reason_required=True))[0] == Decision.approve("checked")


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("{amount: 5}", "not plain JSON"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": NaN}', "not a JSON number"),
        ("[1]", "one JSON object"),
        ("5", "one JSON object"),
        ('{"amount": 120, "note": "\\u001b[2J\\u202e[bold]x[/bold]\\r", "order": "4711"}', "nothing was edited"),
        ('{"\\ud800": 1}', "surrogate"),
    ],
)
def test_edit_asks_again_after_bad_arguments(bad: str, told: str) -> None:
    decision, shown = asked(f'edit\n{bad}\n{{"amount": 1}}\n\n')
    assert decision == Decision.edit({"amount": 1})
    assert told in shown


def test_edit_goes_back_on_nothing() -> None:
    assert asked("edit\n\nreject\n\n")[0] == Decision.reject()


def in_pty(program: str, said: list[tuple[str, str]], **environment: str) -> str:
    """Everything that was shown."""
    return at_a_terminal(program, said, **environment)[1]


PROGRAM = """
import sys
sys.path.insert(0, "tests/unit")
from test_terminal import approval_of, ask_in_place
decision = ask_in_place(approval_of())
print("decided", decision, decision and decision.args)
"""


def editor(folder: Path, body: str) -> str:
    """An editor that leaves this in the file, and what it found there beside it."""
    script = folder / "an editor.py"
    script.write_text(
        f"import sys, pathlib\nfile = pathlib.Path(sys.argv[1])\n"
        f"pathlib.Path({str(folder / 'found')!r}).write_text(file.read_text())\nfile.write_text({body!r})\n"
    )
    return shlex.join([sys.executable, str(script)])


def test_edit_opens_the_editor_on_a_terminal(tmp_path: Path) -> None:
    """The draft holds every argument with invisible characters written out; what the editor leaves is the edit."""
    shown = in_pty(
        PROGRAM,
        [("skip? ", "edit\n"), ("none): ", "because\n")],
        EDITOR=editor(tmp_path, '{"amount": 7, "note": "\\u202e"}'),
        VISUAL="",
    )
    assert 'b\'{"amount":7,"note":"\\xe2\\x80\\xae"}\'' in shown.replace("\r\n", "") and "because" in shown
    assert (tmp_path / "found").read_text() == (
        '{\n  "amount": 120,\n  "note": "\\u001b[2J\\u202e[bold]x[/bold]\\r",\n  "order": "4711"\n}\n'
    )


def test_edit_in_the_editor_is_offered_again_when_it_is_no_json(tmp_path: Path) -> None:
    shown = in_pty(
        PROGRAM,
        [("skip? ", "edit\n"), ("goes back: ", "no\n"), ("skip? ", "skip\n")],
        EDITOR=editor(tmp_path, "{oops"),
        VISUAL="",
    )
    assert "not plain JSON" in shown and "decided None" in shown


def test_editor_that_fails_edits_nothing() -> None:
    shown = in_pty(PROGRAM, [("skip? ", "edit\n"), ("skip? ", "skip\n")], EDITOR="/nonexistent/editor", VISUAL="")
    assert "the editor did not work" in shown and "decided None" in shown


def test_a_terminal_gets_no_escape_sequence_from_the_request() -> None:
    """What rich writes is colour only; the request's own sequences stand there as text."""
    shown = in_pty(PROGRAM, [("skip? ", "skip\n")])
    ours = re.sub(r"\x1b\[[0-9;]*m|\x1b\[\?2004[hl]", "", shown).replace("\r\n", "\n").replace("\0", "")
    assert "\x1b" not in ours and "\u202e" not in ours and "[bold]x[/bold]" in ours


def test_ctrl_c_on_a_terminal_decides_nothing() -> None:
    assert "decided None" in in_pty(PROGRAM, [("skip? ", "approve\n"), ("none): ", "\x03")])


def test_local_person_is_not_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """$USER and $LOGNAME are anybody's to set."""
    before = local_person()
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "cfo")
    assert local_person() == before != "local:cfo"


def test_local_person_without_a_name_is_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert local_person() == "local:uid:3999999999"


@pytest.mark.parametrize(
    "id",
    [
        "run_a.1",
        "thread one/2.1",
        "it's; rm -rf $HOME `x`.1",
        "a\nb.1",
        "\u202e\u200b.1",
        "-x.1",
        "\\u{200B}.1",
        "日本.1",
        "💥\x7f.1",
    ],
)
def test_commands_survive_a_shell(id: str) -> None:
    """Thread names are foreign text: pasted into a shell, the printed command means this id and nothing else."""
    line = Commands(tenant="a b").line("inbox show", id)
    assert not [character for character in line if not character.isprintable()]
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"],
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    ).stdout.decode()
    expected = ["governor-agents", "inbox", "show", "--tenant", "a b", *(["--"] if id.startswith("-") else []), id]
    assert words.split("\0")[:-1] == expected
    assert shell_word("plain") == "plain"
