"""The facade: what a user holds. It joins the rooms and decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from governor_agents import plugins
from governor_agents.adapters.functions import Functions, Governed
from governor_agents.audit.log import AuditLog
from governor_agents.background import Background
from governor_agents.beginning import Beginning
from governor_agents.claims import Heartbeats, lease_setting
from governor_agents.conversations import Conversations
from governor_agents.core import doubts, settling
from governor_agents.core.calls import Json
from governor_agents.core.channels import Handler
from governor_agents.core.ports import Adapter, Directory, Store
from governor_agents.core.records import (
    MAX_ATTEMPTS,
    Answer,
    Approval,
    Call,
    Change,
    Decision,
    Run,
    RunState,
    approval_id,
    split_approval_id,
)
from governor_agents.core.sizes import MAX_SNAPSHOT
from governor_agents.core.urls import shown
from governor_agents.core.verdicts import Policy, PolicyCallable
from governor_agents.deciding import Deciding
from governor_agents.desk import Desk
from governor_agents.driver import Driver, Prepared
from governor_agents.errors import (
    ConfigError,
    NotFound,
    UnknownAgent,
)
from governor_agents.guard import Guard
from governor_agents.halts import Halt, Halts
from governor_agents.identities import Identities
from governor_agents.keys import Keys, chosen
from governor_agents.liveness import this_worker
from governor_agents.nonces import nonce
from governor_agents.policies import PolicySet, person_id
from governor_agents.policies.keeping import Keeping, snapshot_limit
from governor_agents.policies.keeping import retention as spans
from governor_agents.probes import Probe
from governor_agents.publishing import Published
from governor_agents.resolving import Resolving
from governor_agents.retention import Retention
from governor_agents.runs import Runs
from governor_agents.stores import default_url, open_store
from governor_agents.stores.packed import PackedStore
from governor_agents.stores.sealed import SealedStore, refuse_sealed
from governor_agents.streaming import Streamed
from governor_agents.sync import twin
from governor_agents.watch import Watch

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P", bound=Probe)


class Governor:
    """Policies, a store and a register of agents: everything one process needs to govern, ask, decide and resume.

    ``policies`` is a `PolicySet` (`governor_agents.publishing.Published` for those that the store has published), or a
    sequence of policies and plain callables. ``store`` is a URL (default
    ``$GOVERNOR_STORE``, else ``sqlite:///governor.db``) or a store object; it is opened with the first use.
    ``tenant`` separates customers in one store; ``env`` (``prod``) is bound into every approval. ``lease`` is how many
    seconds a claim lasts without a heartbeat (default ``$GOVERNOR_LEASE``, else 30); after ``max_attempts`` claims
    without progress a run is given up as DEAD. ``keys``, or the path of their file (default ``$GOVERNOR_KEYS``), seal
    all that is stored. A snapshot of more than ``max_snapshot`` bytes (or ``8MB``; default 64 MB) ends its run;
    ``retention`` (``{"completed": "30d"}``) says how long ended runs are kept. What is given here goes before the
    sections ``limits`` and ``retention`` of the policy files. ``secret`` keys idempotency keys (default
    ``$GOVERNOR_SECRET``, else from the keys, else random, made anew by every process). ``people`` is the directory of
    those who decide, or the path of a people file (default ``$GOVERNOR_PEOPLE``); without one, each address is
    somebody. ``public_url`` (default ``$GOVERNOR_PUBLIC_URL``) is where people reach the pages of ``governor-agents
    serve``.
    """

    def __init__(
        self,
        policies: PolicySet | Sequence[Policy | PolicyCallable] | None = None,
        *,
        store: str | Store | None = None,
        tenant: str = "default",
        env: str = "",
        lease: float | None = None,
        handlers: Mapping[str, Handler] | None = None,
        secret: bytes | None = None,
        max_attempts: int = MAX_ATTEMPTS,
        keys: Keys | str | Path | None = None,
        max_snapshot: int | str | None = None,
        retention: Mapping[str, float | str] | None = None,
        people: Directory | str | Path | None = None,
        public_url: str | None = None,
    ) -> None:
        known = policies.directory if isinstance(policies, PolicySet) and people is None else people
        directory = _directory(known)
        self.policies = policies if isinstance(policies, PolicySet) else PolicySet(policies or (), directory=directory)
        self.policies.use(directory)
        self.identities = Identities(directory)
        self.tenant = tenant
        self.env = env
        kept: Store = open_store(store or default_url()) if not isinstance(store, Store) else store
        kept = kept.beneath if isinstance(kept, PackedStore) else kept  # of another governor: its keys lie beneath
        self.keys: Keys | None = kept.keys if isinstance(kept, SealedStore) else chosen(keys)
        if self.keys is not None and not isinstance(kept, SealedStore):
            kept = SealedStore(kept, self.keys, tenant=tenant)
        self.store: Store = PackedStore(kept)
        self.loop = Background("governor-agents")
        self.caller_loop = Background("governor-agents-sync")
        self.runs = Runs(self.store, tenant, None if self.keys is None else self.keys.audit)
        self.audit = AuditLog(self.store, tenant, self.keys, self.loop.spawn)
        self.runs.wrote = self.audit.checkpoints.wrote
        self.beats = Heartbeats(self.runs, self.loop, lease_setting() if lease is None else lease)
        self.stopped = Halts(self.runs)
        if isinstance(self.policies, Published):
            self.policies.attach(self.runs, self.keys, self.loop, self.open)
        key = secret or os.environ.get("GOVERNOR_SECRET", "").encode()
        key = key or (os.urandom(32) if self.keys is None else self.keys.idempotency)
        self.guard = Guard(self.runs, self.policies, self.beats, self.loop, key, self.stopped)
        self.conversations = Conversations(self.runs)
        self.deciding = Deciding(self, self.approval)
        self.resolving = Resolving(self.runs)
        self.runs.retention = lambda: self.retention
        self.keeping = Retention(self.runs, self.conversations, self.audit, self.runs.retention)
        self.beginning = Beginning(self)
        self._keeping = Keeping(snapshot_limit(max_snapshot), spans(retention or {}))
        self._says_retention = retention is not None
        self.driver = Driver(self.runs, self.policies, self.beats, self.loop, lambda: self.max_snapshot)
        self.watch = Watch(self.store)
        self.agents: dict[str, Callable[[], Any]] = {}
        self.functions = Functions(self)
        self.desk = Desk(self, os.environ.get("GOVERNOR_PUBLIC_URL", "") if public_url is None else public_url)
        self._handlers: dict[str, Handler] = dict(handlers or {})
        self._adapters: dict[str, Adapter] = {}
        self._prepared: dict[str, Prepared] = {}
        self._opened = False
        if max_attempts < 1:
            raise ConfigError(f"max_attempts is {max_attempts}; a run needs at least one")
        self.max_attempts = max_attempts

    @classmethod
    def from_file(
        cls,
        *paths: str | Path,
        store: str | Store | None = None,
        people: Directory | str | Path | None = None,
        **settings: Any,
    ) -> Governor:
        """A governor whose policies come from YAML files. Raises `PolicyFileError`, `PeopleFileError` with the line."""
        directory = _directory(people)
        return cls(PolicySet.from_files(*paths, directory=directory), store=store, people=directory, **settings)

    def __repr__(self) -> str:
        return f"Governor(tenant={self.tenant!r}, store={shown(self.store.url)!r}, agents={sorted(self.agents)})"

    @property
    def max_snapshot(self) -> int:
        """The most bytes of a snapshot."""
        return self._keeping.snapshot or self.policies.keeping.snapshot or MAX_SNAPSHOT

    @property
    def retention(self) -> Mapping[str, float]:
        """By outcome, for how many seconds an ended run is kept; without an entry, for ever."""
        return self._keeping.retention if self._says_retention else self.policies.keeping.retention

    # -- registering ------------------------------------------------------------------------------------------------

    def agent(self, name: str) -> Callable[[F], F]:
        """Register a factory, so that any process can build the agent again.

        The factory returns the agent, or the agent with a mapping of runner options. Raises `ConfigError` when the
        name is taken.
        """

        def register(factory: F) -> F:
            if name in self.agents:
                raise ConfigError(f"an agent {name!r} is registered already")
            self.agents[name] = factory
            return factory

        return register

    def govern(self, **rule: Any) -> Callable[[Callable[..., Any]], Governed]:
        """Govern a function or method: see `functions.Functions.govern`."""
        return self.functions.govern(**rule)

    def reconcile(self, tool: str) -> Callable[[P], P]:
        """Register the probe of a ``reconcilable`` tool: see `governor_agents.probes`. Raises `ConfigError`."""

        def register(probe: P) -> P:
            self.guard.probes.register(tool, probe)
            return probe

        return register

    def adapter(self, name: str) -> Adapter:
        """The adapter of this name, one per governor. Raises `ConfigError`, `MissingExtra`."""
        if name not in self._adapters:
            self._adapters[name] = plugins.make_adapter(name, self)
        return self._adapters[name]

    def handler(self, name: str) -> Handler:
        """The handler of this name, without a target. Raises `ConfigError`."""
        if name not in self._handlers:
            self._handlers[name] = plugins.make_handler(name)
        return self._handlers[name]

    def prepared(self, name: str) -> Prepared:
        """The registered agent, built and governed once. Raises `UnknownAgent`, `UngovernedTool`."""
        if name not in self._prepared:
            if name not in self.agents:
                known = ", ".join(sorted(self.agents)) or "none"
                raise UnknownAgent(f"no agent {name!r} is registered (known: {known}); use @governor.agent({name!r})")
            self._prepared[name] = self.prepare(self.agents[name]())
        return self._prepared[name]

    def prepare(self, made: Any) -> Prepared:
        """An agent (or agent and options, as a factory returns them), governed by its adapter."""
        agent, options = made if isinstance(made, tuple) else (made, {})
        adapter = self.adapter(plugins.adapter_name(agent))
        return Prepared(adapter, adapter.prepare(agent), options)

    # -- running ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store. Every other call does it when needed.

        Raises `StoreError` and its children; `ConfigError` or `SealBroken` when it was sealed and the keys are missing
        or others, or when keys are set and it holds records in clear.
        """
        if not self._opened:
            await self.loop.bridge(self._open())
            self._opened = True

    async def _open(self) -> None:
        await self.store.open()
        if self.keys is None:
            await refuse_sealed(self.store)
        if lines := await self.store.check():  # opened all the same, on somebody's explicit word
            await self.audit.refusals.unsafe(lines, by=this_worker())
        if isinstance(self.policies, Published):
            await self.policies.start()

    async def run(
        self, agent: str, input: Json, *, conversation: str = "", requester: str = "", context: Json = None
    ) -> Run:
        """Start a registered agent here and drive it until it ends or people must decide.

        The run has a record from its first moment: if this process dies, a worker takes it over. What the framework
        raises ends the run as FAILED and is raised. A waiting run of the same conversation is superseded.
        Raises `UnknownAgent`, `IllegalTransition` when the conversation is being driven.
        """
        run, prepared = await self.beginning.begin(agent, input, conversation, requester, context)
        return run if run.state is not RunState.ACTIVE else await self.driver.drive(run, prepared, raising=True)

    run_sync = twin(run)

    def run_streamed(
        self, agent: str, input: Json, *, conversation: str = "", requester: str = "", context: Json = None
    ) -> Streamed:
        """The same, giving the framework's own events while it runs: ``async for event in streamed``."""

        async def drive(emit: Any) -> Run:
            run, prepared = await self.beginning.begin(agent, input, conversation, requester, context)
            if run.state is not RunState.ACTIVE:
                return run
            return await self.driver.drive(run, prepared, emit=emit, raising=True)

        return Streamed(drive)

    async def submit(
        self, agent: str, input: Json, *, conversation: str = "", requester: str = "", context: Json = None
    ) -> Run:
        """Queue a run for a worker and return at once; the answer is durable before anything ran."""
        await self.open()
        return await self.loop.bridge(self.beginning.queue(agent, input, conversation, requester, context))

    submit_sync = twin(submit)

    async def suspend(self, paused: Any, /, **where: Any) -> Run | None:
        """Hand over a pause of your own loop (``Runner.run``, ``graph.invoke``); None when nothing waits.

        ``where`` is what the framework does not say itself: for LangGraph ``agent=`` (the graph) and ``config=``; for
        any ``name=``, under which the agent is registered for workers, and ``requester=``. The same result handed over
        twice is one run.
        Raises `SnapshotError` when the pause cannot be stored.
        """
        await self.open()
        return await self.beginning.suspend(paused, where)

    suspend_sync = twin(suspend)

    async def resume(self, id: str, agent: Any = None) -> Run:
        """Claim a run that is ready and drive it here: with this agent, or the registered one.

        Raises `NotFound`, `Fenced` when it is not ready or somebody else has it, `UnknownAgent`.
        """
        await self.open()
        run = await self.get(id)
        if run.single:
            return await self.functions.take_over(run)
        prepared = self.prepared(run.agent) if agent is None else self.prepare(agent)
        claimed = await self.claim(id)
        return claimed if claimed.state is not RunState.ACTIVE else await self.driver.drive(claimed, prepared)

    resume_sync = twin(resume)

    async def claim(self, id: str) -> Run:
        """Take a run that is QUEUED or READY; look at the state of what comes back. Raises `Fenced`.

        Raises `WrongEnvironment`. A run that a halt stops becomes BLOCKED instead.
        """
        await self.open()

        return await self.loop.bridge(self.beginning.claim(id))

    # -- deciding ---------------------------------------------------------------------------------------------------

    async def decide(
        self, id: str, decision: Decision, *, by: str, digest: str | None = None, channel: str = ""
    ) -> Run:
        """Count a person's decision on an approval. ``by`` was proved by the channel, never read from a request's body.

        ``digest`` is that of the request the person saw; without it, of the request as it stands now. The first
        decision wins. Raises `NotFound` and every kind of `DecisionRefused`; what is refused is noted.
        """
        return (await self.deciding.decide(id, decision, by=by, digest=digest, channel=channel)).run

    decide_sync = twin(decide)

    async def delegate(self, id: str, *, to: str, by: str, seat: str = "", channel: str = "") -> Run:
        """Let ``to`` decide for the seat of ``by`` too; both may then, and the seat counts once.

        ``to`` is an id or address of somebody to whom the policy lets a seat be handed (its ``delegates``); ``seat``
        names the seat where ``by`` has several. Raises `NotFound` and every kind of `DecisionRefused`.
        """
        return (await self.deciding.hand_over(id, to=to, by=by, seat=seat, moved=False, channel=channel)).run

    delegate_sync = twin(delegate)

    async def reassign(self, id: str, *, seat: str, to: str, by: str, channel: str = "") -> Run:
        """Let ``to`` decide in the place of ``seat``, who then may not any more.

        By the one whose seat it is, or by a coordinator of the directory. Raises as `delegate` does.
        """
        return (await self.deciding.hand_over(id, to=to, by=by, seat=seat, moved=True, channel=channel)).run

    reassign_sync = twin(reassign)

    async def take_up(self, id: str, *, by: str, release: bool = False, channel: str = "") -> Run:
        """Say that ``by`` looks at it; or no longer does (``release``). Others may decide all the same.

        Raises `NotFound` and every kind of `DecisionRefused`.
        """
        return (await self.deciding.take_up(id, by=by, release=release, channel=channel)).run

    take_up_sync = twin(take_up)

    async def comment(self, id: str, text: str, *, by: str, channel: str = "") -> Run:
        """Write beside a request, for all who are asked to see. Raises as `take_up` does, and `ArgumentsError`."""
        return (await self.deciding.comment(id, text, by=by, channel=channel)).run

    comment_sync = twin(comment)

    async def cancel(self, id: str, *, by: str, reason: str = "", superseded: bool = False) -> Run:
        """End a run: at once, or as soon as the tool that is executing is done. Raises `NotFound`."""
        await self.open()

        def step(run: Run, now: float) -> Change:
            return settling.request_cancel(run, now, by=by, reason=reason, superseded=superseded)

        with self.audit.refusals.watched("cancel", id, by=by):
            return (await self.loop.bridge(self.runs.change(id, step))).run

    cancel_sync = twin(cancel)

    # -- halting ----------------------------------------------------------------------------------------------------

    async def halt(self, scope: str, *, by: str, reason: str = "") -> Halt:
        """Stop a scope: ``tool:NAME``, ``agent:NAME``, ``tenant``, or ``everything`` (all tenants of the store).

        No call of it begins any more, in any process on this store; what is executing finishes, then its run is
        BLOCKED. People may go on deciding. Raises `ConfigError` for what is no scope, `StoreError`.
        """
        await self.open()
        return await self.loop.bridge(self.stopped.halt(scope, by=person_id(by), reason=reason))

    halt_sync = twin(halt)

    async def lift(self, scope: str, *, by: str, reason: str = "") -> int:
        """End a halt and let out the runs of this tenant that it blocked; how many. Twice is fine.

        Runs of other tenants are let out by their workers, within a minute. Raises `ConfigError`, `StoreError`.
        """
        await self.open()
        await self.loop.bridge(self.stopped.lift(scope, by=person_id(by), reason=reason))
        return await self.loop.bridge(self.stopped.free_all())

    lift_sync = twin(lift)

    async def halts(self) -> tuple[Halt, ...]:
        """What is stopped now, the oldest first: this tenant's halts, and the one for all tenants."""
        await self.open()
        return await self.loop.bridge(self.stopped.list())

    halts_sync = twin(halts)

    # -- settling doubts --------------------------------------------------------------------------------------------

    async def resolve(self, run: str, n: int, how: Answer, *, by: str, evidence: str, worker_dead: bool = False) -> Run:
        """An operator's answer to call ``n``, whose outcome is unknown: ``happened``, ``did-not-happen``, ``abandon``.

        ``did-not-happen`` asks people for the call anew; it counts only when every worker that set out to run it is
        dead and nothing can be under way any more. Deaths that can be seen from here are noted first, also when the
        answer is then refused. ``worker_dead`` is the operator's word for workers that cannot be seen from here, and
        is written down as such. ``by`` was proved by whoever calls; ``evidence`` is what the answer rests on.

        Raises `NotFound`, `NotInDoubt`, `ResolutionRefused`; and for the time being `WorkerMayLive`, `TooEarly`
        (with ``until``).
        """
        with self.audit.refusals.watched("resolve", approval_id(run, n), by=by):
            return await self._resolve(run, n, how, by, evidence, worker_dead)

    resolve_sync = twin(resolve)

    async def _resolve(self, run: str, n: int, how: Answer, by: str, evidence: str, worker_dead: bool) -> Run:
        await self.open()
        stands, call = await self.loop.bridge(self.resolving.find(run, n))
        if stands.call(n) is None:  # its generation is closed, so it is settled
            raise doubts.not_in_doubt(stands, call)
        if how == "did-not-happen":
            self.policies.check_people()
        verdict = self.policies.demand(call.as_tool_call(stands), self.policies.tool(call.tool))
        return await self.loop.bridge(
            self.resolving.answer(
                stands,
                n,
                how,
                by=person_id(by),
                evidence=evidence,
                worker_dead=worker_dead,
                verdict=verdict,
                nonce=nonce(),
            )
        )

    async def repair(self, run: str, *, by: str, reason: str) -> Run:
        """An operator says that what blocked the run, or killed its workers, is gone: it is free again.

        Raises `NotFound`, `IllegalTransition` when it is not BLOCKED or DEAD, or a call of it stands in doubt.
        """
        await self.open()
        with self.audit.refusals.watched("repair", run, by=by):
            return await self.loop.bridge(self.resolving.repair(run, by=person_id(by), reason=reason))

    repair_sync = twin(repair)

    # -- looking ----------------------------------------------------------------------------------------------------

    async def get(self, id: str) -> Run:
        """A run as it stands. Raises `NotFound`."""
        await self.open()
        return await self.loop.bridge(self.runs.get(id))

    get_sync = twin(get)

    async def approval(self, id: str) -> Approval:
        """An approval as it stands, decided ones too. Raises `NotFound`."""
        await self.open()
        parts = split_approval_id(id)
        if parts is None:
            raise NotFound(f"no approval {id}: an approval's id is a run's id, a dot and a number")
        return await self.loop.bridge(self._approval(id, *parts))

    async def _approval(self, id: str, run_id: str, n: int) -> Approval:
        run = await self.runs.find(run_id)
        if run is None:
            raise NotFound(f"no approval {id} (in tenant {self.tenant}, store {shown(self.store.url)})")
        call = await self.runs.call(run, n)
        if call is None or not call.stages:
            raise NotFound(f"no approval {id}: run {run.id} asks nobody under that number")
        return Approval(run, call)

    approval_sync = twin(approval)

    async def inbox(
        self, *, person: str | None = None, limit: int = 100, skipped: Callable[[str], None] = log.error
    ) -> list[Approval]:
        """What waits for people, oldest first; for one ``person``, what that person may decide now.

        Of ``limit`` runs; of so many requests for a person, however many wait for others. ``skipped`` hears of runs
        that cannot be read and are left out; without it the log does.
        """
        await self.open()
        if person is not None:
            found = await self.deciding.inbox(person, limit, skipped)
        else:
            runs = await self.loop.bridge(self.runs.select({"pending": "yes"}, limit=limit, skipped=skipped))
            found = [approval for run in runs for approval in run.approvals]
        return sorted(found, key=lambda approval: approval.call.created)

    inbox_sync = twin(inbox)

    async def list_runs(
        self,
        *,
        state: str | None = None,
        agent: str | None = None,
        limit: int = 100,
        after: str = "",
        skipped: Callable[[str], None] = log.error,
    ) -> list[Run]:
        """Runs by state and agent, by id. ``skipped`` hears of those that cannot be read; without it the log does."""
        await self.open()
        where = {key: value for key, value in (("state", state), ("agent", agent)) if value}
        return await self.loop.bridge(self.runs.select(where, limit=limit, after=after, skipped=skipped))

    list_runs_sync = twin(list_runs)

    async def timeline(self, id: str) -> list[dict[str, Any]]:
        """The audit events of a run, in order. Raises `NotFound`."""
        await self.get(id)
        return await self.loop.bridge(self.runs.events(id))

    timeline_sync = twin(timeline)

    async def calls(self, id: str) -> tuple[Call, ...]:
        """Every call of a run, those of closed generations too. Raises `NotFound`."""
        run = await self.get(id)
        return await self.loop.bridge(self.runs.all_calls(run))

    calls_sync = twin(calls)

    async def wait(self, id: str, *, timeout: float, until: Callable[[Run], bool] | None = None) -> Run:
        """The run once ``until`` holds (default: it is over, or waits for people); as it stands after ``timeout`` s."""
        await self.open()
        done = until or (lambda run: run.state.ended or run.state in (RunState.WAITING, RunState.BLOCKED))
        return await self.loop.bridge(self.watch.until(lambda: self.runs.get(id), done, timeout))

    wait_sync = twin(wait)

    async def close(self) -> None:
        """Close the store and stop both background loops. Twice is fine."""
        if self._opened:
            self._opened = False
            await self.loop.bridge(self._shut())
        for loop in (self.loop, self.caller_loop):
            await asyncio.to_thread(loop.stop)

    async def _shut(self) -> None:
        if isinstance(self.policies, Published):
            await self.policies.stop()
        await self.watch.stop()
        await self.audit.refusals.close()
        await self.store.close()

    def close_sync(self) -> None:
        """Blocking twin of `close`."""
        if self._opened:
            self._opened = False
            self.loop.call(self._shut())
        self.loop.stop()
        self.caller_loop.stop()

    async def __aenter__(self) -> Governor:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _directory(people: Directory | str | Path | None) -> Directory | None:
    """Which directory of people this is: see `directory.open_people`, which is loaded when it is asked (YAML)."""
    from governor_agents.directory import open_people

    return open_people(people)
