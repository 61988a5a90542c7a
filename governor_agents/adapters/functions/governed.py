"""A governed function, the calls that are made of it, and the handle of one that was not waited for."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from governor_agents.adapters.functions.arguments import Parameters
from governor_agents.claims import Claim, pass_time
from governor_agents.core import driving
from governor_agents.core.calls import Tool, ToolCall, freeze, thaw
from governor_agents.core.records import Call, CallState, Change, Run, RunState, approval_id, evolve
from governor_agents.core.settling import HALT
from governor_agents.core.sizes import heaviest, too_large
from governor_agents.core.verdicts import Verdict
from governor_agents.driver import backoff
from governor_agents.errors import (
    ArgumentsError,
    CallCancelled,
    CallDenied,
    CallExpired,
    CallFailed,
    CallHalted,
    CallInDoubt,
    CallRejected,
    ConfigError,
    Fenced,
    GovernorError,
    IllegalTransition,
    OutcomeUnknown,
    RunBlocked,
    WouldBlock,
)
from governor_agents.guard import keyed
from governor_agents.journal import Ran
from governor_agents.liveness import this_worker
from governor_agents.nonces import nonce, run_id
from governor_agents.operands import bound
from governor_agents.policies import person_id

if TYPE_CHECKING:
    from governor_agents.governor import Governor

AGENT = "functions"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Pending:
    """A governed call that was asked for and not waited for. Keep ``run`` to collect the result in another process."""

    function: Governed
    run: str
    approval: str
    _self: Any = None

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for decision and result; runs the function here if nobody else does.

        ``timeout`` bounds the waiting, in seconds, never the function once it runs here. Raises what `Governed`
        raises, or `TimeoutError` (the request stays open).
        """
        return await self.function.collect(self.run, self._self, timeout)

    def result_sync(self, timeout: float | None = None) -> Any:
        """Blocking twin of `result`. Raises `WouldBlock` inside a running event loop."""
        _may_block(self.function.name)
        return self.function.governor.caller_loop.call(self.result(timeout))


class Governed:
    """A function under governance; call it as before.

    Raises `ArgumentsError`, `CallDenied`, `CallRejected`, `CallExpired`, `CallCancelled`, `CallInDoubt`,
    `SnapshotTooLarge` (before anybody is asked), and whatever the function raises. A person's answer
    (`Decision.respond`) is returned in the function's place.
    """

    def __init__(
        self,
        governor: Governor,
        function: Callable[..., Any],
        name: str,
        parameters: Parameters,
        declared: Callable[[Tool], Tool],
        requester: str,
    ) -> None:
        functools.update_wrapper(self, function)
        self.governor = governor
        self.name = name
        self._function = function
        self._declared = declared
        self._made_of: tuple[Tool | None, Tool] = (None, declared(Tool(name)))
        self._requester = person_id(requester) if requester else f"service:{AGENT}"
        self._parameters = parameters
        self._async = inspect.iscoroutinefunction(function)
        self.method = parameters.method

    @property
    def tool(self) -> Tool:
        """What is declared of it, by the policies in force and where it is decorated."""
        by_policies = self.governor.policies.tool(self.name)
        if by_policies is not self._made_of[0]:
            self._made_of = (by_policies, self._declared(by_policies))
        return self._made_of[1]

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """The method of an object, as with a plain function."""
        return self if instance is None else _Bound(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function when the policies or people let it run."""
        instance, call = self._freeze(args, kwargs)
        return self._call_sync(instance, call)

    async def ask(self, *args: Any, **kwargs: Any) -> Pending:
        """Ask for the call and return at once, durably: the handle collects the result later, also elsewhere.

        Raises `ArgumentsError`, `CallDenied`; `ConfigError` when the policies allow the call (then just call it).
        """
        instance, call = self._freeze(args, kwargs)
        call, verdict = self._verdict(call)
        if verdict.outcome == "allow":
            raise ConfigError(f"{self.name} needs no approval for these arguments; call it directly")
        run = await self._open(call, verdict, waits=self.method)
        pending = Pending(self, run.id, approval_id(run.id, 1), instance)
        if self.method:
            self.governor.functions.keep(pending)
        return pending

    def ask_sync(self, *args: Any, **kwargs: Any) -> Pending:
        """Blocking twin of `ask`; it waits for no person, so it works anywhere."""
        return self.governor.caller_loop.call(self.ask(*args, **kwargs))

    # -- one call ---------------------------------------------------------------------------------------------------

    def _freeze(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ToolCall]:
        """The object of a method and the call, frozen here."""
        instance, frozen = self._parameters.freeze(args, kwargs)
        return instance, ToolCall(
            tool=self.name,
            args=frozen,
            call_id=nonce(),
            agent=AGENT,
            requester=self._requester,
            tenant=self.governor.tenant,
            schema_sha256=self._parameters.sha256,
        )

    def _apply(self, instance: Any, args: bytes) -> Any:
        """Call the function with the frozen arguments."""
        positional, named = self._parameters.thaw(instance, args)
        return self._function(*positional, **named)

    def _verdict(self, call: ToolCall) -> tuple[ToolCall, Verdict]:
        """The call with the files it names, and what the policies say of it. Raises `CallDenied`."""
        tool = self.tool
        call, verdict = bound(call, tool, self.governor.policies.evaluate(call, tool))
        if verdict.outcome == "deny":
            raise CallDenied(f"{self.name} was denied: {verdict.reason or verdict.code}")
        return call, verdict

    def _heed(self, scope: str) -> None:
        if scope:
            raise CallHalted(f"{self.name} did not run: {scope} is halted")

    async def _call_async(self, instance: Any, asked: ToolCall) -> Any:
        policies = self.governor.policies
        while True:
            version = policies.version
            call, verdict = self._verdict(asked)
            if verdict.outcome != "allow":
                break
            await self.governor.open()
            self._heed(await self.governor.guard.halted(None, call, self.tool))
            if policies.version == version:
                with keyed():
                    return await self._apply(instance, call.args)
        run = await self._open(call, verdict, waits=True)
        return await self.collect(run.id, instance)

    def _call_sync(self, instance: Any, asked: ToolCall) -> Any:
        policies = self.governor.policies
        while True:
            version = policies.version
            call, verdict = self._verdict(asked)
            if verdict.outcome != "allow":
                break
            self.governor.caller_loop.call(self.governor.open())
            self._heed(self.governor.guard.halted_sync(None, call, self.tool))
            if policies.version == version:
                with keyed():
                    return self._apply(instance, call.args)
        _may_block(self.name)
        background = self.governor.caller_loop
        run = background.call(self._open(call, verdict, waits=True))
        claimed = background.call(self._decided(run.id))
        if claimed.state is not RunState.ACTIVE:
            return background.call(self._outcome(claimed))
        return self._run_sync(claimed, instance)

    async def _open(self, call: ToolCall, verdict: Verdict, *, waits: bool) -> Run:
        governor = self.governor
        if len(call.args) > governor.max_snapshot:
            parts = heaviest(thaw(call.args), declared=1)
            raise too_large(f"the call of {self.name}", len(call.args), governor.max_snapshot, parts)
        await governor.open()
        fresh = Run(
            tenant=governor.tenant,
            id=run_id(),
            agent=AGENT,
            adapter=AGENT,
            requester=call.requester,
            state=RunState.ACTIVE,
            created=0.0,
            env=governor.env,
            max_attempts=governor.max_attempts,
        )

        async def work() -> Run:
            now = await governor.runs.now()
            born = evolve(fresh, created=now)
            lease = governor.beats.lease if waits else None
            ask = driving.Ask(evolve(call, run=born.id), self.tool, verdict, nonce())
            change = driving.ask_single(born, ask, now, owner=this_worker(), lease=lease)
            return await governor.runs.create(change, now)

        return await governor.loop.bridge(work())

    async def collect(self, run: str, instance: Any = None, timeout: float | None = None) -> Any:
        """The result of an asked call: waits for the decision, then runs it here or takes what another run gave.

        ``timeout`` bounds the waiting. Raises `TimeoutError`; `ConfigError` for a run that is not a call of this one.
        """
        asked = await self.governor.get(run)
        if not asked.single or asked.calls[-1].tool != self.name:  # its approval is none for this function
            raise ConfigError(f"run {run} is no call of {self.name}; collect it where it was asked for")
        while True:
            async with asyncio.timeout(timeout):
                stands = await self._decided(run)
            if stands.state is not RunState.ACTIVE:
                return await self._outcome(stands)
            if self._async:
                ran = await self._run_async(stands, instance)
            else:
                ran = await asyncio.to_thread(self._guarded_sync, stands, instance)
            if ran.how != "waits":
                return self._tell(ran)
            await self._give_up(stands)

    async def _decided(self, id: str) -> Run:
        """The run once it is over, or claimed by us. Keeps our place as its waiter meanwhile."""
        governor = self.governor
        while True:
            change = await governor.loop.bridge(governor.runs.change(id, pass_time))
            run = change.run
            if run.state is RunState.BLOCKED and run.blocked == HALT:  # it stands until that is lifted, and so do we
                run = await governor.loop.bridge(governor.stopped.free(id))
            elif run.state.ended or run.state in (RunState.BLOCKED, RunState.DEAD):
                return run
            if run.state is RunState.READY:
                with contextlib.suppress(Fenced):  # then somebody else has it, or waits for it
                    claimed = await governor.claim(id)
                    if claimed.blocked != HALT:
                        return claimed
                run = await governor.get(id)
            await self.keep_waiting(run)
            now = await governor.loop.bridge(governor.runs.now())
            ends = [
                at for approval in run.approvals for at in (approval.call.expires, approval.call.stage_expires) if at
            ]
            wait = min([governor.beats.lease / 3, *(max(at - now, 0.0) + 0.001 for at in ends)])
            await governor.wait(id, timeout=wait, until=partial(_moved_on, run.seq))

    async def keep_waiting(self, run: Run) -> Run:
        """Renew our place as the run's waiter, if we have it."""
        governor, owner = self.governor, this_worker()
        if run.waiter is None or run.waiter.owner != owner:
            return run
        change = await governor.loop.bridge(
            governor.runs.change(
                run.id,
                lambda run, now: driving.keep_waiting(run, now, owner=owner, lease=governor.beats.lease),
                point="run.awaited",
            )
        )
        return change.run

    async def _run_async(self, run: Run, instance: Any) -> Ran:
        claim, call = Claim.on(run), run.calls[-1]

        async def invoke(args: bytes) -> Any:
            return await self._apply(instance, args)

        try:  # the claim is not made the current one: it is this call's, and not that of agents which the function runs
            return await self.governor.guard.run(claim, self._again(run, call), self.tool, invoke, dump=_dump)
        except (OutcomeUnknown, RunBlocked):  # a doubt: the run rests now, not only when its lease is over
            await self._give_up(run)
            raise

    def _guarded_sync(self, run: Run, instance: Any) -> Ran:
        claim, call = Claim.on(run), run.calls[-1]
        try:
            return self.governor.guard.run_sync(
                claim, self._again(run, call), self.tool, lambda args: self._apply(instance, args), dump=_dump
            )
        except (OutcomeUnknown, RunBlocked):
            self.governor.caller_loop.call(self._give_up(run))
            raise

    def _run_sync(self, run: Run, instance: Any) -> Any:
        ran = self._guarded_sync(run, instance)
        if ran.how != "waits":
            return self._tell(ran)
        background = self.governor.caller_loop
        background.call(self._give_up(run))
        return background.call(self.collect(run.id, instance))

    def _again(self, run: Run, call: Call) -> ToolCall:
        """The call as it was asked for, as the guard compares it."""
        asked = call.asked_args if call.asked_args is not None else call.args
        again = call.as_tool_call(run).with_args(asked)
        return evolve(again, schema_sha256=self._parameters.sha256)

    async def _give_up(self, run: Run) -> None:
        """Let go of a claim under which the function did not come to an end; nothing when it is over already."""
        claim = Claim.on(run)

        def step(run: Run, now: float) -> Change:
            return driving.abandon(run, now, owner=claim.owner, fence=claim.fence, delay=backoff(run))

        with contextlib.suppress(Fenced, IllegalTransition):
            await self.governor.loop.bridge(self.governor.runs.change(run.id, step))

    def _tell(self, ran: Ran) -> Any:
        if ran.how == "value" or ran.state in (CallState.ANSWERED, CallState.SUCCEEDED):
            return ran.value if ran.how == "value" else ran.text
        raise _raised(self.name, ran.state, ran.text)

    async def _outcome(self, run: Run) -> Any:
        call = run.calls[-1]
        if call.state is CallState.SUCCEEDED and call.result is not None:
            data = call.result.data
            if data is not None:
                return thaw(data)
            return thaw(await self.governor.loop.bridge(self.governor.runs.blob(run.id, call.result.blob)))
        if call.state in (CallState.ANSWERED, CallState.SUCCEEDED):  # a person's, or an operator's, words
            return call.told
        raise _raised(self.name, call.state, call.told)

    async def take_over(self, run: Run) -> Run:
        """A worker's part: run the decided call of a caller who is gone, or never waited."""
        governor = self.governor
        claimed = await governor.claim(run.id)
        if claimed.state is not RunState.ACTIVE:
            return claimed
        if self.method:
            claim, detail = Claim.on(claimed), f"{self.name} is a method; only its caller can run it"
            change = await governor.loop.bridge(
                governor.runs.change(
                    run.id,
                    lambda run, now: driving.park(
                        run, now, owner=claim.owner, fence=claim.fence, why="caller_gone", detail=detail
                    ),
                )
            )
            return change.run
        try:
            if self._async:
                ran = await self._run_async(claimed, None)
            else:
                ran = await asyncio.to_thread(self._guarded_sync, claimed, None)
            if ran.how == "waits":
                await self._give_up(claimed)
        except GovernorError:
            raise
        except Exception as error:  # the function's own: recorded, and told to whoever collects
            log.info("%s raised %s", self.name, type(error).__name__)
        return await governor.get(run.id)


class GovernedAsync(Governed):
    """A coroutine function under governance."""

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function when the policies or people let it run."""
        instance, call = self._freeze(args, kwargs)
        return await self._call_async(instance, call)


class _Bound:
    """A governed method of one object."""

    def __init__(self, governed: Governed, instance: object) -> None:
        self._governed = governed
        self._instance = instance
        functools.update_wrapper(self, governed)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._governed(self._instance, *args, **kwargs)

    async def ask(self, *args: Any, **kwargs: Any) -> Pending:
        """See `Governed.ask`."""
        return await self._governed.ask(self._instance, *args, **kwargs)

    def ask_sync(self, *args: Any, **kwargs: Any) -> Pending:
        """See `Governed.ask_sync`."""
        return self._governed.ask_sync(self._instance, *args, **kwargs)


def _moved_on(seq: int, run: Run) -> bool:
    return run.seq != seq


def _may_block(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WouldBlock(f"{name} would wait for a person inside a running event loop; use await {name}.ask(...) instead")


def _dump(value: Any) -> bytes:
    """A return value as JSON; what is not plain JSON as text, because the effect has happened and must be recorded."""
    try:
        return freeze(value)
    except ArgumentsError:
        return freeze(str(value).encode("utf-8", "backslashreplace").decode())


def _raised(name: str, state: CallState | None, told: str) -> GovernorError:
    kinds: dict[CallState | None, type[GovernorError]] = {
        CallState.DENIED: CallDenied,
        CallState.REJECTED: CallRejected,
        CallState.EXPIRED: CallExpired,
        CallState.CANCELLED: CallCancelled,
        CallState.SUPERSEDED: CallCancelled,
        CallState.FAILED: CallFailed,
    }
    return kinds.get(state, CallInDoubt)(f"{name} was {state}" + (f": {told}" if told else ""))
