"""What came of a case, judged from the ledger and the record. Pure: facts in, findings out.

* ``lost``: an order that was approved, or allowed, never ran and no operator was asked what to do; a result that the model
  never heard; a run that does not come to its end, although people decided and every doubt was answered; an audit trail
  with a hole.
* ``double``: an order's effect more than once, unless the tool is idempotent and all of them bear the same key; a model
  that is asked again for an answer that was acted on.
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

    @property
    def abandoned(self) -> set[str]:
        """The orders that an operator gave up."""
        return {doubt["order"] for doubt in only(self.lines, "doubt") if doubt["how"] == "abandon"}

    @property
    def wanted(self) -> list[dict[str, Any] | None]:
        """The arguments of every order, None for those that were rejected."""
        return [args for _, args in self.scene.orders.values()]

    def calls_for(self, order: str) -> list[Call]:
        """The calls made for an order, in the order of the journal."""
        return [call for calls in self.calls.values() for call in calls if _order(call) == order]


@dataclass
class Findings:
    """Sentences by kind; ``unknown`` counts the calls that an operator was asked about."""

    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    unknown: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def judge(facts: Facts, restless: str = "") -> Findings:
    """Look at every order and every run of a case. ``restless`` says why the last life gave up, if it did."""
    found = Findings(lost=[restless] if restless else [])
    standing = [run for run in facts.runs if not _given_up(run)]
    if len(standing) > 1:
        found.double.append(f"one request became {len(standing)} runs")
    for run in standing:
        _judge_run(facts, run, found)
    for order, (tool, args) in facts.scene.orders.items():
        effects = [effect for effect in facts.effects if effect.order == order]
        _judge_effects(facts, order, effects, args, found)
        _judge_end(facts, order, tool, bool(effects), args, found)
    _judge_doubts(facts, found)
    _judge_deaths(facts, found)
    _judge_models(facts, found)
    return found


def _given_up(run: Run) -> bool:
    """A run that came to nothing, in whose place the caller asked again."""
    return run.state is RunState.CANCELLED and run.cancel == "superseded" and not run.count


def _judge_run(facts: Facts, run: Run, found: Findings) -> None:
    if run.id in facts.broken_chains:
        found.lost.append("the audit trail is broken")
    told = facts.scene.kind == "functions" and run.state is RunState.FAILED  # its caller is told: it must not run
    if run.state is not RunState.COMPLETED and not (told and (facts.abandoned or None in facts.wanted)):
        found.lost.append(f"the run is {run.status}: {run.blocked} {run.blocked_detail} {run.error}".strip())
    for refused in only(facts.lines, "refused"):
        found.lost.append(f"nobody could answer the doubt about call {refused['n']}: {refused['why']}")


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


def _judge_end(facts: Facts, order: str, tool: str, ran: bool, args: Mapping[str, Any] | None, found: Findings) -> None:
    """What an order came to in the record, against what people wanted and what really happened."""
    calls = facts.calls_for(order)
    stands = calls[-1].state if calls else None
    if args is None:
        if stands is not CallState.REJECTED:
            found.lost.append(f"order {order} was to be rejected and is {stands}")
    elif order in facts.abandoned:
        if stands is not CallState.FAILED:
            found.lost.append(f"order {order} was abandoned and is {stands}")
    elif not ran:
        found.lost.append(f"{tool} {order} never ran and is {stands}; nobody was asked about it")
    elif stands is not CallState.SUCCEEDED:
        found.lost.append(f"order {order} ran and is {stands}")


def _judge_doubts(facts: Facts, found: Findings) -> None:
    """Doubt is for calls between intent and result, of tools that neither can be repeated nor asked about."""
    deaths = [one for death in only(facts.lines, "death") for one in death["calls"]]
    window = WINDOW if facts.scene.stalls else WINDOW[:1]
    seen = {(doubt["run"], doubt["n"]): doubt for doubt in only(facts.lines, "doubt")}
    found.unknown = len(seen)
    for (run, n), doubt in seen.items():
        states = [one["state"] for one in deaths if (one["run"], one["n"]) == (run, n)]
        why = []
        if not any(state in window for state in states):
            why.append(f"when a process died it was {' and '.join(states) or 'nothing'}")
        if facts.retry == "idempotent":
            why.append("its tool is idempotent")
        if facts.retry == "reconcilable" and doubt["ran"]:
            why.append("its probe could tell that it happened")
        found.outside += [f"order {doubt['order']} was in doubt although {reason}" for reason in why]


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


def _judge_models(facts: Facts, found: Findings) -> None:
    """Every result reaches the model that asked for it, and no model is asked again for an answer that was acted on."""
    asked: dict[tuple[str, tuple[str, ...]], int] = {}
    last: dict[str, Sequence[str]] = {}
    acted = 0
    for line in facts.lines:
        acted += line["kind"] == "effect"
        if line["kind"] == "model":
            request = (line["name"], tuple(line["heard"]))
            if acted > asked.setdefault(request, acted):
                found.double.append(f"the model {line['name']} was asked again for an answer that had been acted on")
            last[line["name"]] = line["heard"]
    doubted = {doubt["order"] for doubt in only(facts.lines, "doubt")}
    for name, turns in (("outer", facts.scene.turns), ("inner", facts.scene.inner)):
        orders = {args["order"] for turn in turns for _, args in turn if "order" in args} - doubted
        for order, (tool, wanted) in facts.scene.orders.items():
            if order in orders and wanted and name in last and not _heard(last[name], said(tool, wanted)):
                found.lost.append(f"the model never heard what became of order {order}")


def _heard(texts: Sequence[str], result: str) -> bool:
    return any(result in text for text in texts)


def _order(call: Call) -> str:
    args = thaw(call.args)
    return str(args.get("order", "")) if isinstance(args, dict) else ""
