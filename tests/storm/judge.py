"""What came of every gate, judged from three witnesses: the ledger of effects, the approvers' log of acknowledged
decisions, and the records. The store under test is never its own witness.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from governor_agents.core.records import Call, CallState, Run, RunState
from tests.storm.app import App, Scene
from tests.storm.parts import UNSETTLED

DECIDING = frozenset({"call.approved", "call.rejected"})
"""The audit events that say that a call was decided."""

Winner = tuple[str, str]


@dataclass(slots=True)
class Report:
    """The numbers of a storm, and one line for each thing that is wrong."""

    gates: int = 0
    kills: int = 0
    stops: int = 0
    double: int = 0
    rejected_but_executed: int = 0
    winners_wrong: int = 0
    lost: int = 0
    undrained: int = 0
    broke_down: int = 0
    audit_broken: int = 0
    unknown: int = 0
    dead: int = 0
    asked_again: int = 0
    approved: int = 0
    refused_votes: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """How much is wrong; a doubt that people see is not."""
        return (
            self.double
            + self.rejected_but_executed
            + self.winners_wrong
            + self.lost
            + self.undrained
            + self.broke_down
            + self.audit_broken
        )

    def line(self, stores: int = 1) -> str:
        """All of it on one line."""
        left = "".join(
            f" {name}={getattr(self, name)}"
            for name in ("dead", "asked_again", "undrained", "broke_down", "audit_broken")
            if getattr(self, name)
        )
        return (
            f"storm: stores={stores} gates={self.gates} kills={self.kills} stops={self.stops} double={self.double} "
            f"rejected_but_executed={self.rejected_but_executed} winners_wrong={self.winners_wrong} lost={self.lost} "
            f"unknown={self.unknown}{left}"
        )

    def details(self) -> str:
        """What the line has no room for."""
        share = 100.0 * self.unknown / max(self.gates, 1)
        return (
            f"{self.approved} gates approved, {self.refused_votes} votes refused, {share:.2f} % of the gates in doubt "
            f"(target 0.5 % on a quiet machine)"
        )

    def plus(self, other: Report) -> Report:
        """Both reports as one."""
        return Report(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})

    def found(self, what: str, why: str) -> None:
        """Count one thing that is wrong."""
        setattr(self, what, getattr(self, what) + 1)
        self.wrong.append(f"{what}: {why}")


@dataclass(frozen=True, slots=True)
class Gate:
    """Everything that is known of one gate."""

    run: Run
    call: Call | None
    effects: int
    told: frozenset[Winner]
    decided: int


async def judge(app: App, scene: Scene) -> Report:
    """Look at every run that the store holds, and for every run that was promised to somebody."""
    report = Report()
    effects = Counter(line["run"] or line["key"] for line in scene.effects.lines())
    told = winners(scene.decided.lines())
    report.refused_votes = sum(line["answer"] == "refused" for line in scene.decided.lines())
    found: set[str] = set()
    async for run in _runs(app):
        found.add(run.id)
        gated = [call for call in await app.governor.calls(run.id) if call.stages]
        events = await app.governor.timeline(run.id)
        call = gated[-1] if gated else None
        said = told.get(f"{run.id}.{call.n}", frozenset()) if call else frozenset()
        decided = Counter(event["n"] for event in events if event["what"] in DECIDING)
        names = {run.id, *(app.governor.guard.key(run, call) for call in gated)}
        for earlier in gated[:-1]:
            _weigh_earlier(report, earlier, decided[earlier.n], told.get(f"{run.id}.{earlier.n}", frozenset()))
        counted = decided[call.n] if call else 0
        weigh(report, Gate(run, call, sum(effects.pop(name, 0) for name in names), said, counted))
    for name in effects:
        report.found("lost", f"an effect of {name or 'nobody'}, which no store knows")
    for line in scene.asked.lines():
        if line["run"] not in found:
            report.found("lost", f"run {line['run']} was promised and is not in the store")
    for finding in (await app.governor.loop.bridge(app.governor.audit.verify())).findings:
        report.found("audit_broken", str(finding))
    for line in scene.trouble.lines():
        report.found("broke_down", f"{line['part']} ended by itself: {line['error'].strip().splitlines()[-1]}")
    return report


def _weigh_earlier(report: Report, call: Call, decided: int, told: frozenset[Winner]) -> None:
    """A call that people were asked for before the last one of its run.

    A worker that was stopped between its look at the lease and its write of a LangGraph checkpoint brings another answer
    of the model, with another call, when it wakes: people are asked for that one too, and of both at most one runs.
    """
    report.asked_again += 1
    if decided > 1 or len(told) > 1:
        report.found("winners_wrong", f"call {call.n}: {decided} decisions, people were told {sorted(told)}")


def winners(lines: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[Winner]]:
    """Whom the approvers were told to have won, by approval; more than one for an approval is a contradiction."""
    told: dict[str, set[Winner]] = defaultdict(set)
    for line in lines:
        if "winner" in line:
            told[line["approval"]].add(tuple(line["winner"]))
    return {approval: frozenset(said) for approval, said in told.items()}


def weigh(report: Report, gate: Gate) -> None:
    """Judge one gate."""
    report.gates += 1
    run, call = gate.run, gate.call
    if run.state in UNSETTLED:
        report.found("undrained", f"run {run.id} is still {run.state}")
        return
    if call is None:  # an agent that never came to its call
        report.dead += run.state is RunState.DEAD
        if run.state is not RunState.DEAD or gate.effects:
            report.found("lost", f"run {run.id} is {run.state} and asked nobody")
        return
    if gate.effects > 1:
        report.found("double", f"run {run.id} was executed {gate.effects} times")
    last = call.decided_by
    recorded = (last.by, last.kind) if last else None
    rejected = call.state is CallState.REJECTED or "reject" in {kind for _, kind in gate.told | {recorded or ("", "")}}
    if rejected and gate.effects:
        report.found("rejected_but_executed", f"run {run.id}")
    if recorded is None or len(gate.told | {recorded}) != 1 or gate.decided != 1 or len(call.votes) != 1:
        report.found(
            "winners_wrong",
            f"run {run.id}: recorded {recorded} of {len(call.votes)} votes, people were told {sorted(gate.told)}, "
            f"{gate.decided} decisions in the audit log",
        )
    _explained(report, gate, call)


def _explained(report: Report, gate: Gate, call: Call) -> None:
    run, stands = gate.run, (gate.run.state, call.state)
    report.unknown += call.state is CallState.UNKNOWN
    report.dead += run.state is RunState.DEAD
    report.approved += call.state in (CallState.SUCCEEDED, CallState.UNKNOWN)
    explained = (
        (call.state is CallState.SUCCEEDED and run.state is RunState.COMPLETED and gate.effects >= 1)
        or (call.state is CallState.REJECTED and run.state.ended)
        or stands == (RunState.BLOCKED, CallState.UNKNOWN)
        or (run.state is RunState.DEAD and bool(run.blocked_detail))
    )
    if not explained:
        report.found("lost", f"run {run.id} is {run.state}, its call {call.state}, with {gate.effects} effects")


async def _runs(app: App) -> Any:
    after = ""
    while page := await app.governor.list_runs(after=after):
        for run in page:
            yield run
        after = page[-1].id
