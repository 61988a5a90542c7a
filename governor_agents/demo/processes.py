"""The processes of the demo: phases that run to their end, and commands of this package that run beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from governor_agents.errors import GovernorError

T = TypeVar("T")

TIMEOUT = 300.0
"""Seconds after which what does not end, or come, is given up. People have as long as they like."""

LOOK = 0.05
STOPPING = 60.0


def run_phase(
    phase: str,
    framework: str,
    folder: Path,
    env: Mapping[str, str],
    *,
    run: str = "",
    how: str = "approve",
) -> dict[str, Any]:
    """Run one phase in a process of its own and read what it saw. The store is named by ``env``.

    Raises `GovernorError`.
    """
    report = folder / f"{framework}-{phase}.json"
    words = [sys.executable, "-m", "governor_agents.demo", phase, "--framework", framework]
    words += ["--run", run, "--decide", how, "--report", str(report)]
    asking = phase == "decide" and how == "ask"
    done = subprocess.run(
        words,
        env={**os.environ, **env},  # not among the arguments, which everybody on the machine can read
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
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


class Beside:
    """A command of this package that runs beside the demo until it is stopped. What it says is kept in a file."""

    def __init__(self, name: str, words: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("w", encoding="utf-8") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "governor_agents", *words],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def said(self) -> str:
        """What it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def check(self) -> None:
        """Raise `GovernorError` with its last words when it has ended."""
        code = self._process.poll()
        if code is not None:
            last = [line.removeprefix("governor-agents: ") for line in self.said().strip().splitlines()[-1:]]
            last = last or [f"exit code {code}"]
            raise GovernorError(last[0] if code == 2 else f"the demo's {self.name} process has ended: {last[0]}")

    def stop(self) -> None:
        """Let it come to rest, and wait for that. Twice is fine."""
        self._process.terminate()
        try:
            self._process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def until(
    look: Callable[[], T | None], what: str, *beside: Beside, patience: float = TIMEOUT, every: float = LOOK
) -> T:
    """What ``look`` gives once it gives something, while these processes live. Raises `GovernorError`."""
    end = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        for process in beside:
            process.check()
        if time.monotonic() > end:
            raise GovernorError(f"{what} did not come within {patience:.0f} seconds")
        time.sleep(every)
