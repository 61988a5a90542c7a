"""The real transition functions in every order of events, and broken ones that the same rules must catch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from governor_agents.core import decisions, driving, execution, settling
from governor_agents.core.records import CallState, Change, Run, RunState, evolve
from governor_agents.errors import GovernorError


def _load() -> Any:
    """The explorer beside this file; tests are no package."""
    spec = importlib.util.spec_from_file_location("governor_agents_explorer", Path(__file__).with_name("explorer.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


model = _load()
Config = model.Config

ONE = Config(edits=False, approvers=("alice",), votes=("approve",), later=(model.MORE,), max_fence=3, max_count=1)
CONFIGS = {
    "none": replace(ONE, later=(), max_count=2),
    "policy": replace(ONE, later=(model.DENY, model.MORE), approvers=("alice", "bob"), max_fence=2, cancels=()),
    "idempotent": replace(ONE, retry="idempotent", later=(model.DENY,), cancels=()),
    "reconcilable": replace(ONE, retry="reconcilable", later=(), max_fence=2, max_count=2),
    "edit": Config(
        verdict=model.BOTH, later=(), votes=("approve",), max_fence=2, stale=True, cancels=("supersede",), max_count=1
    ),
    "zombie": replace(ONE, zombies=True, later=(), cancels=()),
    "function": replace(ONE, single=True, max_fence=2, votes=("approve", "reject", "respond")),
    "first": Config(first_stretch=True, retry="idempotent", approvers=(), later=(), max_count=1, max_fence=2),
    "two": replace(ONE, calls=2, later=(), max_fence=2, max_count=2, max_tries=1),
}
SAFETY = ("effect", "vote", "fence", "terminal", "audit")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Each configuration is walked once."""
    return {}


def walk(found: dict[str, Any], name: str) -> Any:
    """What the exploration of a configuration found."""
    if name not in found:
        found[name] = model.explore(CONFIGS[name])
    return found[name]


def told(breaches: dict[str, list[str]]) -> str:
    """Each breach with the shortest way to it."""
    return "\n".join(f"{what}: {' > '.join(way)}" for what, way in breaches.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_wrong_happens(found: dict[str, Any], name: str) -> None:
    """Effects, votes, fences, ends and the audit trail hold in every world."""
    seen = walk(found, name)
    assert not seen.of(*SAFETY), told(seen.of(*SAFETY))
    assert seen.worlds > 150


@pytest.mark.parametrize("name", CONFIGS)
def test_every_state_fits_and_can_be_left(found: dict[str, Any], name: str) -> None:
    """A run's state fits its calls, nothing is refused as illegal, and an end can be reached without a cancel."""
    seen = walk(found, name)
    assert not seen.of("shape", "raise", "stuck"), told(seen.of("shape", "raise", "stuck"))


# -- negative controls: each mutation must be caught --------------------------------------------------------------------


def _intent_without_fence(run: Run, n: int, now: float, *, owner: str, fence: int, **rest: Any) -> Change:
    if run.lease is None:
        return _INTENT(run, n, now, owner=owner, fence=fence, **rest)
    return _INTENT(run, n, now, owner=run.lease.owner, fence=run.fence, **rest)


def _decide_without_digest(run: Run, n: int, decision: Any, *, digest: str, **rest: Any) -> Change:
    call = run.call(n)
    return _DECIDE(run, n, decision, digest=call.digest if call else digest, **rest)


def _claim_without_fence(run: Run, now: float, **rest: Any) -> Change:
    change = _CLAIM(run, now, **rest)
    return evolve(change, run=evolve(change.run, fence=run.fence))


def _record_without_fence(run: Run, n: int, now: float, *, owner: str, fence: int, **rest: Any) -> Change:
    call = run.call(n)
    if call is None or not call.attempts:
        return _RECORD(run, n, now, owner=owner, fence=fence, **rest)
    last, rest["attempt"] = call.attempts[-1], len(call.attempts)
    return _RECORD(run, n, now, owner=last.owner, fence=last.fence, **rest)


def _lease_over_frees_what_executes(run: Run, now: float) -> Change:
    """As if every tool were safe to begin again."""
    change = _LEASE_OVER(run, now)
    calls = tuple(
        replace(call, state=CallState.APPROVED) if call.state is CallState.UNKNOWN else call
        for call in change.run.calls
    )
    state = RunState.READY if change.run.state is RunState.BLOCKED else change.run.state
    return evolve(change, run=evolve(change.run, calls=calls, state=state, blocked=""))


def _retry_with_a_fresh_key(run: Run, n: int, now: float, *, fence: int, idem_key: str, **rest: Any) -> Change:
    call = run.call(n)
    fresh = run.with_call(evolve(call, idem_key="")) if call else run
    return _INTENT(fresh, n, now, fence=fence, idem_key=f"{idem_key}{fence}{len(call.attempts) if call else 0}", **rest)


def _cancel_at_once(run: Run, now: float, **rest: Any) -> Change:
    """Ends the run although a tool executes."""
    change = _CANCEL(run, now, **rest)
    if not change.run.having(CallState.EXECUTING):
        return change
    calls = tuple(replace(c, state=CallState.CANCELLED) if c.state.open else c for c in change.run.calls)
    return evolve(change, run=evolve(change.run, calls=calls, state=RunState.CANCELLED, lease=None))


def _silent_release(run: Run, now: float, **rest: Any) -> Change:
    return evolve(_RELEASE(run, now, **rest), events=())


_INTENT, _DECIDE, _CLAIM, _RECORD = execution.intent, decisions.decide, driving.claim, execution.record
_LEASE_OVER, _CANCEL, _RELEASE = driving.lease_over, settling.request_cancel, driving.release

MUTATIONS: dict[str, tuple[Any, str, Callable[..., Change], str, str]] = {
    "intent without fence": (execution, "intent", _intent_without_fence, "zombie", "fence"),
    "vote without digest": (decisions, "decide", _decide_without_digest, "edit", "vote"),
    "claim without fence": (driving, "claim", _claim_without_fence, "none", "fence"),
    "record without fence": (execution, "record", _record_without_fence, "idempotent", "fence"),
    "lapse that frees": (driving, "lease_over", _lease_over_frees_what_executes, "zombie", "effect"),
    "retry with a fresh key": (execution, "intent", _retry_with_a_fresh_key, "idempotent", "effect"),
    "cancel at once": (settling, "request_cancel", _cancel_at_once, "none", "effect"),
    "release without event": (driving, "release", _silent_release, "none", "audit"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_transition_is_caught(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A rule that cannot fail proves nothing."""
    module, function, broken, config, kind = MUTATIONS[name]
    monkeypatch.setattr(module, function, broken)
    try:
        seen = model.explore(replace(CONFIGS[config], max_fence=min(CONFIGS[config].max_fence, 3)), most=20_000)
    except (OverflowError, GovernorError) as error:
        pytest.fail(f"not walked to its end: {error}")
    assert seen.of(kind), told(seen.breaches)
