"""The disk fails under a worker: it stays alive, says so once, goes on when that is mended, and drops nothing."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Worker
from governor_agents.core.records import CallState, RunState
from governor_agents.errors import StoreError, StoreUnavailable
from governor_agents.worker.absence import Absence
from tests.faults.shop import ANN, LOOKS, Shop, said, working


def fill(ballast: Path) -> None:
    """Write until there is no room left."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 512):
            pass


def jam(path: Path, seconds: float) -> None:
    """Let no write through for so long, as a disk does whose flush does not end."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    threading.Event().wait(seconds)
    connection.execute("COMMIT")
    connection.close()


async def test_a_directory_that_vanishes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing runs while the directory is gone; when it is back, what was approved runs, once."""
    folder = tmp_path / "data"
    folder.mkdir()
    shop = Shop(folder / "store.db")
    async with shop.governor:
        run = await shop.approved(1)
        folder.rename(tmp_path / "gone")
        async with working(shop) as worker:
            await worker.trouble(LOOKS)
            assert shop.ran == [] and len(said(caplog)) == 1 and "moved or replaced" in said(caplog)[0]
            (tmp_path / "gone").rename(folder)
            assert (await shop.end(run)).status == "completed"
    assert shop.ran == [1]


async def test_a_worker_that_says_it_in_a_loop_would_be_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of these tests: without its memory the worker complains at every look."""
    fails = Absence.fails

    def forgetful(self: Absence, *rest: Any) -> None:
        self.error = None
        fails(self, *rest)

    monkeypatch.setattr(Absence, "fails", forgetful)
    folder = tmp_path / "data"
    folder.mkdir()
    shop = Shop(folder / "store.db")
    async with shop.governor:
        await shop.approved(1)
        folder.rename(tmp_path / "gone")
        async with working(shop) as worker:
            await worker.trouble(LOOKS)
            assert len(said(caplog)) >= LOOKS


async def test_a_store_that_is_not_there_yet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that starts before its disk is mounted waits for it; one that is to end when nothing is due raises."""
    made = Shop(tmp_path / "store.db")
    async with made.governor:
        run = await made.approved(1)
    (tmp_path / "data").mkdir()
    shop = Shop(tmp_path / "late" / "store.db")
    with pytest.raises(StoreUnavailable, match="is not a directory"):
        await Worker(shop.governor).run(once=True)
    async with working(shop) as worker:
        await worker.trouble(LOOKS)
        assert len(said(caplog)) == 1 and "is not a directory" in said(caplog)[0]
        shutil.copyfile(tmp_path / "store.db", tmp_path / "data" / "store.db")
        (tmp_path / "data").rename(tmp_path / "late")
        assert (await shop.end(run)).status == "completed"
    await shop.governor.close()
    assert shop.ran == [1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte, in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, f"a small tmpfs is needed, so run this as root (CAP_SYS_ADMIN): {done.stderr}"
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asks is told that there is no room; the worker runs nothing that it could not write down, then goes on."""
    shop = Shop(small_disk / "store.db")
    async with shop.governor as governor:
        runs = [await shop.approved(amount) for amount in range(3)]
        ballast = small_disk / "ballast"
        fill(ballast)
        with pytest.raises(StoreUnavailable, match="no room left"):
            await shop.pay.ask(99)
        async with working(shop) as worker:
            await worker.trouble(LOOKS)
            assert shop.ran == [] and len(said(caplog)) == 1 and "no room left" in said(caplog)[0]
            ballast.unlink()
            for run in runs:
                assert (await shop.end(run)).status == "completed"
        assert sorted(shop.ran) == [0, 1, 2] and len(await governor.list_runs()) == 3


async def test_a_disk_that_fills_up_after_the_tool_ran(small_disk: Path) -> None:
    """The effect is there and its result cannot be written: a doubt in the end, never a second effect."""
    shop = Shop(small_disk / "store.db", lease=1.0)
    ballast = small_disk / "ballast"

    @shop.governor.govern(name="pay_and_fill", approvers=[ANN])
    async def pay_and_fill() -> str:
        shop.ran.append(1)
        fill(ballast)
        return "r" * 4000

    async with shop.governor as governor:
        pending = await pay_and_fill.ask()
        await governor.decide(pending.approval, Decision.approve(), by=ANN)
        async with working(shop) as worker:
            await worker.trouble(1)
            ballast.unlink()
            run = await governor.wait(
                pending.run, timeout=90, until=lambda run: run.state.ended or run.state is RunState.BLOCKED
            )
            assert run.calls[0].state in (CallState.UNKNOWN, CallState.SUCCEEDED)
    assert shop.ran == [1]


async def test_a_disk_that_is_slow(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No write comes through for longer than the lease: it waits, nothing is lost and nothing runs twice."""
    shop = Shop(tmp_path / "store.db", lease=1.0)
    async with shop.governor:
        runs = [await shop.approved(amount) for amount in range(5)]
        jammed = asyncio.create_task(asyncio.to_thread(jam, tmp_path / "store.db", 2.5))
        async with working(shop):
            for run in runs:
                assert (await shop.end(run)).status == "completed"
            await jammed
    assert sorted(shop.ran) == [0, 1, 2, 3, 4] and said(caplog) == []


def damaged(path: Path, how: str) -> None:
    """Damage the main file of a closed store."""
    size = path.stat().st_size
    if how == "truncated":
        os.truncate(path, size // 3)
    else:
        with path.open("r+b") as file:
            for at in range(4096, size, 512):  # the schema's page stays: it opens, and then cannot be read
                file.seek(at)
                there = file.read(16)
                file.seek(at)
                file.write(bytes(255 - byte for byte in there))


def restore(backup: Path, path: Path) -> None:
    """Put the whole file in the place of the damaged one, with nothing left of its log."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    shutil.copyfile(backup, path)


@pytest.mark.parametrize("how", ["truncated", "flipped"])
async def test_a_damaged_file(how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing runs from a damaged file; with the whole one in its place everything is there, and runs once."""
    path = tmp_path / "store.db"
    async with Shop(path).governor as governor:
        shop = Shop(path)
        runs = [await shop.approved(amount) for amount in range(20)]
        await shop.governor.close()
    shutil.copyfile(path, tmp_path / "whole.db")
    damaged(path, how)
    shop = Shop(path)
    try:
        async with shop.governor, working(shop) as worker:
            await worker.trouble(LOOKS)
            assert len(said(caplog)) == 1 and "damaged" in said(caplog)[0]
    except StoreError as error:  # it does not even open
        assert "damaged" in str(error) or "not a SQLite database" in str(error)
    assert shop.ran == []
    restore(tmp_path / "whole.db", path)
    shop = Shop(path)
    async with shop.governor as governor, working(shop):
        for run in runs:
            assert (await shop.end(run)).status == "completed"
        assert len(await governor.list_runs()) == 20
    assert sorted(shop.ran) == list(range(20))
