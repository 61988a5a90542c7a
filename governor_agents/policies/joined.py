"""What all policies of a set share: groups, tools, defaults, and the checks that need all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from governor_agents.core.calls import Tool
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import ConfigError, PolicyFileError
from governor_agents.policies.asks import Defaults, Draft, draft
from governor_agents.policies.groups import Groups
from governor_agents.policies.keeping import Keeping, together
from governor_agents.policies.python import PythonPolicy
from governor_agents.policies.rules import BoundRule, RuleList
from governor_agents.policies.strictest import all_stages, join_versions, merge_terms, settle
from governor_agents.policies.tools import Tools
from governor_agents.policies.values import approver

log = logging.getLogger(__name__)

Part = RuleList | PythonPolicy


@dataclass(frozen=True)
class Joined:
    """Policies that fit together, with everything that does not depend on the call worked out beforehand.

    ``base`` is the default demand; the other verdicts are what the set says when all policies abstain, and when
    something fails that belongs to no policy.
    """

    parts: tuple[Part, ...]
    tools: Tools
    groups: Groups
    keeping: Keeping
    version: str
    base: Verdict
    read_only: Verdict
    unsaid: Verdict
    unknown_tool: Verdict
    failure: Verdict

    def settled(self, verdict: Verdict) -> Verdict:
        """The verdict with nothing left open. What cannot be settled becomes the ask of a failed policy."""
        try:
            return settle(verdict, self.base, self.groups.people)
        except ConfigError as error:
            log.warning("policy %s: %s", verdict.policy, error)
            why = f"policy {verdict.policy} asks approvers that do not exist"
            failed = draft({}, policy=verdict.policy, version=verdict.version, code="policy_error", reason=why)
            return settle(failed, self.base, self.groups.people)


def join(
    parts: Sequence[Part], tools: Mapping[str, Tool], default: Defaults | None, groups: Mapping[str, Sequence[str]]
) -> Joined:
    """Join policies. Raises `PolicyFileError` or `ConfigError` when they contradict one another or ask nobody."""
    lists = [part for part in parts if isinstance(part, RuleList)]
    _check_names(lists)
    found = Groups(_groups(lists, groups))
    base = _base([one.defaults for one in lists], default, found)
    _check_rules(lists, base, found)
    version = join_versions(part.version for part in parts)

    def ask(code: str, reason: str) -> Verdict:
        asked = replace(base, policy="default", version=version, code=code, reason=reason)
        return settle(asked, base, found.people)

    return Joined(
        parts=tuple(parts),
        tools=Tools({**_tools(lists), **tools}),
        groups=found,
        keeping=together((one.source, one.keeping) for one in lists),
        version=version,
        base=base,
        read_only=Verdict("allow", "default", version, "read_only", "the tool is declared read-only"),
        unsaid=ask("default", "no policy decides about this call"),
        unknown_tool=ask("unknown_tool", "the tool is not declared, and no policy decides about it"),
        failure=ask("policy_error", "the policies could not be evaluated"),
    )


def _check_names(lists: Iterable[RuleList]) -> None:
    seen: set[str] = set()
    for bound in (bound for one in lists for bound in one.rules):
        if bound.verdict.policy in seen:
            raise ConfigError(f"two rules are named {bound.verdict.policy!r}; rename one of them")
        seen.add(bound.verdict.policy)


def _groups(lists: Iterable[RuleList], given: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    found = {name: tuple(approver(person) for person in people) for name, people in given.items()}
    for one in lists:
        for name, people in one.groups.members.items():
            if set(found.setdefault(name, people)) != set(people):
                raise ConfigError(f"group {name!r} of {one.source} has other people elsewhere; give it another name")
    return found


def _tools(lists: Iterable[RuleList]) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    for one in lists:
        for name, tool in one.tools.items():
            if found.setdefault(name, tool) != tool:
                raise ConfigError(f"tool {name!r} of {one.source} is declared otherwise elsewhere; declare it once")
    return found


def _base(listed: Sequence[Defaults], given: Defaults | None, groups: Groups) -> Verdict:
    """The default demand: what is given in Python, else what the files say, added up as their asks would be."""
    own = _with_people(draft(given.given() if given else {}), groups)
    theirs = [_with_people(draft(one.given()), groups) for one in listed]
    stages = own.stages if "stages" not in own.unset else all_stages(theirs)
    return Verdict("require_approval", stages=stages, **(merge_terms(theirs) | merge_terms([own])))


def _with_people(ask: Draft, groups: Groups) -> Draft:
    return replace(ask, stages=tuple(replace(stage, people=groups.people(stage.names)) for stage in ask.stages))


def _check_rules(lists: Iterable[RuleList], base: Verdict, groups: Groups) -> None:
    problems = [
        (one, bound, problem)
        for one in lists
        for bound in one.rules
        if bound.rule.then == "require_approval" and (problem := _problem(bound, base, groups))
    ]
    if not problems:
        return
    lines = [f"{one.source}:{bound.rule.line}: {what}" if bound.rule.line else what for one, bound, what in problems]
    if any(bound.rule.line for _, bound, _ in problems):
        raise PolicyFileError(errors=lines)
    raise ConfigError(lines[0])


def _problem(bound: BoundRule, base: Verdict, groups: Groups) -> str:
    """What makes the rule's demand one that cannot be meant; empty when nothing does.

    A group without people is no such thing: it means nobody, and the call is denied.
    """
    name = f"rule {bound.rule.name!r}"
    try:
        settled = settle(bound.verdict, base, groups.people)
    except ConfigError as error:
        return f"{name}: {error}"
    if settled.outcome == "require_approval":
        before_last = sum(stage.within or 0 for stage in settled.stages[:-1])
        late = f"{name}: its last stage would be asked after {before_last:g} s, the deadline is {settled.deadline:g} s"
        return late if before_last >= settled.deadline else ""
    if not bound.verdict.stages and not base.stages:
        return f"{name} asks nobody; give it approvers, or name default approvers under 'approvals'"
    return "" if "there is nobody in" in settled.reason else f"{name}: {settled.reason}"
