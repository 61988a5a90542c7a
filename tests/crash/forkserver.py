"""A process that loads both frameworks and the package once and forks a fresh child for each job.

A child begins with nothing open: no store, no thread, no event loop. Loading costs seconds and a fork milliseconds, so
hundreds of processes can be killed in minutes. Jobs come in as JSON lines and their exit codes go out as JSON lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import itertools
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 600.0
"""Seconds after which a child hangs for sure, on a machine of any speed."""

HUNG = "hung"
SETTINGS, OURS = "GOVERNOR_", "GOVERNOR_TEST_"
"""No setting of whoever starts the suite reaches the children, but those that are meant for tests."""


class ForkServer:
    """The client's end. ``async with ForkServer("tests.crash.lives") as server: await server.run(...)``."""

    def __init__(self, *preload: str) -> None:
        self._preload = preload
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[int | str]] = {}

    async def __aenter__(self) -> Self:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(SETTINGS) or name.startswith(OURS)
        }
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.crash.forkserver", *self._preload,
            cwd=ROOT, env={**kept, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def run(self, target: str, log: Path, *args: Any) -> int | str:
        """Run ``module:function`` with JSON arguments in a fresh child; its exit code, negative for a signal.

        What it prints goes to ``log``. `HUNG` for a child that did not end in time, and was killed.
        """
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        job = {"number": number, "target": target, "log": str(log), "args": args}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        await self._process.stdin.drain()
        return await answer

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            self._waiting.pop(answer["number"]).set_result(answer["code"])
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(RuntimeError("the fork server is gone"))


# -- the server's end ---------------------------------------------------------------------------------------------------


def serve(preload: Sequence[str]) -> None:
    """Fork a child for each line of stdin, say on stdout how each ended; until stdin ends."""
    for module in preload:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is loaded stays shared with every child
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, tuple[int, float]] = {}
    hung: set[int] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        pending = b""
        while True:
            for key, _ in selector.select(timeout=5.0):
                data = os.read(key.fd, 65536)
                if key.fd != 0:
                    continue
                if not data:
                    return
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    job = json.loads(line)
                    children[fork(job)] = (job["number"], time.monotonic() + LIMIT)
            _reap(children, hung)


def _reap(children: dict[int, tuple[int, float]], hung: set[int]) -> None:
    for pid, (number, until) in list(children.items()):
        if time.monotonic() > until:
            hung.add(pid)
            os.kill(pid, signal.SIGKILL)
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            del children[pid]
            code = HUNG if pid in hung else os.waitstatus_to_exitcode(status)
            os.write(1, json.dumps({"number": number, "code": code}).encode() + b"\n")


def fork(job: dict[str, Any]) -> int:
    """Start a child for this job; its pid."""
    pid = os.fork()
    if pid == 0:
        _child(job)
    return pid


def _child(job: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, to in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, to)
        module, _, name = job["target"].partition(":")
        code = getattr(importlib.import_module(module), name)(*job["args"]) or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the server's own clean-up is not the child's


if __name__ == "__main__":
    serve(sys.argv[1:])
