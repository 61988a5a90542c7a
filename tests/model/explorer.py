"""An explicit-state explorer over the real transition functions.

A `World` is one run as the store keeps it, what each worker holds in its hands, what each approver last looked at, and
a ledger of effects outside. Every action is one atomic step of somebody; anything may happen between two of them, so
pauses, crashes, zombies and races need no code of their own. Clocks are not trusted: a lease, a waiter or a deadline may
be over at any moment (``now`` jumps there for that one step).

`explore` walks every world that can be reached within a `Config` and returns what was found. Breaches come in kinds:
``effect`` (ran twice, or what must not run), ``vote`` (counted on other bytes than were seen, or of a stranger),
``fence``, ``terminal``, ``audit``, ``shape`` (a run whose state does not fit its calls), ``raise`` (an event that time
or anybody may cause is refused as illegal), ``stuck`` (no way to an end but to cancel).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from governor_agents.core import decisions, doubts, driving, execution, settling
from governor_agents.core.calls import Retry, Tool, ToolCall
from governor_agents.core.records import Call, CallState, Change, Decision, Result, Run, RunState, Snapshot
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import DecisionRefused, Fenced, GovernorError, NotFound

NOW, LEASE = 1.0, 30.0
ASK = Verdict("require_approval", "p", "1", stages=(Stage(("ops",), ("alice", "bob")),), deadline=100.0)
BOTH = replace(ASK, stages=(Stage(("ops",), ("alice", "bob"), quorum=2),))
MORE = replace(ASK, version="2", stages=(*ASK.stages, Stage(("cfo",), ("bob", "carol"))))
DENY = Verdict("deny", "p", "3", reason="no")
ALLOW = Verdict("allow", "p", "0")
NEVER = frozenset(
    {
        CallState.DENIED,
        CallState.REJECTED,
        CallState.EXPIRED,
        CallState.ANSWERED,
        CallState.CANCELLED,
        CallState.SUPERSEDED,
    }
)


@dataclass(frozen=True)
class Config:
    """What may happen, and how often.

    ``later`` are verdicts an intent may meet instead of the first one; ``stale`` lets approvers look first and vote later;
    ``zombies`` lets a worker go on although its claim is over and its hands are empty.
    """

    calls: int = 1
    retry: Retry = "none"
    verdict: Verdict = ASK
    later: tuple[Verdict, ...] = (DENY, MORE)
    single: bool = False
    first_stretch: bool = False
    edits: bool = True
    votes: tuple[str, ...] = ("approve", "reject", "respond")
    approvers: tuple[str, ...] = ("alice", "bob")
    max_fence: int = 3
    max_count: int = 3
    max_attempts: int = 2
    max_tries: int = 2
    stale: bool = False
    zombies: bool = False
    cancels: tuple[str, ...] = ("cancel",)


@dataclass(frozen=True)
class Hand:
    """A call whose intent a worker made durable. ``phase``: ``intended``, then ``did`` or ``raised``."""

    n: int
    key: str
    args: bytes
    phase: str = "intended"


@dataclass(frozen=True)
class Worker:
    """A process: the claim it believes in and the calls in its hands. ``fence`` 0: it drives nothing."""

    name: str
    fence: int = 0
    hands: tuple[Hand, ...] = ()


@dataclass(frozen=True, eq=True)
class World:
    """Everything there is between two steps."""

    run: Run
    workers: tuple[Worker, ...]
    seen: tuple[tuple[str, int, str], ...] = ()
    ledger: tuple[tuple[int, str, bytes], ...] = ()

    def __hash__(self) -> int:
        """Cheap: over what mostly differs. Equality looks at all of it."""
        run = self.run
        calls = tuple((call.state, call.digest, len(call.votes), len(call.attempts)) for call in run.calls)
        return hash((run.state, run.fence, run.attempts, run.cancel, calls, self.workers, self.seen, self.ledger))


@dataclass
class Found:
    """What an exploration gave: how many worlds, and each breach with the shortest way to it."""

    worlds: int = 0
    steps: int = 0
    breaches: dict[str, list[str]] = field(default_factory=dict)

    def of(self, *kinds: str) -> dict[str, list[str]]:
        """Breaches of these kinds only."""
        return {what: way for what, way in self.breaches.items() if what.split(":")[0] in kinds}


Step = tuple[str, World, Change | None, list[str]]
"""Name, the world after it, the change that was written, and breaches seen at the step itself."""


def first(config: Config) -> World:
    """The world in which the exploration begins."""
    run = Run("t", "r", "agent", "x", "requester", RunState.QUEUED, 0.0, max_attempts=config.max_attempts)
    tool = Tool("pay", retry=config.retry)

    def ask(at: int) -> driving.Ask:
        call = ToolCall.of("pay", {"amount": 5}, f"c{at}", agent="agent", run="r", requester="requester", tenant="t")
        return driving.Ask(call, tool, config.verdict, f"nonce{at}")

    if config.single:
        run = driving.ask_single(run, ask(1), NOW, owner="w1", lease=LEASE).run
        return World(_still(run), (Worker("w1"), Worker("w2")))
    run = driving.start(run, NOW, owner="w1", lease=LEASE).run
    if config.first_stretch:
        for at in range(1, config.calls + 1):
            one = ask(at)
            run = run.with_call(decisions.make_call(run, one.call, one.tool, ALLOW, now=NOW, nonce=one.nonce))
        return World(_still(run), (Worker("w1", 1), Worker("w2")))
    asks = tuple(ask(at) for at in range(1, config.calls + 1))
    run = driving.pause(run, NOW, owner="w1", fence=1, snapshot=Snapshot("b", "x"), asks=asks).run
    return World(_still(run), (Worker("w1"), Worker("w2")))


def _still(run: Run) -> Run:
    """The run without what no rule of this model reads, so that worlds that behave alike are found equal."""
    calls = tuple(
        replace(
            call,
            told="",
            created=NOW,
            lapsed=None,
            why="",
            votes=tuple(replace(vote, at=NOW) for vote in call.votes),
            attempts=tuple(replace(attempt, at=NOW, died=None) for attempt in call.attempts),
            resolved=None,
        )
        for call in run.calls
    )
    until = NOW + LEASE
    return replace(
        run,
        calls=calls,
        outbox=(),
        updated=0.0,
        error="",
        output_json="",
        blocked_detail="",
        cancel_reason="",
        ended=None,
        lease=replace(run.lease, until=until) if run.lease else None,
        waiter=replace(run.waiter, until=until) if run.waiter else None,
        ready_since=None if run.ready_since is None else NOW,
    )


class Explorer:
    """One configuration, walked breadth first."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.verdicts = (config.verdict if not config.first_stretch else ALLOW, *config.later)

    # -- steps ------------------------------------------------------------------------------------------------------

    def steps(self, world: World) -> Iterator[Step]:
        """Every step that somebody could take now."""
        yield from self._time(world)
        yield from self._people(world)
        yield from self._operator(world)
        for worker in world.workers:
            yield from self._worker(world, worker)

    def _write(
        self, name: str, world: World, step: Callable[[], Change], *, may: tuple[type[Exception], ...] = ()
    ) -> Iterator[Step]:
        """A transition on the record as it stands. ``may``: what it may raise; all else is a breach."""
        try:
            change = step()
        except may:
            return
        except Exception as error:
            yield name, world, None, [f"raise: {name.split(' ')[0]}: {type(error).__name__}: {error}"]
            return
        if change.run is not world.run:
            yield name, replace(world, run=_still(change.run)), change, []

    def _time(self, world: World) -> Iterator[Step]:
        run = world.run
        if run.state is RunState.ACTIVE and run.lease:
            until = run.lease.until
            yield from self._write("lease_over", world, lambda: driving.lease_over(run, until))
        ends = [at for call in run.having(CallState.PENDING) for at in (call.expires, call.stage_expires) if at]
        for end in sorted(set(ends)):
            yield from self._write(f"deadline {end}", world, lambda end=end: decisions.pass_deadlines(run, end))

    def _people(self, world: World) -> Iterator[Step]:
        run = world.run
        for call in run.calls:
            if not call.stages:
                continue
            for by in self.config.approvers:
                if not self.config.stale:
                    yield from self._votes(world, call, by, call.digest)
                    continue
                mine = tuple(row for row in world.seen if row[:2] != (by, call.n))
                looked = tuple(sorted((*mine, (by, call.n, call.digest))))
                if call.state is CallState.PENDING and looked != world.seen:
                    yield f"look {by} {call.n}", replace(world, seen=looked), None, []
                digest = next((row[2] for row in world.seen if row[:2] == (by, call.n)), None)
                if digest is not None:
                    yield from self._votes(world, call, by, digest)

    def _votes(self, world: World, call: Call, by: str, digest: str) -> Iterator[Step]:
        made = {"approve": Decision.approve(), "reject": Decision.reject("no"), "respond": Decision.respond("42")}
        said = [(kind, made[kind], None) for kind in self.config.votes]
        if self.config.edits and not call.edited:
            said.append(("edit", Decision.edit({"amount": 1}), self.config.verdict))
        for kind, decision, verdict in said:
            for name, after, change, found in self._write(
                f"{kind} {by} {call.n}",
                world,
                lambda decision=decision, verdict=verdict: decisions.decide(
                    world.run, call.n, decision, by=by, now=NOW, digest=digest, verdict=verdict, nonce="edited"
                ),
                may=(DecisionRefused, NotFound),
            ):
                if change is not None and digest != call.digest:
                    found = [*found, "vote: counted on other bytes than the voter saw"]
                if change is not None and by not in call.stages[call.stage].people:
                    found = [*found, "vote: counted although the stage does not name the voter"]
                yield name, after, change, found

    def _operator(self, world: World) -> Iterator[Step]:
        run = world.run
        for kind in self.config.cancels:
            if kind == "supersede" and run.state is RunState.ACTIVE:
                continue
            yield from self._write(
                kind,
                world,
                lambda kind=kind: settling.request_cancel(
                    run, NOW, by="op", reason="stop", superseded=kind == "supersede"
                ),
            )
        if run.state in (RunState.BLOCKED, RunState.DEAD) and not run.having(CallState.UNKNOWN):
            yield from self._write("repair", world, lambda: driving.repair(run, NOW, by="op", reason="mended"))
        for call in run.having(CallState.UNKNOWN):
            happened = any(row[0] == call.n for row in world.ledger)
            held = any(hand.n == call.n for worker in world.workers for hand in worker.hands)
            ways = ["abandon"] if held else ["abandon", "happened" if happened else "did-not-happen"]
            for how in ways:
                if how == "did-not-happen" and run.count >= self.config.max_count:
                    continue
                yield from self._write(
                    f"resolve {how} {call.n}",
                    world,
                    lambda how=how, call=call: doubts.resolve(
                        doubts.note_deaths(run, NOW, doubts.suspects(run)).run,
                        call.n,
                        NOW + call.in_flight,
                        how=how,
                        by="op",
                        evidence="e",
                        nonce=f"again{run.count}",
                        verdict=ASK,
                    ),
                )

    def _worker(self, world: World, worker: Worker) -> Iterator[Step]:
        run, name = world.run, worker.name
        if worker.fence:
            yield f"crash {name}", _with(world, Worker(name)), None, []
        if not worker.fence and run.fence < self.config.max_fence and run.state in (RunState.QUEUED, RunState.READY):
            times = {"claim": NOW}
            if run.ready_since is not None:
                times["claim_late"] = run.ready_since + 10 * 86_400.0
            if run.waiter is not None:
                times["claim_lapsed"] = run.waiter.until
            for what, now in times.items():
                for title, after, change, found in self._write(
                    f"{what} {name}",
                    world,
                    lambda now=now: driving.claim(run, now, owner=name, lease=LEASE),
                    may=(Fenced,),
                ):
                    if after.run.state is RunState.ACTIVE:
                        if after.run.fence <= run.fence:
                            found = [*found, "fence: a claim without a higher fence"]
                        after = _with(after, Worker(name, after.run.fence))
                    yield title, after, change, found
        if worker.fence:
            yield from self._drive(world, worker)
        for hand in worker.hands:
            yield from self._tool(world, worker, hand)

    def _drive(self, world: World, worker: Worker) -> Iterator[Step]:
        run, name, fence = world.run, worker.name, worker.fence
        held = {hand.n for hand in worker.hands}
        for call in run.calls:
            if call.n in held or len(call.attempts) >= self.config.max_tries:
                continue
            can = call.state in (CallState.ALLOWED, CallState.APPROVED, CallState.RETRY)
            for verdict in self.verdicts if can else self.verdicts[:1]:
                for title, after, change, found in self._write(
                    f"intent {name} {call.n} {verdict.outcome}{verdict.version}",
                    world,
                    lambda call=call, verdict=verdict: execution.intent(
                        run,
                        call.n,
                        NOW,
                        owner=name,
                        fence=fence,
                        verdict=verdict,
                        schema_sha256="",
                        idem_key=f"key{call.n}",
                    ),
                    may=(GovernorError,),
                ):
                    begun = after.run.call(call.n)
                    if begun is not None and begun.state is CallState.EXECUTING:
                        if run.state is not RunState.ACTIVE or run.fence != fence:
                            found = [*found, "fence: an intent under a claim that is over"]
                        if verdict.outcome == "deny":
                            found = [*found, "effect: an intent that the policies deny"]
                        after = _with(
                            after,
                            replace(worker, hands=(*worker.hands, Hand(call.n, begun.idem_key, begun.args))),
                        )
                    yield title, after, change, found
            if call.state is CallState.RECONCILING and run.fence == fence:
                happened = True if any(row[0] == call.n for row in world.ledger) else None
                yield from self._write(
                    f"probe {name} {call.n}",
                    world,
                    lambda call=call, happened=happened: doubts.probed(
                        run,
                        call.n,
                        NOW,
                        owner=name,
                        fence=fence,
                        happened=happened,
                        result=Result("h", '"x"') if happened else None,
                    ),
                )
        ends: dict[str, Callable[[], Change]] = {
            "finish": lambda: driving.finish(run, NOW, owner=name, fence=fence, output_json='"ok"'),
            "release": lambda: driving.release(run, NOW, owner=name, fence=fence, error="x"),
            "abandon": lambda: driving.abandon(run, NOW, owner=name, fence=fence),
            "park": lambda: driving.park(run, NOW, owner=name, fence=fence, why="snapshot", detail=""),
        }
        busy = bool(run.having(CallState.EXECUTING))
        for what, step in ends.items():
            if self.config.single and what in ("finish", "park"):
                continue
            may: tuple[type[Exception], ...] = (GovernorError,) if busy else (Fenced,)
            for title, after, change, found in self._write(f"{what} {name}", world, step, may=may):
                yield title, _with(after, replace(worker, fence=0)), change, found

    def _tool(self, world: World, worker: Worker, hand: Hand) -> Iterator[Step]:
        run, n = world.run, hand.n
        rest = tuple(other for other in worker.hands if other is not hand)
        if hand.phase == "intended":
            for phase, effect in (("did", True), ("raised", True), ("raised", False)):
                row = (n, hand.key, hand.args)
                more = effect and world.ledger.count(row) < 2  # a third one is as wrong, or as right, as the second
                ledger = tuple(sorted((*world.ledger, row))) if more else world.ledger
                after = _with(world, replace(worker, hands=(*rest, replace(hand, phase=phase))))
                yield f"tool {worker.name} {n} {phase} {effect}", replace(after, ledger=ledger), None, []
        for title, after, change, found in self._write(
            f"lapse {worker.name} {n}",
            world,
            lambda: execution.lapse(
                run, n, NOW, owner=worker.name, fence=self._fence(run, worker, n), attempt=_attempt(run, worker, n)
            ),
        ):
            yield title, _with(after, replace(worker, hands=rest)), change, found
        if hand.phase == "intended":
            return
        ok = hand.phase == "did"
        fence = self._fence(run, worker, n)
        for title, after, change, found in self._write(
            f"record {worker.name} {n} {ok}",
            world,
            lambda: execution.record(
                run,
                n,
                NOW,
                owner=worker.name,
                fence=fence,
                attempt=_attempt(run, worker, n),
                result=Result("h", '"x"', ok=ok),
                told="t",
            ),
            may=(Fenced,),
        ):
            before = run.call(n)
            moved = before is not None and after.run.call(n) != before  # an audit line of a dropped result is no change
            if moved and before is not None and (not before.attempts or before.attempts[-1].fence != fence):
                found = [*found, "fence: a result of an older attempt was taken"]
            yield title, _with(after, replace(worker, hands=rest)), change, found
        yield f"drop {worker.name} {n}", _with(world, replace(worker, hands=rest)), None, []

    @staticmethod
    def _fence(run: Run, worker: Worker, n: int) -> int:
        """The fence under which this worker began the call: it remembers it, whatever became of its claim."""
        call = run.call(n)
        mine = [attempt.fence for attempt in (call.attempts if call else ()) if attempt.owner == worker.name]
        return worker.fence or (mine[-1] if mine else 0)

    # -- rules ------------------------------------------------------------------------------------------------------

    def breaches(self, before: World, after: World, change: Change | None) -> Iterator[str]:
        """What is wrong with a step, or with the world after it."""
        run = after.run
        yield from self._effects(after)
        if change is None:
            return
        was = before.run
        if not change.events and replace(was, lease=None, waiter=None) != replace(run, lease=None, waiter=None):
            yield "audit: a change without an event"
        if was.state.ended and run != was:
            yield f"terminal: a run that is {was.state} changed"
        for old in was.calls:
            new = run.call(old.n)
            if not old.state.open and new is not None and new != old:
                yield f"terminal: a call that is {old.state} changed to {new.state}"
        if was.state is RunState.ACTIVE and run.state is not RunState.ACTIVE and run.having(CallState.EXECUTING):
            yield "shape: a run left its driver while a call executes"
        yield from self._shape(run)

    def _effects(self, world: World) -> Iterator[str]:
        for n in {row[0] for row in world.ledger}:
            mine = [row for row in world.ledger if row[0] == n]
            call = world.run.call(n)
            if call is None:
                yield "effect: of a call without a record"
                continue
            if len({row[1] for row in mine}) > 1 or (len(mine) > 1 and self.config.retry != "idempotent"):
                yield "effect: more than one for one approval"
            if call.state in NEVER:
                yield f"effect: of a call that is {call.state}"
            if call.state in (CallState.PENDING, CallState.APPROVED, CallState.ALLOWED):
                yield f"effect: of a call that is only {call.state}"
            if any(row[2] != call.args for row in mine):
                yield "effect: of other bytes than the record holds"
            if call.replaces is not None and any(row[0] == call.replaces for row in world.ledger):
                yield "effect: of a call and of the one it replaces"

    def _shape(self, run: Run) -> Iterator[str]:
        pending = bool(run.having(CallState.PENDING))
        if run.state.ended and any(call.state.open for call in run.calls):
            yield f"shape: {run.state} with an open call"
        if run.state is RunState.WAITING and not pending:
            yield "shape: WAITING for nobody"
        if run.state in (RunState.READY, RunState.QUEUED) and pending:
            yield f"shape: {run.state} while people are asked"
        if run.state in (RunState.READY, RunState.QUEUED) and run.having(CallState.UNKNOWN):
            yield f"shape: {run.state} with a doubt"
        if run.state is RunState.BLOCKED and run.blocked == settling.UNKNOWN and not run.having(CallState.UNKNOWN):
            yield "shape: BLOCKED by a doubt that no call holds"
        over = run.single and bool(run.calls) and not any(call.state.open for call in run.calls)
        if over and not run.state.ended:
            yield f"shape: a run of one call is {run.state} after its call ended"

    # -- the walk ---------------------------------------------------------------------------------------------------

    def explore(self, *, most: int = 200_000) -> Found:
        """Every world within the configuration. Raises `OverflowError` when there are more than ``most``."""
        begin, found = first(self.config), Found()
        parent: dict[World, tuple[World, str] | None] = {begin: None}
        back: dict[World, set[World]] = {}
        waits = deque([begin])
        good: set[World] = set()

        def way(world: World, last: str) -> list[str]:
            steps = [last]
            at: World | None = world
            while at is not None and (step := parent[at]) is not None:
                at = step[0]
                steps.append(step[1])
            return steps[::-1]

        while waits:
            world = waits.popleft()
            if world.run.state.ended or self._bounded(world):
                good.add(world)
            if world.run.state.ended and not any(worker.hands for worker in world.workers):
                continue
            for name, fresh, change, seen in self.steps(world):
                after = self._tidy(fresh)
                found.steps += 1
                for what in (*seen, *self.breaches(world, after, change)):
                    found.breaches.setdefault(what, way(world, name))
                if not name.startswith(("cancel", "supersede")):
                    back.setdefault(after, set()).add(world)
                if after not in parent:
                    parent[after] = (world, name)
                    waits.append(after)
                    if len(parent) > most:
                        raise OverflowError(f"more than {most} worlds; make the configuration smaller")
        for world in parent:
            if world not in self._reaching(good, back):
                found.breaches.setdefault(f"stuck: {world.run.state}", way(world, "and no way out but to cancel"))
        found.worlds = len(parent)
        return found

    def _bounded(self, world: World) -> bool:
        """True where only the bounds of the exploration keep the run from going on."""
        run, most = world.run, self.config
        tried = any(len(call.attempts) >= most.max_tries for call in run.calls)
        return run.fence >= most.max_fence or run.count >= most.max_count > most.calls or tried

    def _tidy(self, world: World) -> World:
        """Without workers that could only be refused, unless the configuration wants them."""
        run = world.run
        if self.config.zombies:
            return world
        alive = run.fence if run.state is RunState.ACTIVE else -1
        workers = tuple(
            worker if worker.hands or worker.fence in (0, alive) else Worker(worker.name) for worker in world.workers
        )
        return world if workers == world.workers else replace(world, workers=workers)

    _memo: set[World] | None = None

    def _reaching(self, good: set[World], back: dict[World, set[World]]) -> set[World]:
        if self._memo is None:
            reached, todo = set(good), list(good)
            while todo:
                for earlier in back.get(todo.pop(), ()):
                    if earlier not in reached:
                        reached.add(earlier)
                        todo.append(earlier)
            self._memo = reached
        return self._memo


def _with(world: World, worker: Worker) -> World:
    return replace(world, workers=tuple(worker if other.name == worker.name else other for other in world.workers))


def explore(config: Config, *, most: int = 200_000) -> Found:
    """Every world within the configuration, and what is wrong in any of them."""
    return Explorer(config).explore(most=most)


def _attempt(run: Run, worker: Worker, n: int) -> int:
    """The number of the worker's latest attempt at a call, from 1."""
    call = run.call(n)
    places = [at for at, attempt in enumerate(call.attempts if call else (), 1) if attempt.owner == worker.name]
    return places[-1] if places else 0
