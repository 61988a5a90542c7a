"""The main job by a channel: a process asks and ends, `serve` takes the decision, a worker resumes the agent."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from governor_agents.core.records import Approval, Call, CallState, Run
from governor_agents.demo import shop
from governor_agents.demo.album import Album
from governor_agents.demo.channel import SEAT, Channel, StandIn
from governor_agents.demo.processes import Beside, run_phase, until
from governor_agents.demo.saying import Say, command
from governor_agents.governor import Governor
from governor_agents.handlers.visible import visible

APP = "governor_agents.demo.app:governor"
_PAGES = re.compile(r"pages at (\S+)")

REMIND = 30.0
"""Seconds between two lines that say that the person is still waited for."""


class Asking:
    """One channel's demo: `serve` beside it for all frameworks, a run and a worker for each. Used by ``with``."""

    def __init__(self, channel: Channel, how: str, url: str, folder: Path, say: Say) -> None:
        self._channel = channel
        self._how = how
        self._url = url
        self._folder = folder
        self._say = say
        self._governor = Governor(store=url)
        self._env = {**channel.env, **settings(channel, folder), "GOVERNOR_STORE": url, "GOVERNOR_PUBLIC_URL": ""}
        self._serve = Beside("serve", ["serve", APP, "--port", "0"], folder, self._env)

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._serve.stop()
        self._governor.close_sync()

    def one(self, framework: str) -> dict[str, Any]:
        """The main job on one framework. Raises `GovernorError`."""
        say = self._say
        say.title(framework)
        say.line(f'[1] A process asks the agent: "{shop.QUESTION}"')
        begun = run_phase("start", framework, self._folder, self._env)
        say.line(f"    The policy requires approval: run {begun['run']} is {begun['status']}.")
        say.line(f"    Process {begun['pid']} has ended.")
        pages = self._pages()
        say.line(f"[2] `governor-agents serve` (process {self._serve.pid}) answers at {pages}; a worker asks people.")
        env = self._env | {"GOVERNOR_PUBLIC_URL": pages, "GOVERNOR_DEMO_FRAMEWORK": framework}
        worker = Beside(f"worker-{framework}", ["worker", APP], self._folder, env)
        try:
            with Album(self._folder, framework, say) as album:
                decided = self._decided(begun, pages, worker, album)
                if not decided:
                    again = command(self._url, self._env["GOVERNOR_PEOPLE"])
                    say.line(f"    Nothing was decided. The run still waits; decide with: {again} inbox list")
                    return self._result(framework, begun, worker, self._governor.get_sync(begun["run"]), album)
                ended = self._to_the_end(begun, worker, album)
                say.timeline(self._url, begun["run"])
                say.pictures(album.files())
                return self._result(framework, begun, worker, ended, album)
        finally:
            worker.stop()

    # -- steps ------------------------------------------------------------------------------------------------------

    def _decided(self, begun: dict[str, Any], pages: str, worker: Beside, album: Album) -> bool:
        """Have the person asked, and the decision taken; False when the person at the terminal wants none."""
        [approval] = begun["approvals"]
        if isinstance(self._channel, StandIn):
            if not self._played(self._channel, approval, pages, worker, album):
                return False
        else:
            self._say.request(self._url, begun["run"])
            self._delivered(approval, worker)
        self._wait(approval, worker)
        call = self._look(approval).call
        by = f" by {call.decided_by.by}, {call.decided_by.channel}" if call.decided_by else ""
        self._say.line(f"    {kind(call)}{by}, in process {self._serve.pid}.")
        return True

    def _played(self, channel: StandIn, approval: str, pages: str, worker: Beside, album: Album) -> bool:
        """Show what reached the person, and do what the person does there; False for nothing."""
        shown = until(lambda: channel.request(approval), "the request", worker, self._serve)
        self._delivered(approval, worker)
        asking = self._how == "ask"
        album.add("request", shown, wait=asking)
        decision = channel.ask(self._look(approval)) if asking else shop.decision(self._how)
        if decision is not None:
            for number, met in enumerate(channel.decide(approval, decision, pages), 1):
                album.add(f"modal-{number}", met)
        elsewhere = channel.elsewhere(approval) if decision is None else ""
        if elsewhere:
            self._say.line(f"    {elsewhere}")
        return decision is not None or bool(elsewhere)

    def _delivered(self, approval: str, worker: Beside) -> None:
        """Return once the channel took the request; say once what is in its way."""
        told = False

        def delivered() -> bool:
            nonlocal told
            run = self._look(approval).run
            if not told and any(notice.tries for notice in run.outbox):
                told = True
                failed = [event for event in self._governor.timeline_sync(run.id) if event["what"] == "notice.failed"]
                why = visible(str(failed[-1].get("reason", ""))) if failed else "the channel did not take it"
                self._say.line(f"    Not delivered yet: {why}. It is tried again; Ctrl-C leaves the run waiting.")
            return not run.outbox

        until(delivered, "word that it was delivered", worker, self._serve, patience=float("inf"))
        self._say.line(f"    Asked: {self._channel.where()}")

    def _wait(self, approval: str, worker: Beside) -> None:
        """Return once it is decided; say from time to time that it is waited for."""
        began = said = time.monotonic()

        def decided() -> bool:
            nonlocal said
            if time.monotonic() - said > REMIND:
                said = time.monotonic()
                self._say.line(f"    still waiting for a decision, {said - began:.0f} s")
            return self._look(approval).call.state is not CallState.PENDING

        if not decided():
            self._say.line("    Waiting for a person to decide; Ctrl-C ends the demo and leaves the run waiting.")
            until(decided, "a decision", worker, self._serve, patience=float("inf"), every=0.5)

    def _to_the_end(self, begun: dict[str, Any], worker: Beside, album: Album) -> Run:
        """Let the worker finish the run, and the outcome reach the person."""
        self._say.line(f"[3] The worker (process {worker.pid}) resumes the agent.")
        [approval], channel = begun["approvals"], self._channel

        def rests() -> Run | None:
            run = self._governor.get_sync(begun["run"])
            return run if run.state.ended or run.approvals else None

        run = until(rests, "the end of the run", worker)
        self._say.line(f'    Run {run.id} is {run.status}. The agent says: "{run.output}"')
        if isinstance(channel, StandIn) and not run.approvals:
            album.add("outcome", until(lambda: channel.outcome(approval), "the outcome", worker))
        return run

    def _look(self, approval: str) -> Approval:
        return self._governor.approval_sync(approval)

    def _pages(self) -> str:
        """Where `serve` answers."""
        serve = self._serve
        return until(lambda: _PAGES.search(serve.said()), "the address of `serve`", serve)[1]

    def _result(self, framework: str, begun: dict[str, Any], worker: Beside, run: Run, album: Album) -> dict[str, Any]:
        calls = [self._look(approval).call for approval in begun["approvals"]]
        ran = [entry for entry in shop.noted() if entry["tool"] == shop.GATED]
        return {
            "framework": framework,
            "channel": self._channel.name,
            "suspended": begun["status"] == "waiting",
            "resumed": run.status != "waiting",
            "decisions": [kind(call) for call in calls if call.state is not CallState.PENDING],
            "tool_runs": {shop.GATED: len(ran)},
            "pids": [begun["pid"], self._serve.pid, worker.pid],
            "status": run.status,
            "run": run.id,
            "tool_arguments": [entry["arguments"] for entry in ran],
            "output": run.output,
            "pictures": list(map(str, album.files())),
        }


def settings(channel: Channel, folder: Path) -> dict[str, str]:
    """What the demo's processes must know to ask one person by this channel."""
    people = folder / "people.yaml"
    addresses = {"name": "You", "local": shop.me().removeprefix("local:"), **channel.address}
    people.write_text(f"version: 1\npeople:\n  {SEAT}: {json.dumps(addresses)}\n", encoding="utf-8")
    return {"GOVERNOR_DEMO_CHANNEL": channel.name, "GOVERNOR_PEOPLE": str(people), "PYTHONUNBUFFERED": "1"}


def kind(call: Call) -> str:
    """What was decided: as people say it, an edit is one."""
    vote = call.decided_by
    return call.state.value if vote is None else "edit" if call.edited and vote.kind == "approve" else vote.kind
