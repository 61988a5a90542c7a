"""Crash points: nothing unless armed, a real SIGKILL when armed, and in every process only that process."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from governor_agents import crash

ROOT = Path(__file__).resolve().parents[2]
REACH = "from governor_agents.crash import crash_point\nfor _ in range(3):\n    crash_point('here:before')\n    print('alive', flush=True)\n"


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that runs this code."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path, **env}, capture_output=True, text=True
    )


def test_an_unarmed_point_does_nothing() -> None:
    """The production build passes its points and remembers none of them."""
    assert crash._armed is None
    crash.crash_point("anything:before")
    assert crash.points() == ()


def test_another_name_does_nothing() -> None:
    """Only the armed point kills."""
    done = run(REACH, GOVERNOR_CRASH="elsewhere:before")
    assert (done.returncode, done.stdout) == (0, "alive\n" * 3)


@pytest.mark.parametrize(("armed", "lines"), [("here:before", 0), ("here:before:1", 0), ("here:before:3", 2)])
def test_an_armed_point_kills_its_process(armed: str, lines: int) -> None:
    """``NAME`` the first time, ``NAME:3`` the third time, with a signal that nothing can catch."""
    done = run(REACH, GOVERNOR_CRASH=armed)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "alive\n" * lines)


def test_points_are_noted_while_watched() -> None:
    """A dry run says which points there are, in order, each as often as it was reached."""
    done = run(
        "from governor_agents import crash\n"
        "crash.watch()\n"
        "for name in ('a', 'b', 'a'): crash.crash_point(name)\n"
        "print(crash.points())"
    )
    assert done.stdout == "('a', 'b', 'a')\n"


def test_no_code_of_the_package_imports_tests() -> None:
    """What is shipped stands without its tests; only tests arm a point."""
    for path in (ROOT / "governor_agents").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "tests"], path
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert path.name == "crash.py" or called not in ("arm", "watch", "crash.arm", "crash.watch"), path
