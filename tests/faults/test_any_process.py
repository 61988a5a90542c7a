"""Any process, any time: whoever asked is dead, and a fresh interpreter goes on with every run that was approved."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from governor_agents import Decision, Governor
from governor_agents.core.records import CallState
from tests.faults.any_process_app import DECIDES, KINDS
from tests.stores import STORES

ROOT = Path(__file__).resolve().parents[2]
NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))
RUNS, WORKERS = (200, 4) if NIGHTLY else (10, 1)

pytestmark = pytest.mark.timeout(3600 if NIGHTLY else 600)


class Case:
    """Runs of one framework in one store, and the processes around them."""

    def __init__(self, folder: Path, store: str, kind: str) -> None:
        self.url = STORES[store](folder)
        self.ledger = folder / "ledger"
        self.kind = kind

    def start(self, what: str) -> subprocess.Popen[str]:
        """A fresh interpreter that shares nothing with any other but the store."""
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        program = ROOT / "tests" / "faults" / "any_process_app.py"
        return subprocess.Popen(
            [sys.executable, str(program), what, self.kind, self.url, str(self.ledger), str(RUNS)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, *processes: subprocess.Popen[str]) -> list[int]:
        """Wait for them; their exit codes."""
        for process in processes:
            said, _ = process.communicate()
            assert process.returncode in (0, -signal.SIGKILL), said
        return [process.returncode for process in processes]

    async def approve(self) -> int:
        """People decide, in a process that knows nothing of agents; how many runs they let go on."""
        async with Governor(store=self.url) as governor:
            inbox = await governor.inbox(limit=RUNS + 1)
            for approval in inbox:
                await governor.decide(approval.id, Decision.approve(), by=DECIDES[self.kind])
            return len(inbox)

    async def states(self) -> tuple[list[str], list[CallState]]:
        """Where the runs stand, and the calls that people decided."""
        async with Governor(store=self.url) as governor:
            runs = await governor.list_runs(limit=RUNS + 1)
            calls = [call for run in runs for call in await governor.calls(run.id) if call.stages]
        return [run.status for run in runs], [call.state for call in calls]

    @property
    def effects(self) -> int:
        """How often a tool ran."""
        return len(self.ledger.read_text().splitlines()) if self.ledger.exists() else 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", STORES)
def test_fresh_interpreters_resume_every_approved_run(tmp_path: Path, store: str, kind: str) -> None:
    """The creator is killed, the approver knows no agent, the workers are new: all runs end, each tool ran once."""
    case = Case(tmp_path, store, kind)
    assert case.finish(case.start("create")) == [-signal.SIGKILL]
    assert asyncio.run(case.approve()) == RUNS
    assert case.effects == 0, "nothing runs before a worker takes it"
    case.finish(*(case.start("work") for _ in range(WORKERS)))
    assert asyncio.run(case.states()) == (["completed"] * RUNS, [CallState.SUCCEEDED] * RUNS)
    assert case.effects == RUNS


def test_a_worker_that_cannot_build_the_agent_resumes_none(tmp_path: Path) -> None:
    """The negative control: the same processes, but the last one lacks the agent; the runs stay for one that has it."""
    case = Case(tmp_path, "sqlite", "openai")
    case.finish(case.start("create"))
    assert asyncio.run(case.approve()) == RUNS
    case.finish(case.start("idle"))
    assert asyncio.run(case.states()) == (["ready"] * RUNS, [CallState.APPROVED] * RUNS)
    assert case.effects == 0
