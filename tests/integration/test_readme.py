"""What the README shows is what happens: every snippet runs, every command exists, both make targets are there."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest

from governor_agents import PolicySet
from governor_agents.handlers.terminal import local_person
from governor_agents.testing.slack_server import SlackServer
from governor_agents.testing.smtp_server import SmtpServer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNNER = Path(__file__).with_name("readme_model.py")


def blocks(language: str) -> list[str]:
    """The fenced blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def commands() -> list[list[str]]:
    """Every ``governor-agents ...`` of the README as words, comments left out."""
    lines = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    inline = [code.split("\n")[0] for code in re.findall(r"`(governor-agents [^`]*)`", README)]
    found = [shlex.split(line, comments=True) for line in (*lines, *inline)]
    return [words[1:] for words in found if words[0] == "governor-agents" and len(words) > 1]


def file_called(name: str) -> str:
    """The block that is this file, as its first line says."""
    [found] = [block for block in blocks("yaml") if block.startswith(f"# {name}\n")]
    return found


def run(folder: Path, *words: str, **env: str) -> str:
    """A process of a user who stands in this folder; what it printed. Where a model may be called, it is scripted."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    plain = words[0] in ("inbox", "runs")
    done = subprocess.run(
        [sys.executable, *(("-m", "governor_agents") if plain else (RUNNER,)), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with the README's policy file; whoever runs the tests is in its group of operators."""
    policy = blocks("yaml")[0]
    assert "local:alice" in policy
    (tmp_path / "governor.yaml").write_text(policy.replace("local:alice", local_person()))
    return tmp_path


def test_the_policy_file_is_one() -> None:
    """It reads as it stands, and asks for the large refunds."""
    policy = blocks("yaml")[0]
    assert PolicySet.from_text(policy).tool("lookup_order").read_only


@pytest.mark.parametrize("snippet", blocks("python"), ids=["openai-agents", "langchain"])
def test_each_snippet_runs_and_its_run_is_decided_and_finished_as_described(folder: Path, snippet: str) -> None:
    """The snippet as ``app.py``, then the very commands that stand below it, each in a process of its own."""
    (folder / "app.py").write_text(snippet)
    printed = run(folder, "app.py")
    found = re.fullmatch(r"waiting \['(run_\w+)\.1'\]\n", printed)
    assert found, printed
    id = found.group(1)
    said = {}
    for words in commands():
        if words[0] in ("inbox", "runs", "worker"):
            words = [word.replace("run_....1", f"{id}.1").replace("run_...", id) for word in words]
            if words[:2] == ["worker", "app:governor"] and "worker app:governor" in said:
                continue  # it stands there once more, for the channels
            if words[0] == "worker":
                words.append("--once")
            said[" ".join(words[:2])] = run(folder, *words)
    assert list(said) == ["inbox list", "inbox show", "inbox approve", "worker app:governor", "runs timeline"]
    assert f"{id}.1" in said["inbox list"]
    assert "120.0" in said["inbox show"] and "4711" in said["inbox show"]
    assert "photo checked" in said["runs timeline"]
    assert "refunded 120.0 for order 4711" in run(folder, "runs", "show", id)


def test_the_files_for_channels_ask_everyone_in_slack_and_by_mail(tmp_path: Path) -> None:
    """The snippet of the first framework with these two files: a card and a mail for each, under the policy's headline."""
    for name in ("governor.yaml", "people.yaml"):
        (tmp_path / name).write_text(file_called(name))
    (tmp_path / "app.py").write_text(blocks("python")[0])
    with SlackServer() as slack, SmtpServer(users={"user": "password"}) as smtp:
        space = slack.workspace("T01")
        users = [space.person("U02", "alice"), space.person("U03", "bob")]
        exported = {
            "GOVERNOR_PEOPLE": "people.yaml",
            "SLACK_BOT_TOKEN": space.token,
            "SLACK_API_URL": slack.url,
            "GOVERNOR_SMTP_URL": smtp.url(),
            "GOVERNOR_PUBLIC_URL": "https://approvals.example.com",
        }
        assert {line.split("=")[0] for line in exports()} - {"SLACK_APP_TOKEN"} <= set(exported)
        assert run(tmp_path, "app.py", **exported).startswith("waiting ")
        run(tmp_path, "worker", "app:governor", "--once", **exported)
        cards = [space.messages(space.direct(user).id) for user in users]
        mails = [smtp.to(address) for address in ("alice@example.com", "bob@example.com")]
    assert [len(each) for each in (*cards, *mails)] == [1, 1, 1, 1]
    assert all("Refund 120.0 for order" in json.dumps(card.blocks) for [card] in cards)
    assert all("Refund 120.0 for order" in mail.text() for [mail] in mails)
    assert all("https://approvals.example.com/confirm/" in mail.text() for [mail] in mails)


def exports() -> list[str]:
    """What the README exports, as ``NAME=VALUE``."""
    lines = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ export ")]
    return [word for line in lines for word in shlex.split(line)[1:]]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_each_command_exists(words: list[str]) -> None:
    """Its help is there, and knows every option that the README gives it."""
    names = [word for word in words if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")][:2]
    options = [word for word in words if word.startswith("--")]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "governor_agents", *names, "--help"],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in options), done.stdout


def test_targets_and_extras_are_there() -> None:
    """``make demo``, ``make test``, and whatever pip is told to install."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = re.findall(r"^\$ make ([a-z-]+)", README, re.M)
    assert named and set(named) <= targets
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {extra for names in re.findall(r"pip install '[^'\[]*\[([^\]]+)\]'", README) for extra in names.split(",")}
    assert asked and asked <= set(extras)


def test_names_in_the_text_are_there() -> None:
    """Whatever the text calls by its full name can be imported."""
    names = set(re.findall(r"`(governor_agents\.[\w.]+)", README))
    assert names and [name for name in names if resolve_name(name) is None] == []


def test_links_lead_somewhere() -> None:
    """Every relative link is a file of the repository."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)
    assert links and [link for link in links if not (ROOT / link).exists()] == []
