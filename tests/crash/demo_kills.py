"""Kills the demo's processes with SIGKILL and looks at what is left: ``python -m tests.crash.demo_kills --kills 100``.

One run of the demo is three phases, each a process: start, decide, resume. A phase that was killed is followed by what a
deployment does: when nothing reached the store the customer asks again; while people are asked they decide again; a dead
worker's lease runs out, and a fresh worker resumes. Each process is forked from a server that has loaded both frameworks
once, and runs the demo's own code.

The moments are random and seeded: a delay within the time that the phase takes when nobody disturbs it. ``--aimed``
kills where it hurts most instead: just after the tool has run. ``--broken`` runs a build whose guard writes neither
intent nor result, which must be found out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from governor_agents import Governor, Run
from governor_agents.audit import chain
from governor_agents.core.records import CallState, RunState
from governor_agents.core.settling import due
from governor_agents.demo import FRAMEWORKS, phases, shop
from governor_agents.guard import Guard, Ran
from governor_agents.handlers.words import explain

LEASE = 2.0
"""Seconds after which a killed worker counts as dead here; the default is made for machines, not for tests."""

AT_ONCE = 4
STEPS = 20
"""Processes after which a run that has not come to rest counts as lost; at most `STUBBORN` of them are killed."""

STUBBORN = 4
OFTEN = 0.7
"""How many of the processes are to be killed."""

DECISIONS = ("approve", "approve", "approve", "edit", "reject")
LOADED = ("governor_agents.demo.phases", "governor_agents.demo.openai_app", "governor_agents.demo.langchain_app")


# -- in the process that is killed --------------------------------------------------------------------------------------


def demo_phase(folder: str, broken: bool, arguments: Sequence[str]) -> None:
    """One phase of the demo, as ``python -m governor_agents.demo`` runs it."""
    log = os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(GOVERNOR_DEMO_LEDGER=f"{folder}/ledger", GOVERNOR_LEASE=str(LEASE))
    if broken:
        break_guard()
    sys.exit(phases.main(list(arguments)))


def break_guard() -> None:
    """Make approved calls run without a durable intent, and without a durable result."""
    sound = Guard.run

    async def run(self: Guard, claim: Any, call: Any, tool: Any, invoke: Any, **settings: Any) -> Ran:
        stands = await self._loop.bridge(self._runs.get(claim.run))
        known = stands.by_call_id(call.call_id)
        if known is not None and known.state is CallState.APPROVED:
            return Ran("value", await invoke(known.args))
        return await sound(self, claim, call, tool, invoke, **settings)

    Guard.run = run  # type: ignore[method-assign]


# -- around it ----------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What came of all kills. ``double`` and ``lost`` must stay 0 whatever happens.

    ``phases`` and ``left`` count the kills by the phase that was killed and by how the run stood then; ``standing`` are
    store, id and explanation of the runs that need an operator.
    """

    kills: int = 0
    ended: int = 0
    blocked: int = 0
    double: int = 0
    lost: int = 0
    runs: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    standing: list[tuple[str, str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The sums in one line."""
        sums = ("kills", "ended", "blocked", "double", "lost")
        return " ".join(f"{name}={getattr(self, name)}" for name in sums)

    def details(self) -> str:
        """Which phases were killed, and what the kills left behind."""
        return f"runs={self.runs} phases={dict(sorted(self.phases.items()))} left={dict(sorted(self.left.items()))}"


@dataclass
class Trial:
    """One run of the demo, with a store and a ledger of its own."""

    framework: str
    folder: Path
    rng: random.Random
    how: str
    kills: int = 0

    @property
    def url(self) -> str:
        """Its store."""
        return f"sqlite:///{self.folder}/governor.db"

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """What the tools say that ran."""
        file = self.folder / "ledger"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def arguments(self, phase: str, run: str) -> list[str]:
        """The phase's command line."""
        found = [phase, "--framework", self.framework, "--store", self.url, "--run", run]
        return [*found, "--decide", self.how, "--report", str(self.folder / f"{phase}.json")]

    async def look(self) -> Run | None:
        """The run as it stands, once it is due; the store is opened anew, as by any process that comes after a crash."""
        async with Governor(store=self.url) as governor:
            runs = await governor.list_runs()
            assert len(runs) <= 1, "asked again although the first request had reached the store"
            if not runs:
                return None
            at = due(runs[0])
            if runs[0].state is RunState.WAITING or at is None:
                return runs[0]
            return await governor.wait(runs[0].id, timeout=at - time.time(), until=lambda run: run.state.ended)

    async def unbroken(self, run: Run) -> bool:
        """True when the audit trail is one chain up to the record."""
        async with Governor(store=self.url) as governor:
            events = await governor.loop.bridge(governor.store.events("run", run.tenant, run.id, after=0))
        return chain.verify(events, run.chain) == ""


class Killer:
    """Plays demo runs, ``AT_ONCE`` at a time, until enough processes were killed."""

    def __init__(self, folder: Path, *, kills: int, seed: int, aimed: bool = False, broken: bool = False) -> None:
        self.report = Report()
        self._folder = folder
        self._left = kills
        self._seed = seed
        self._aimed = aimed
        self._broken = broken
        self._count = 0
        self._took: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._server: ForkServerContext = multiprocessing.get_context("forkserver")
        self._server.set_forkserver_preload(list(LOADED))

    async def play(self) -> Report:
        """Learn how long each phase takes, then kill."""
        if not self._aimed:
            await asyncio.gather(*(self._trial(disturb=False) for _ in range(2 * len(FRAMEWORKS))))
            self.report = Report()
        await asyncio.gather(*(self._keep_on() for _ in range(AT_ONCE)))
        return self.report

    async def _keep_on(self) -> None:
        while self._left > 0:
            await self._trial(disturb=True)

    async def _trial(self, *, disturb: bool) -> None:
        at, self._count = self._count, self._count + 1
        framework, rng = list(FRAMEWORKS)[at % len(FRAMEWORKS)], random.Random(f"{self._seed}/{at}")
        how = "approve" if self._aimed else rng.choice(DECISIONS)
        trial = Trial(framework, self._folder / f"{at:04}-{framework}", rng, how)
        trial.folder.mkdir()
        killed = False
        for _ in range(STEPS):
            run = await trial.look()
            if killed:
                self.report.left[_standing(run)] += 1
            phase = _next(run)
            if phase is None:
                break
            killed = await self._phase(trial, phase, run.id if run else "", disturb=disturb)
        await self._judge(trial, await trial.look())

    async def _phase(self, trial: Trial, phase: str, run: str, *, disturb: bool) -> bool:
        """One process; True when it was killed, because its moment came before its end."""
        chosen = phase == "resume" if self._aimed else trial.rng.random() < OFTEN
        disturb = disturb and chosen and self._left > 0 and trial.kills < STUBBORN
        self._left -= disturb
        process = self._server.Process(
            target=demo_phase, args=(str(trial.folder), self._broken, trial.arguments(phase, run))
        )
        began = time.monotonic()
        process.start()
        ended = asyncio.get_running_loop().create_task(_end_of(process.sentinel))
        if disturb and await self._moment(trial, phase, ended):
            process.kill()
        await ended
        process.join()
        killed = process.exitcode == -signal.SIGKILL
        self._left += disturb and not killed
        if killed:
            trial.kills += 1
            self.report.kills += 1
            self.report.phases[phase] += 1
        elif process.exitcode == 0:
            self._took[trial.framework, phase].append(time.monotonic() - began)
        return killed

    async def _moment(self, trial: Trial, phase: str, ended: asyncio.Task[None]) -> bool:
        """Wait for the moment to kill; False when the process has ended before."""
        if self._aimed:
            known = len(trial.ledger)
            while len(trial.ledger) == known and not ended.done():
                await asyncio.wait({ended}, timeout=0.001)
        else:
            usual = sorted(self._took[trial.framework, phase])
            await asyncio.wait({ended}, timeout=trial.rng.uniform(0.0, 1.1 * usual[len(usual) // 2]))
        return not ended.done()

    async def _judge(self, trial: Trial, run: Run | None) -> None:
        """Count the run: did it end, does it say why it stands, did a tool run twice, is anything gone?"""
        report, ran = self.report, trial.ledger
        report.runs += 1
        if len(ran) > 1:
            report.double += 1
            report.wrong.append(f"{trial.folder}: {ran}")
        if run is None or not await trial.unbroken(run):
            report.lost += 1
            report.wrong.append(f"{trial.folder}: {'no run' if run is None else 'the audit trail is broken'}")
        elif run.state.ended:
            report.ended += 1
            wanted = {"approve": [shop.ASKED], "edit": [shop.EDITED], "reject": []}[trial.how]
            if run.state is not RunState.COMPLETED or (len(ran) < 2 and [one["arguments"] for one in ran] != wanted):
                report.lost += 1
                report.wrong.append(f"{trial.folder}: {run.status} {run.error}, decided {trial.how}, ran {ran}")
        else:
            why = explain(run, time.time())
            report.standing.append((trial.url, run.id, why.because))
            if run.state in (RunState.BLOCKED, RunState.DEAD) and why.because and why.details and why.ways:
                report.blocked += 1
            else:
                report.lost += 1
                report.wrong.append(f"{trial.folder}: {run.status}: {why}")


def _next(run: Run | None) -> str | None:
    """The phase that a deployment would run now; None for a run that is at rest."""
    if run is None:
        return "start"
    if run.state.ended or run.state in (RunState.BLOCKED, RunState.DEAD):
        return None
    return "decide" if run.state is RunState.WAITING else "resume"


def _standing(run: Run | None) -> str:
    """How a kill left the run: its state, and whether a tool was running."""
    if run is None:
        return "nothing"
    return f"{run.status}, a tool running" if run.having(CallState.EXECUTING) else run.status


async def _end_of(sentinel: int) -> None:
    """Return when the process behind a sentinel has ended."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(sentinel, lambda: ended.done() or ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(sentinel)


def kill(folder: Path, *, kills: int, seed: int, aimed: bool = False, broken: bool = False) -> Report:
    """Kill so many processes of the demo. What is left of each run stays in a folder of its own."""
    return asyncio.run(Killer(folder, kills=kills, seed=seed, aimed=aimed, broken=broken).play())


def main() -> int:
    """Kill from the command line; 0 when nothing ran twice and nothing is lost."""
    parser = argparse.ArgumentParser(prog="tests.crash.demo_kills")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--aimed", action="store_true")
    parser.add_argument("--broken", action="store_true")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="governor-agents-kills-"))
    began = time.monotonic()
    report = kill(folder, kills=given.kills, seed=given.seed, aimed=given.aimed, broken=given.broken)
    print(report.line())
    print(report.details(), f"seed={given.seed} seconds={time.monotonic() - began:.0f} folder={folder}")
    for line in report.wrong:
        print(line)
    return 1 if report.double or report.lost else 0


if __name__ == "__main__":
    sys.exit(main())
