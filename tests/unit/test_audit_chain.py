"""The chain of audit events, and that no transition goes without one."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from governor_agents import core
from governor_agents.audit import chain
from governor_agents.core import decisions, driving, execution, telling
from governor_agents.core.calls import Tool, ToolCall, sha256
from governor_agents.core.identity import Voter
from governor_agents.core.ports import StoredEvent
from governor_agents.core.records import CallState, Change, Decision, Event, Response, Result, Run, RunState, Snapshot
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import ConfigError, GovernorError, IllegalTransition
from governor_agents.runs import Runs, to_record
from governor_agents.stores import open_store

KEY, OTHER = b"k" * 32, b"o" * 32
RUN = Run("t", "run_1", "agent", "x", "requester", RunState.QUEUED, 0.0)


def events(count: int, name: str = "run.claimed") -> list[Event]:
    return [Event(name, at, "ops", "pay", (("digest", f"d{at}"), ("reason", ""))) for at in range(1, count + 1)]


def lines(stored: tuple[StoredEvent, ...]) -> list[dict[str, Any]]:
    return chain.read(stored)


# The chain


def test_each_event_holds_the_hash_of_the_one_before_it() -> None:
    """Numbered without gaps, linked by SHA-256; the record holds the head, which anybody can compute."""
    run, first = chain.append(RUN, events(2), 1.0)
    run, second = chain.append(run, events(1), 2.0)
    stored = (*first, *second)
    assert [line["seq"] for line in lines(stored)] == [1, 2, 3] == [event.seq for event in stored]
    assert [line["prev"] for line in lines(stored)] == ["", sha256(stored[0].body), sha256(stored[1].body)]
    assert (run.seq, run.chain, run.keyed) == (3, sha256(stored[2].body), False)
    assert chain.verify(stored, run.chain) == ""
    assert "mac" not in lines(stored)[0] and "reason" not in lines(stored)[0]


def test_details_cannot_pose_as_the_event_itself() -> None:
    """A detail of the name of a field of the chain does not reach it."""
    detail = (("seq", 9), ("prev", "x"), ("run", "other"), ("mac", "x"), ("at", 0.5), ("what", "y"))
    _, (stored,) = chain.append(RUN, [Event("run.claimed", detail=detail)], 1.0, KEY)
    line = lines((stored,))[0]
    assert {name: line[name] for name in ("seq", "prev", "run", "at", "what")} == {
        "seq": 1, "prev": "", "run": "run_1", "at": 1.0, "what": "run.claimed",
    }  # fmt: skip
    assert line["mac"] == chain.mac(line, KEY)


def test_a_key_puts_a_mac_into_each_event() -> None:
    """It is over all the rest of the event, and only this key makes it."""
    run, stored = chain.append(RUN, events(2), 1.0, KEY)
    assert run.keyed and run.chained == 1.0
    for line in lines(stored):
        assert line["mac"] == chain.mac(line, KEY) != chain.mac(line, OTHER)
        for name in line.keys() - {"mac"}:
            assert chain.mac({**line, name: "other"}, KEY) != line["mac"]
            assert chain.mac({key: value for key, value in line.items() if key != name}, KEY) != line["mac"]


def test_a_run_that_began_without_keys_goes_on_with_them() -> None:
    """Its chain is one, its first events have no mac."""
    run, before = chain.append(RUN, events(2), 1.0)
    run, after = chain.append(run, events(2), 2.0, KEY)
    assert ["mac" in line for line in lines((*before, *after))] == [False, False, True, True]
    assert chain.verify((*before, *after), run.chain) == ""


def test_a_keyed_chain_never_goes_on_without_a_key() -> None:
    """A process without keys cannot write a run whose trail is keyed; what brings no event needs no key."""
    run, _ = chain.append(RUN, events(1), 1.0, KEY)
    with pytest.raises(ConfigError, match="run_1 is keyed, and no keys are set"):
        chain.append(run, events(1), 2.0)
    assert chain.append(run, [], 2.0) == (run, ())


def test_only_canonical_bytes_are_an_event() -> None:
    """Other white space, a key that stands twice, or no JSON at all is no event."""
    _, (stored,) = chain.append(RUN, events(1), 1.0)
    assert chain.parse(stored.body) == json.loads(stored.body)
    for bad in (stored.body + b" ", b'{"a":1,"a":1}', b"[]", b"\xff", b"", stored.body[:-1]):
        assert chain.parse(bad) is None


def test_records_of_keyed_runs_are_listed_by_the_minute_of_their_last_event() -> None:
    """So that a checkpoint finds what changed without reading everything; without keys nothing is added."""
    plain, _ = chain.append(RUN, events(1), 125.0)
    keyed, _ = chain.append(RUN, events(1), 125.0, KEY)
    assert "changed" not in to_record(plain, 0).index
    assert to_record(keyed, 0).index["changed"] == "2" == str(chain.minute(179.9))


# No transition without an event

WITHOUT_EVENT = {
    "driving.renew": "a heartbeat",
    "driving.keep_waiting": "a heartbeat of whoever waits for a function",
    "telling.take_notices": "a worker takes notices to deliver; the delivery is an event",
    "halting.lift": "a halt still stands: the run is to be looked at again in a minute",
}
"""The only functions whose change may go without an event: nothing of the run or its calls stands elsewhere."""

ASK = Verdict(
    "require_approval",
    "p",
    "1",
    stages=(Stage(("ops",), ("alice", "bob"), quorum=1),),
    deadline=50.0,
    delegates=("dora",),
    reminders=(10.0,),
)
MORE = replace(ASK, version="2", stages=(Stage(("ops",), ("alice",)), Stage(("cfo",), ("bob",))))
VERDICTS = (Verdict("allow", "p", "1"), ASK, MORE, Verdict("deny", "p", "1"))
CALL = ToolCall.of("pay", {"amount": 5}, "c1", agent="agent", run="run_1", requester="requester", tenant="t")


def asks(retry: str = "none", verdict: Verdict = ASK, id: str = "c1") -> driving.Ask:
    return driving.Ask(replace(CALL, call_id=id), Tool("pay", retry=retry), verdict, "nonce")


VALUES: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "now": (2.0, 10_000_000.0),
    "owner": ("w1",),
    "lease": (30.0,),
    "until": (30.0,),
    "verdict": VERDICTS,
    "schema_sha256": ("", "drift"),
    "idem_key": ("key",),
    "nonce": ("again",),
    "by": ("alice", "bob"),
    "to": (Voter.plain("dora"),),
    "seat": ("", "alice"),
    "moved": (False, True),
    "coordinator": (True,),
    "release": (False, True),
    "text": ("look at this",),
    "requester": ((),),
    "reason": ("why",),
    "decision": (
        Decision.approve(), Decision.reject("no"), Decision.respond("42"), Decision.edit({"amount": 1}),
    ),
    "channel": ("terminal",),
    "result": (Result("x", "1"), Result("x", '{"told":"no"}', ok=False)),
    "told": ("told",),
    "happened": (True, False, None),
    "how": ("happened", "did-not-happen", "abandon"),
    "evidence": ("seen",),
    "error": ("", "it broke"),
    "output_json": ("1",),
    "delay": (0.0,),
    "dead": ((), ("w1",)),
    "over": (False, True),
    "epoch": ("restored",),
    "stamp": ("fresh",),
    "operands": ((),),
    "scope": ("tool:pay",),
    "halted": ((), ("tool:pay",)),
    "why": ("replay",),
    "detail": ("told",),
    "superseded": (False, True),
    "snapshot": (Snapshot("b", "x"),),
    "asks": ((), (asks(id="c2"),)),
    "closed": (None,),
    "first": (1.0,),
    "most": (9.0,),
    "responses": ((), (Response((), 0, ("a",), "b", ("c1",)),)),
}  # fmt: skip
"""What the parameters of transitions can be: a transition with another one is to be given values here."""


def transitions() -> dict[str, Callable[..., Change]]:
    """Every public function of the core that makes a change out of a run that exists."""
    begin = {"queue", "start", "ask_single"}
    found: dict[str, Callable[..., Change]] = {}
    for room in (
        importlib.import_module(f"{core.__name__}.{each.name}") for each in pkgutil.iter_modules(core.__path__)
    ):
        for name, function in inspect.getmembers(room, inspect.isfunction):
            if function.__module__ != room.__name__ or name.startswith("_") or name in begin:
                continue
            hints = get_type_hints(function)
            if hints.get("return") is Change and hints.get("run") is Run:
                found[f"{room.__name__.rpartition('.')[2]}.{name}"] = function
    return found


def arguments(function: Callable[..., Change], run: Run) -> Iterator[dict[str, Any]]:
    """Every combination of values for the parameters behind the run."""
    names = [name for name in inspect.signature(function).parameters if name != "run"]
    first = run.calls[0] if run.calls else None
    values = VALUES | {
        "fence": (run.fence,),
        "call": run.calls,
        "digest": (first.digest if first else "",),
        "attempt": (max(1, len(first.attempts)) if first else 1,),
        "taken": ((), run.outbox),
        "lane": (None, (run.count, "terminal")),
        "failed": ({}, {notice.id: telling.Failure("why") for notice in run.outbox}),
    }
    if get_type_hints(function).get("by") is Voter:
        values["by"] = tuple(Voter.plain(by) for by in VALUES["by"])
    unknown = [name for name in names if name not in values]
    assert not unknown, f"{function.__name__}: give {unknown} values in VALUES"
    for chosen in itertools.product(*(values[name] for name in names)):
        yield dict(zip(names, chosen, strict=True))


def beginnings() -> Iterator[Run]:
    """Runs with one call of each retry class, asked for or allowed; a function; a queue; runs that wore out."""
    yield driving.queue(RUN, 1.0).run
    yield replace(reached()[1], attempts=5)
    yield driving.ask_single(RUN, asks(), 1.0, owner="w1", lease=30.0).run
    started = driving.start(RUN, 1.0, owner="w1", lease=30.0).run
    for retry in ("none", "idempotent", "reconcilable"):
        yield driving.pause(
            started,
            1.0,
            owner="w1",
            fence=1,
            snapshot=Snapshot("b", "x"),
            asks=(asks(retry, replace(ASK, channels=("a",))),),
        ).run
        one = asks(retry)
        yield started.with_call(decisions.make_call(started, one.call, one.tool, VERDICTS[0], now=1.0, nonce="n"))


def signature(run: Run) -> tuple[Any, ...]:
    """What makes two runs different for this walk; bounded, so that it ends."""
    first = (run.calls[0].state, run.calls[0].retry) if run.calls else None
    return run.state, run.cancel, run.single, run.attempts >= run.max_attempts, len(run.calls), first


def walk(functions: dict[str, Callable[..., Change]]) -> tuple[set[str], set[str], set[tuple[RunState, CallState]]]:
    """From every beginning through every function: who changed without an event, who moved a state so, what was seen."""
    silent, breaches, seen_states = set(), set(), set()
    waiting = list(beginnings())
    seen = {signature(run) for run in waiting}
    while waiting:
        run = waiting.pop()
        seen_states |= {(run.state, call.state) for call in run.calls}
        for name, function in functions.items():
            for given in arguments(function, run):
                try:
                    change = function(run, **given)
                except (GovernorError, ValueError):
                    continue
                if change.run is not run and change.run != run and not change.events:
                    silent.add(name)
                    if telling.moved(run, change.run):
                        breaches.add(name)
                if len(change.run.calls) <= 2 and signature(change.run) not in seen:
                    seen.add(signature(change.run))
                    waiting.append(change.run)
    return silent, breaches, seen_states


def test_every_transition_leaves_an_event() -> None:
    """Through all functions of the core, from every state they lead to; only heartbeats and the like are silent."""
    functions = transitions()
    names = {name.rpartition(".")[2] for name in functions}
    assert {"decide", "claim", "intent", "record", "lapse", "resolve", "pause", "finish", "tick", "lift"} <= names
    silent, breaches, seen = walk(functions)
    assert breaches == set()
    assert silent == WITHOUT_EVENT.keys()
    assert {state for state, _ in seen} >= set(RunState) - {RunState.QUEUED}
    assert {call for _, call in seen} >= set(CallState) - {CallState.DENIED}


def test_the_walk_finds_a_transition_without_its_event() -> None:
    """The control: whichever function loses its events, it is named."""
    functions = transitions()
    for name in ("decisions.decide", "driving.claim", "execution.record", "doubts.resolve"):
        mute = functions | {name: lambda run, _name=name, **given: replace(functions[_name](run, **given), events=())}
        mute[name].__name__ = name
        mute[name].__signature__ = inspect.signature(functions[name])  # type: ignore[attr-defined]
        mute[name].__annotations__ = get_type_hints(functions[name])
        assert walk_one(mute, name) == {name}


def walk_one(functions: dict[str, Callable[..., Change]], name: str) -> set[str]:
    """The same walk, looking at one function only."""
    breaches = set()
    for run in reached():
        for given in arguments(functions[name], run):
            try:
                change = functions[name](run, **given)
            except (GovernorError, ValueError):
                continue
            if telling.moved(run, change.run) and not change.events:
                breaches.add(name)
    return breaches


def reached() -> list[Run]:
    """A few runs on the way of one call: waiting, ready, active, executing, in doubt."""
    started = driving.start(RUN, 1.0, owner="w1", lease=30.0).run
    waiting = driving.pause(started, 1.0, owner="w1", fence=1, snapshot=Snapshot("b", "x"), asks=(asks(),)).run
    ready = decisions.decide(
        waiting, 1, Decision.approve(), by=Voter.plain("alice"), now=2.0, digest=waiting.calls[0].digest
    ).run
    active = driving.claim(ready, 2.0, owner="w1", lease=30.0).run
    begun = execution.intent(active, 1, 2.0, owner="w1", fence=2, verdict=ASK, schema_sha256="", idem_key="k").run
    doubt = driving.lease_over(begun, 1000.0).run
    return [waiting, ready, active, begun, doubt]


async def test_a_change_without_its_event_is_not_written(tmp_path: Path) -> None:
    """Should a transition ever forget its event, the write is refused: nothing changes unseen."""
    store = open_store(f"sqlite:///{tmp_path / 'runs.db'}")
    await store.open()
    runs = Runs(store, "t", KEY)
    with pytest.raises(IllegalTransition, match="without an audit event"):
        await runs.create(Change(RUN), 1.0)
    await runs.create(driving.queue(RUN, 1.0), 1.0)
    mute = lambda run, now: replace(driving.claim(run, now, owner="w", lease=30.0), events=())  # noqa: E731
    with pytest.raises(IllegalTransition, match="without an audit event"):
        await runs.change("run_1", mute)
    assert (await runs.get("run_1")).state is RunState.QUEUED
    assert [line["what"] for line in await runs.events("run_1")] == ["run.queued"]
    await store.close()
