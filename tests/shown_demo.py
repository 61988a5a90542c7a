"""The demo as a user calls it, for tests: its output, its exit code, what it left behind."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Shown:
    """One call of the demo, and what it left behind. Runs in a session of its own, so that nothing of it can hide.

    ``end=False`` gives it while it still runs; then call `end`.
    """

    def __init__(self, folder: Path, *words: str, env: Mapping[str, str] | None = None, end: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "governor_agents", "demo", *words],
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.session = self.process.pid
        if end:
            self.end()

    def end(self) -> None:
        """Wait for its end."""
        self.stdout, self.stderr = self.process.communicate()
        self.code = self.process.returncode

    def lines(self) -> dict[str, dict[str, Any]]:
        """The JSON lines at the end of stdout, by framework."""
        assert self.code == 0, self.stdout + self.stderr
        found = [json.loads(line) for line in self.stdout.splitlines()]
        return {line["framework"]: line for line in found}

    def ledger(self, framework: str) -> list[dict[str, Any]]:
        """What the tools themselves wrote down."""
        files = list(self.folder.glob(f"*/{framework}.ledger"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def left_behind(self) -> list[int]:
        """Processes of the demo's session that still live."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if fields[0] != "Z" and int(fields[3]) == self.session:
                found.append(int(stat.parent.name))
        return found
