"""What was approved is what runs: everything that can be changed between approval and start, and that it stops the call.

The writes of these tests go past the package, as those of somebody with access to the store would. They change one
thing and leave the digest as it is. Whoever also works out a new digest, and writes votes that name it, is not found
without keys; with them such a write is refused because it is not sealed (`tests/faults/test_tampering.py`).
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Run, Tool, Worker
from governor_agents.core import binding, execution
from governor_agents.core.binding import digest, envelope, holds
from governor_agents.core.calls import Operand, freeze, sha256
from governor_agents.core.codec import decode_run
from governor_agents.core.ports import Blob
from governor_agents.core.records import Call, CallState, Lease, RunState, Vote
from governor_agents.core.verdicts import Stage
from governor_agents.runs import to_record
from governor_agents.stores import open_store
from tests.integration.desk import AGENTS, ALLOW, ARGS, ASK, BOSS, CHIEF, DENY, FRAMEWORKS, SCHEMA, Desk, desk

pytestmark = pytest.mark.anyio

TWO = replace(ASK, stages=(Stage(("boss",), (BOSS,)), Stage(("chief",), (CHIEF,))))
OTHER_SCHEMA = {**SCHEMA, "properties": {**SCHEMA["properties"], "more": {"type": "string"}}}


async def rewrite(url: str, id: str, change: Callable[[Run], Run]) -> None:
    """Write another record in the place of a run's, past all rules; under another id or tenant, it is moved there."""
    store = open_store(url)
    await store.open()
    record = await store.load("run", "default", id)
    assert record is not None
    before = decode_run(record.body)
    after = change(before)
    op = secrets.token_hex(8)
    if (after.tenant, after.id) == (before.tenant, before.id):
        assert (await store.swap(to_record(after, record.v), op=op)).won
    else:
        blobs = []
        for kept in (before.input, before.snapshot.blob if before.snapshot else ""):
            if kept:
                content = await store.blob("run", "default", id, kept)
                assert content is not None
                blobs.append(Blob(kept, content))
        assert (await store.insert(to_record(after, 0), op=op, blobs=blobs)).won
        assert await store.delete("run", "default", id, record.v)
    await store.close()


def of_call(**changes: Any) -> Callable[[Run], Run]:
    """Change the first call of a run."""
    return lambda run: run.with_call(replace(run.calls[0], **changes))


def votes(run: Run, **changes: Any) -> Run:
    """Change every vote on the first call."""
    call = run.calls[0]
    return run.with_call(replace(call, votes=tuple(replace(vote, **changes) for vote in call.votes)))


RECORDS: dict[str, Callable[[Run], Run]] = {
    "args": of_call(args=freeze({**ARGS, "amount": 99})),
    "tool name": of_call(tool="wipe"),
    "approver chain": of_call(stages=(Stage(("anybody",), ("eve@example.com",)),)),
    "run": lambda run: replace(run, id="run_elsewhere"),
    "generation": of_call(generation=7),
    "digest": of_call(digest="0" * 64),
    "votes gone": of_call(votes=()),
    "votes on another digest": lambda run: votes(run, digest="0" * 64),
    "votes of somebody else": lambda run: votes(run, by="eve@example.com"),
    "votes that reject": lambda run: votes(run, kind="reject"),
    "requester": lambda run: replace(run, requester="boss2@example.com"),
    "policy": of_call(version="other"),
    "nonce": of_call(nonce="other"),
    "deadline": of_call(expires=1e12),
    "nobody asked": of_call(stages=(), votes=()),
    "excluded people": of_call(excluded=()),
}
"""Changes of the stored record alone."""


async def outcome(here: Desk, run: Run) -> tuple[str, str]:
    """State and code of the call, after a worker had its chance."""
    await Worker(here.governor).run(once=True)
    after = await here.governor.get(run.id)
    call = after.calls[0]
    return (call.state.value, call.code) if after.state is not RunState.BLOCKED else ("blocked", after.blocked)


@pytest.mark.parametrize("mutation", RECORDS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_changed_record_never_reaches_the_tool(url: str, framework: str, mutation: str) -> None:
    """Whatever is changed in the record of an approved call: SUPERSEDED with its own code, before the tool."""
    tools = ("deploy", "wipe") if framework == "functions" else ("deploy",)
    async with desk(framework, url, tools=tools) as here:
        run = await here.approved()
    await rewrite(url, run.id, RECORDS[mutation])
    async with desk(framework, url, tools=tools) as other:
        moved = replace(run, id="run_elsewhere") if mutation == "run" else run
        if mutation == "run" and framework == "langchain":  # its thread says whose it is, before any call is looked at
            assert await outcome(other, moved) == ("blocked", "snapshot")
        else:
            assert await outcome(other, moved) == ("superseded", "record_changed")
            lines = await other.governor.timeline(moved.id)
            assert [line["code"] for line in lines if line["what"] == "call.superseded"] == ["record_changed"]
            assert not [line for line in lines if line["what"] == "call.executing"]
        assert other.ran == here.ran == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_record_moved_to_another_tenant_never_reaches_the_tool(url: str, framework: str) -> None:
    """Its bytes say the other tenant, or still the old one: either way nothing runs."""
    async with desk(framework, url) as here:
        run = await here.approved()
    await rewrite(url, run.id, lambda run: replace(run, tenant="other"))
    async with desk(framework, url, tenant="other") as other:
        state, code = await outcome(other, run)
        expected = [("superseded", "record_changed"), ("blocked", "snapshot")]  # the thread stayed behind
        assert (state, code) in expected and other.ran == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_run_of_another_environment_is_left_alone(url: str, framework: str) -> None:
    """Approved in staging: production does not take it, and a record that claims production is not what was approved."""
    async with desk(framework, url, env="staging") as here:
        run = await here.approved()
    async with desk(framework, url, env="prod") as other:
        await Worker(other.governor).run(once=True)
        assert (await other.governor.get(run.id)).state is RunState.READY and other.ran == []
    await rewrite(url, run.id, lambda run: replace(run, env="prod"))
    async with desk(framework, url, env="prod") as other:
        assert await outcome(other, run) == ("superseded", "record_changed") and other.ran == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_the_callers_live_objects_change_nothing(url: str, framework: str) -> None:
    """What the caller, or the model's own process, does to its arguments after asking is not what runs."""
    args = dict(ARGS)
    async with desk(framework, url, args=args) as here:
        run = await here.ask()
        shown = run.approvals[0].call.args
        args["amount"] = 99
        args["path"] = "elsewhere"
        run = await here.approve(run)
        args["amount"] = 100
        assert (await here.go_on(run)).status == "completed"
        assert here.ran == [("deploy", shown)] and shown == freeze(ARGS)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_tool_with_other_parameters_is_another_tool(url: str, framework: str) -> None:
    """Deployed anew with one parameter more: SUPERSEDED."""
    async with desk(framework, url) as here:
        run = await here.approved()
    async with desk(framework, url, schema=OTHER_SCHEMA) as other:
        assert await outcome(other, run) == ("superseded", "schema_changed") and other.ran == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_policy_that_now_denies_cancels(url: str, framework: str) -> None:
    """The approval does not outlive the permission to ask for it."""
    async with desk(framework, url) as here:
        run = await here.approved()
        here.say = DENY
        assert await outcome(here, run) == ("cancelled", "policy_denies") and here.ran == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_policy_that_now_demands_more_asks_again(url: str, framework: str) -> None:
    """The boss's vote counts in the new chain, under the new digest; the chief is asked; then it runs, once."""
    async with desk(framework, url) as here:
        run = await here.approved()
        here.say = TWO
        assert (await outcome(here, run))[0] == "pending" and here.ran == []
        again = await here.governor.get(run.id)
        call = again.calls[0]
        assert [(vote.by, vote.digest, vote.seen) for vote in call.votes] == [(BOSS, call.digest, run.calls[0].digest)]
        await here.approve(again, by=CHIEF)
        await Worker(here.governor).run(once=True)
        assert (await here.governor.get(run.id)).status == "completed" and len(here.ran) == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_file_that_changed_stops_the_call(url: str, framework: str, tmp_path: Path) -> None:
    """The file operand (more of it in `test_operands`)."""
    file = tmp_path / "deploy.sh"
    _write(file, b"echo fine")
    declared = {"deploy": Tool("deploy", operands=("path",))}
    args = {"path": str(file), "amount": 5}
    async with desk(framework, url, args=args, declared=declared) as here:
        run = await here.approved()
        _write(file, b"rm -rf  /")
        assert await outcome(here, run) == ("superseded", "operands_changed") and here.ran == []


def _write(file: Path, data: bytes) -> None:
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("framework", "say"),
    [*((framework, ASK) for framework in FRAMEWORKS), *((framework, ALLOW) for framework in AGENTS)],
    ids=[*FRAMEWORKS, *(f"{framework}-allowed" for framework in AGENTS)],
)
async def test_the_bytes_that_run_are_those_that_the_digest_binds_and_it_is_recorded(
    url: str, framework: str, say: Any
) -> None:
    """The control: untouched, it runs; hash of what the tool got = what the digest binds = what the intent recorded."""
    async with desk(framework, url, say=say) as here:
        run = await here.ask()
        if say is ASK:
            run = await here.go_on(await here.approve(run))
        assert run.status == "completed"
        [(_, executed)] = here.ran
        call = (await here.calls(run))["deploy"]
        bound = envelope(run, call)
        (line,) = [line for line in await here.governor.timeline(run.id) if line["what"] == "call.executing"]
        assert sha256(executed) == bound["args_sha256"] == line["args_sha256"]
        assert sha256(freeze(bound)) == call.digest == line["digest"]


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A seeded broken build: the record is taken as it is."""
    monkeypatch.setattr(binding, "holds", lambda run, call: True)
    monkeypatch.setattr(execution, "holds", lambda run, call: True)
    yield


async def test_without_the_check_the_changed_bytes_would_run(url: str, unguarded: None) -> None:
    """The negative control: it is this check that stops them."""
    async with desk("functions", url) as here:
        run = await here.approved()
    await rewrite(url, run.id, RECORDS["args"])
    async with desk("functions", url) as other:
        await Worker(other.governor).run(once=True)
        assert other.ran == [("deploy", freeze({**ARGS, "amount": 99}))]


# -- pure -------------------------------------------------------------------------------------------------------------

RUN = Run("t", "run_1", "agent", "x", "eve", RunState.ACTIVE, 0.0, env="prod", fence=1, lease=Lease("w", 100.0))


def approved_call() -> Call:
    made = Call(
        n=1,
        call_id="c1",
        generation=1,
        tool="pay",
        args=b'{"amount":5}',
        state=CallState.APPROVED,
        created=0.0,
        agent="inner",
        schema_sha256="aa",
        operands=(Operand("path", 1, "bb"),),
        policy="p",
        version="1",
        nonce="n",
        stages=(Stage(("ops",), ("ann", "bob"), 2), Stage(("fin",), ("cid",))),
        expires=50.0,
        excluded=("eve",),
        reason_required=True,
    )
    named = digest(RUN, made)
    return replace(made, digest=named, votes=tuple(Vote(by, "approve", 1.0, named, at) for by, at in VOTERS))


VOTERS = (("ann", 0), ("bob", 0), ("cid", 1))

BOUND = {
    **dict.fromkeys(("call_id", "tool", "agent", "schema_sha256", "policy", "version", "nonce"), "other"),
    **{"n": 2, "generation": 2, "args": b'{"amount":6}', "operands": (), "expires": 51.0, "excluded": ()},
    **{"reason_required": False, "stages": (Stage(("ops",), ("ann", "bob"), 1), Stage(("fin",), ("cid",)))},
}
OF_RUN = {"tenant": "u", "id": "run_2", "env": "dev", "requester": "mallory"}


def test_the_untouched_record_holds() -> None:
    """The control of the next tests."""
    assert holds(RUN, approved_call())


@pytest.mark.parametrize("name", [*BOUND, *OF_RUN])
def test_every_bound_field_breaks_the_digest(name: str) -> None:
    """One by one."""
    call = approved_call()
    if name in BOUND:
        assert not holds(RUN, replace(call, **{name: BOUND[name]}))  # type: ignore[arg-type]
    else:
        assert not holds(replace(RUN, **{name: OF_RUN[name]}), call)  # type: ignore[arg-type]


def test_the_root_agents_name_is_bound_where_it_is_the_calls() -> None:
    """A call of the root agent keeps no name of its own."""
    call = replace(approved_call(), agent="")
    named = digest(RUN, call)
    call = replace(call, digest=named, votes=tuple(replace(vote, digest=named) for vote in call.votes))
    assert holds(RUN, call) and not holds(replace(RUN, agent="other"), call)


def test_nothing_of_the_envelope_is_left_untried() -> None:
    """Every key of the envelope has a field above, so that a new key cannot be forgotten here."""
    keys = set(envelope(RUN, approved_call())) - {"v", "approver_chain", "args_sha256", "expires_at", "operands"}
    tried = {*BOUND, *OF_RUN, "run", "call", "tool_schema_sha256"}
    assert keys <= tried, keys - tried
    assert {item.name for item in fields(Call)} >= set(BOUND)


@pytest.mark.parametrize("left_out", range(3))
def test_every_vote_is_needed(left_out: int) -> None:
    """Two of the first stage and one of the second: with any of them gone, or on other bytes, it does not hold."""
    call = approved_call()
    fewer = tuple(vote for at, vote in enumerate(call.votes) if at != left_out)
    other = tuple(replace(vote, digest="0" * 64) if at == left_out else vote for at, vote in enumerate(call.votes))
    assert not holds(RUN, replace(call, votes=fewer))
    assert not holds(RUN, replace(call, votes=other))


def test_time_passes_over_no_stage_that_has_no_time_nor_over_the_last() -> None:
    """``passed_over`` is not bound: it excuses only a stage with a time of its own, before the last one."""
    timed = (Stage(("ops",), ("ann",), within=5.0), Stage(("fin",), ("cid",)))
    plain = (Stage(("ops",), ("ann",)), Stage(("fin",), ("cid",)))

    def made(stages: tuple[Stage, ...], voter: str, at: int, passed: tuple[Stage, ...]) -> Call:
        call = replace(approved_call(), stages=stages, passed_over=passed)
        named = digest(RUN, call)
        return replace(call, digest=named, votes=(Vote(voter, "approve", 1.0, named, at),))

    assert holds(RUN, made(timed, "cid", 1, timed[:1]))
    assert not holds(RUN, made(plain, "cid", 1, plain[:1]))
    assert not holds(RUN, made(timed, "ann", 0, timed[1:]))
    assert not holds(RUN, made(timed, "ann", 0, timed))


@pytest.mark.parametrize("state", [CallState.PENDING, CallState.REJECTED, CallState.EXPIRED, CallState.CANCELLED])
async def test_a_state_that_was_written_over_is_no_approval(url: str, state: CallState) -> None:
    """PENDING, REJECTED ... turned into APPROVED by a pen: the votes are missing."""
    async with desk("functions", url) as here:
        run = await here.ask()

    def forge(run: Run) -> Run:
        ready = of_call(state=CallState.APPROVED)(run)
        return replace(ready, state=RunState.READY, ready_since=run.created, waiter=None, outbox=())

    await rewrite(url, run.id, forge)
    async with desk("functions", url) as other:
        assert await outcome(other, run) == ("superseded", "record_changed") and other.ran == []
