"""The main job without any key or server: suspend, let the process end, decide, resume elsewhere, look at the trail."""

from __future__ import annotations

import json as jsonlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from governor_agents.core.urls import shown
from governor_agents.demo import shop
from governor_agents.demo.processes import run_phase
from governor_agents.demo.saying import Say, command
from governor_agents.errors import ConfigError, MissingExtra
from governor_agents.stores import open_store

if TYPE_CHECKING:
    from governor_agents.demo.channel import Channel

FRAMEWORKS = {"openai-agents": "agents", "langchain": "langchain"}
CHOICES = ("approve", "reject", "edit", "ask")
CHANNELS = ("terminal", "slack", "email")


@dataclass(frozen=True, slots=True)
class Real:
    """What the real channels need; with none of it the demo plays the other side itself. Shows nothing of itself."""

    slack_token: str = ""
    slack_app_token: str = ""
    smtp_url: str = ""
    to: str = ""

    def __repr__(self) -> str:
        return "Real()"


def main(
    *,
    framework: str = "all",
    decide: str = "ask",
    channel: str = "terminal",
    real: Real | None = None,
    store: str | None = None,
    json: bool = False,
) -> int:
    """Run the demo; 0 when every run ended as it should, 1 otherwise.

    Raises `ConfigError` for a framework, decision, channel or store that cannot be used, `MissingExtra`.
    """
    os.environ.pop("GOVERNOR_PEOPLE", None)  # the demo has people of its own
    names = _frameworks(framework)
    if decide not in CHOICES:
        raise ConfigError(f"unknown decision {decide!r}; choose one of {', '.join(CHOICES)}")
    asked = _channel(channel, real or Real(), decide)
    if store is not None and not open_store(store).shared:
        raise ConfigError(f"{shown(store)} cannot be shared by the demo's three processes; use sqlite:///PATH")
    by_itself = decide == "ask" and not sys.stdin.isatty() and not (asked and asked.real)
    say = Say(quiet=json)
    if by_itself:
        say.line("No terminal is attached, so nobody can be asked: the demo approves by itself.")
    how = "approve" if by_itself else decide
    folder = Path(tempfile.mkdtemp(prefix="governor-agents-demo-"))
    url = store or f"sqlite:///{folder / 'governor.db'}"
    results: list[dict[str, Any]] = []
    begun = False
    try:
        with _job(asked, how, url, folder, say) as job:
            begun = True
            for name in names:
                os.environ["GOVERNOR_DEMO_LEDGER"] = str(folder / f"{name}.ledger")
                results.append(job(name))
    except KeyboardInterrupt:
        say.line(f"\nStopped; nothing more was decided. What waits is in {shown(url)}")
        raise
    finally:
        if begun:
            say.next_steps(url, [result["run"] for result in results])
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if json:
        for result in results:
            sys.stdout.write(jsonlib.dumps(result) + "\n")
    return 0 if all(_as_expected(result) for result in results) else 1


def _frameworks(framework: str) -> list[str]:
    """The frameworks to run on. Raises `ConfigError`, `MissingExtra`."""
    names = list(FRAMEWORKS) if framework == "all" else [framework]
    for name in names:
        if name not in FRAMEWORKS:
            raise ConfigError(f"unknown framework {name!r}; choose one of {', '.join(FRAMEWORKS)}, all")
        if find_spec(FRAMEWORKS[name]) is None:
            raise MissingExtra(f"the demo needs {name}, which is not installed: pip install 'governor-agents[demo]'")
    return names


def _channel(name: str, real: Real, decide: str) -> Channel | None:
    """The channel to ask by, None for the terminal. Raises `ConfigError`."""
    if name not in CHANNELS:
        raise ConfigError(f"unknown channel {name!r}; choose one of {', '.join(CHANNELS)}")
    if name != "slack" and (real.slack_token or real.slack_app_token):
        raise ConfigError("--slack-token and --slack-app-token are for --channel slack")
    if name != "email" and real.smtp_url:
        raise ConfigError("--smtp-url is for --channel email")
    used = bool(real.slack_token or real.slack_app_token or real.smtp_url)
    if real.to and not used:
        raise ConfigError("--to says whom to ask by a real channel: give --slack-token or --smtp-url too")
    if used and decide != "ask":
        raise ConfigError(f"--decide {decide} is for the stand-ins; by a real channel somebody decides there")
    if name == "terminal":
        return None
    from governor_agents.demo import mail, slack

    if name == "email":
        return mail.RealMail(real.smtp_url, real.to) if used else mail.StandInMail()
    return slack.RealSlack(real.slack_token, real.slack_app_token, real.to) if used else slack.StandInSlack()


@contextmanager
def _job(channel: Channel | None, how: str, url: str, folder: Path, say: Say) -> Iterator[Any]:
    """What does the main job on one framework; what runs beside it ends with the block."""
    if channel is None:
        yield lambda framework: _at_the_terminal(framework, how, url, folder, say)
        return
    from governor_agents.demo.asking import Asking

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs beside it is stopped as well
    with channel, Asking(channel, how, url, folder, say) as asking:
        yield asking.one


def _as_expected(result: dict[str, Any]) -> bool:
    ran = result["tool_runs"][shop.GATED]
    if not result["decisions"]:
        return True
    good = ran == (0 if "reject" in result["decisions"] or "respond" in result["decisions"] else 1)
    return bool(result["status"] == "completed" and result["suspended"] and result["resumed"] and good)


def _at_the_terminal(framework: str, how: str, url: str, folder: Path, say: Say) -> dict[str, Any]:
    """The main job on one framework, decided at the terminal."""
    env = {"GOVERNOR_STORE": url}
    say.title(framework)
    say.line(f'[1] A process asks the agent: "{shop.QUESTION}"')
    begun = run_phase("start", framework, folder, env)
    say.line(f"    The policy requires approval: run {begun['run']} is {begun['status']}.")
    say.line(f"    Process {begun['pid']} has ended.")
    if how != "ask":  # whoever is asked sees it there
        say.request(url, begun["run"])
    say.line("[2] Another process takes the decision.")
    decided = run_phase("decide", framework, folder, env, run=begun["run"], how=how)
    told = ", ".join(decided["decisions"]) or "nothing decided"
    say.line(f"    {told} by {shop.me()} in process {decided['pid']}, which has ended.")
    if not decided["decisions"]:
        say.line(f"    Nothing was decided. The run still waits; decide with: {command(url)} inbox list")
        return _result(framework, begun, decided, {"pid": None, "status": begun["status"], "output": None})
    say.line("[3] A third process, a worker, resumes the agent.")
    resumed = run_phase("resume", framework, folder, env, run=begun["run"])
    say.line(f"    Run {begun['run']} is {resumed['status']} in process {resumed['pid']}.")
    if resumed["status"] == "waiting":
        say.line("    More people must decide: see governor-agents inbox list.")
    else:
        say.line(f'    The agent says: "{resumed["output"]}"')
    say.timeline(url, begun["run"])
    return _result(framework, begun, decided, resumed)


def _result(framework: str, begun: dict[str, Any], decided: dict[str, Any], resumed: dict[str, Any]) -> dict[str, Any]:
    ran = [entry for entry in shop.noted() if entry["tool"] == shop.GATED]
    return {
        "framework": framework,
        "channel": "terminal",
        "suspended": begun["status"] == "waiting",
        "resumed": bool(decided["decisions"]) and resumed["status"] != "waiting",
        "decisions": decided["decisions"],
        "tool_runs": {shop.GATED: len(ran)},
        "pids": [pid for pid in (begun["pid"], decided["pid"], resumed["pid"]) if pid],
        "status": resumed["status"],
        "run": begun["run"],
        "tool_arguments": [entry["arguments"] for entry in ran],
        "output": resumed["output"],
    }
