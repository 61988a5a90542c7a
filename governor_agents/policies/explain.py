"""Which rules match a call, which do not, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from governor_agents.core.verdicts import Outcome, Stage
from governor_agents.errors import DirectoryUnreadable
from governor_agents.policies.conditions import ConditionFailed, Facts, compiled
from governor_agents.policies.python import PythonPolicy
from governor_agents.policies.rules import BoundRule, Rule, RuleList
from governor_agents.policies.values import one_line

Result = Literal["matched", "not matched", "failed", "abstained"]


@dataclass(frozen=True, slots=True)
class Explained:
    """What one rule or Python policy makes of a call. ``where`` is file and line; ``outcome`` what it would say."""

    policy: str
    where: str
    result: Result
    outcome: Outcome | None
    why: str


def explain_list(rules: RuleList, facts: Facts) -> Iterable[Explained]:
    """One entry for each rule, in order, whether or not an earlier one decides."""
    touching = {id(bound) for part in rules.touching(facts.call.tool) for bound in part}
    for bound in rules.rules:
        yield _explain(bound, facts, id(bound) in touching)


def _explain(bound: BoundRule, facts: Facts, touches: bool) -> Explained:
    rule = bound.rule

    def told(result: Result, why: str, outcome: Outcome = rule.then) -> Explained:
        return Explained(bound.verdict.policy, bound.where, result, outcome, why)

    try:
        unfit = bound.applies(facts) if touches else "tool"
    except DirectoryUnreadable:
        return told("failed", "the directory of people cannot be read", "deny")
    if unfit:
        return told("not matched", f"{unfit} is none of {', '.join(getattr(rule, unfit))}")
    stages = _stages(rule, facts)
    if bound.condition is None:
        return told("matched", f"it has no condition{stages}")
    try:
        holds = bound.condition.holds(facts)
    except ConditionFailed as why:
        return told("failed", str(why), "require_approval")
    said = f"{one_line(bound.condition.text)} is {str(holds).lower()}"
    return told("matched", said + stages) if holds else told("not matched", said)


def _stages(rule: Rule, facts: Facts) -> str:
    """What became of the rule's stages that have a condition."""
    found = [(at, stage) for at, stage in enumerate(rule.stages or (), 1) if stage.when]
    return "".join(f"; stage {at} ({', '.join(stage.names)}) {_asked(stage, facts)}" for at, stage in found)


def _asked(stage: Stage, facts: Facts) -> str:
    when = one_line(stage.when)
    try:
        asked = compiled(stage.when).holds(facts)
    except ConditionFailed as why:
        return f"is asked, since {when} failed: {why}"
    return f"is asked, since {when} is true" if asked else f"is left out, since {when} is false"


def explain_python(policy: PythonPolicy, facts: Facts) -> Iterable[Explained]:
    """One entry: what the policy says."""
    said = policy.opinions(facts)
    if not said:
        yield Explained(policy.name, "python", "abstained", None, "it says nothing")
    for verdict in said:
        failed = verdict.code == "policy_error"
        yield Explained(verdict.policy, "python", "failed" if failed else "matched", verdict.outcome, verdict.reason)
