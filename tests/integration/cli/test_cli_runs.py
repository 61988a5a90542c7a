"""`runs` and `worker`: every run can be found, explained and stopped; work is done by a process that can be ended."""

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

import governor_agents
from governor_agents import demo
from governor_agents.handlers.terminal import local_person
from governor_agents.keys import Keys

ME = local_person()


def test_list_finds_by_state_and_agent(shop) -> None:
    waiting, ready = shop.ask()[:-2], shop.ask()[:-2]
    shop("inbox", "approve", f"{ready}.1")
    assert {run["id"]: run["state"] for run in shop("runs", "list", "--json").json} == {
        waiting: "waiting",
        ready: "ready",
    }
    assert [run["id"] for run in shop("runs", "list", "--state", "waiting", "--json").json] == [waiting]
    assert [run["id"] for run in shop("runs", "list", "--agent", "functions", "--json").json] == sorted(
        [waiting, ready]
    )
    assert shop("runs", "list", "--agent", "none", "--json").json == []
    table = shop("runs", "list", "--state", "ready").out
    assert ready in table and "waits for a worker to go on" in table and waiting not in table


def test_show_names_the_files_and_carries_the_store(shop) -> None:
    """The bytes that were approved stand with the call, and the hints lead to the store that was named."""
    script = shop.folder / "x.sh"
    script.write_text("echo")
    policy = shop.folder / "governor.yaml"
    policy.write_text(policy.read_text() + "tools: {refund: {operands: [order]}}\n")
    run = shop.ask(order=str(script))[:-2]
    shop("inbox", "approve", f"{run}.1")
    shown = shop("runs", "show", run, "--store", "sqlite:///governor.db").out
    assert re.search(rf"file: +order = {re.escape(str(script))}: 4 bytes, SHA-256 [0-9a-f]{{64}}\n", shown)
    hint = "governor-agents worker --store sqlite:///governor.db APP:GOVERNOR  # the process that has the function"
    assert hint in shown
    ways = shop("runs", "show", run, "--store", "sqlite:///governor.db", "--json").json["ways"]
    assert hint in ways


SPOILS = {
    "body": "UPDATE ga_record SET body = substr(body, 1, length(body) - 1) || x'ff' WHERE kind = 'run' AND id = ?",
    "id": "UPDATE ga_record SET id = CAST(x'fe' AS TEXT) WHERE kind = 'run' AND id = ?",
    "event": "UPDATE ga_event SET body = substr(body, 1, length(body) - 1) || x'ff' WHERE id = ? AND seq = 2",
}


@pytest.mark.parametrize("what", SPOILS)
def test_a_row_that_is_no_text_stops_nothing_else(shop, what: str) -> None:
    """Bytes that SQLite takes for a text, and that are not UTF-8: refused alone, found by the audit, and work goes on."""
    ids = [shop.ask(order=order)[:-2] for order in ("bad", "good")]
    for id in ids:
        shop("inbox", "approve", f"{id}.1")
    with sqlite3.connect("governor.db") as database:
        assert database.execute(SPOILS[what], [ids[0]]).rowcount == 1
    told = shop("runs", "list", "--json")
    listed = {run["id"] for run in told.json}
    assert ids[1] in listed and (told.code, ids[0] in listed) == ((1, False) if what == "body" else (0, True))
    told = shop("audit", "verify")
    assert told.code == 1 and "unreadable" in told.out and ids[1] not in told.out
    shop.work()
    assert "good 120 " in shop.ledger and ("bad 120 " in shop.ledger) == (what == "event")


@pytest.mark.parametrize("sealed", [False, True])
def test_what_cannot_be_read_is_not_nothing(shop, sealed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that leaves something out names it once, does not say that there is none, and exits with 1."""
    if sealed:
        Keys.create("keys.json")
        monkeypatch.setenv("GOVERNOR_KEYS", "keys.json")
    run = shop.ask()[:-2]
    with sqlite3.connect("governor.db") as database:
        database.execute("UPDATE ga_record SET body = x'00' WHERE kind = 'run'")
    for words in ("runs list", "inbox list"):
        told = shop(*words.split())
        assert (told.code, told.out) == (1, ""), words
        assert told.err.startswith(f"governor-agents: not readable, left out: run {run}: ") and told.err.count(run) == 1
        assert "no runs" not in told.err and "nothing waits" not in told.err
        told = shop(*words.split(), "--json")
        assert (told.code, told.json) == (1, []) and told.err.count(run) == 1


def test_list_goes_on_behind_a_run(shop) -> None:
    ids = sorted(shop.ask()[:-2] for _ in range(3))
    first = shop("runs", "list", "--limit", "2", "--json")
    assert [run["id"] for run in first.json] == ids[:2] and f"--after {ids[1]} goes on" in first.err
    rest = shop("runs", "list", "--limit", "2", "--after", ids[1], "--json")
    assert [run["id"] for run in rest.json] == ids[2:] and rest.err == ""


def test_show_explains_and_names_the_ways_on(shop) -> None:
    id = shop.ask(note="a\u202eb")
    run = id[:-2]
    shown = shop("runs", "show", run).out
    assert shown.startswith(f"run {run} is waiting: waits for 1 decision\n")
    assert f"  governor-agents inbox show {id}\n" in shown and f"  governor-agents runs cancel {run}\n" in shown
    untold = f"  {id} is not told to terminal yet; a worker does that: governor-agents worker APP:GOVERNOR\n"
    assert untold in shown and untold in shop("inbox", "show", id).out
    assert [each["channel"] for each in shop("inbox", "show", id, "--json").json["not_told"]] == ["terminal"]
    shop.work()
    assert "not told" not in shop("runs", "show", run).out + shop("inbox", "show", id).out
    assert shop("inbox", "show", id, "--json").json["not_told"] == []
    assert "a\\u{202E}b" in shown and "\u202e" not in shown
    shop("inbox", "approve", id)
    assert "governor-agents worker APP:GOVERNOR" in shop("runs", "show", run).out
    shop.work()
    shown = shop("runs", "show", run).out
    assert f"run {run} is completed" in shown and '"refunded 120"' in shown and f"approved by {ME}" in shown
    document = shop("runs", "show", run, "--json").json
    assert document["output"] == "refunded 120"
    assert [call["state"] for call in document["calls"]] == ["succeeded"]
    assert document["calls"][0]["result"] == {**document["calls"][0]["result"], "ok": True, "value": "refunded 120"}


def test_cancel_ends_it_and_nothing_runs(shop) -> None:
    id = shop.ask()
    shop("inbox", "approve", id)
    assert shop("runs", "cancel", id[:-2], "--reason", "changed my mind").out.startswith(f"run {id[:-2]} is cancelled")
    shop.work()
    assert shop.ledger == []
    document = shop("runs", "show", id[:-2], "--json").json
    assert (document["state"], document["cancel_reason"]) == ("cancelled", "changed my mind")
    assert shop("inbox", "approve", id).code == 2
    assert shop("runs", "cancel", shop.ask()[:-2], "--json").json["cancel_reason"] == f"cancelled by {ME}"


class Plain(HTMLParser):
    """The text of a page and the elements in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [value for _, value in attrs if value and "http" in value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_timeline_tells_who_asked_what_who_decided_and_what_ran(shop) -> None:
    """In every format: the same events, the arguments whole, nothing loaded from anywhere."""
    note = "<script>alert(1)</script> ; # %%{init: 1}%% \u202e" + "x" * 300
    id = shop.ask(note=note)
    shop("inbox", "edit", id, "--args", json.dumps({"order": "4711", "amount": 30, "note": note}))
    shop.work()
    words = ("runs", "timeline", id[:-2])
    events = shop(*words, "--json").json
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    whats = [event["what"] for event in events]
    assert [what for what in whats if what.startswith("call.")] == [
        "call.asked", "call.edited", "call.approved", "call.executing", "call.succeeded",
    ]  # fmt: skip
    asked = json.dumps({"amount": 120, "note": note, "order": "4711"}, separators=(",", ":"), ensure_ascii=False)
    asked, ran = asked.replace("\u202e", "\\u{202E}"), asked.replace("\u202e", "\\u{202E}").replace("120", "30")
    text = shop(*words).out
    assert text.count(asked) == 1 and text.count(ran) == 3 and f"by {ME}" in text
    mermaid = shop(*words, "--format", "mermaid").out
    assert mermaid.startswith("sequenceDiagram\n") and "G->>T: #35;1 refund starts to run" in mermaid
    assert not re.search(r"[<>&%]|#(?!\d+;)|(?<!\d);", mermaid.replace("->>", "").replace("-->>", ""))
    page = Plain(shop(*words, "--format", "html").out)
    assert page.tags <= {"html", "head", "meta", "style", "body", "pre", "code", "span"}
    assert "".join(asked.split()) in "".join(page.text.split())
    svg = shop(*words, "--format", "svg").out
    assert "@font-face" not in svg and "url(http" not in svg
    drawn = "".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", "")
    assert "".join(asked.split()) in "".join(drawn.split())


def test_a_terminal_gets_a_layout_that_hides_nothing(shop) -> None:
    """At 80 columns every word of every view is there, and only colours are sent."""
    id = shop.ask(note=" ".join(f"word{at}" for at in range(200)))
    child, terminal = pty.openpty()
    script = f"{sys.executable} -m governor_agents"
    commands = ["inbox list", f"inbox show {id}", "runs list", f"runs show {id[:-2]}", f"runs timeline {id[:-2]}"]
    process = subprocess.Popen(
        ["bash", "-c", "stty cols 80; " + "; ".join(f"{script} {command}" for command in commands)],
        stdin=terminal, stdout=terminal, stderr=terminal, env={**shop.environment, "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    shown = ""
    while True:
        try:
            piece = os.read(child, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece.decode()
    process.wait(timeout=60)
    os.close(child)
    assert "\x1b[1m" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "\x1b" not in plain
    views = plain.count("group:operators")
    assert views >= 3 and plain.count(" UTC") >= 5
    for at in range(200):
        assert len(re.findall(rf"\bword{at}\b", plain)) >= 4, at


def test_worker_once_does_what_is_due_and_ends(shop) -> None:
    id = shop.ask()
    told = shop.process("worker", "app:governor", "--once")
    assert told.code == 0 and f"governor-agents inbox approve {id}" in told.err  # the terminal channel asked
    assert "step done" in told.err and told.out == ""
    shop("inbox", "approve", id)
    assert shop.process("worker", "app:fleet", "--once").code == 0
    assert shop.ledger == ["4711 120 "]


def test_worker_takes_the_store_of_the_option(shop) -> None:
    id = shop.ask()
    shop("inbox", "approve", id)
    for file in shop.folder.glob("governor.db*"):
        file.rename(shop.folder / file.name.replace("governor", "other"))
    assert shop.process("worker", "app:governor", "--once", "--store", "sqlite:///other.db").code == 0
    assert shop.ledger == ["4711 120 "]
    (shop.folder / "fixed.py").write_text(
        "from governor_agents import Governor\ngovernor = Governor(store='sqlite:///fixed.db')\n"
    )
    told = shop.process("worker", "fixed:governor", "--once", "--store", "sqlite:///other.db")
    assert told.code == 2 and "names its store itself" in told.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_lets_the_run_in_hand_come_to_rest(shop, number: int) -> None:
    """A signal while the tool runs: the tool ends, its result is recorded, the process ends with 0.

    It has said where it works, so that nobody takes its silence for a hang.
    """
    app = shop.folder / "app.py"
    app.write_text(
        app.read_text().replace('    with Path("ledger")', '    __import__("time").sleep(1)\n    with Path("ledger")')
    )
    id = shop.ask()
    shop("inbox", "approve", id)
    process = subprocess.Popen(
        shop.command("worker", "app:governor"), env=shop.environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert re.fullmatch(
            r"governor-agents: working on sqlite:.*governor\.db; SIGTERM or Ctrl-C ends it\n", process.stderr.readline()
        )
        for _ in range(300):
            if shop("runs", "show", id[:-2], "--json").json["calls"][0]["state"] == "executing":
                break
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
    assert shop.ledger == ["4711 120 "]
    assert shop("runs", "show", id[:-2], "--json").json["state"] == "completed"


def test_demo_hands_its_options_over(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(demo, "main", lambda **options: seen.append(options) or 1)
    assert shop("--store", "sqlite:///d.db", "demo", "--framework", "langchain", "--decide", "edit", "--json").code == 1
    assert shop("demo").code == 1
    real = ("--channel", "slack", "--slack-token", "xoxb-1", "--slack-app-token", "xapp-1", "--to", "U02")
    assert shop("demo", *real).code == shop("demo", "--channel", "email", "--smtp-url", "smtp://h").code == 1
    usual = {"framework": "all", "decide": "ask", "channel": "terminal", "real": demo.Real(), "store": None}
    assert seen == [
        usual | {"framework": "langchain", "decide": "edit", "store": "sqlite:///d.db", "json": True},
        usual | {"json": False},
        usual | {"channel": "slack", "real": demo.Real("xoxb-1", "xapp-1", "", "U02"), "json": False},
        usual | {"channel": "email", "real": demo.Real("", "", "smtp://h"), "json": False},
    ]


def test_help_loads_no_framework_and_no_driver(shop) -> None:
    code = (
        "import sys; from governor_agents.cli.app import run; run(['--help']);"
        "print([name for name in ('agents', 'openai', 'langchain', 'langchain_core', 'langgraph', 'cel', 'sqlite3', 'yaml')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=shop.environment)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", [[], ["inbox"], ["runs"]])
def test_no_command_shows_help_and_is_usage(shop, words: list[str]) -> None:
    told = shop(*words)
    assert told.code == 2 and "Usage: governor-agents" in told.out + told.err


def test_version_is_printed(shop) -> None:
    told = shop("--version")
    assert told.code == 0 and told.out.startswith("governor-agents ")
    assert governor_agents.__name__ == "governor_agents"
