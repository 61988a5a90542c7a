"""A small shop on a SQLite file, and the command line beside it, in this process or in one of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Governor
from governor_agents.cli.app import run
from governor_agents.handlers.terminal import local_person

ROOT = Path(__file__).resolve().parents[3]
POLICY = """
version: 1
approvals: {approvers: [group:operators]}
groups:
  operators: [ops@example.com, %(me)s]
rules:
  - {name: fortunes, tool: refund, when: call.args.amount > 1000, then: deny, reason: too much}
  - {name: careful, tool: refund, when: call.args.amount > 500, then: require_approval, reason_required: true}
  - {name: theirs, tool: refund, when: call.args.amount == 77, then: require_approval, approvers: [cfo@example.com]}
  - {name: two, tool: refund, when: call.args.amount == 22, then: require_approval, approvers: [group:operators], quorum: 2}
  - {name: short, tool: refund, when: call.args.amount == 1, then: require_approval, deadline: 1s}
"""
APP = """
from pathlib import Path
from governor_agents import Governor

governor = Governor.from_file("governor.yaml")
fleet = [governor]
private = Governor(store="memory://")
number = 5

@governor.govern(name="refund")
def refund(order: str, amount: int, note: str = "") -> str:
    with Path("ledger").open("a") as ledger:
        ledger.write(f"{order} {amount} {note}\\n")
    return f"refunded {amount}"
"""


@dataclass
class Told:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shop:
    """A folder with policy, app and store; it is the current directory."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *words: str) -> Told:
        """Run a command line in this process."""
        self._capsys.readouterr()
        code = run(words)
        captured = self._capsys.readouterr()
        return Told(code, captured.out, captured.err)

    def process(self, *words: str, **more: Any) -> Told:
        """Run a command line in a process of its own."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, env=self.environment, timeout=60, **more
        )
        return Told(done.returncode, done.stdout, done.stderr)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "governor_agents", *words]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    def ask(self, tenant: str = "default", **args: Any) -> str:
        """Ask for a refund and let the asker go; the approval's id."""
        governor = Governor.from_file("governor.yaml", tenant=tenant)

        @governor.govern(name="refund")
        def refund(order: str, amount: int, note: str = "") -> str:
            raise AssertionError("only a worker runs it")

        try:
            return refund.ask_sync(**{"order": "4711", "amount": 120, **args}).approval
        finally:
            governor.close_sync()

    def work(self) -> None:
        """Let a worker do all that is due."""
        assert self.process("worker", "app:governor", "--once").code == 0

    @property
    def ledger(self) -> list[str]:
        """What really ran."""
        file = self.folder / "ledger"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "governor.yaml").write_text(POLICY % {"me": local_person()})
    (tmp_path / "app.py").write_text(APP)
    yield Shop(tmp_path, capsys)
    sys.modules.pop("app", None)
