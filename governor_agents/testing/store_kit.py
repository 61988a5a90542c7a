"""What the tests of the store kit stand on: the fixtures, and other processes."""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from governor_agents.core.ports import Store
from governor_agents.testing.kit import Kit
from governor_agents.testing.store_samples import Run

# The modules with the tests all import this one first, so pytest can explain the asserts in them when they fail.
pytest.register_assert_rewrite(
    "governor_agents.testing.store_processes",
    "governor_agents.testing.store_races",
    "governor_agents.testing.store_reads",
    "governor_agents.testing.store_writes",
)


class NewStore(Protocol):
    """Makes store objects that are not open yet; all of one test reach the same, at first empty, place."""

    def __call__(self, **options: Any) -> Store:
        """One more store object. ``options`` are those of the driver, such as ``clock``."""
        ...


class StoreKit(Kit):
    """Fixtures of the kit. Override ``new_store``; the rest stands on it."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        """Override me: how to make a store object over this test's own, empty place."""
        raise NotImplementedError("override the fixture new_store of the store kit")

    @pytest.fixture
    def open_store(self, new_store: NewStore, run: Run) -> Iterator[NewStore]:
        """Like ``new_store``, but the objects are open, and closed after the test."""
        opened: list[Store] = []

        def open_one(**options: Any) -> Store:
            store = new_store(**options)
            opened.append(store)
            run(store.open())
            return store

        yield open_one
        for store in opened:
            run(store.close())

    @pytest.fixture
    def store(self, open_store: NewStore) -> Store:
        """An open store, empty."""
        return open_store()


class Child:
    """Another Python process that has the same store open and does one thing to it (see `store_child`)."""

    def __init__(self, opener: str, url: str, *words: str) -> None:
        self._command = [sys.executable, "-m", "governor_agents.testing.store_child", opener, url, *words]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Child:
        """Start it."""
        paths = os.pathsep.join(path or "." for path in sys.path)
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave no process behind."""
        await self.kill()

    async def line(self) -> str:
        """The next line it says."""
        assert self._process is not None and self._process.stdout is not None
        said = await self._process.stdout.readline()
        assert said, "the child process ended early; its error stands above"
        return said.decode().strip()

    async def go(self) -> None:
        """Let it begin."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        await self._process.stdin.drain()

    async def kill(self) -> list[str]:
        """End it at once (SIGKILL where there are signals); the whole lines it said that nobody has read yet."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        rest, _ = await self._process.communicate()
        return rest.decode().split("\n")[:-1]
