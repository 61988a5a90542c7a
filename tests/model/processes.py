"""Worker processes for the machine, all in this one: each with a governor of its own on the shared store, and mortal.

A tool call runs on a thread of its own and stops inside the tool, until the machine says what becomes of it: so a worker
can be slow, lose its lease, come back late, or die at the worst moment, and nothing depends on how fast anything is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from governor_agents import Governor
from governor_agents.claims import Claim
from governor_agents.core import driving
from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.records import Change, Run
from governor_agents.errors import GovernorError
from governor_agents.guard import Ran, idempotency_key
from governor_agents.runs import Runs

LEASE = 30.0


class Dead(BaseException):
    """What stands for the end of a process: nothing after it is written."""


class MortalRuns(Runs):
    """The runs as a process sees them that may be dead."""

    alive = True

    async def change(self, *args: Any, **kwargs: Any) -> Change:
        """As ever; but a dead process writes nothing."""
        if not self.alive:
            raise Dead
        return await super().change(*args, **kwargs)


@dataclass(eq=False)
class Hand:
    """A call that a worker began, stopped inside its tool."""

    worker: Process
    n: int
    attempt: int
    key: str
    args: bytes
    said: queue.Queue[Any] = field(default_factory=queue.Queue)
    told: queue.Queue[str] = field(default_factory=queue.Queue)
    thread: threading.Thread | None = None

    def come_back(self, how: str) -> Any:
        """Let the tool come to its end (``ok``, ``raises``, ``dies``); what the guard made of it."""
        self.told.put(how)
        assert self.thread is not None
        self.thread.join(60)
        return self.said.get_nowait()


class Process:
    """One worker, and the claim it believes in."""

    def __init__(self, governor: Governor, name: str) -> None:
        self.governor = governor
        self.name = name
        self.runs = MortalRuns(governor.store, governor.tenant)
        governor.guard._runs = self.runs
        self.claim: Claim | None = None

    def write(self, run: str, step: Callable[[Run, float], Change]) -> Run:
        """Apply a transition as this process."""
        return self.governor.loop.call(self.runs.change(run, step)).run

    def take(self, run: str) -> Run:
        """Claim a run. Raises `Fenced`."""
        after = self.write(run, lambda run, now: driving.claim(run, now, owner=self.name, lease=LEASE))
        if after.lease is not None and after.lease.owner == self.name:
            self.claim = Claim.on(after)
        return after

    def begin(self, call: ToolCall, tool: Tool, n: int) -> Hand | Ran | BaseException:
        """Run a call through the guard, up to the inside of the tool; or what the guard said instead."""
        claim = self.claim
        assert claim is not None
        hand = Hand(self, n, 0, "", b"")
        inside: queue.Queue[Any] = queue.Queue()

        def invoke(args: bytes) -> str:
            hand.key, hand.args = idempotency_key(), args
            inside.put(hand)
            how = hand.told.get()
            if how == "dies":
                self.runs.alive = False
                raise Dead
            if how == "raises":
                raise ValueError("the other side said no")
            return "done"

        def work() -> None:
            try:
                said: Any = self.governor.guard.run_sync(claim, call, tool, invoke)
            except (GovernorError, ValueError, Dead) as error:
                said = error
            hand.said.put(said)
            inside.put(said)

        hand.thread = threading.Thread(target=work, daemon=True)
        hand.thread.start()
        found: Hand | Ran | BaseException = inside.get(timeout=60)
        return found
