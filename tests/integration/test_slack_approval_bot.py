"""The example bot as its README sets it up: asked, decided in Slack, resumed by the worker, for both frameworks."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from governor_agents import Governor, PolicySet, ToolCall
from governor_agents.core.calls import freeze
from governor_agents.core.records import Run
from governor_agents.directory import open_people
from governor_agents.testing.slack_server import Message, SlackServer, Workspace

ROOT = Path(__file__).resolve().parents[2]
BOT = ROOT / "examples" / "slack_approval_bot"
README = (BOT / "README.md").read_text(encoding="utf-8")
RUNNER = Path(__file__).with_name("readme_model.py")

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(400)]


class Bot:
    """The example in a folder of its own, against a local Slack, with its two processes running."""

    def __init__(self, folder: Path, slack: SlackServer, space: Workspace, amount: float, *, http: bool) -> None:
        shutil.copytree(BOT, folder)
        self.folder, self.slack, self.space, self.http = folder, slack, space, http
        calls = [["lookup_order", {"order": "4711"}], ["refund", {"order": "4711", "amount": amount}]]
        inward = {"SLACK_SIGNING_SECRET": slack.secret} if http else {"SLACK_APP_TOKEN": slack.app_token}
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLACK_", "GOVERNOR_"))},
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "SLACK_API_URL": slack.url,
            "SLACK_BOT_TOKEN": space.token,
            "SCRIPTED_CALLS": json.dumps(calls),
            "OPENAI_API_KEY": "none",
            **inward,
        }
        self.beside: list[subprocess.Popen[str]] = []
        self.pages = ""

    def start(self) -> None:
        """The worker and the server, with the very words of the README."""
        for words in commands():
            if words[:1] == ["worker"]:
                self._beside([sys.executable, str(RUNNER), *words])
            elif words == ["serve", "app:governor"]:
                serve = self._beside([sys.executable, "-m", "governor_agents", *words, "--port", "0"])
                assert serve.stderr is not None
                for line in serve.stderr:  # it has said where it is before it answers
                    if found := re.search(r"pages at (\S+)", line):
                        self.pages = found[1]
                        break
        if not self.http:
            self.slack.wait(lambda: self.slack.connections)

    def _beside(self, words: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(words, cwd=self.folder, env=self.env, stderr=subprocess.PIPE, text=True)
        self.beside.append(process)
        return process

    def stop(self) -> list[int]:
        """SIGTERM to both; their exit codes."""
        for process in self.beside:
            process.send_signal(signal.SIGTERM)
        told = [process.communicate(timeout=100)[1] for process in self.beside]
        assert not any("0 steps done" in text for text in told)
        return [process.returncode for process in self.beside]

    def ask(self, *words: str) -> str:
        """Call ``app.py`` as the README does; what it printed."""
        done = subprocess.run(
            [sys.executable, RUNNER, "app.py", *words, "Order 4711 arrived broken, please refund it"],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cards(self, user: str) -> list[Message]:
        """What this person has in direct messages."""
        return self.space.messages(self.space.direct(user).id)

    def run(self, id: str, so: Any) -> Run:
        """The run, once it is so."""
        governor = Governor(store=f"sqlite:///{self.folder / 'governor.db'}")
        try:
            return governor.wait_sync(id, timeout=100, until=so)
        finally:
            governor.close_sync()

    def send(self, interaction: Any) -> None:
        """As Slack would: over HTTP with a signature, or over Socket Mode."""
        import asyncio

        if self.http:
            answered = asyncio.run(self.slack.post(interaction, f"{self.pages}/slack"))
            assert answered.status == 200, answered
        else:
            asyncio.run(self.slack.emit(interaction).answer())


def commands() -> list[list[str]]:
    """Every ``governor-agents ...`` of the README's blocks, as words."""
    blocks = re.findall(r"^```bash\n(.*?)^```", README, re.M | re.S)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["governor-agents"]]


@pytest.fixture
def slack() -> Iterator[tuple[SlackServer, Workspace]]:
    """The people of people.yaml in a local Slack."""
    with SlackServer() as server:
        space = server.workspace("T01")
        for user, name in (("U02", "alice"), ("U03", "bob"), ("U04", "carol")):
            space.person(user, name)
        yield server, space


@pytest.mark.parametrize(("framework", "http"), [("openai-agents", False), ("langchain", True)])
def test_the_whole_way(slack: tuple[SlackServer, Workspace], tmp_path: Path, framework: str, http: bool) -> None:
    """Both leads are asked, above 1,000 then finance; it runs once after both, and every card says who decided.

    Whoever is not asked decides nothing by a click.
    """
    server, space = slack
    bot = Bot(tmp_path / "bot", server, space, 1500.0, http=http)
    try:
        printed = bot.ask(*(["--langchain"] if framework == "langchain" else []))
        found = re.match(r"(run_\w+) waiting asks (.*)\n", printed)
        assert found and found[2] == "alice, bob", printed
        bot.start()
        server.wait(lambda: bot.cards("U02") and bot.cards("U03"))
        bot.run(found[1], lambda run: not any(notice.what == "asked" for notice in run.outbox))
        assert bot.cards("U04") == []
        shown = json.dumps(bot.cards("U02")[0].blocks)
        assert "Refund 1500.0 for order" in shown and "4711" in shown
        if http:  # carol is no lead, and not asked yet
            bot.send(server.click(space, bot.cards("U03")[0], "approve", by="U04"))
            assert bot.run(found[1], lambda run: True).calls[-1].votes == ()
        bot.send(server.click(space, bot.cards("U02")[0], "approve", by="U02"))
        server.wait(lambda: bot.cards("U04"))
        run = bot.run(found[1], lambda run: not any(notice.what == "asked" for notice in run.outbox))
        assert (run.status, run.calls[-1].tool) == ("waiting", "refund")
        bot.send(server.click(space, bot.cards("U04")[0], "approve", by="U04"))
        ended = bot.run(found[1], lambda run: run.state.ended and not run.outbox)
        assert ended.status == "completed" and "refunded 1500.00 for order 4711 (ga1_" in str(ended.output)
        for user in ("U02", "U03", "U04"):
            [card] = bot.cards(user)
            assert not any(block["type"] == "actions" for block in card.blocks)
            assert "pproved by carol" in json.dumps(card.blocks)
    finally:
        codes = bot.stop()
    assert codes == [0, 0]


@pytest.mark.parametrize(
    ("tool", "args", "demand", "people"),
    [
        ("refund", {"order": "1", "amount": 50}, "allow", ()),
        ("refund", {"order": "1", "amount": 50.01}, "require_approval", ("alice", "bob")),
        ("refund", {"order": "1"}, "require_approval", ("alice", "bob")),
        ("close_account", {"customer": "x"}, "require_approval", ("alice", "bob")),
        ("lookup_order", {"order": "1"}, "allow", ()),
        ("delete_order", {"order": "1"}, "deny", ()),
        ("something_new", {}, "require_approval", ("alice", "bob")),
    ],
)
def test_the_policy_says_what_the_readme_says(tool: str, args: Any, demand: str, people: tuple[str, ...]) -> None:
    """Small refunds run, larger ones and whatever is unknown ask, deletes are denied."""
    policies = PolicySet.from_files(BOT / "governor.yaml", directory=open_people(BOT / "people.yaml"))
    verdict = policies.evaluate(ToolCall(tool, freeze(args), "call_1", agent="support"))
    assert verdict.outcome == demand
    assert tuple(verdict.stages[0].people if verdict.stages else ()) == people


def test_every_command_of_the_readme_exists() -> None:
    """Its help is there and knows every option."""
    every = commands()
    assert [words[0] for words in every].count("serve") == 2 and ["worker", "app:governor"] in every
    for words in every:
        names = [word for word in words if re.fullmatch(r"[a-z]+", word)][:2]
        done = subprocess.run(
            [sys.executable, "-m", "governor_agents", *names, "--help"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in words if word.startswith("--")), words


def test_links_lead_somewhere_and_every_file_is_told_of() -> None:
    """Relative links are files; each file of the example stands in its README."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)
    assert [link for link in links if not (BOT / link).exists()] == []
    files = {file.name for file in BOT.iterdir() if file.is_file()} - {"README.md"}
    assert files == {"app.py", "governor.yaml", "people.yaml"} <= set(links)


def test_every_person_has_a_place_in_slack() -> None:
    """Whom no channel reaches is asked in vain."""
    people = yaml.safe_load((BOT / "people.yaml").read_text())["people"]
    assert all(re.fullmatch(r"T\w+/U\w+", person["slack"]) for person in people.values())
