"""Which workers count as dead: only those of whom it is certain."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from governor_agents import liveness
from governor_agents.liveness import dead_among, is_dead, this_worker

ROOT = Path(__file__).resolve().parents[2]
SAY = "from governor_agents.liveness import this_worker; print(this_worker(), flush=True)"


def child(after: str = "input()") -> tuple[subprocess.Popen[str], str]:
    """A process that says who it is as a worker, and then does something."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{SAY}\n{after}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.fixture
def living() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A worker that lives until it is killed."""
    process, owner = child()
    yield process, owner
    process.kill()
    process.communicate()


def parts(owner: str, **changes: Any) -> str:
    """The owner with some of its parts changed."""
    named = liveness._OWNER.fullmatch(owner)
    assert named is not None
    return "/".join(str(changes.get(key, value)) for key, value in named.groupdict().items())


def test_a_living_worker_is_not_dead(living: Any) -> None:
    """Neither this process nor another one that runs."""
    assert is_dead(this_worker()) is False
    assert is_dead(living[1]) is False
    assert dead_among([this_worker(), living[1]]) == frozenset()


def test_a_stopped_worker_is_not_dead(living: Any) -> None:
    """SIGSTOP is how a worker looks dead and is not: it may go on with the request it holds."""
    os.kill(living[0].pid, signal.SIGSTOP)
    os.waitid(os.P_PID, living[0].pid, os.WSTOPPED | os.WNOWAIT)
    assert is_dead(living[1]) is False


def test_a_zombie_is_dead_and_so_is_one_that_is_gone(living: Any) -> None:
    """A killed worker that nobody has buried runs nothing any more."""
    process, owner = living
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
    found = liveness.look(process.pid)
    assert found is not None and found.state == "Z" and is_dead(owner) is True
    process.communicate()
    assert liveness.look(process.pid) is None and is_dead(owner) is True


EXIT = {"x86_64": 60, "aarch64": 93}[platform.machine()]
"""The system call that ends one thread."""


def test_a_worker_whose_first_thread_ended_is_not_dead() -> None:
    """It looks like a zombie, but another thread of it may be about to send the money."""
    process, owner = child(
        "import ctypes, threading\n"
        "def other():\n"
        "    while open('/proc/self/stat').read().rpartition(')')[2].split()[0] != 'Z': pass\n"
        "    print('alone', flush=True); input()\n"
        "threading.Thread(target=other).start()\n"
        f"ctypes.CDLL(None).syscall({EXIT}, 0)"
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "alone\n"
        found = liveness.look(process.pid)
        assert found is not None and found.state == "Z" and found.threads > 1
        assert is_dead(owner) is False
    finally:
        process.kill()
        process.communicate()
    assert is_dead(owner) is True


def test_a_pid_that_somebody_else_has_now_is_a_dead_worker(living: Any) -> None:
    """The same number, another start: it was used again."""
    assert is_dead(parts(living[1], ticks=1)) is True


@pytest.mark.parametrize(
    "change",
    [{"host": "elsewhere"}, {"place": "0" * 12}],
    ids=["another host", "another boot or pid namespace"],
)
def test_a_worker_of_elsewhere_is_neither_dead_nor_alive(change: dict[str, str]) -> None:
    """Its pid says nothing here: no such process, or quite another one."""
    process, owner = child("")
    process.communicate()
    assert is_dead(owner) is True
    assert is_dead(parts(owner, **change)) is None
    assert is_dead(parts(this_worker(), **change)) is None


@pytest.mark.parametrize(
    "owner",
    ["", "w1", "host/1", "host/1/2", "host/0/1/{place}/5", "host/-1/1/{place}/5", "host/99999999999/1/{place}/5",
     "{host}/1/1//5", "{host}/²/1/{place}/5", "{host}/4000000000/1/{place}/5", "host\n/1/1/{place}/5"],
)  # fmt: skip
def test_an_owner_of_another_form_is_unknown(owner: str) -> None:
    """Whatever stands there, nothing is concluded from it and no signal goes anywhere."""
    host, _, _, place, _ = this_worker().rsplit("/", 4)
    assert is_dead(owner.replace("{host}", host).replace("{place}", place)) is None


def test_a_process_that_is_hidden_is_unknown(living: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A /proc that shows only one's own processes: it is there, but whose it is cannot be told."""
    mine = this_worker()
    monkeypatch.setattr(liveness, "PROC", tmp_path)
    assert mine == this_worker() and is_dead(living[1]) is None


def test_a_foreign_proc_makes_no_mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a pid namespace with the /proc of another one, ids mean nothing; such a worker is never said to be dead."""
    (tmp_path / "self").symlink_to("1")
    monkeypatch.setattr(liveness, "PROC", tmp_path)
    assert liveness.place() == ""
    monkeypatch.setattr(liveness, "_me", "")
    assert this_worker().count("/") == 2 and is_dead(this_worker()) is False
    assert is_dead(this_worker() + "0") is None


def test_without_proc_a_number_in_use_proves_nothing(living: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine known by its network card: gone is dead, anything else unknown."""
    monkeypatch.setattr(liveness, "PROC", Path("/no-such-proc"))
    monkeypatch.setattr(liveness.uuid, "getnode", lambda: 0x0242AC110002)
    monkeypatch.setattr(liveness, "_me", "")
    owner = parts(this_worker(), pid=living[0].pid)
    assert is_dead(owner) is None
    living[0].kill()
    living[0].communicate()
    assert is_dead(owner) is True
    monkeypatch.setattr(liveness.uuid, "getnode", lambda: 0x0342AC110002 | 1 << 40)  # made up for the occasion
    assert liveness.place() == ""


def test_a_forked_child_is_a_worker_of_its_own() -> None:
    """Else the child would hold the claims of its parent."""
    mine = this_worker()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, this_worker().encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answers:
        theirs = answers.read()
    assert theirs != mine and this_worker() == mine
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(theirs) is True
    os.waitpid(pid, 0)
