"""What all policies of a set share: groups, tools, defaults, and the checks that need all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from governor_agents.core.calls import Tool
from governor_agents.core.ports import Directory
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import ConfigError, DirectoryUnreadable, PolicyFileError
from governor_agents.policies.asks import Defaults, Draft, draft
from governor_agents.policies.conditions import ConditionFailed, Facts, compiled
from governor_agents.policies.groups import Groups, check_apart, check_approver
from governor_agents.policies.keeping import Keeping, together
from governor_agents.policies.python import PythonPolicy
from governor_agents.policies.rules import BoundRule, RuleList
from governor_agents.policies.strictest import all_stages, join_versions, merge_terms, settle
from governor_agents.policies.tools import Tools
from governor_agents.policies.values import approver, person_id

log = logging.getLogger(__name__)

Part = RuleList | PythonPolicy

DIRECTORY_UNREADABLE = "directory_unreadable"
"""The code of what would ask people while nobody can say who they are."""

UNREADABLE = "nobody can say who people are: the directory of people cannot be read"


@dataclass(frozen=True)
class Joined:
    """Policies that fit together, with everything that does not depend on the call worked out beforehand.

    ``base`` is the default demand; ``unsaid`` and the like are what the set says when all policies abstain, and when
    something fails that belongs to no policy: with a directory, whom they ask is found out anew each time.
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

    directory: Directory | None

    def settled(self, verdict: Verdict, facts: Facts | None = None) -> Verdict:
        """The verdict with nothing left open. What cannot be settled becomes the ask of a failed policy.

        While the directory cannot be read nobody is asked, and the call is denied.
        """
        try:
            try:
                return settle(verdict, self.base, self.groups.people, partial(stage_asked, facts=facts))
            except ConfigError as error:
                log.warning("policy %s: %s", verdict.policy, error)
                why = f"policy {verdict.policy} asks approvers that do not exist"
                failed = draft({}, policy=verdict.policy, version=verdict.version, code="policy_error", reason=why)
                return settle(failed, self.base, self.groups.people)
        except DirectoryUnreadable:
            return Verdict("deny", verdict.policy, verdict.version, DIRECTORY_UNREADABLE, UNREADABLE)

    def by_default(self, verdict: Verdict) -> Verdict:
        """One of the set's own verdicts, for now."""
        return verdict if self.directory is None else self.settled(verdict)

    def named(self, verdict: Verdict, requester: str) -> Verdict:
        """The demand with all names of whoever asked, so that they are excluded under each of them."""
        if self.directory is None or verdict.outcome != "require_approval":
            return verdict
        try:
            person = self.directory.person(person_id(requester))
        except DirectoryUnreadable:
            return Verdict("deny", verdict.policy, verdict.version, DIRECTORY_UNREADABLE, UNREADABLE)
        return verdict if person is None else replace(verdict, requesters=person.names)


def stage_asked(stage: Stage, facts: Facts | None) -> bool:
    """Whether a stage with a condition is asked. One whose condition cannot be decided is."""
    try:
        return facts is None or compiled(stage.when).holds(facts)
    except (ConditionFailed, ConfigError):
        return True


def join(
    parts: Sequence[Part],
    tools: Mapping[str, Tool],
    default: Defaults | None,
    groups: Mapping[str, Sequence[str]],
    directory: Directory | None = None,
) -> Joined:
    """Join policies. Raises `PolicyFileError` or `ConfigError` when they contradict one another or ask nobody."""
    lists = [part for part in parts if isinstance(part, RuleList)]
    _check_names(lists)
    found = Groups(_groups(lists, groups), directory)
    if directory is not None:
        check_apart(found.members, directory)
    base = _base([one.defaults for one in lists], default, found)
    _check_rules(lists, base, found)
    version = join_versions(part.version for part in parts)

    def ask(code: str, reason: str) -> Verdict:
        asked = replace(base, policy="default", version=version, code=code, reason=reason)
        return settle(asked, base, found.people) if directory is None else asked

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
        directory=directory,
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
        for name, people in one.groups.items():
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
    """The default demand: what is given in Python, else what the files say, added up as their asks would be.

    Its stages name nobody yet: whom they mean is found out with each call.
    """
    own = _with_people(draft(given.given() if given else {}), groups)
    theirs = [_with_people(draft(one.given()), groups) for one in listed]
    stages = own.stages if "stages" not in own.unset else all_stages(theirs)
    stages = tuple(replace(stage, people=()) for stage in stages)
    return Verdict("require_approval", stages=stages, **(merge_terms(theirs) | merge_terms([own])))


def _with_people(ask: Draft, groups: Groups) -> Draft:
    """The demand with what its stages come to in the policies' own groups, by which stages that are alike are found."""
    for name in (name for stage in ask.stages for name in stage.names):
        check_approver(name, groups.members, groups.directory)
    leaves = (tuple(sorted(groups.leaves(stage.names))) for stage in ask.stages)
    return replace(ask, stages=tuple(replace(s, people=p) for s, p in zip(ask.stages, leaves, strict=True)))


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
        for one in bound.verdict.stages:
            for each in one.names:
                check_approver(each, groups.members, groups.directory)
    except ConfigError as error:
        return f"{name}: {error}"
    except DirectoryUnreadable:
        return ""
    if settled.outcome == "require_approval":
        before_last = sum(stage.within or 0 for stage in settled.stages[:-1])
        late = f"{name}: its last stage would be asked after {before_last:g} s, the deadline is {settled.deadline:g} s"
        if before_last >= settled.deadline:
            return late
        never = [after for after in settled.reminders if after >= settled.deadline and bound.rule.reminders]
        return f"{name}: a reminder after {never[0]:g} s, the deadline is {settled.deadline:g} s" if never else ""
    if not bound.verdict.stages and not base.stages:
        return f"{name} asks nobody; give it approvers, or name default approvers under 'approvals'"
    return "" if "there is nobody in" in settled.reason else f"{name}: {settled.reason}"
