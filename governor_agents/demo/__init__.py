"""The main job without any key or server: suspend, let the process end, decide, resume elsewhere, look at the trail."""

from __future__ import annotations

import json as jsonlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from governor_agents.core.urls import shown
from governor_agents.demo import shop
from governor_agents.errors import ConfigError, GovernorError, MissingExtra
from governor_agents.stores import open_store

FRAMEWORKS = {"openai-agents": "agents", "langchain": "langchain"}
CHOICES = ("approve", "reject", "edit", "ask")
TIMEOUT = 300.0
"""Seconds after which a phase that does not end is given up; people at the terminal have as long as they like."""


def main(*, framework: str = "all", decide: str = "ask", store: str | None = None, json: bool = False) -> int:
    """Run the demo; 0 when every run ended as it should, 1 otherwise.

    Raises `ConfigError` for a framework, decision or store that cannot be used, `MissingExtra`.
    """
    names = list(FRAMEWORKS) if framework == "all" else [framework]
    for name in names:
        if name not in FRAMEWORKS:
            raise ConfigError(f"unknown framework {name!r}; choose one of {', '.join(FRAMEWORKS)}, all")
        if find_spec(FRAMEWORKS[name]) is None:
            raise MissingExtra(f"the demo needs {name}, which is not installed: pip install 'governor-agents[demo]'")
    if decide not in CHOICES:
        raise ConfigError(f"unknown decision {decide!r}; choose one of {', '.join(CHOICES)}")
    if store is not None and not open_store(store).shared:
        raise ConfigError(f"{shown(store)} cannot be shared by the demo's three processes; use sqlite:///PATH")
    by_itself = decide == "ask" and not sys.stdin.isatty()
    say = Say(quiet=json)
    if by_itself:
        say.line("No terminal is attached, so nobody can be asked: the demo approves by itself.")
    how = "approve" if by_itself else decide
    folder = Path(tempfile.mkdtemp(prefix="governor-agents-demo-"))
    url = store or f"sqlite:///{folder / 'governor.db'}"
    results: list[dict[str, Any]] = []
    try:
        for name in names:
            results.append(_one(name, how, url, folder, say))
    except KeyboardInterrupt:
        say.line(f"\nStopped; nothing more was decided. What waits is in {shown(url)}")
        raise
    finally:
        say.next_steps(url, [result["run"] for result in results])
    if json:
        for result in results:
            sys.stdout.write(jsonlib.dumps(result) + "\n")
    return 0 if all(_as_expected(result, how) for result in results) else 1


def _as_expected(result: dict[str, Any], how: str) -> bool:
    ran = result["tool_runs"][shop.GATED]
    if not result["decisions"]:
        return True
    good = ran == (0 if "reject" in result["decisions"] or "respond" in result["decisions"] else 1)
    return bool(result["status"] == "completed" and result["suspended"] and result["resumed"] and good)


def _one(framework: str, how: str, url: str, folder: Path, say: Say) -> dict[str, Any]:
    """The main job on one framework."""
    os.environ["GOVERNOR_DEMO_LEDGER"] = str(folder / f"{framework}.ledger")
    say.title(framework)
    say.line(f'[1] A process asks the agent: "{shop.QUESTION}"')
    begun = _phase("start", framework, url, folder)
    suspended = begun["status"] == "waiting"
    say.line(f"    The policy requires approval: run {begun['run']} is {begun['status']}.")
    say.line(f"    Process {begun['pid']} has ended.")
    if how != "ask":  # whoever is asked sees it there
        say.request(url, begun["run"])
    say.line("[2] Another process takes the decision.")
    decided = _phase("decide", framework, url, folder, run=begun["run"], how=how)
    told = ", ".join(decided["decisions"]) or "nothing decided"
    say.line(f"    {told} by {shop.me()} in process {decided['pid']}, which has ended.")
    if not decided["decisions"]:
        return _undecided(framework, url, begun, decided, say)
    say.line("[3] A third process, a worker, resumes the agent.")
    resumed = _phase("resume", framework, url, folder, run=begun["run"])
    say.line(f"    Run {begun['run']} is {resumed['status']} in process {resumed['pid']}.")
    if resumed["status"] == "waiting":
        say.line("    More people must decide: see governor-agents inbox list.")
    else:
        say.line(f'    The agent says: "{resumed["output"]}"')
    say.timeline(url, begun["run"])
    ran = [entry for entry in shop.noted() if entry["tool"] == shop.GATED]
    return {
        "framework": framework,
        "suspended": suspended,
        "resumed": resumed["status"] != "waiting",
        "decisions": decided["decisions"],
        "tool_runs": {shop.GATED: len(ran)},
        "pids": [begun["pid"], decided["pid"], resumed["pid"]],
        "status": resumed["status"],
        "run": begun["run"],
        "tool_arguments": [entry["arguments"] for entry in ran],
        "output": resumed["output"],
    }


def _undecided(framework: str, url: str, begun: dict[str, Any], decided: dict[str, Any], say: Say) -> dict[str, Any]:
    """Nobody decided: the run waits, and that is no error."""
    say.line(f"    Nothing was decided. The run still waits; decide with: {_command(url)} inbox list")
    return {
        "framework": framework,
        "suspended": True,
        "resumed": False,
        "decisions": [],
        "tool_runs": {shop.GATED: 0},
        "pids": [begun["pid"], decided["pid"]],
        "status": begun["status"],
        "run": begun["run"],
        "tool_arguments": [],
        "output": None,
    }


def _command(url: str) -> str:
    """The command line as it can be called from here, on the demo's store."""
    beside = Path(sys.executable).with_name("governor-agents")
    name = "governor-agents" if shutil.which("governor-agents") or not beside.exists() else str(beside)
    store = url if shown(url) == url else '"$GOVERNOR_STORE"'
    return f"{name} --store {store}"


def _phase(
    phase: str, framework: str, url: str, folder: Path, *, run: str = "", how: str = "approve"
) -> dict[str, Any]:
    """Run one phase in a process of its own and read what it saw."""
    report = folder / f"{framework}-{phase}.json"
    command = [sys.executable, "-m", "governor_agents.demo", phase, "--framework", framework]
    command += ["--run", run, "--decide", how, "--report", str(report)]
    asking = phase == "decide" and how == "ask"
    done = subprocess.run(
        command,
        env={**os.environ, "GOVERNOR_STORE": url},  # not among the arguments, which everybody on the machine can read
        stdin=None if asking else subprocess.DEVNULL,
        stdout=None if asking else subprocess.PIPE,
        stderr=None if asking else subprocess.PIPE,  # a prompt may go there
        text=True,
        timeout=None if asking else TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr or "").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise GovernorError(last[0] if done.returncode == 2 else f"the demo's {phase} process failed: {last[0]}")
    found: dict[str, Any] = jsonlib.loads(report.read_text(encoding="utf-8"))
    return found


class Say:
    """What the demo prints for people; nothing with ``--json``."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def line(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def title(self, framework: str) -> None:
        """A rule with the framework's name."""
        if not self._quiet:
            from rich.console import Console

            Console().rule(f"[bold]{framework}[/bold]", align="left")

    def request(self, url: str, run: str) -> None:
        """The request, as everybody who is asked sees it."""
        if not self._quiet:
            from governor_agents.demo.show import show_request

            show_request(url, run)

    def timeline(self, url: str, run: str) -> None:
        """Who asked, what exactly, who decided, what ran."""
        if not self._quiet:
            from governor_agents.demo.show import show_timeline

            show_timeline(url, run)

    def next_steps(self, url: str, runs: list[str]) -> None:
        """Where to look next."""
        self.line("\nLook on (the demo keeps its store until you remove it):")
        self.line(f"  {_command(url)} runs list")
        for run in runs[:1]:
            self.line(f"  {_command(url)} runs timeline {run}")
        self.line('  the policy: governor_agents/demo/governor.yaml; your own agent: README.md, "Govern your agent"')
