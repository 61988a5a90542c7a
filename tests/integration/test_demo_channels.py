"""The demo by Slack and by e-mail: what people see is what runs, with stand-ins, and with a real other side."""

import signal
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Governor
from governor_agents.cli.app import run
from governor_agents.core.records import Decision
from governor_agents.demo import Real, _as_expected, mail, pictures, shop, visitor
from governor_agents.errors import GovernorError
from governor_agents.testing.slack_server import Message, SlackServer, Workspace
from governor_agents.testing.smtp_server import SmtpServer
from tests.shown_demo import Shown
from tests.terminal import at_a_terminal

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(400)]

PLAYED = [("slack", "edit", "openai-agents"), ("email", "approve", "langchain")]
NO_BROWSER = {"PATH": "/nowhere", "PLAYWRIGHT_BROWSERS_PATH": "/nowhere"}
TEAM, PERSON = "T01", "U02"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demo against its own stand-ins, each run once. Slack's are drawn without a browser."""

    @cache
    def shown(channel: str, how: str, framework: str) -> Shown:
        words = ("--framework", framework, "--channel", channel, "--decide", how, "--json")
        return Shown(
            tmp_path_factory.mktemp(f"{channel}-{how}"), *words, env=NO_BROWSER if channel == "slack" else None
        )

    return shown


def html(line: dict[str, Any], name: str) -> str:
    """One of the pages that a line names, without the places where a line may break."""
    [page] = [file for file in line["pictures"] if file.endswith(f"-{name}.html")]
    return Path(page).read_text(encoding="utf-8").replace("<wbr>", "")


@pytest.mark.parametrize(("channel", "how", "framework"), PLAYED)
def test_suspended_decided_in_the_channel_and_resumed_in_three_processes(
    played: Any, channel: str, how: str, framework: str
) -> None:
    """The creator has ended, `serve` took the decision, the worker ran the tool as often as was decided."""
    shown = played(channel, how, framework)
    line = shown.lines()[framework]
    promised = {"channel": channel, "suspended": True, "resumed": True, "decisions": [how], "status": "completed"}
    assert {key: line[key] for key in promised} == promised
    assert len(set(line["pids"])) == 3
    wanted = {"approve": [shop.ASKED], "edit": [shop.EDITED]}[how]
    ran = shown.ledger(framework)
    assert [one["arguments"] for one in ran] == wanted == line["tool_arguments"]
    assert {one["pid"] for one in ran} <= {line["pids"][2]}
    assert shown.left_behind() == [] and shown.stderr == ""


@pytest.mark.parametrize(("channel", "how", "framework"), PLAYED)
def test_the_pictures_show_what_was_asked_and_what_became_of_it(
    played: Any, channel: str, how: str, framework: str
) -> None:
    """The request holds the stored arguments whole and a way to decide; the outcome says who decided, and has none."""
    line = played(channel, how, framework).lines()[framework]
    before, after = html(line, "request"), html(line, "outcome")
    way = "Approve</span>" if channel == "slack" else "/confirm/"
    assert "amount" in before and "120.0" in before and "4711" in before
    assert way in before and way not in after
    verb = {"approve": "pproved by you", "edit": "dited and approved by you"}[how]
    assert verb in after and verb not in before


def test_an_edit_in_slack_goes_through_both_modals(played: Any) -> None:
    """The form, and then exactly what will run."""
    line = played("slack", "edit", "openai-agents").lines()["openai-agents"]
    form = html(line, "modal-1")
    assert "Edit the arguments" in form and ">60.0<" in form and ">120.0<" not in form
    assert "{&quot;amount&quot;:60.0,&quot;order&quot;:&quot;4711&quot;}" in html(line, "modal-2")


@pytest.mark.skipif(not pictures.browser(), reason="no Chromium: apt install chromium, or make test")
def test_with_a_browser_every_page_is_a_picture_too(played: Any) -> None:
    """As wide as it was asked for, and as tall as the page; without a browser there is the page alone."""
    line = played("email", "approve", "langchain").lines()["langchain"]
    drawn = [Path(file) for file in line["pictures"] if file.endswith(".png")]
    assert len(drawn) == 2 == len(line["pictures"]) - 2
    for file in drawn:
        data = file.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        wide, tall = (int.from_bytes(data[at : at + 4]) for at in (16, 20))
        assert wide == pictures.WIDTH and 300 < tall < 4000
    without = played("slack", "edit", "openai-agents").lines()["openai-agents"]["pictures"]
    assert without and all(file.endswith(".html") for file in without)


def test_a_browser_that_fails_leaves_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture is a convenience: its trouble stops nothing."""
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert pictures.browser() == str(broken)
    assert pictures.draw("<html><body>x</body></html>", tmp_path / "a.html") == [tmp_path / "a.html"]


@pytest.mark.parametrize(
    "wrong", [{"tool_runs": {shop.GATED: 2}}, {"tool_runs": {shop.GATED: 0}}, {"status": "waiting"}, {"resumed": False}]
)
def test_a_run_that_did_not_go_as_it_should_is_noticed(wrong: dict[str, Any]) -> None:
    """Exit code 1 rests on this: run twice, not at all, not to its end."""
    good = {
        "tool_runs": {shop.GATED: 1},
        "decisions": ["approve"],
        "status": "completed",
        "suspended": True,
        "resumed": True,
    }
    assert _as_expected(good) and not _as_expected(good | wrong)


# -- a real other side --------------------------------------------------------------------------------------------------


@pytest.fixture
def space() -> Iterator[tuple[SlackServer, Workspace]]:
    """A Slack that knows nothing of the demo."""
    with SlackServer() as server:
        made = server.workspace(TEAM)
        made.person(PERSON, "alice")
        yield server, made


def real_slack(server: SlackServer, made: Workspace) -> tuple[str, ...]:
    """The options for it."""
    return ("--slack-token", made.token, "--slack-app-token", server.app_token, "--to", PERSON)


def asked(shown: Shown, server: SlackServer, made: Workspace) -> Message:
    """The card, once it is there and noted, and clicks can come in."""
    server.wait(lambda: server.connections and made.messages())
    [store] = shown.folder.glob("*/governor.db")
    governor = Governor(store=f"sqlite:///{store}")
    try:
        [waits] = governor.list_runs_sync()
        governor.wait_sync(waits.id, timeout=60, until=lambda run: not run.outbox)
    finally:
        governor.close_sync()
    return made.messages()[0]


def test_the_real_slack_is_waited_for_and_decides_by_socket_mode(
    space: tuple[SlackServer, Workspace], tmp_path: Path
) -> None:
    """No public URL; whoever clicks there decides, and the demo goes on by itself."""
    server, made = space
    words = ("--framework", "langchain", "--channel", "slack", *real_slack(server, made), "--json")
    shown = Shown(tmp_path, *words, env={"SLACK_API_URL": server.url}, end=False)
    card = asked(shown, server, made)
    assert shown.process.poll() is None
    server.emit(server.click(made, card, "approve", by=PERSON))
    shown.end()
    line = shown.lines()["langchain"]
    assert (line["decisions"], line["status"], line["tool_runs"]) == (["approve"], "completed", {shop.GATED: 1})
    assert shown.left_behind() == []
    for secret in (made.token, server.app_token):
        kept = [file for file in tmp_path.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]
        assert kept == []


def test_the_real_server_sends_the_mail_and_its_link_decides(tmp_path: Path) -> None:
    """An edit by the page, as a person does it in a browser."""
    with SmtpServer(users={"governor": "secret"}) as server:
        words = ("--framework", "openai-agents", "--channel", "email", "--smtp-url", server.url(), "--to")
        shown = Shown(tmp_path, *words, "kim@example.com", "--json", end=False)
        [first] = server.wait(1)
        assert first.recipients == ("kim@example.com",)
        link = mail._LINK.search(first.text())
        assert link is not None
        assert visitor.answer(link[0], Decision.edit(shop.EDITED, "half")) == "Your edited arguments are recorded."
        shown.end()
    line = shown.lines()["openai-agents"]
    assert (line["decisions"], line["tool_arguments"]) == (["edit"], [shop.EDITED])
    assert shown.left_behind() == []


def test_ctrl_c_leaves_the_run_waiting_also_when_nobody_could_be_asked(tmp_path: Path) -> None:
    """What is in the way is said; nothing is decided by it, nothing is left behind, and how to go on is told."""
    with SmtpServer(users={"governor": "secret"}) as server:
        server.replies["kim@example.com"] = "550 5.1.1 no such user"
        words = ("--framework", "openai-agents", "--channel", "email", "--smtp-url", server.url(), "--to")
        shown = Shown(tmp_path, *words, "kim@example.com", end=False)
        said = next(line for line in shown.process.stdout if "Not delivered yet" in line)
        shown.process.send_signal(signal.SIGINT)
        shown.end()
    assert "no such user" in said and "kim@example.com" in said
    assert shown.code == 130 and shown.left_behind() == []
    assert "nothing more was decided" in shown.stdout and "runs list" in shown.stdout
    [store] = tmp_path.glob("*/governor.db")
    governor = Governor(store=f"sqlite:///{store}")
    try:
        [waits] = governor.list_runs_sync()
    finally:
        governor.close_sync()
    assert (waits.status, len(waits.approvals), shown.ledger("openai-agents")) == ("waiting", 1, [])


# -- somebody who opens the link -----------------------------------------------------------------------------------------


PAGE = """<p class="state pending">pending</p>
<form method="post"><input type="hidden" name="form" value="f"><input type="hidden" name="seen" value="s">
<input type="hidden" name="do" value="{do}"><input type="radio" name="decision" value="approve">
<label for="f0"><code>amount</code></label><input id="f0" name="f0" value="1">
<textarea id="r" name="reason">
typed &lt;before&gt;</textarea>
<label for="w">Type <strong class="word">{word}</strong></label><input name="word"></form>"""


def test_a_page_is_read_as_a_person_reads_it() -> None:
    """Hidden fields, labels, a text that stands in a field, the word; radio buttons are chosen, not kept."""
    [form] = visitor.Page(PAGE.format(do="edit", word="tulip")).forms
    assert form.fields == {"form": "f", "seen": "s", "do": "edit", "f0": "1", "reason": "typed <before>", "word": ""}
    assert (form.labels, form.word) == ({"amount": "f0"}, "tulip")


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("<p>Nothing here</p>", "", "no form that decides"),
        (PAGE.format(do="comment", word="x"), "", "no form that decides"),
        (PAGE.format(do="decide", word="x"), '<p role="alert">Type the word y to confirm.</p>', "did not take"),
        (PAGE.format(do="decide", word="x"), "<p>nothing is said</p>", "did not take"),
    ],
)
def test_a_page_that_takes_no_decision_is_no_success(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str, says: str
) -> None:
    """The demo believes what the page says, not that it sent something."""
    monkeypatch.setattr(visitor, "_fetch", lambda url, form=None: second if form else first)
    with pytest.raises(GovernorError, match=says):
        visitor.answer("http://127.0.0.1/confirm/x", Decision.approve())


# -- bad input -----------------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which the demo refuses; nothing has begun."""
    assert run(["demo", "--framework", "langchain", *words]) == 2
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert out == ""
    return line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--channel", "telex"), "telex"),
        (("--channel", "email", "--slack-token", "xoxb-1"), "for --channel slack"),
        (("--slack-app-token", "xapp-1"), "for --channel slack"),
        (("--channel", "slack", "--smtp-url", "smtp://localhost"), "for --channel email"),
        (("--channel", "slack", "--to", "U02"), "--slack-token or --smtp-url"),
        (("--channel", "slack", "--slack-token", "xoxb-1", "--decide", "approve"), "somebody decides there"),
        (("--channel", "slack", "--slack-token", "xoxb-1"), "and --slack-app-token xapp-"),
        (("--channel", "slack", "--slack-app-token", "xapp-1", "--to", "U02"), "both --slack-token"),
        (("--channel", "slack", "--slack-token", "xoxb-1", "--slack-app-token", "xapp-1"), "--to U0123"),
        (("--channel", "email", "--smtp-url", "telnet://localhost?from=a@example.com"), "smtp+starttls://"),
        (("--channel", "email", "--smtp-url", "smtp://localhost?from=a@example.com", "--to", "kim"), "no e-mail"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    """Said before anything is started, with the mend."""
    assert says in refused(capsys, *words)


def unused_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def test_a_mail_server_that_is_not_there_or_refuses_the_login_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Named by host and port; the password is in no output."""
    away = f"smtp://127.0.0.1:{unused_port()}?from=a@example.com&timeout=5"
    assert "127.0.0.1" in refused(capsys, "--channel", "email", "--smtp-url", away)
    with SmtpServer(users={"governor": "right"}) as server:
        line = refused(capsys, "--channel", "email", "--smtp-url", server.url(password="wrong-s3cret"))
        assert f"127.0.0.1:{server.port}" in line and "wrong-s3cret" not in line
        assert server.mails == []


def test_tokens_that_slack_refuses_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, space: tuple[SlackServer, Workspace]
) -> None:
    """The bot token, its scopes and the app token, each by its own line, without the token itself."""
    server, made = space
    monkeypatch.setenv("SLACK_API_URL", server.url)
    token, app, to = ("--slack-token", made.token), ("--slack-app-token", server.app_token), ("--to", PERSON)
    line = refused(capsys, "--channel", "slack", "--slack-token", "xoxb-wr0ng", *app, *to)
    assert "bot token" in line and "xoxb-wr0ng" not in line
    line = refused(capsys, "--channel", "slack", *token, "--slack-app-token", "xapp-wr0ng", *to)
    assert "app-token" in line and "xapp-wr0ng" not in line
    made.scopes.discard("im:write")
    assert "im:write" in refused(capsys, "--channel", "slack", *token, *app, *to)
    server.stop()
    assert "Slack did not answer" in refused(capsys, "--channel", "slack", *token, *app, *to)


@pytest.mark.parametrize(
    ("channel", "library"),
    [("slack", "slack_sdk"), ("slack", "fastapi"), ("email", "aiosmtplib"), ("email", "aiosmtpd")],
)
def test_a_missing_extra_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, channel: str, library: str
) -> None:
    """It names the library and what to install."""
    from governor_agents.demo import channel as need

    real = need.find_spec
    monkeypatch.setattr(need, "find_spec", lambda name: None if name == library else real(name))
    line = refused(capsys, "--channel", channel, "--decide", "approve")
    assert library in line and "pip install 'governor-agents[demo]'" in line


def test_the_tokens_are_in_no_repr() -> None:
    """Of what the command line hands over."""
    assert "xoxb" not in repr(Real("xoxb-1", "xapp-1", "smtp://u:p@h", "x"))


# -- at a terminal -------------------------------------------------------------------------------------------------------


def demo_at_a_terminal(folder: Path, channel: str, *answers: tuple[str, str]) -> tuple[int, str]:
    """The demo there, with these answers to these prompts; its exit code, and all that it showed."""
    call = f"main(framework='openai-agents', channel={channel!r})"
    program = f"from governor_agents.demo import main; raise SystemExit({call})"
    return at_a_terminal(program, answers, **NO_BROWSER, COLUMNS="90", TMPDIR=str(folder))


def test_whoever_sits_at_the_terminal_clicks_in_the_stand_in(tmp_path: Path) -> None:
    """The card, the question, the modal with the reason, the outcome."""
    code, shown = demo_at_a_terminal(tmp_path, "slack", ("skip? ", "reject\n"), (": ", "no photo\n"))
    assert code == 0, shown
    assert "[ Approve ]" in shown and "a modal in Slack" in shown and "reject by you, slack" in shown
    assert "Reason (optional): [no photo]" in shown and "Rejected by you" in shown


def test_whoever_skips_has_decided_nothing(tmp_path: Path) -> None:
    """The run waits, and that is no error; how to go on is told."""
    code, shown = demo_at_a_terminal(tmp_path, "slack", ("skip? ", "skip\n"))
    assert code == 0, shown
    assert "Nothing was decided. The run still waits" in shown and "inbox list" in shown and "by you" not in shown
