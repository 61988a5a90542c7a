"""Work of others, within a time: what hangs is left behind, even if it does not let itself be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from governor_agents.errors import GovernorError

T = TypeVar("T")


class TimedOut(Exception):
    """The work was not done in time. Nobody knows how far it got."""


async def bounded(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """What the work gives or raises. Raises `TimedOut`; the work is cancelled then, and not waited for."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        _leave(task)
        raise
    if not done:
        _leave(task)
        raise TimedOut
    return task.result()


def _leave(task: asyncio.Future[Any]) -> None:
    task.cancel()
    task.add_done_callback(_look)


def _look(task: asyncio.Future[Any]) -> None:
    """Whatever it raises in the end was said as a time-out already."""
    if not task.cancelled():
        task.exception()


def words(error: BaseException) -> str:
    """An error on one line, as text that can be stored: our own as they are, others with their class."""
    text = str(error) if isinstance(error, GovernorError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
