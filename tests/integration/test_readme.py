"""What the README shows is what happens: every snippet runs, every command exists, both make targets are there."""

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


def run(folder: Path, *words: str) -> str:
    """A process of a user who stands in this folder; what it printed. Where a model may be called, it is scripted."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    plain = words[0] in ("inbox", "runs")
    done = subprocess.run(
        [sys.executable, *(("-m", "governor_agents") if plain else (RUNNER,)), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with the README's policy file; whoever runs the tests is in its group of operators."""
    [policy] = blocks("yaml")
    assert "local:alice" in policy
    (tmp_path / "governor.yaml").write_text(policy.replace("local:alice", local_person()))
    return tmp_path


def test_the_policy_file_is_one() -> None:
    """It reads as it stands, and asks for the large refunds."""
    [policy] = blocks("yaml")
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
            if words[0] == "worker":
                words.append("--once")
            said[" ".join(words[:2])] = run(folder, *words)
    assert list(said) == ["inbox list", "inbox show", "inbox approve", "worker app:governor", "runs timeline"]
    assert f"{id}.1" in said["inbox list"]
    assert "120.0" in said["inbox show"] and "4711" in said["inbox show"]
    assert "photo checked" in said["runs timeline"]
    assert "refunded 120.0 for order 4711" in run(folder, "runs", "show", id)


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
