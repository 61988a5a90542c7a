"""One stretch of an agent loop: what was decided before it, and how it is stopped without harming what still runs.

The SDK answers an exception in one tool by cancelling the tools beside it. A cancelled tool leaves a doubt, so whoever
stops the loop first waits until the other tools are done. And since an agent used as a tool turns its inner agent's
exceptions into words for the outer model, the stop is kept here, where the outer tool finds it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn

from governor_agents.claims import Claim
from governor_agents.core.calls import ToolCall
from governor_agents.core.records import Call
from governor_agents.responses import Chain

_chain: ContextVar[tuple[object, ...]] = ContextVar("governor_agents_openai_chain", default=())
_enclosing: ContextVar[Chain] = ContextVar("governor_agents_openai_enclosing", default=())


class Stretch:
    """What the tools of one start or resume share. Lives on the loop the SDK runs on.

    ``decided`` are the run's calls by call id; ``begun`` the call ids of agent tools whose inner agent is paused in the
    snapshot; ``error`` is why the loop stops.
    """

    def __init__(self, calls: Sequence[Call] = (), begun: frozenset[str] = frozenset()) -> None:
        self.decided: Mapping[str, Call] = {call.call_id: call for call in calls}
        self.begun = begun
        self.error: Exception | None = None
        self._seen: dict[str, tuple[str, str, bytes]] = {}
        self._running: set[object] = set()
        self._stopping: set[object] = set()
        self._changed = asyncio.Event()

    def is_first_of_its_id(self, call: ToolCall) -> bool:
        """False for a call under the id of another: a verdict and a record belong to one id."""
        content = (call.agent, call.tool, call.args)
        return self._seen.setdefault(call.call_id, content) == content

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around the run of one tool, so that a stop waits for it."""
        mine = object()
        token = _chain.set((*_chain.get(), mine))
        self._running.add(mine)
        try:
            yield
        finally:
            _chain.reset(token)
            self._running.discard(mine)
            self._wake()

    @property
    def in_a_tool(self) -> bool:
        """True inside of a tool that runs an agent by itself (not of an agent used as a tool)."""
        return bool(_chain.get())

    async def stop(self, error: Exception) -> NoReturn:
        """Raise the error that stops the loop, once no tool beside this one runs; the first error stays."""
        self.error = self.error or error
        await self.alone()
        raise self.error

    async def alone(self) -> None:
        """Wait until no tool runs, but those that themselves wait here or enclose this one."""
        self._stopping.update(_chain.get())
        self._wake()
        while self._running - self._stopping:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


_current: ContextVar[Stretch | None] = ContextVar("governor_agents_openai_stretch", default=None)


def stretch_here() -> Stretch | None:
    """The stretch this code runs in, None outside of one."""
    return _current.get()


def current_stretch() -> Stretch:
    """The stretch this code runs in; one of its own for a tool called under a claim of another adapter."""
    return _current.get() or Stretch()


@contextmanager
def within(stretch: Stretch) -> Iterator[None]:
    """Make a stretch the current one. What is around it is none of it: another process goes on with it elsewhere."""
    tokens = _current.set(stretch), _chain.set(()), _enclosing.set(())
    try:
        yield
    finally:
        _current.reset(tokens[0])
        _chain.reset(tokens[1])
        _enclosing.reset(tokens[2])


def enclosing() -> Chain:
    """The ids of the calls whose tools are around this code, outermost first."""
    return _enclosing.get()


@contextmanager
def inside(call_id: str, claim: Claim | None) -> Iterator[None]:
    """Around the body of a tool: a loop that it runs has a place of its own."""
    chain = (*_enclosing.get(), call_id)
    if claim is not None:
        claim.responses.enter(chain)
    token = _enclosing.set(chain)
    try:
        yield
    finally:
        _enclosing.reset(token)
        if claim is not None:
            claim.responses.leave(chain)
