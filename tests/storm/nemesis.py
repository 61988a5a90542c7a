"""Starts the processes of a storm, kills and stops them, and lets the rest be done in peace.

Everything is forked from this process, which has loaded the package, opens no store and starts no thread. A killed
process is followed by a fresh one of its kind; a stopped one sleeps for longer than a lease and then goes on, believing
that nothing happened. The strikes keep step with the decisions, so that there is work in hand from the first to the
last of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.storm.app import APPROVERS, Scene, preload
from tests.storm.judge import Report, judge
from tests.storm.parts import ALLOWED, ASKED, Board, Part, approve, ask, play, watch, work

WORKERS = 4
TICK = 0.02
PATIENCE = 3.0
"""Seconds without a decision after which the next strike comes all the same."""


@dataclass(slots=True)
class Child:
    """One forked process."""

    name: str
    part: Part
    pid: int = 0
    wakes: float = 0.0


class Storm:
    """One storm over one store."""

    def __init__(self, scene: Scene, *, gates: int, kills: int, stops: int, seed: int, limit: float) -> None:
        self._scene = scene
        self._gates = gates
        self._strikes = ["kill"] * kills + ["stop"] * stops
        self._random = random.Random(seed)
        self._random.shuffle(self._strikes)
        self._board = Board()
        self._end = time.monotonic() + limit
        self._children: list[Child] = []
        self._done: list[str] = []
        self._last = (0, time.monotonic())
        self._seen = 0

    def run(self) -> Report:
        """The whole storm; what came of it."""
        self._board[ALLOWED] = self._gates
        parts = {f"worker {n}": work for n in range(WORKERS)}
        deciding = {f"approver {n}": approve(n) for n in range(len(APPROVERS))}
        try:
            for name, part in {"asker": ask, **parts, **deciding}.items():
                self._children.append(self._fork(Child(name, part)))
            while (self._strikes or self._board[ASKED] < self._gates) and time.monotonic() < self._end:
                self._wake()
                self._reap()
                self._strike()
                time.sleep(TICK)
            self._wake(at_once=True)
            self._drain()
        finally:
            self._kill_all()
        report = self._judge()
        report.kills, report.stops = self._done.count("kill"), self._done.count("stop")
        if report.gates < self._gates or (self._strikes and not self._scene.fault):
            missing = max(self._gates - report.gates, 1)
            report.undrained += missing
            report.wrong.append(
                f"undrained: {missing} gates were not asked, {len(self._strikes)} strikes not made in time"
            )
        return report

    def _fork(self, child: Child) -> Child:
        parent = os.getpid()
        child.pid = os.fork()
        if not child.pid:
            play(child.part, self._scene, self._board, parent)
        return child

    def _wake(self, *, at_once: bool = False) -> None:
        for child in self._children:
            if child.wakes and (at_once or child.wakes <= time.monotonic()):
                os.kill(child.pid, signal.SIGCONT)
                child.wakes = 0.0

    def _reap(self) -> None:
        """Start anew whatever ended by itself, unless it was done."""
        for child in list(self._children):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid and os.waitstatus_to_exitcode(status) == 0:
                self._children.remove(child)
            elif pid:
                self._fork(child)

    def _strike(self) -> None:
        """The next kill or stop, when its time has come."""
        child = self._aim() if self._scene.fault else self._pick()
        if child is None:
            return
        what = self._strikes.pop()
        self._done.append(what)
        if what == "stop":
            os.kill(child.pid, signal.SIGSTOP)
            child.wakes = time.monotonic() + self._scene.lease * self._random.uniform(1.1, 1.6)
        else:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            self._fork(child)

    def _pick(self) -> Child | None:
        """Anybody, when as many decisions have been made as the next strike is due after."""
        decided, now = min(self._board.decided, self._gates), time.monotonic()
        if decided != self._last[0]:
            self._last = (decided, now)
        awake = [child for child in self._children if not child.wakes]
        if not self._strikes or not awake:
            return None
        early = decided / self._gates < len(self._done) / (len(self._strikes) + len(self._done))
        if early and now - self._last[1] < PATIENCE:
            return None
        self._last = (decided, now)
        return self._random.choice(awake)

    def _aim(self) -> Child | None:
        """A build that is known to be broken is struck where it hurts: whoever has just acted, once per effect."""
        effects = self._scene.effects.lines()[self._seen :] if self._strikes else []
        self._seen += len(effects)
        if effects:
            self._last = (self._seen, time.monotonic())
        elif time.monotonic() - self._last[1] > 10 * PATIENCE:  # nothing is done any more
            self._strikes.clear()
        acted = {line["pid"] for line in effects}
        return next((child for child in self._children if child.pid in acted and not child.wakes), None)

    def _drain(self) -> None:
        """Wait until nothing is left to be done, or the time is over; then let the workers finish."""
        watcher = self._fork(Child("watcher", watch))
        self._children.append(watcher)
        while watcher in self._children and time.monotonic() < self._end:
            self._reap()
            time.sleep(TICK)
        workers = [child for child in self._children if child.part is work]
        for child in workers:
            os.kill(child.pid, signal.SIGTERM)
        finish = time.monotonic() + 10.0
        while any(child in self._children for child in workers) and time.monotonic() < finish:
            self._reap_ended(workers)
            time.sleep(TICK)

    def _reap_ended(self, children: list[Child]) -> None:
        for child in children:
            if child in self._children and os.waitpid(child.pid, os.WNOHANG)[0]:
                self._children.remove(child)

    def _kill_all(self) -> None:
        for child in self._children:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
        self._children.clear()

    def _judge(self) -> Report:
        """Judged in a process of its own: this one opens no store."""
        verdict = self._scene.folder / "verdict.json"

        async def weigh(app: object, scene: Scene, board: Board) -> None:
            report = await judge(app, scene)  # type: ignore[arg-type]
            verdict.write_text(json.dumps(asdict(report)))

        judging = self._fork(Child("judge", weigh))
        os.waitpid(judging.pid, 0)
        if not verdict.exists():
            raise RuntimeError(f"the judge failed: {self._scene.trouble.lines()[-1]['error']}")
        return Report(**json.loads(verdict.read_text()))


def storm(
    url: str,
    folder: Path,
    *,
    gates: int,
    kills: int,
    stops: int,
    seed: int = 1,
    fault: str = "",
    agents: bool = False,
    slow: float = 0.0,
    limit: float = 0.0,
) -> Report:
    """One storm. ``limit`` is how many seconds it may take before it gives up with what is undrained."""
    if agents:
        preload()
    scene = Scene(url, folder, slow=slow, agents=agents, fault=fault)
    limit = limit or 300.0 + 3.0 * gates + 1.0 * (kills + stops)
    return Storm(scene, gates=gates, kills=kills, stops=stops, seed=seed, limit=limit).run()
