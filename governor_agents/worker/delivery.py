"""Telling people: what is due in the outboxes, each channel for itself.

A *lane* is one call and one channel. Lanes go side by side, so a channel that hangs holds up no other and no run; in a
lane notices are told in order. What is told follows from the record as it stands when a notice is taken, never from the
notice.

Identical calls share a card. So that its last edit is made from the newest record, one lane at a time works on a card,
in all processes: it takes a *turn*, a row of the store that lapses by itself should the process die.

Nothing that happens here is a decision: trouble puts the notice off, and the request stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from governor_agents.core import telling
from governor_agents.core.channels import Handler
from governor_agents.core.records import Approval, CallState, Change, Notice, Run, RunState, approval_id
from governor_agents.core.telling import Failure
from governor_agents.crash import crash_point
from governor_agents.errors import DeliveryFailed, NotFound, StoreError
from governor_agents.governor import Governor
from governor_agents.worker.bounded import TimedOut, bounded, words
from governor_agents.worker.channels import Channels
from governor_agents.worker.load import held

log = logging.getLogger("governor_agents.worker")

RETRY_NOTICE = 5.0
"""Seconds until a notice that could not be delivered is tried again, doubled each time."""

MAX_NOTICE_DELAY = 600.0

TAKEN = 60.0
"""Seconds for which a lane has its notices to itself."""

DELIVER = 20.0
"""Seconds in which a handler must have told them."""

TURN = 50.0
"""Seconds after which a turn at a card lapses: longer than to start a handler and deliver, shorter than `TAKEN`."""

ROOM = 8
"""How many lanes of one handler are busy at a time."""

LOOK_AGAIN = 1.0
"""Seconds until a run is looked at again that has a lane under way."""

PATIENCE = (0.05, 0.1, 0.2, 0.5, 0.5)
"""Seconds between two tries for a turn."""

LATER = 5.0
"""Seconds until a notice is looked at again whose card was in other hands all that time."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One call of a run, and one channel."""

    governor: Governor
    run: str
    n: int
    channel: str

    @property
    def handler(self) -> str:
        """The name of the channel's handler."""
        return self.channel.partition(":")[0]

    @property
    def target(self) -> str:
        """What stands behind the handler's name."""
        return self.channel.partition(":")[2]


class Delivery:
    """The lanes of one worker. Handlers run on the event loop of whoever calls it."""

    def __init__(self) -> None:
        self._channels: dict[Governor, Channels] = {}
        self._lanes: dict[Lane, asyncio.Task[bool]] = {}
        self._rooms: dict[tuple[Governor, str], asyncio.Semaphore] = {}
        self._paused: dict[tuple[Governor, str], float] = {}
        self._turns: WeakValueDictionary[tuple[Governor, str, str], asyncio.Lock] = WeakValueDictionary()

    def begin(self, governor: Governor, run: Run, now: float) -> tuple[list[asyncio.Task[bool]], float]:
        """Start a lane for whatever is to be told of this run; those that are under way are not started again.

        A run of another environment is left to its own workers: nobody could decide on a card that is posted from here.
        The tasks, whose results say whether something was told or put off; and in how many seconds it is worth looking
        again, should nobody change the run before: ``inf`` when that is not so.
        """
        begun: list[asyncio.Task[bool]] = []
        again = math.inf
        if run.env != governor.env:
            return begun, again
        for lane in (Lane(governor, run.id, n.n, n.channel) for n in mine(run, now)):
            until = self._paused.get((governor, lane.channel), 0.0)
            if now < until:
                again = min(again, until - now)
            elif lane in self._lanes:
                again = min(again, LOOK_AGAIN)
            else:
                begun.append(self._start(lane))
                again = min(again, LOOK_AGAIN)
        return begun, again

    def _start(self, lane: Lane) -> asyncio.Task[bool]:
        task = asyncio.get_running_loop().create_task(self._worked(lane))
        self._lanes[lane] = task
        task.add_done_callback(lambda done: self._ended(lane, done))
        return task

    def _ended(self, lane: Lane, task: asyncio.Task[bool]) -> None:
        self._lanes.pop(lane, None)
        if not task.cancelled():
            task.exception()  # the store's: whoever looks at the store next meets it too, and says so

    async def finish(self, seconds: float) -> None:
        """Wait for the lanes under way, for so long; then leave them, and close every handler that was started."""
        lanes = list(self._lanes.values())
        if lanes:
            _, left = await asyncio.wait(lanes, timeout=seconds)
            for lane in left:
                lane.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        channels, self._channels = self._channels, {}
        for each in channels.values():
            await each.close()

    # -- one lane ---------------------------------------------------------------------------------------------------

    async def _worked(self, lane: Lane) -> bool:
        """The work of a lane. What stands in its way is said, and left alone for a while."""
        try:
            return await self._work(lane)
        except StoreError:
            raise
        except Exception as error:  # such as a record whose contents are lost: the other lanes go on
            log.error("approval %s, channel %s: %s", approval_id(lane.run, lane.n), lane.channel, words(error))
            await self._put_by(lane, TAKEN)
            return False

    async def _work(self, lane: Lane) -> bool:
        """Tell what is to be told in this lane, one after the other; True when something was told, or put off."""
        did = False
        room = self._rooms.setdefault((lane.governor, lane.handler), asyncio.Semaphore(ROOM))
        while True:
            approval = await _approval(lane)
            if approval is None:  # nobody knows the call any more, so there is nothing to tell
                return await self._step(lane) or did
            async with self._turn(lane, approval) as alone, room:
                wait = await self._pause(lane) if alone else LATER
                if wait:
                    await self._put_by(lane, wait)
                if wait or not await self._step(lane):
                    return did
            did = True

    async def _step(self, lane: Lane) -> bool:
        """Tell what is next; False when nothing is."""
        taken = await self._take(lane)
        if taken is None:
            return False
        run, notice = taken
        approval = await _approval(lane, run)
        failure = None if approval is None else await held(lane.governor, approval, notice)
        if approval is not None and failure is None:
            failure = await self._tell(lane, approval, notice)
        await self._settle(lane, notice, failure)
        return True

    async def _take(self, lane: Lane) -> tuple[Run, Notice] | None:
        """Take what is next in the lane; None when somebody else has it, or nothing is to be told now."""
        taken: list[Notice] = []

        def step(run: Run, now: float) -> Change:
            taken[:] = (replace(notice, taken=now + TAKEN) for notice in mine(run, now, lane.n, lane.channel))
            if not taken:
                return Change(run)
            return telling.take_notices(run, now, until=now + TAKEN, lane=(lane.n, lane.channel))

        runs, bridge = lane.governor.runs, lane.governor.loop.bridge
        with contextlib.suppress(NotFound):
            run = (await bridge(runs.change(lane.run, step, point="notice.taken"))).run
            return (run, taken[0]) if taken else None
        return None

    async def _pause(self, lane: Lane) -> float:
        """For how many seconds the channel wants to be left alone; others may have heard it while this lane waited."""
        until = self._paused.get((lane.governor, lane.channel), 0.0)
        return max(0.0, until - await lane.governor.desk.now()) if until else 0.0

    async def _put_by(self, lane: Lane, seconds: float) -> None:
        """Let nobody look at this lane for a while."""

        def step(run: Run, now: float) -> Change:
            return telling.take_notices(run, now, until=now + seconds, lane=(lane.n, lane.channel))

        with contextlib.suppress(NotFound):
            await lane.governor.loop.bridge(lane.governor.runs.change(lane.run, step, point="notice.put_by"))

    async def _tell(self, lane: Lane, approval: Approval, notice: Notice) -> Failure | None:
        """Let the handler tell; what was in the way, None when nothing was."""
        now = await lane.governor.desk.now()
        try:
            handler = await self._channel(lane.governor).ready(lane.handler, now)
            crash_point("notice:before")
            await bounded(self._hand_over(lane, handler, approval, notice), DELIVER)
            crash_point("notice:after")
        except TimedOut:
            return self._trouble(lane, f"it took longer than {DELIVER:.0f} seconds", RETRY_NOTICE, now)
        except DeliveryFailed as error:
            return self._trouble(lane, words(error), error.retry_after, now)
        except StoreError:
            raise
        except Exception as error:  # a channel's trouble is its own: it must not stop the others
            return self._trouble(lane, words(error), None, now)
        return None

    async def _hand_over(self, lane: Lane, handler: Handler, approval: Approval, notice: Notice) -> None:
        if notice.what in ("decided", "changed"):
            card = await lane.governor.desk.cards.of(approval, lane.channel)
            await handler.update(approval, "" if card is None else card.id, lane.target)
        elif approval.call.state is CallState.PENDING:  # else decided meanwhile: nobody needs to be asked
            await handler.notify(approval, lane.target)

    def _channel(self, governor: Governor) -> Channels:
        return self._channels.setdefault(governor, Channels(governor))

    def _trouble(self, lane: Lane, why: str, after: float | None, now: float) -> Failure:
        """The trouble; where the other side wants to be left alone, nothing else goes to this channel meanwhile."""
        log.warning("approval %s was not told to %s: %s", approval_id(lane.run, lane.n), lane.channel, why)
        if after is None or not math.isfinite(after):
            return Failure(why)
        self._paused[lane.governor, lane.channel] = now + min(max(after, 0.0), telling.MAX_RETRY_AFTER)
        return Failure(why, after)

    async def _settle(self, lane: Lane, notice: Notice, failure: Failure | None) -> None:
        failed = {} if failure is None else {notice.id: failure}

        def step(run: Run, now: float) -> Change:
            return telling.delivered(
                run, now, taken=(notice,), failed=failed, first=RETRY_NOTICE, most=MAX_NOTICE_DELAY
            )

        with contextlib.suppress(NotFound):
            await lane.governor.loop.bridge(lane.governor.runs.change(lane.run, step))

    @contextlib.asynccontextmanager
    async def _turn(self, lane: Lane, approval: Approval) -> AsyncIterator[bool]:
        """Be alone, in all processes, with the card that identical calls share; False when others are busy with it."""
        if not _keeps_cards(lane):
            yield True
            return
        key = (lane.governor, lane.channel, approval.call.fingerprint)
        lock = self._turns.setdefault(key, asyncio.Lock())
        async with lock:
            for wait in PATIENCE:
                async with lane.governor.desk.turn(approval, lane.channel, TURN) as alone:
                    if alone:
                        yield True
                        return
                await asyncio.sleep(wait)
            yield False


def _keeps_cards(lane: Lane) -> bool:
    """False for a channel that says of itself that it keeps none, or that nobody knows."""
    try:
        return bool(getattr(lane.governor.handler(lane.handler), "keeps_cards", True))
    except Exception:  # what is wrong with it is said where it is to be started
        return False


def mine(run: Run, now: float, n: int | None = None, channel: str = "") -> tuple[Notice, ...]:
    """What may be told now, of all calls and channels or of one.

    While the run is driven its pause is not durable yet, so nobody is asked; outcomes are told.
    """
    driven = {call.n for call in run.having(CallState.PENDING)} if run.state is RunState.ACTIVE else set()
    due = (notice for notice in telling.to_deliver(run, now) if notice.n not in driven)
    return tuple(notice for notice in due if n is None or (notice.n, notice.channel) == (n, channel))


async def _approval(lane: Lane, run: Run | None = None) -> Approval | None:
    """The approval of a lane, of the run as it stands or as it is given."""
    runs, bridge = lane.governor.runs, lane.governor.loop.bridge
    run = run or await bridge(runs.find(lane.run))
    call = None if run is None else await bridge(runs.call(run, lane.n))
    return None if run is None or call is None else Approval(run, call)
