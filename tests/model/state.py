"""What the walk moves through: a `World`, small enough to be counted, and the canonical form of a record.

The record in a world is a real `Run`, made by nothing but the real transition functions. Three things keep the space
finite without leaving anything out that a rule reads:

* **Times are ages.** Every moment is written as `NOW`, or as far after it as the rules put it. Whether a lease, a
  deadline, a flight of a request is over is no part of a world: a step may find it over, or not, at any moment
  (`aged`), so no clock is trusted.
* **Fences are ranks.** Only equal and greater mean anything; the fences in use are numbered 1, 2, 3 ...
* **The dead are one.** A process that died never acts again; its name becomes `DEAD`. The living are interchangeable:
  of two worlds that differ in who is ``w1`` and who ``w2``, one is walked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from governor_agents.core.records import Attempt, Call, CallState, Lease, Notice, Run

NOW, LEASE, LONG = 1_000_000.0, 30.0, 900_000.0
NAMES = ("w1", "w2")
DEAD = "dead"
TAKEN = 60.0
MOST_HANDED = 4
"""How many hand-overs are remembered of a seat that goes back and forth."""
NO_COPY, RESTORED = -1, -2
"""Where no copy of the store was taken yet, and where one was put back."""


class Hand(NamedTuple):
    """A call whose intent a worker made durable, as the worker has it in its hands.

    ``phase``: ``begun`` (the tool is not called yet), ``sent`` (its request is out), ``ok`` or ``raised`` (it came back);
    ``cut`` when the worker was cut off before the request was out, and the tool's thread may still send it.
    """

    n: int
    attempt: int
    fence: int
    key: str
    phase: str = "begun"


class Worker(NamedTuple):
    """A process: the fences of the claims it believes in, newest first, and the calls in its hands."""

    claims: tuple[int, ...] = ()
    hands: tuple[Hand, ...] = ()


class Flight(NamedTuple):
    """A request on its way. It outlives its sender (``sender`` 2: dead, or waits no more) and may still land."""

    n: int
    key: str
    sender: int


class World(NamedTuple):
    """Everything there is between two steps. ``run`` is the record's number in the `Book`.

    ``seen``: per approver and call, whether the approver looked at it as it is (1) or as it was before (2).
    ``effects``: per call and key, how often it took effect outside (2 stands for more). ``copy``: the record as it was
    when somebody took a copy of the store; effects outside are not in it.
    """

    run: int
    workers: tuple[Worker, ...]
    seen: tuple[tuple[int, ...], ...] = ()
    flights: tuple[Flight, ...] = ()
    effects: tuple[tuple[int, str, int], ...] = ()
    halted: bool = False
    copy: int = NO_COPY


@dataclass(frozen=True, slots=True)
class Facts:
    """What is asked of a record again and again."""

    fences: frozenset[int]
    digests: tuple[tuple[int, str], ...]


def still(run: Run, outbox: bool) -> Run:
    """The record without moments, words and chains that no rule reads."""
    return replace(
        run,
        calls=tuple(_still_call(call) for call in run.calls),
        outbox=tuple(_still_notice(notice) for notice in run.outbox) if outbox else (),
        created=NOW,
        updated=NOW,
        ended=None,
        error="",
        output_json="",
        blocked_detail="",
        cancel_reason="",
        not_before=0.0,
        seq=0,
        chain="",
        keyed=False,
        chained=0.0,
        closed=(),
        lease=run.lease and Lease(run.lease.owner, NOW + LEASE),
        waiter=run.waiter and Lease(run.waiter.owner, NOW + LEASE),
        ready_since=None if run.ready_since is None else NOW,
    )


def _still_call(call: Call) -> Call:
    within = call.stages[call.stage].within if call.stage_expires is not None else None
    return replace(
        call,
        told=call.told if call.state is CallState.ANSWERED else "",
        created=NOW,
        shown=None,
        why="",
        code="",
        resolved=None,
        lapsed=None if call.lapsed is None else NOW,
        stage_expires=None if within is None else NOW + within,
        votes=tuple(replace(vote, at=NOW, reason="", channel="") for vote in call.votes),
        handed=tuple(replace(over, at=NOW) for over in call.handed[-MOST_HANDED:]),
        taken_up=call.taken_up and replace(call.taken_up, at=NOW),
        comments=tuple(replace(said, at=NOW) for said in call.comments),
        attempts=tuple(_still_attempt(attempt) for attempt in call.attempts),
    )


def _still_attempt(attempt: Attempt) -> Attempt:
    return replace(attempt, at=NOW, died=None if attempt.died is None else NOW)


def _still_notice(notice: Notice) -> Notice:
    taken = NOW + TAKEN if notice.taken > NOW else 0.0
    return replace(notice, due=NOW if notice.due <= NOW else NOW + TAKEN, tries=0, taken=taken)


def aged(
    run: Run,
    *,
    lease: bool = False,
    waiter: bool = False,
    ready: bool = False,
    first: bool = False,
    lapses: bool = False,
    deaths: bool = False,
) -> Run:
    """The record at a later look: what is named is over, all else has been renewed or is fresh.

    ``lease``, ``waiter``: nobody renewed it. ``ready``: the run has been READY for long. ``first``: the first attempt
    lies long back; ``lapses``, ``deaths``: so do the moments at which attempts were given up, or their workers seen dead.
    """
    if lease and run.lease:
        run = replace(run, lease=Lease(run.lease.owner, NOW))
    if waiter and run.waiter:
        run = replace(run, waiter=Lease(run.waiter.owner, NOW))
    if ready and run.ready_since is not None:
        run = replace(run, ready_since=NOW - LONG)
    if first or lapses or deaths:
        run = replace(run, calls=tuple(_aged_call(call, first, lapses, deaths) for call in run.calls))
    return run


def _aged_call(call: Call, first: bool, lapses: bool, deaths: bool) -> Call:
    attempts = call.attempts
    if first and attempts:
        attempts = (replace(attempts[0], at=NOW - LONG), *attempts[1:])
    if deaths:
        attempts = tuple(replace(made, died=None if made.died is None else NOW - LONG) for made in attempts)
    if lapses:
        call = replace(call, lapsed=None if call.lapsed is None else NOW - LONG)
    return replace(call, attempts=attempts)


def renamed(run: Run, names: dict[str, str]) -> Run:
    """The record with its workers' names changed."""

    def lease(held: Lease | None) -> Lease | None:
        return held and Lease(names.get(held.owner, held.owner), held.until)

    calls = tuple(
        replace(
            call,
            attempts=tuple(replace(made, owner=names.get(made.owner, made.owner)) for made in call.attempts),
        )
        for call in run.calls
    )
    return replace(run, lease=lease(run.lease), waiter=lease(run.waiter), calls=calls)


def ranked(run: Run, ranks: dict[int, int]) -> Run:
    """The record with its fences changed."""
    calls = tuple(
        replace(call, attempts=tuple(replace(made, fence=ranks.get(made.fence, 0)) for made in call.attempts))
        for call in run.calls
    )
    return replace(run, fence=ranks.get(run.fence, run.fence), calls=calls)


class Book:
    """Every record that was met, under a number; equal records share one, and what was made of one is made once."""

    def __init__(self, outbox: bool = False) -> None:
        self.outbox = outbox
        self.runs: list[Run] = []
        self.facts: list[Facts] = []
        self._numbers: dict[Run, int] = {}
        self._ranked: dict[tuple[int, tuple[int, ...]], int] = {}
        self._swapped: dict[int, int] = {}
        self._crashed: dict[tuple[int, int], int] = {}

    def number(self, run: Run) -> int:
        """The number of a record, in its canonical form."""
        return self._enter(still(run, self.outbox))

    def _enter(self, run: Run) -> int:
        found = self._numbers.get(run)
        if found is None:
            found = self._numbers[run] = len(self.runs)
            self.runs.append(run)
            fences = {made.fence for call in run.calls for made in call.attempts} | {run.fence}
            digests = tuple((call.n, call.digest) for call in run.calls if call.stages)
            self.facts.append(Facts(frozenset(fences - {0}), digests))
        return found

    def crashed(self, run: int, worker: int) -> int:
        """The record once a worker's process is dead; nothing of it changes but whom its name means."""
        found = self._crashed.get((run, worker))
        if found is None:
            found = self._crashed[run, worker] = self._enter(renamed(self.runs[run], {NAMES[worker]: DEAD}))
        return found

    def aside(self, run: int) -> int:
        """The record as a copy keeps it: whoever works on it now is dead when it is put back."""
        fences = sorted(self.facts[run].fences)
        ranks = {fence: rank for rank, fence in enumerate(fences, 1)}
        return self._enter(renamed(ranked(self.runs[run], ranks), dict.fromkeys(NAMES, DEAD)))

    def canonical(self, world: World) -> tuple[World, bool]:
        """The world that stands for all that are like this one, and whether the workers' names were exchanged."""
        world = self._rank(world)
        if len(world.workers) < 2:
            return world, False
        run = self._swapped.get(world.run)
        if run is None:
            first, second = NAMES
            run = self._enter(renamed(self.runs[world.run], {first: second, second: first}))
            self._swapped[world.run], self._swapped[run] = run, world.run
        flights = tuple(sorted(flight._replace(sender=(1, 0, 2)[flight.sender]) for flight in world.flights))
        other = world._replace(run=run, workers=world.workers[::-1], flights=flights)
        return (other, True) if other < world else (world, False)

    def _rank(self, world: World) -> World:
        fences = set(self.facts[world.run].fences)
        for worker in world.workers:
            fences.update(worker.claims)
            fences.update(hand.fence for hand in worker.hands)
        if not fences or max(fences) == len(fences):
            return world
        order = tuple(sorted(fences))
        ranks = {fence: rank for rank, fence in enumerate(order, 1)}
        run = self._ranked.get((world.run, order))
        if run is None:
            run = self._ranked[world.run, order] = self._enter(ranked(self.runs[world.run], ranks))
        workers = tuple(
            Worker(
                tuple(ranks[fence] for fence in worker.claims),
                tuple(hand._replace(fence=ranks[hand.fence]) for hand in worker.hands),
            )
            for worker in world.workers
        )
        return world._replace(run=run, workers=workers)


def with_worker(world: World, at: int, worker: Worker) -> World:
    """The world with one worker changed."""
    return world._replace(workers=(*world.workers[:at], worker, *world.workers[at + 1 :]))


def with_effect(world: World, flight: Flight, most: int) -> World:
    """The world in which a request has landed. ``most``: how many effects are told apart."""
    flights = list(world.flights)
    flights.remove(flight)
    counts = {(n, key): times for n, key, times in world.effects}
    counts[flight.n, flight.key] = min(counts.get((flight.n, flight.key), 0) + 1, most)
    effects = tuple(sorted((n, key, times) for (n, key), times in counts.items()))
    return world._replace(flights=tuple(flights), effects=effects)
