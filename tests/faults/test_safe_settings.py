"""SQLite is used safely or not at all: read-only files, settings that lose writes, many processes at once.

Which settings and file systems are refused stands in ``tests/unit/sqlite/test_file.py``; here, what follows from them.
"""
# ruff: noqa: ASYNC240

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from governor_agents.errors import StoreUnavailable, UnsafeStore
from tests.faults.app import governed

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 4
COUNT = 2_000 if os.environ.get("GOVERNOR_NIGHTLY") else 200


@contextmanager
def nobody() -> Iterator[None]:
    """As a user for whom modes of files mean something, also when the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o700)


async def made(path: Path) -> None:
    """A store that somebody made and left."""
    async with governed(f"sqlite:///{path}"):
        pass


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_open_refuses_what_cannot_be_written(what: str, folder: Path) -> None:
    """A read-only file, or a folder in which no log can be made: refused when it is opened, not at the first decision."""
    path = folder / "g.db"
    await made(path)
    path.chmod(0o444 if what == "file" else 0o666)
    folder.chmod(0o777 if what == "file" else 0o555)
    with nobody():
        governor = governed(f"sqlite:///{path}")
        with pytest.raises(StoreUnavailable) as refused:
            await governor.open()
        await governor.close()
    assert "cannot be written; mend the owner and mode" in str(refused.value)
    assert str(refused.value).count("\n") == 0
    path.chmod(0o600)
    folder.chmod(0o755)
    await made(path)  # once it is mended, it opens


async def trail(governor: Any) -> list[dict[str, Any]]:
    """The audit events of the store's opening."""
    events = governor.audit.newest(security=True, what="store.unsafe")
    found: list[dict[str, Any]] = await governor.loop.bridge(events)
    return found


async def test_opening_an_unsafe_store_all_the_same_is_audited(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused without the word; with it, the log says what is wrong, and the audit log that it was opened so."""
    url = f"sqlite:///{tmp_path}/g.db?synchronous=off"
    with pytest.raises(UnsafeStore):
        await governed(url).open()
    async with governed(f"{url}&unsafe=allow") as governor:
        with caplog.at_level(logging.WARNING):
            await governor.open()
        (event,) = await trail(governor)
        assert event["detail"].startswith("synchronous is off, so a power cut can take back what was answered")
        assert f"/{os.getpid()}/" in event["by"]
        assert not (await governor.loop.bridge(governor.audit.verify())).findings
    async with governed(f"{url}&unsafe=allow") as again:
        assert len(await trail(again)) == 2, "each process that opens it so"
    assert any("unsafe=allow" in record.message and "synchronous is off" in record.message for record in caplog.records)


async def test_opening_a_safe_store_leaves_no_event(tmp_path: Path) -> None:
    """The control: nothing is said where nothing is wrong."""
    async with governed(f"sqlite:///{tmp_path}/g.db") as governor:
        assert await trail(governor) == []


def transitions(url: str, processes: int) -> list[dict[str, Any]]:
    """So many processes make transitions at the same time; what each says."""
    command = [sys.executable, "-m", "benchmarks.transitions", url, str(COUNT)]
    with ExitStack() as stack:
        working = [
            stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(processes)
        ]
        for process in working:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in working:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate()[0]) for process in working]


@pytest.mark.timeout(900)
def test_four_processes_never_find_the_database_locked(tmp_path: Path) -> None:
    """Transitions as fast as they go: writers queue, none is refused."""
    said = transitions(f"sqlite:///{tmp_path}/g.db", PROCESSES)
    assert [one["errors"] for one in said] == [0] * PROCESSES, said
    assert sum(one["made"] for one in said) == PROCESSES * COUNT


@pytest.mark.timeout(900)
async def test_processes_that_do_not_wait_find_it_locked(tmp_path: Path) -> None:
    """The control: the same without patience meets locks, so there was something to wait for."""
    await made(tmp_path / "g.db")  # nobody must wait to open it
    said = transitions(f"sqlite:///{tmp_path}/g.db?busy_timeout=0", PROCESSES)
    assert sum(one["errors"] for one in said) >= 1
    assert any("keeps it locked" in one["error"][0] for one in said if one["error"])
