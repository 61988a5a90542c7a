"""What the processes of a storm do: one asks, four decide against each other, four work, one watches. Each may be killed
or stopped at any moment, except the watcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import random
import re
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from governor_agents import Decision, Worker
from governor_agents.core.records import Run, RunState
from governor_agents.errors import CallNotRun, DecisionRefused, Fenced, StoreError
from tests.storm.app import APPROVERS, App, Scene, build

UNSETTLED = (RunState.QUEUED, RunState.ACTIVE, RunState.WAITING, RunState.READY)
"""States in which something is still to be done by itself."""

WAITED = 10
"""After so many gates comes one whose caller waits for it; the others are left to the workers."""

AGENTS = 25
"""One gate in so many is a call of an agent, of each framework."""

LOOKS = 4
"""How often in a row the watcher must find nothing."""

ALLOWED, ASKED, FIRST_APPROVER = 0, 1, 2

Part = Callable[[App, Scene, "Board"], Coroutine[Any, Any, None]]


class Board:
    """A few numbers that all processes see, each written by one of them; they only pace the storm."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)

    def __getitem__(self, at: int) -> int:
        return int(struct.unpack_from("q", self._memory, at * 8)[0])

    def __setitem__(self, at: int, value: int) -> None:
        struct.pack_into("q", self._memory, at * 8, value)

    @property
    def decided(self) -> int:
        """How many decisions were acknowledged, some of them twice."""
        return sum(self[FIRST_APPROVER + n] for n in range(len(APPROVERS)))


async def ask(app: App, scene: Scene, board: Board) -> None:
    """Ask for gates, as fast as the board allows; it is told of each by the log, once it is durable."""
    waiting: set[asyncio.Task[None]] = set()
    while board[ASKED] < board[ALLOWED]:
        gate = board[ASKED]
        if gate - board.decided > 40:  # so that gates are open all the time the storm lasts
            await asyncio.sleep(0.02)
            continue
        if gate % WAITED == 1:  # beside the others: a caller that dies before it has asked leaves nothing
            waiting.add(asyncio.create_task(_call(app, gate)))
        agent = {0: "openai", 5: "langchain"}.get(gate % AGENTS) if scene.agents else None
        run = (await app.governor.submit(agent, "go")).id if agent else (await app.move.ask(gate)).run
        scene.asked.write(run=run, gate=gate)
        board[ASKED] = gate + 1
    await asyncio.gather(*waiting)


async def _call(app: App, gate: int) -> None:
    with contextlib.suppress(CallNotRun, Fenced):  # fenced: it was stopped for longer than its lease
        await app.move(gate)


def approve(n: int) -> Part:
    """The part of approver ``n``: decides whatever waits, in the order in which all approvers see it."""

    async def decide(app: App, scene: Scene, board: Board) -> None:
        while True:
            open_now = await app.governor.inbox(limit=16)
            for approval in open_now:
                decision = random.choice((Decision.approve("fine"), Decision.approve("fine"), Decision.reject("no")))
                scene.decided.write(**await _vote(app, approval.id, decision, APPROVERS[n]))
                board[FIRST_APPROVER + n] += 1
            if not open_now:
                await asyncio.sleep(0.03)

    return decide


async def _vote(app: App, approval: str, decision: Decision, by: str) -> dict[str, Any]:
    """What came of a vote, in words for the log."""
    said = {"approval": approval, "by": by, "kind": decision.kind}
    try:
        await app.governor.decide(approval, decision, by=by)
    except DecisionRefused as error:
        found = re.search(r"already (approved|rejected) by (\S+) at", str(error))
        if found is None:
            return {**said, "answer": error.code, "told": str(error)}
        kind = {"approved": "approve", "rejected": "reject"}[found[1]]
        return {**said, "answer": "refused", "winner": [found[2], kind]}
    return {**said, "answer": "counted", "winner": [by, decision.kind]}


async def work(app: App, scene: Scene, board: Board) -> None:
    """A worker; told to stop it finishes what it has in hand."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await Worker(app.governor, concurrency=4).run(stop=stop)


async def watch(app: App, scene: Scene, board: Board) -> None:
    """Return when nothing is left that would be done by itself: a run may slip from state to state past one look."""
    looks = 0
    while looks < LOOKS:
        looks = 0 if await unsettled(app) else looks + 1
        await asyncio.sleep(0.2)


async def unsettled(app: App) -> list[Run]:
    """Runs that something is still to happen to, a page of each state."""
    return [run for state in UNSETTLED for run in await app.governor.list_runs(state=state)]


def play(part: Part, scene: Scene, board: Board, parent: int) -> None:
    """Be this part in a forked process, and end with it. An error is written down and ends the process with 3."""
    code = 0
    try:
        random.seed()
        logging.disable(logging.WARNING)  # doubts are expected here, and counted
        asyncio.run(_with_app(part, scene, board, parent))
    except BaseException:
        code = 3
        scene.trouble.write(part=part.__qualname__, error=traceback.format_exc())
    finally:
        sys.stdout.flush()
        os._exit(code)


async def _with_app(part: Part, scene: Scene, board: Board, parent: int) -> None:
    orphaned = asyncio.create_task(_die_with(parent))
    app = build(scene)
    while True:
        try:
            await app.governor.open()
            break
        except StoreError:  # a stopped process may hold the lock for a while
            await asyncio.sleep(0.1)
    try:
        await part(app, scene, board)
    finally:
        orphaned.cancel()
    await app.governor.close()


async def _die_with(parent: int) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110  nobody tells an orphan
        await asyncio.sleep(0.5)
    os._exit(4)
