"""What fails, fails closed: each fault keeps the tool from running and says why by a stable code; without it, it runs.

Each fault is a coroutine that is played twice: once broken, once whole. It gives back the reason that an operator or a
script would see: the code of an error, of the call, or of the blocked run.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agents import WebSearchTool

from governor_agents import Decision, Governor, PolicySet, Tool, ToolCall, Verdict, Worker
from governor_agents.claims import Claim, held
from governor_agents.core.ports import Record, StoredEvent
from governor_agents.core.records import CallState, RunState
from governor_agents.errors import GovernorError, StoreUnavailable
from governor_agents.keys import Keys
from governor_agents.policies import require_approval
from governor_agents.stores.memory import MemoryStore
from governor_agents.testing import MovableClock
from tests.asking import Silent
from tests.integration.desk import ALLOW, ARGS, ASK, BOSS, DENY, SCHEMA, Desk
from tests.integration.openai_agents_app import Scripted
from tests.integration.publishing import ASK as ASK_PUBLISHED
from tests.integration.publishing import publish, published
from tests.integration.test_what_was_approved import OTHER_SCHEMA, TWO, of_call, rewrite

pytestmark = pytest.mark.anyio

Fault = Callable[[Path, bool], Awaitable[tuple[str, int]]]
FAULTS: dict[str, tuple[str, Fault]] = {}


def fault(name: str, code: str) -> Callable[[Fault], Fault]:
    """Put a fault on the list, with the code it must be told by."""

    def register(play: Fault) -> Fault:
        assert name not in FAULTS
        FAULTS[name] = (code, play)
        return play

    return register


# -- the way of a call, as far as it comes ----------------------------------------------------------------------------


async def code_of(work: Awaitable[Any]) -> str:
    """The code of what it raises, empty when it raises nothing."""
    try:
        await work
    except GovernorError as error:
        return error.code
    return ""


async def through(here: Desk, *, approve: bool = True, before: Callable[[], Awaitable[Any]] | None = None) -> str:
    """Ask, approve, let a worker go on; the reason for which the call did not run, empty when it did."""
    async with here.governor:
        try:
            run = await here.ask()
            if approve:
                run = await here.approve(run)
            if before is not None:
                await before()
            await Worker(here.governor).run(once=True)
            return await why(here, run.id)
        except GovernorError as error:
            return error.code


async def why(here: Desk, id: str) -> str:
    """Why a run, or its call, stands where it stands."""
    run = await here.governor.get(id)
    if run.state in (RunState.BLOCKED, RunState.DEAD):
        return run.blocked or str(run.state)
    [call] = await here.governor.calls(id)
    if call.state is CallState.SUCCEEDED:
        return ""
    return call.code if call.code != "rule" else str(call.state)


def policy(text: str) -> PolicySet:
    return PolicySet.from_text("version: 1\n" + text, name="governor.yaml")


GOOD = f"approvals: {{approvers: [{BOSS}]}}\ntools: {{deploy: {{}}}}\n"


def store_at(folder: Path) -> str:
    return f"sqlite:///{folder}/g.db"


# -- policies ---------------------------------------------------------------------------------------------------------


@fault("nobody may approve", "no_approvers")
async def no_approvers(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("langchain", store_at(folder), policies=policy("tools: {deploy: {}}\n" if broken else GOOD))
    return await through(here), len(here.ran)


@fault("the group of approvers is empty", "no_approvers")
async def empty_group(folder: Path, broken: bool) -> tuple[str, int]:
    people = "" if broken else BOSS
    rule = "rules: [{name: r, tool: deploy, then: require_approval, approvers: [group:ops]}]\n"
    here = Desk("langchain", store_at(folder), policies=policy(f"groups: {{ops: [{people}]}}\n{rule}"))
    return await through(here), len(here.ran)


@fault("a policy raises", "policy_error")
async def policy_raises(folder: Path, broken: bool) -> tuple[str, int]:
    def say(call: ToolCall) -> Verdict:
        if broken:
            raise RuntimeError("the directory of people is down")
        return ALLOW

    here = Desk("langchain", store_at(folder), say=say)
    return await through(here), len(here.ran)


@fault("a policy answers with what is no verdict", "policy_error")
async def policy_garbage(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("langchain", store_at(folder), say=(lambda call: True) if broken else ALLOW)  # type: ignore[arg-type,return-value]
    return await through(here), len(here.ran)


@fault("a condition fails and nobody is named", "policy_error")
async def condition_fails(folder: Path, broken: bool) -> tuple[str, int]:
    when = "call.args.missing > 1" if broken else "call.args.amount > 1"
    rules = f"rules: [{{name: r, tool: deploy, when: {when}, then: allow}}]\n"
    here = Desk("langchain", store_at(folder), policies=policy("tools: {deploy: {}}\n" + rules))
    return await through(here), len(here.ran)


@fault("a tool that nobody declared", "unknown_tool")
async def unknown_tool(folder: Path, broken: bool) -> tuple[str, int]:
    declared = "" if broken else "tools: {deploy: {read_only: true}}\n"
    here = Desk("langchain", store_at(folder), policies=policy(f"approvals: {{approvers: [{BOSS}]}}\n{declared}"))
    if broken:
        return await through(here, approve=False), len(here.ran)
    async with here.governor:
        return (await here.ask()).error, len(here.ran)


@fault("a rule denies", "denied")
async def denied(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("langchain", store_at(folder), say=DENY if broken else ALLOW)
    return await through(here), len(here.ran)


@fault("the policy file says a retry class that does not exist", "policy_file_error")
async def unknown_retry(folder: Path, broken: bool) -> tuple[str, int]:
    retry = "sometimes" if broken else "idempotent"
    text = f"approvals: {{approvers: [{BOSS}]}}\ntools: {{deploy: {{retry: {retry}}}}}\n"
    try:
        here = Desk("langchain", store_at(folder), policies=policy(text))
    except GovernorError as error:
        return error.code, 0
    return await through(here), len(here.ran)


@fault("a tool is declared in Python with a retry class that does not exist", "config_error")
async def unknown_retry_in_python(folder: Path, broken: bool) -> tuple[str, int]:
    retry: Any = "sometimes" if broken else "idempotent"
    try:
        here = Desk("langchain", store_at(folder), declared={"deploy": Tool("deploy", retry=retry)})
    except GovernorError as error:
        return error.code, 0
    return await through(here), len(here.ran)


@fault("the policy came to deny", "policy_denies")
async def now_denies(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("functions", store_at(folder))

    async def deploy_policy() -> None:
        here.say = DENY if broken else ASK

    return await through(here, before=deploy_policy), len(here.ran)


@fault("the policy came to demand more people", "pending")
async def now_demands_more(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("functions", store_at(folder))

    async def deploy_policy() -> None:
        here.say = TWO if broken else ASK

    return await through(here, before=deploy_policy), len(here.ran)


@fault("nothing is published", "call_denied")
async def nothing_published(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("functions", store_at(folder), policies=published())
    await publish(store_at(folder), ASK_PUBLISHED, tenant="another" if broken else "default")
    return await through(here), len(here.ran)


@fault("the published policies cannot be read", "policies_unavailable")
async def published_torn(folder: Path, broken: bool) -> tuple[str, int]:
    await publish(store_at(folder), ASK_PUBLISHED)
    async with (here := Desk("functions", store_at(folder), policies=published())).governor:
        run = await here.approved()
        if broken:
            _replace(folder, "policy", b'"current":{', b'"currant":{')
        return await code_of(here.go_on(run)), len(here.ran)


# -- configuration ----------------------------------------------------------------------------------------------------


@fault("a setting that cannot be", "config_error")
async def bad_setting(folder: Path, broken: bool) -> tuple[str, int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOVERNOR_LEASE", "soon" if broken else "30")
        try:
            here = Desk("functions", store_at(folder))
        except GovernorError as error:
            return error.code, 0
    return await through(here), len(here.ran)


@fault("an agent that nobody registered", "unknown_agent")
async def unknown_agent(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("langchain", store_at(folder), say=ALLOW)
    async with here.governor:
        return await code_of(here.governor.run("suport" if broken else "support", "go")), len(here.ran)


@fault("an agent with a tool that nothing governs", "ungoverned_tool")
async def ungoverned(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("openai-agents", store_at(folder), say=ALLOW)
    agent, options = here._openai()
    if broken:
        agent.tools.append(WebSearchTool())
    here.governor.agents["support"] = lambda: (agent, options)
    async with here.governor:
        return await code_of(here.ask()), len(here.ran)


@fault("a run of another environment", "wrong_environment")
async def other_environment(folder: Path, broken: bool) -> tuple[str, int]:
    async with (asks := Desk("functions", store_at(folder), env="staging")).governor:
        run = await asks.approved()
    async with (here := Desk("functions", store_at(folder), env="prod" if broken else "staging")).governor:
        return await code_of(here.go_on(run)), len(here.ran)


@fault("no keys for a sealed store", "config_error")
async def no_keys(folder: Path, broken: bool) -> tuple[str, int]:
    return await _with_keys(folder, None if broken else "same")


@fault("other keys than those it was sealed with", "seal_broken")
async def other_keys(folder: Path, broken: bool) -> tuple[str, int]:
    return await _with_keys(folder, "other" if broken else "same")


async def _with_keys(folder: Path, which: str | None) -> tuple[str, int]:
    same = Keys.generate()
    async with (asks := Desk("functions", store_at(folder), keys=same)).governor:
        run = await asks.approved()
    keys = {"same": same, "other": Keys.generate(), None: None}[which]
    here = Desk("functions", store_at(folder), keys=keys)
    try:
        async with here.governor:
            return await code_of(here.go_on(run)), len(here.ran)
    except GovernorError as error:
        return error.code, len(here.ran)


@fault("the key file is not there", "key_file_error")
async def no_key_file(folder: Path, broken: bool) -> tuple[str, int]:
    path = folder / "keys.json"
    if not broken:
        Keys.create(path)
    try:
        here = Desk("functions", store_at(folder), keys=path)
    except GovernorError as error:
        return error.code, 0
    return await through(here), len(here.ran)


# -- the store --------------------------------------------------------------------------------------------------------


class Flaky(MemoryStore):
    """A store in memory of which one kind of write, or the clock, can be made to fail."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        super().__init__(**({"clock": clock} if clock else {}))
        self.away = ""
        self.slow: Callable[[], None] | None = None

    async def insert(self, record: Record, **rest: Any) -> Any:
        self._meet(rest.get("events", ()))
        return await super().insert(record, **rest)

    async def swap(self, record: Record, **rest: Any) -> Any:
        self._meet(rest.get("events", ()))
        return await super().swap(record, **rest)

    def _meet(self, events: tuple[StoredEvent, ...]) -> None:
        body = b"".join(event.body for event in events)
        if self.away and f'"what":"{self.away}"'.encode() in body:
            raise StoreUnavailable("away")
        if self.slow is not None and b'"what":"call.executing"' in body:
            self.slow()


@fault("the store is away when the call is asked for", "store_unavailable")
async def away_when_asked(folder: Path, broken: bool) -> tuple[str, int]:
    store = Flaky()
    store.away = "call.asked" if broken else ""
    here = Desk("functions", store)
    return await through(here), len(here.ran)


@fault("the store is away when the call is to begin", "store_unavailable")
async def away_at_intent(folder: Path, broken: bool) -> tuple[str, int]:
    store = Flaky()
    async with (here := Desk("functions", store)).governor:
        run = await here.approved()
        store.away = "call.executing" if broken else ""
        return await code_of(here.go_on(run)), len(here.ran)


@fault("the store is away when a person decides", "store_unavailable")
async def away_when_decided(folder: Path, broken: bool) -> tuple[str, int]:
    store = Flaky()
    async with (here := Desk("functions", store)).governor:
        run = await here.ask()
        store.away = "call.approved" if broken else ""
        code = await code_of(here.approve(run))
        await Worker(here.governor).run(once=True)
        return code, len(here.ran)


@fault("the store is so slow that the lease ends before the intent", "fenced")
async def slow_store(folder: Path, broken: bool) -> tuple[str, int]:
    clock = MovableClock()
    store = Flaky(clock)
    async with (here := Desk("functions", store)).governor:
        run = await here.approved()
        store.slow = (lambda: clock.move(60.0)) if broken else None
        return await code_of(here.go_on(run)), len(here.ran)


@fault("the audit event of the intent cannot be written", "store_error")
async def audit_fails(folder: Path, broken: bool) -> tuple[str, int]:
    store = MemoryStore()
    async with (here := Desk("functions", store)).governor:
        run = await here.approved()
        data = store._data
        assert data is not None
        if broken:  # the claim writes the next event, the intent the one after it
            data.events[("run", "default", run.id)][run.seq + 2] = StoredEvent(run.seq + 2, b"{}")
        return await code_of(here.go_on(run)), len(here.ran)


@pytest.mark.parametrize("now", [float("nan"), float("inf"), float("-inf")])
async def test_a_clock_that_says_no_time_stops_everything(now: float) -> None:
    """NaN compares with nothing: an approval would never expire, a lease never end."""
    times = [1_800_000_000.0]
    async with (here := Desk("functions", MemoryStore(clock=lambda: times[-1]))).governor:
        run = await here.approved()
        times.append(now)
        assert await code_of(here.go_on(run)) == "clock_error" and here.ran == []
        times.append(1_800_000_001.0)
        assert (await here.go_on(run)).status == "completed" and len(here.ran) == 1


@fault("the clock says no time", "clock_error")
async def no_time(folder: Path, broken: bool) -> tuple[str, int]:
    times = [1_800_000_000.0]
    async with (here := Desk("functions", MemoryStore(clock=lambda: times[-1]))).governor:
        run = await here.approved()
        times.append(float("nan") if broken else times[-1] + 1.0)
        return await code_of(here.go_on(run)), len(here.ran)


@fault("the record was written by a newer version", "store_too_new")
async def newer_record(folder: Path, broken: bool) -> tuple[str, int]:
    async with (asks := Desk("functions", store_at(folder))).governor:
        run = await asks.approved()
    if broken:
        _replace(folder, "run", b'{"schema":2,', b'{"schema":99,')
    async with (here := Desk("functions", store_at(folder))).governor:
        return await code_of(here.go_on(run)), len(here.ran)


@fault("the record is torn", "snapshot_error")
async def torn_record(folder: Path, broken: bool) -> tuple[str, int]:
    async with (asks := Desk("functions", store_at(folder))).governor:
        run = await asks.approved()
    if broken:
        _replace(folder, "run", b'"calls":', b'"colls":')
    async with (here := Desk("functions", store_at(folder))).governor:
        return await code_of(here.go_on(run)), len(here.ran)


def _replace(folder: Path, kind: str, old: bytes, new: bytes) -> None:
    """Change bytes of every stored record of a kind."""
    database = sqlite3.connect(folder / "g.db")
    with database:
        for rowid, body in database.execute("SELECT rowid, body FROM ga_record WHERE kind = ?", (kind,)).fetchall():
            assert old in body
            database.execute("UPDATE ga_record SET body = ? WHERE rowid = ?", (body.replace(old, new), rowid))
    database.close()


@fault("the content of the snapshot is gone", "snapshot")
async def snapshot_gone(folder: Path, broken: bool) -> tuple[str, int]:
    async with (asks := Desk("openai-agents", store_at(folder))).governor:
        run = await asks.approved()
    if broken:
        assert run.snapshot is not None
        database = sqlite3.connect(folder / "g.db")
        with database:
            assert database.execute("DELETE FROM ga_blob WHERE digest = ?", (run.snapshot.blob,)).rowcount == 1
        database.close()
    async with (here := Desk("openai-agents", store_at(folder))).governor:
        await Worker(here.governor).run(once=True)
        return await why(here, run.id), len(here.ran)


# -- the call ---------------------------------------------------------------------------------------------------------


@fault("the record was changed", "record_changed")
async def record_changed(folder: Path, broken: bool) -> tuple[str, int]:
    async with (asks := Desk("functions", store_at(folder))).governor:
        run = await asks.approved()
    if broken:
        await rewrite(store_at(folder), run.id, of_call(expires=1e12))
    async with (here := Desk("functions", store_at(folder))).governor:
        await here.go_on(run)
        return await why(here, run.id), len(here.ran)


@fault("the tool's parameters changed", "schema_changed")
async def schema_drift(folder: Path, broken: bool) -> tuple[str, int]:
    async with (asks := Desk("functions", store_at(folder))).governor:
        run = await asks.approved()
    schema = OTHER_SCHEMA if broken else SCHEMA
    async with (here := Desk("functions", store_at(folder), schema=schema)).governor:
        await here.go_on(run)
        return await why(here, run.id), len(here.ran)


@fault("a file that it names is not there", "operand_unreadable")
async def operand_missing(folder: Path, broken: bool) -> tuple[str, int]:
    here = _with_file(folder, there=not broken)
    return await through(here), len(here.ran)


@fault("a file that it names changed", "operands_changed")
async def operand_changed(folder: Path, broken: bool) -> tuple[str, int]:
    here = _with_file(folder, there=True)

    async def meanwhile() -> None:
        if broken:
            (folder / "f").write_bytes(b"other")

    return await through(here, before=meanwhile), len(here.ran)


def _with_file(folder: Path, *, there: bool) -> Desk:
    if there:
        (folder / "f").write_bytes(b"content")
    declared = {"deploy": Tool("deploy", operands=("path",))}
    return Desk("langchain", store_at(folder), declared=declared, args={"path": str(folder / "f"), "amount": 1})


@fault("arguments that are not JSON", "arguments_error")
async def not_json(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("functions", store_at(folder), args={"path": "x", "amount": {1, 2} if broken else [1, 2]})
    return await through(here), len(here.ran)


@fault("arguments nested deeper than anybody reads", "arguments_error")
async def too_deep(folder: Path, broken: bool) -> tuple[str, int]:
    deep: Any = []
    for _ in range(10_000 if broken else 50):
        deep = [deep]
    here = Desk("functions", store_at(folder), args={"path": "x", "amount": deep})
    return await through(here), len(here.ran)


@fault("arguments with one key twice", "arguments_error")
async def duplicate_keys(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("openai-agents", store_at(folder), say=ALLOW)
    text = '{"path":"x","amount":1,"path":"y"}' if broken else '{"path":"x","amount":1}'
    model = Scripted([("deploy", text)])
    agent, options = here._openai()
    agent.model = model
    here.governor.agents["support"] = lambda: (agent, options)
    async with here.governor:
        await here.ask()
        told = str(model.outputs[-1])
        return "arguments_error" if "the key 'path' stands twice" in told else "", len(here.ran)


@fault("a call id that comes back with other content", "call_id_reused")
async def id_reused(folder: Path, broken: bool) -> tuple[str, int]:
    async with (here := Desk("functions", store_at(folder))).governor:
        run = await here.governor.claim((await here.approved()).id)
        call = run.calls[0].as_tool_call(run)
        other = call.with_args(b'{"amount":99,"path":"deploy.sh"}') if broken else call
        return await _guarded(here, Claim.on(run), other), len(here.ran)


async def _guarded(here: Desk, claim: Claim, call: ToolCall) -> str:
    """One call through the guard, under a claim."""

    async def invoke(args: bytes) -> str:
        return await here._work("deploy", args)

    with held(claim):
        return await code_of(here.governor.guard.run(claim, call, here._functions["deploy"].tool, invoke))


@fault("the lease is over before the call begins", "fenced")
async def lease_over(folder: Path, broken: bool) -> tuple[str, int]:
    clock = MovableClock()
    async with (here := Desk("functions", MemoryStore(clock=clock))).governor:
        run = await here.governor.claim((await here.approved()).id)
        clock.move(31.0 if broken else 1.0)
        return await _guarded(here, Claim.on(run), run.calls[0].as_tool_call(run)), len(here.ran)


@fault("the run was cancelled", "cancelled")
async def cancelled(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("functions", store_at(folder))

    async def cancel() -> None:
        [run] = await here.governor.list_runs()
        if broken:
            await here.governor.cancel(run.id, by="local:op")

    return await through(here, before=cancel), len(here.ran)


@fault("the deadline passed", "deadline_passed")
async def too_late(folder: Path, broken: bool) -> tuple[str, int]:
    clock = MovableClock()
    async with (here := Desk("functions", MemoryStore(clock=clock))).governor:
        run = await here.ask()
        clock.move(3601.0 if broken else 1.0)
        code = await code_of(here.approve(run))
        await Worker(here.governor).run(once=True)
        return code, len(here.ran)


@fault("it was approved, and not run in time", "run_within")
async def run_too_late(folder: Path, broken: bool) -> tuple[str, int]:
    clock = MovableClock()
    here = Desk("functions", MemoryStore(clock=clock), say=replace(ASK, run_within=60.0))

    async def wait() -> None:
        clock.move(61.0 if broken else 1.0)

    return await through(here, before=wait), len(here.ran)


@fault("it is halted", "halt")
async def halted(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("functions", store_at(folder))

    async def stop() -> None:
        await here.governor.halt("tool:deploy" if broken else "tool:other", by="local:op")

    return await through(here, before=stop), len(here.ran)


@fault("what is halted cannot be read", "call_halted")
async def halts_unreadable(folder: Path, broken: bool) -> tuple[str, int]:
    async with (here := Desk("functions", store_at(folder), say=ALLOW)).governor:
        await here.governor.halt("tool:other", by="local:op")
        if broken:
            _replace(folder, "halt", b'"scope"', b'"scape"')
        return await code_of(here.call()), len(here.ran)


# -- people and channels ----------------------------------------------------------------------------------------------


class Answering(Silent):
    """A channel behind which the boss approves at once, when it works."""

    def __init__(self, broken: bool) -> None:
        self.broken = broken
        self.governor: Governor | None = None

    async def notify(self, approval: Any, to: str = "") -> str:
        if self.broken or self.governor is None:
            raise OSError("the mail server does not answer")
        await self.governor.decide(approval.id, Decision.approve(), by=BOSS)
        return ""


@fault("nobody can be told", "notice.failed")
async def notifier_down(folder: Path, broken: bool) -> tuple[str, int]:
    channel = Answering(broken)
    here = Desk("functions", store_at(folder), handlers={"terminal": channel})
    channel.governor = here.governor
    async with here.governor:
        run = await here.ask()
        await Worker(here.governor).run(once=True)
        lines = [line["what"] for line in await here.governor.timeline(run.id)]
        return next((line for line in lines if line == "notice.failed"), ""), len(here.ran)


@fault("somebody decides who was not asked", "not_an_approver")
async def not_asked(folder: Path, broken: bool) -> tuple[str, int]:
    return await _decided(folder, Decision.approve(), by="eve@example.com" if broken else BOSS)


@fault("the decision names another request", "stale_decision")
async def other_request(folder: Path, broken: bool) -> tuple[str, int]:
    return await _decided(folder, Decision.approve(), digest="0" * 64 if broken else None)


@fault("the policy wants a reason and none is given", "reason_required")
async def no_reason(folder: Path, broken: bool) -> tuple[str, int]:
    say = replace(ASK, reason_required=True)
    return await _decided(folder, Decision.approve("" if broken else "checked"), say=say)


@fault("an edit that the policies deny", "edit_refused")
async def edit_denied(folder: Path, broken: bool) -> tuple[str, int]:
    def say(call: ToolCall) -> Verdict:
        return DENY if call.arguments["amount"] == 99 else ASK

    return await _decided(folder, Decision.edit({**ARGS, "amount": 99 if broken else 6}), say=say)


@fault("an approval that is not there", "not_found")
async def no_such_approval(folder: Path, broken: bool) -> tuple[str, int]:
    return await _decided(folder, Decision.approve(), id="run_nowhere.1" if broken else "")


@fault("somebody rejected it before", "already_decided")
async def rejected_before(folder: Path, broken: bool) -> tuple[str, int]:
    return await _decided(folder, Decision.approve(), first=Decision.reject("no") if broken else None)


def people_at(folder: Path) -> Path:
    """A people file in which the boss is somebody."""
    path = folder / "people.yaml"
    path.write_text(f"version: 1\npeople: {{boss: {{email: {BOSS}, roles: [head]}}}}\n")
    return path


@fault("the people file is broken at the start", "people_file_error")
async def people_broken_at_start(folder: Path, broken: bool) -> tuple[str, int]:
    path = people_at(folder)
    if broken:
        path.write_text("version: 1\npeople: [boss]\n")
    try:
        here = Desk("functions", store_at(folder), people=path)
    except GovernorError as error:
        return error.code, 0
    return await through(here), len(here.ran)


@fault("the directory cannot be read when the call is made", "directory_unreadable")
async def people_broken_when_asked(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("langchain", store_at(folder), people=(path := people_at(folder)))
    if broken:
        path.unlink()
    return await through(here, approve=not broken), len(here.ran)


@fault("the directory cannot be read when somebody decides", "directory_unreadable")
async def people_broken_when_decided(folder: Path, broken: bool) -> tuple[str, int]:
    path = people_at(folder)
    async with (here := Desk("functions", store_at(folder), people=path)).governor:
        run = await here.ask()
        if broken:
            path.write_text("not a people file")
        code = await code_of(here.governor.decide(run.approvals[0].id, Decision.approve(), by=BOSS))
        await Worker(here.governor).run(once=True)
        return code, len(here.ran)


@fault("the directory cannot be read when the call is about to run", "approved")
async def people_broken_at_intent(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("functions", store_at(folder), people=(path := people_at(folder)))

    async def breaks() -> None:
        if broken:
            path.unlink()

    return await through(here, before=breaks), len(here.ran)


@fault("nobody has the role any more", "no_approvers")
async def role_of_nobody(folder: Path, broken: bool) -> tuple[str, int]:
    def say(call: ToolCall) -> Verdict:
        return require_approval(["role:head"])

    here = Desk("langchain", store_at(folder), say=say, people=(path := people_at(folder)))
    if broken:
        path.write_text(path.read_text().replace("head", "hand"))
    return await through(here, approve=not broken), len(here.ran)


@fault("the approver left after deciding", "pending")
async def approver_left(folder: Path, broken: bool) -> tuple[str, int]:
    here = Desk("functions", store_at(folder), people=(path := people_at(folder)))

    async def leaves() -> None:
        if broken:
            path.write_text(f"version: 1\npeople: {{chief: {{email: {BOSS}}}}}\n")

    return await through(here, before=leaves), len(here.ran)


async def _decided(
    folder: Path,
    decision: Decision,
    *,
    by: str = BOSS,
    say: Any = ASK,
    digest: str | None = None,
    id: str = "",
    first: Decision | None = None,
) -> tuple[str, int]:
    """A decision, and whatever a worker then does."""
    async with (here := Desk("functions", store_at(folder), say=say)).governor:
        run = await here.ask()
        if first is not None:
            await here.governor.decide(run.approvals[0].id, first, by=BOSS)
        id = id or f"{run.id}.1"
        code = await code_of(here.governor.decide(id, decision, by=by, digest=digest))
        await Worker(here.governor).run(once=True)
        return code, len(here.ran)


# -- the tests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_keeps_the_tool_from_running_and_says_why(tmp_path: Path, name: str) -> None:
    """No execution, and the code that scripts may rely on."""
    code, play = FAULTS[name]
    assert await play(tmp_path, True) == (code, 0)


@pytest.mark.parametrize("name", FAULTS)
async def test_without_the_fault_it_runs(tmp_path: Path, name: str) -> None:
    """The negative control: the same way, whole, runs the tool once and gives no reason."""
    _, play = FAULTS[name]
    assert await play(tmp_path, False) == ("", 1)


def test_the_list_is_long_enough_and_its_codes_differ() -> None:
    """At least 25 faults with a code of their own; a code that several share means the same reason met elsewhere."""
    assert len(FAULTS) >= 40
    assert len({code for code, _ in FAULTS.values()}) >= 25
