"""The walk: breadth first through every world of a configuration, so that a breach comes with the shortest way to it."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from governor_agents.core import halting
from governor_agents.core.records import CallState, RunState, evolve
from governor_agents.errors import GovernorError
from tests.model import checks, events
from tests.model.configurations import Configuration
from tests.model.events import Event
from tests.model.rows import Rows
from tests.model.state import (
    NAMES,
    NO_COPY,
    RESTORED,
    Book,
    Flight,
    Hand,
    Worker,
    World,
    still,
    with_effect,
    with_worker,
)

NEVER_REFUSED = frozenset(
    {
        *("lease over", "deaths", "deadline", "overdue", "all over", "record", "lapse", "notice", "take notices"),
        *("remind", "late notice"),
    }
)
NOT_FAIR = frozenset({"cancel", "decide", "hand over", "beside", "crash", "look", "halt", "copy", "restored"})
"""What a run may not have to hope for to come to its end."""


@dataclass
class Found:
    """What a walk gave. ``breaches`` and ``stuck`` hold the shortest way to each kind of trouble."""

    worlds: int = 0
    steps: int = 0
    records: int = 0
    breaches: dict[str, list[str]] = field(default_factory=dict)
    stuck: dict[str, list[str]] = field(default_factory=dict)
    rows: frozenset[tuple[str, str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Made:
    """What an event made of a record."""

    event: Event
    run: int
    wrong: tuple[str, ...]


class Walk:
    """One configuration, walked once."""

    def __init__(self, config: Configuration) -> None:
        self.config = config
        self.book = Book(config.telling)
        self.rows = Rows()
        self.shown = checks.Bytes()
        self._made: dict[tuple[int, Event], Made | None] = {}
        self._free: dict[int, list[Made]] = {}
        self._driven: dict[tuple[int, int, tuple[int, ...]], list[Made]] = {}

    # -- records ----------------------------------------------------------------------------------------------------

    def make(self, number: int, event: Event) -> Made | None:
        """What the event makes of a record; None when it is refused or changes nothing."""
        key = (number, event)
        if key not in self._made:
            self._made[key] = self._perform(number, event)
        return self._made[key]

    def _perform(self, number: int, event: Event) -> Made | None:
        was = self.book.runs[number]
        try:
            change = self.rows.during(events.perform, was, event, self.config)
        except GovernorError as error:
            if event.what not in NEVER_REFUSED:
                return None
            return Made(event, number, (f"raise: {event.what} was refused: {type(error).__name__}: {error}",))
        except Exception as error:
            return Made(event, number, (f"raise: {event.what}: {type(error).__name__}: {error}",))
        after = self.book.number(change.run)
        if after == number and not change.events:
            return None
        self.rows.keep()
        change = evolve(change, run=still(change.run, outbox=True))
        return Made(event, after, tuple(checks.of_write(was, change, event, self.shown)))

    def all_of(self, number: int, wanted: Iterator[Event]) -> list[Made]:
        """What these events make of a record, without those that are refused."""
        return [made for event in wanted if (made := self.make(number, event)) is not None]

    def free(self, number: int) -> list[Made]:
        """What may happen to a record whatever the workers do: time, people who look and vote at once, the operator."""
        found = self._free.get(number)
        if found is None:
            run, config = self.book.runs[number], self.config
            wanted = [*events.of_time(run), *events.of_operator(run, config)]
            if not config.looks:
                for call in run.calls:
                    if call.stages:
                        wanted += [event for by in config.people for event in events.of_people(call, by, config, False)]
                        wanted += events.of_helpers(call, config)
            if config.telling:
                wanted += [Event("take notices"), Event("take notices", over="time")]
                wanted += [Event("notice", word=word) for word in ("delivered", "failed")]
                wanted.append(Event("late notice"))
            found = self._free[number] = self.all_of(number, iter(wanted))
        return found

    def driven(self, number: int, worker: int, claims: tuple[int, ...]) -> list[Made]:
        """What a worker may make of a record: take it, or act under a claim that it has, or thinks it has."""
        key = (number, worker, claims)
        found = self._driven.get(key)
        if found is None:
            run, name = self.book.runs[number], NAMES[worker]
            found = self.all_of(number, events.of_idle(run, name))
            for fence in claims:
                found += self.all_of(number, events.of_driver(run, name, fence, self.config))
            self._driven[key] = found
        return found

    # -- worlds -----------------------------------------------------------------------------------------------------

    def first(self) -> World:
        """The world in which the walk begins."""
        number = self.book.number(self.rows.during(events.begin, self.config))
        self.rows.keep()
        nobody = tuple(Worker() for _ in range(self.config.workers))
        seen = tuple((0,) * 9 for _ in self.config.people) if self.config.looks else ()
        return World(number, nobody, seen)

    def steps(self, world: World) -> Iterator[tuple[Event, World, tuple[str, ...]]]:
        """Every step that somebody could take now: the event, the world after it, what was wrong with it."""
        for made in self.free(world.run):
            if self._in_good_faith(world, made.event):
                yield made.event, self.written(world, made.run), made.wrong
        if self.config.looks:
            yield from self._people(world)
        for at, worker in enumerate(world.workers):
            yield from self._worker(world, at, worker)
        if self.config.halt:
            yield from self._halting(world)
        if self.config.restores:
            yield from self._restoring(world)
        yield from self._outside(world)

    def _restoring(self, world: World) -> Iterator[tuple[Event, World, tuple[str, ...]]]:
        """A copy of the store is taken, once; later, when all processes are stopped, it is put back and quarantined."""
        if world.copy == NO_COPY:
            yield Event("copy"), world._replace(copy=self.book.aside(world.run)), ()
        elif world.copy >= 0 and not world.flights:
            made = self.make(world.copy, Event("restored"))
            run, wrong = (world.copy, ()) if made is None else (made.run, made.wrong)
            nobody = tuple(Worker() for _ in world.workers)
            yield Event("restored"), self.written(world, run)._replace(workers=nobody, copy=RESTORED), wrong

    def written(self, world: World, run: int) -> World:
        """The world with a new record; who had looked at a call that changed has looked at what it was."""
        if run == world.run:
            return world
        if world.seen and self.book.facts[run].digests != self.book.facts[world.run].digests:
            before = dict(self.book.facts[world.run].digests)
            changed = [n for n, digest in self.book.facts[run].digests if before.get(n, digest) != digest]
            seen = tuple(tuple(2 if n in changed and at else at for n, at in enumerate(row)) for row in world.seen)
            return world._replace(run=run, seen=seen)
        return world._replace(run=run)

    def _in_good_faith(self, world: World, event: Event) -> bool:
        """True when somebody could say this in good faith: he looks outside where the record says that it must be."""
        run = self.book.runs[world.run]
        if event.what == "resolve":
            return self._true(world, event)
        if event.what == "repair":
            return not any(n > run.count for n, _, _ in world.effects)
        call = run.call(event.n)
        if event.what == "decide" and event.word not in ("reject", "respond") and call is not None and call.restored:
            return not any(n == event.n for n, _, _ in world.effects)
        return True

    def _true(self, world: World, event: Event) -> bool:
        """True when an operator could say this of a doubt."""
        count = self.book.runs[world.run].count  # what an old copy does not know of can be seen outside all the same
        happened = any(n == event.n or n > count for n, _, _ in world.effects)
        if event.word == "did-not-happen":
            flying = any(flight.sender == 2 and flight.n == event.n for flight in world.flights)
            return not happened and not (event.over == "flight" and flying)
        return event.word == "abandon" or happened

    def _people(self, world: World) -> Iterator[tuple[Event, World, tuple[str, ...]]]:
        run = self.book.runs[world.run]
        for at, by in enumerate(self.config.people):
            row = world.seen[at]
            for call in run.calls:
                if not call.stages:
                    continue
                n = call.n
                if row[n] != 1 and call.state is CallState.PENDING:
                    seen = (*world.seen[:at], (*row[:n], 1, *row[n + 1 :]), *world.seen[at + 1 :])
                    yield Event("look", by, n), world._replace(seen=seen), ()
                if row[n]:
                    for event in events.of_people(call, by, self.config, row[n] == 2):
                        made = self.make(world.run, event)
                        if made is not None:
                            yield event, self.written(world, made.run), made.wrong

    def _worker(self, world: World, at: int, worker: Worker) -> Iterator[tuple[Event, World, tuple[str, ...]]]:
        for made in self.driven(world.run, at, worker.claims):
            what = made.event.what
            if world.halted and what in ("claim", "intent", "enter") and self._stops(world, what):
                continue
            if what == "probe" and not self._probed(world, made.event):
                continue
            after = self.written(world, made.run)
            if what == "claim":
                run = self.book.runs[made.run]
                taken = (run.fence, *worker.claims)[:2] if run.state is RunState.ACTIVE else worker.claims
                after = with_worker(after, at, Worker(taken, worker.hands))
            elif what in ("intent", "enter"):
                after = with_worker(after, at, self._begun(worker, world.run, made))
            elif made.run != world.run and what != "probe":
                left = tuple(fence for fence in worker.claims if fence != made.event.fence)
                after = with_worker(after, at, Worker(left, worker.hands))
            wrong = made.wrong
            if world.halted and what in ("intent", "enter") and after.workers[at].hands != worker.hands:
                wrong = (*wrong, "authority: begun under a halt")
            yield made.event, after, wrong
        for hand in worker.hands:
            yield from self._hand(world, at, worker, hand)
        if worker != Worker() or self._named(world, at):
            flights = self._orphaned(world, at)
            run = self.book.crashed(world.run, at)
            yield Event("crash", NAMES[at]), with_worker(world._replace(run=run, flights=flights), at, Worker()), ()

    def _orphaned(self, world: World, at: int) -> tuple[Flight, ...]:
        flights: list[Flight] = []
        for flight in world.flights:
            flight = flight._replace(sender=2) if flight.sender == at else flight
            if flight not in flights or not self._same_again(world, flight.n):
                flights.append(flight)
        return tuple(sorted(flights))

    def _stops(self, world: World, what: str) -> bool:
        """True when the halt that is in force stops this, as guard and governor ask before they write."""
        scopes = (self.config.halt,)
        if what == "claim":
            return bool(halting.stops_run(scopes, self.book.runs[world.run]))
        return bool(halting.stops_call(scopes, "pay", "agent"))

    def _halting(self, world: World) -> Iterator[tuple[Event, World, tuple[str, ...]]]:
        scope = self.config.halt
        yield Event("lift" if world.halted else "halt", word=scope), world._replace(halted=not world.halted), ()
        wanted = [Event("let out", word=scope if world.halted else "")]
        if world.halted and self._stops(world, "claim"):
            wanted.append(Event("keep back", word=scope))
        for made in self.all_of(world.run, iter(wanted)):
            yield made.event, self.written(world, made.run), made.wrong
        for at, worker in enumerate(world.workers):
            for fence in worker.claims if world.halted else ():
                made = self.make(world.run, Event("park halted", NAMES[at], word=scope, fence=fence))
                if made is not None:
                    after = with_worker(self.written(world, made.run), at, Worker((), worker.hands))
                    yield made.event, after, made.wrong

    def _named(self, world: World, at: int) -> bool:
        return self.book.crashed(world.run, at) != world.run or any(flight.sender == at for flight in world.flights)

    def _probed(self, world: World, event: Event) -> bool:
        """True when a probe could find this: it sees what has happened, and knows nothing of what is on its way."""
        happened = any(n == event.n for n, _, _ in world.effects)
        return event.word == "unclear" or happened == (event.word == "happened")

    def _begun(self, worker: Worker, before: int, made: Made) -> Worker:
        """The worker once it knows what its intent came to: with the call in its hands when it is to run."""
        was, run = self.book.runs[before], self.book.runs[made.run]
        for call in run.having(CallState.EXECUTING):
            old = was.call(call.n)
            if old is None or len(old.attempts) < len(call.attempts):
                hand = Hand(call.n, len(call.attempts), made.event.fence, call.idem_key)
                return Worker(worker.claims, tuple(sorted((*worker.hands, hand))))
        return worker

    def _hand(
        self, world: World, at: int, worker: Worker, hand: Hand
    ) -> Iterator[tuple[Event, World, tuple[str, ...]]]:
        rest = tuple(other for other in worker.hands if other != hand)

        def turned(phase: str) -> World:
            return with_worker(world, at, Worker(worker.claims, tuple(sorted((*rest, hand._replace(phase=phase))))))

        name, n = NAMES[at], hand.n
        if hand.phase in ("begun", "cut"):
            flights = self._sent(world, Flight(n, hand.key, at))
            after = turned("sent") if hand.phase == "begun" else with_worker(world, at, Worker(worker.claims, rest))
            yield Event("send", name, n), after._replace(flights=flights), ()
        if hand.phase == "sent" and any((m, key) == (n, hand.key) for m, key, _ in world.effects):
            yield Event("answer", name, n), turned("ok"), ()
        if hand.phase in ("begun", "sent"):
            yield Event("raise", name, n), turned("raised"), ()
        for event in events.of_hand(hand, name):
            made = self.make(world.run, event)
            after = world if made is None else self.written(world, made.run)
            after = with_worker(after, at, Worker(worker.claims, rest))
            if event.what == "lapse" or hand.phase == "raised":
                after = self._left(after, at, worker, hand, event)
            yield event, after, made.wrong if made else ()

    def _left(self, world: World, at: int, worker: Worker, hand: Hand, event: Event) -> World:
        """What an attempt leaves behind that ended without a result."""
        if event.word == "done" or hand.phase == "raised":  # it came back: nobody waits for its request any more
            mine = Flight(hand.n, hand.key, at)
            flights = tuple(sorted(f._replace(sender=2) if f == mine else f for f in world.flights))
            return world._replace(flights=flights)
        if hand.phase == "sent":
            return world
        hands = tuple(sorted((*world.workers[at].hands, hand._replace(phase="cut"))))
        return with_worker(world, at, Worker(worker.claims, hands))

    def _outside(self, world: World) -> Iterator[tuple[Event, World, tuple[str, ...]]]:
        for flight in dict.fromkeys(world.flights):
            after = with_effect(world, flight, 1 if self._same_again(world, flight.n) else 2)
            wrong = tuple(checks.of_effect(self.book.runs[world.run], flight.n, after.effects))
            yield Event("land", n=flight.n), after, wrong
            if flight.sender == 2:
                flights = list(world.flights)
                flights.remove(flight)
                yield Event("lose", n=flight.n), world._replace(flights=tuple(flights)), ()

    def _same_again(self, world: World, n: int) -> bool:
        """True when the other side takes two requests with one key for one."""
        call = self.book.runs[world.run].call(n)
        return call is not None and call.retry == "idempotent"

    def _sent(self, world: World, flight: Flight) -> tuple[Flight, ...]:
        """What is on its way once this is; of two that the other side takes for one, one is enough."""
        if flight in world.flights and self._same_again(world, flight.n):
            return world.flights
        return tuple(sorted((*world.flights, flight)))

    def _tidy(self, world: World) -> tuple[World, tuple[str, ...]]:
        """Without what can make no difference any more, unless the configuration wants to see it.

        That is: claims that could only be refused; and of a call that is over, what workers still hold of it and what is
        still on its way. Nothing moves such a call, so whatever may yet happen outside is judged at once, as if it had.
        """
        if self.config.zombies:
            return world, ()
        run = self.book.runs[world.run]
        held = run.lease.owner if run.state is RunState.ACTIVE and run.lease else ""
        for at, worker in enumerate(world.workers):
            if worker.claims and (worker.claims != (run.fence,) or held != NAMES[at]):
                left = (run.fence,) if held == NAMES[at] and run.fence in worker.claims else ()
                world = with_worker(world, at, Worker(left, worker.hands))
        if not world.effects and not world.flights and not any(worker.hands for worker in world.workers):
            return world, ()
        if world.copy >= 0:  # what is over now may be open again
            return world, ()
        final = frozenset(call.n for call in run.calls if not call.state.open and call.replaced_by is None)
        return self._closed(world, final) if final else (world, ())

    def _closed(self, world: World, final: frozenset[int]) -> tuple[World, tuple[str, ...]]:
        """The world without the loose ends of these calls, and what is wrong when each of them still has its effect."""
        after = world
        for worker in world.workers:
            for hand in worker.hands:
                if hand.n in final and hand.phase in ("begun", "cut"):
                    flight = Flight(hand.n, hand.key, 2)
                    after = after._replace(flights=(*after.flights, flight))
        wrong: tuple[str, ...] = ()
        for flight in after.flights:
            if flight.n in final:
                after = with_effect(after, flight, 1 if self._same_again(world, flight.n) else 2)
                wrong += tuple(checks.of_effect(self.book.runs[world.run], flight.n, after.effects))
        workers = tuple(
            Worker(worker.claims, tuple(hand for hand in worker.hands if hand.n not in final))
            for worker in world.workers
        )
        effects = tuple(row for row in after.effects if row[0] not in final)
        return after._replace(workers=workers, effects=effects), wrong

    # -- the walk itself --------------------------------------------------------------------------------------------

    def walk(self, *, stop: str | None = None, most: int = 3_000_000) -> Found:
        """Every world. ``stop``: until the first breach with these words. `OverflowError` beyond ``most`` worlds."""
        found = Found()
        begin, _ = self.book.canonical(self.first())
        index: dict[World, int] = {begin: 0}
        parents: list[tuple[int, Event, bool]] = [(-1, Event("begin"), False)]
        froms, tos = array("L"), array("L")
        good: list[int] = []
        waits = deque([begin])
        for what in checks.of_record(self.book.runs[begin.run]):
            found.breaches[what] = ["begin"]
        while waits:
            world = waits.popleft()
            at = index[world]
            if self.book.runs[world.run].state.ended:
                good.append(at)
            for event, fresh, wrong in self.steps(world):
                fresh, late = self._tidy(fresh)
                after, swapped = self.book.canonical(fresh)
                found.steps += 1
                to = index.get(after)
                if to is None:
                    to = index[after] = len(parents)
                    parents.append((at, event, swapped))
                    waits.append(after)
                    if len(parents) > most:
                        raise OverflowError(f"more than {most} worlds; make the configuration smaller")
                for what in (*wrong, *late):
                    found.breaches.setdefault(what, []) or found.breaches[what].extend(way(parents, at, event))
                if to != at and event.what not in NOT_FAIR:
                    froms.append(at)
                    tos.append(to)
            if stop is not None and any(stop in what for what in found.breaches):
                break
        else:
            stuck = self._stuck(len(parents), good, froms, tos)
            worlds = list(index) if stuck else []
            for at in stuck:
                world = worlds[at]
                run = self.book.runs[world.run]
                calls = ", ".join(str(call.state) for call in run.calls)
                what = f"stuck: {run.state} {run.blocked} with {calls}"
                found.stuck.setdefault(what, way(parents, at, None))
                if stop is not None:
                    break
        found.worlds, found.records = len(parents), len(self.book.runs)
        found.rows = frozenset(self.rows.kept)
        return found

    @staticmethod
    def _stuck(count: int, good: list[int], froms: array[int], tos: array[int]) -> list[int]:
        """The worlds from which no end can be reached by fair steps."""
        back: list[list[int]] = [[] for _ in range(count)]
        for at, to in zip(froms, tos, strict=True):
            back[to].append(at)
        reached = bytearray(count)
        todo = list(good)
        for at in todo:
            reached[at] = 1
        while todo:
            for earlier in back[todo.pop()]:
                if not reached[earlier]:
                    reached[earlier] = 1
                    todo.append(earlier)
        return [at for at in range(count) if not reached[at]]


def way(parents: list[tuple[int, Event, bool]], at: int, last: Event | None) -> list[str]:
    """The steps that led to a world, in words; a worker keeps its name on the whole way."""
    steps: list[tuple[Event, bool]] = [(last, False)] if last else []
    while at > 0:
        at, event, swapped = parents[at]
        steps.append((event, swapped))
    told: list[str] = []
    turned = False
    for event, swapped in reversed(steps):
        words = str(event)
        if turned:
            words = words.replace("w1", "w*").replace("w2", "w1").replace("w*", "w2")
        told.append(words)
        turned ^= swapped
    return told
