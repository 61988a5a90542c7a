"""What came of a case, judged from the ledger and the record. Pure: facts in, findings out.

* ``lost``: an order that was approved, or allowed, neither ran nor stands where an operator sees it; a run that never
  comes to rest; an audit trail with a hole.
* ``double``: an order's effect more than once, unless the tool is idempotent and all of them bear the same key.
* ``outside``: UNKNOWN although the call had no durable intent without a result when a process died, or although the
  tool is idempotent or its probe could tell; or a loop that went on without a durable result.
* ``altered``: an effect with other bytes than those that were decided, or that nobody approved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from governor_agents import Run
from governor_agents.core.binding import bind
from governor_agents.core.calls import Retry, freeze, sha256, thaw
from governor_agents.core.records import Call, CallState, RunState
from tests.crash.ledger import Effect, only
from tests.crash.scenes import Scene, said

WINDOW = ("executing", "unknown", "retry", "reconciling")
"""States of a call whose intent is durable and whose result is not; all but the first only after its lease was over."""


@dataclass(frozen=True)
class Facts:
    """What is known of a case after its last life. ``lines`` is the ledger, in order."""

    scene: Scene
    retry: Retry
    lines: Sequence[Mapping[str, Any]]
    runs: Sequence[Run]
    calls: Mapping[str, Sequence[Call]]
    broken_chains: Sequence[str] = ()

    @property
    def effects(self) -> list[Effect]:
        """Everything that ran."""
        return [Effect(**line) for line in only(self.lines, "effect")]

    def calls_for(self, order: str) -> list[Call]:
        """The calls made for an order, in the order of the journal."""
        return [call for calls in self.calls.values() for call in calls if _order(call) == order]


@dataclass
class Findings:
    """Sentences by kind; ``unknown`` counts the calls in doubt, ``parked`` says why runs stand that hold no doubt."""

    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    unknown: int = 0
    parked: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def judge(facts: Facts, restless: str = "") -> Findings:
    """Look at every order and every run of a case. ``restless`` says why the last life gave up, if it did."""
    found = Findings(lost=[restless] if restless else [])
    if len(facts.runs) > 1:
        found.double.append(f"one request became {len(facts.runs)} runs")
    for run in facts.runs:
        _judge_run(facts, run, found)
    for order, (tool, args) in facts.scene.orders.items():
        effects = [effect for effect in facts.effects if effect.order == order]
        _judge_effects(facts, order, effects, args, found)
        _judge_call(facts, order, tool, bool(effects), args, found)
    _judge_deaths(facts, found)
    return found


def _judge_run(facts: Facts, run: Run, found: Findings) -> None:
    doubts = [call for call in facts.calls[run.id] if call.state is CallState.UNKNOWN]
    found.unknown += len(doubts)
    if run.id in facts.broken_chains:
        found.lost.append("the audit trail is broken")
    if doubts:
        if run.state is not RunState.BLOCKED:
            found.lost.append(f"a call is in doubt and the run is {run.status}: no operator looks there")
    elif run.state is RunState.BLOCKED and run.blocked == "replay":
        found.parked.append(run.blocked_detail)
    elif run.state is not RunState.COMPLETED and not _told(facts, run):
        found.lost.append(f"the run is {run.status}: {run.blocked} {run.blocked_detail} {run.error}".strip())


def _told(facts: Facts, run: Run) -> bool:
    """A governed function that was rejected ends as FAILED: its caller is told."""
    return facts.scene.kind == "functions" and run.state is RunState.FAILED and "reject" in facts.scene.answers.values()


def _judge_effects(
    facts: Facts, order: str, effects: Sequence[Effect], args: Mapping[str, Any] | None, found: Findings
) -> None:
    keys = {effect.key for effect in effects}
    if len(effects) > 1 and facts.retry != "idempotent":
        found.double.append(f"order {order} ran {len(effects)} times")
    elif len(keys) > 1:
        found.double.append(f"order {order} ran under {len(keys)} keys")
    for effect in effects:
        if why := _uncovered(facts, effect, args):
            found.altered.append(f"order {order} ran with {effect.args}: {why}")


def _uncovered(facts: Facts, effect: Effect, args: Mapping[str, Any] | None) -> str:
    """Why no decision covers an effect; empty when one does."""
    if args is None:
        return "it was rejected"
    if sha256(freeze(dict(args))) != effect.sha256:
        return f"decided was {dict(args)}"
    for run in facts.runs:
        for call in facts.calls[run.id]:
            if effect.key and call.idem_key == effect.key and sha256(call.args) == effect.sha256:
                if bind(run, call).digest != call.digest:
                    return "the record does not match its digest"
                agreed = not call.stages or (call.votes and call.votes[-1].kind in ("approve", "edit"))
                return "" if agreed else "nobody approved it"
    return "no call of the record has that key and those bytes"


def _judge_call(
    facts: Facts, order: str, tool: str, ran: bool, args: Mapping[str, Any] | None, found: Findings
) -> None:
    calls = facts.calls_for(order)
    last = calls[-1] if calls else None
    blocked = any(run.state is RunState.BLOCKED for run in facts.runs)
    if args is None:
        if last is None or last.state is not CallState.REJECTED:
            found.lost.append(f"order {order} was to be rejected and is {last.state if last else 'gone'}")
        return
    if last is not None and last.state is CallState.UNKNOWN:
        _judge_doubt(facts, order, last, ran, found)
    elif ran and (last is None or last.state is not CallState.SUCCEEDED) and not blocked:
        found.lost.append(f"order {order} ran and is {last.state if last else 'gone'}")
    elif not ran and not blocked:
        found.lost.append(f"{tool} {order} never ran and is {last.state if last else 'gone'}; nobody sees it")


def _judge_doubt(facts: Facts, order: str, call: Call, ran: bool, found: Findings) -> None:
    deaths = only(facts.lines, "death")
    states = [one["state"] for death in deaths for one in death["calls"] if one["n"] == call.n]
    if not any(state in (WINDOW if facts.scene.stalls else WINDOW[:1]) for state in states):
        found.outside.append(
            f"order {order} is in doubt; when a process died it was {' and '.join(states) or 'nothing'}"
        )
    if facts.retry == "idempotent":
        found.outside.append(f"order {order} is in doubt although its tool is idempotent")
    if facts.retry == "reconcilable" and ran:
        found.outside.append(f"order {order} is in doubt although its probe can tell that it happened")


def _judge_deaths(facts: Facts, found: Findings) -> None:
    """A result is durable before the loop goes on: no death may find a call executing whose result was heard."""
    heard: set[str] = set()
    for line in facts.lines:
        if line["kind"] == "model":
            heard |= set(line["heard"])
        elif line["kind"] == "death":
            for call in line["calls"]:
                if call["state"] in WINDOW and "order" in call and said(call["tool"], call) in heard:
                    found.outside.append(f"the model heard of order {call['order']} before its result was durable")


def _order(call: Call) -> str:
    args = thaw(call.args)
    return str(args.get("order", "")) if isinstance(args, dict) else ""
