"""Rules, and lists of them with an order: what one policy file says of a call.

Which rules apply is decided by name (``tool``, ``agent``, ``requester``) and then by condition (``when``). Where there
is a directory, ``requester`` fits when any name of that person does; while nobody can say, the call is denied. A
condition is true, false, or *fails*: a key is missing, types do not fit, the result is no boolean. What a failed rule
meant is not known, so the list speaks as if the worst might have been meant:

==========================================  ==========================================================================
of the rules that apply                     the list says
==========================================  ==========================================================================
a ``deny`` matches, anywhere                deny (also when other rules failed)
nothing failed                              what the first matching rule says; without one it abstains
a ``deny`` failed, anywhere                 ask (``policy_error``), **and** what the first matching rule says
another rule failed, before the first match ask (``policy_error``), **and** what the first matching rule says
another rule failed, after the first match  the first match decides; the later rule is not looked at
==========================================  ==========================================================================

"And" means the stricter one; two asks add their approvers. A failed rule asks its own approvers when it has some, else
the default approvers, and denies when there are none. So a failure never allows, and never asks less than the rules
below it would have asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from governor_agents.core.calls import Tool, freeze, sha256
from governor_agents.core.hours import QuietHours
from governor_agents.core.verdicts import OnExpire, Outcome, Stage, Verdict
from governor_agents.errors import ConfigError
from governor_agents.policies.asks import TERMS, Defaults, Draft, Duration, Hours, Names, draft
from governor_agents.policies.conditions import Condition, ConditionFailed, Facts
from governor_agents.policies.keeping import Keeping
from governor_agents.policies.values import choice, globs, is_glob, matcher, one_line, person_id, reason_text, text

OUTCOMES = ("allow", "deny", "require_approval")

MAX_CACHED = 1_024
"""Tool names for which a list remembers which rules apply; names come from models, so there may be any number."""

ASKING = ("approvers", "quorum", "stages", *TERMS)
"""What a rule may say only when it asks."""


@dataclass(frozen=True)
class Rule:
    """One rule. ``tool``, ``agent`` and ``requester`` are globs or lists of globs; ``when`` is a CEL condition.

    Rules that are handed to a policy set one by one are policies of their own, and the strictest wins; put them into a
    `RuleList` for the order that a file has. Durations are seconds or text such as ``4h``; whatever is None takes the
    default. Raises `ConfigError` for a value that does not fit.
    """

    name: str
    tool: Names
    then: Outcome
    agent: Names | None = None
    requester: Names | None = None
    when: str | Condition | None = None
    reason: str = ""
    approvers: Names | None = None
    quorum: int | None = None
    stages: Sequence[Stage] | None = None
    deadline: Duration | None = None
    run_within: Duration | None = None
    reason_required: bool | None = None
    on_expire: OnExpire | None = None
    exclude_requester: bool | None = None
    channels: Names | None = None
    headline: str | None = None
    reminders: Sequence[Duration] | None = None
    quiet_hours: Hours | None = None
    delegates: Names | None = None
    line: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        text(self.name, "the name of a rule")
        choice(self.then, OUTCOMES)
        useless = [key for key in ASKING if self.then != "require_approval" and getattr(self, key) is not None]
        if useless:
            raise ConfigError(f"{useless[0]!r} says nothing in a rule that is then: {self.then}; remove it")
        reason_text(self.reason)
        if self.when is not None and not isinstance(self.when, Condition):
            object.__setattr__(self, "when", Condition(self.when))
        for key in ("tool", "agent", "requester"):
            if getattr(self, key) is not None:
                object.__setattr__(self, key, globs(getattr(self, key), key))
        self.demand({})

    def demand(self, defaults: Mapping[str, Any]) -> Draft:
        """Whom the rule asks and how, with the defaults of its list for what it does not say."""
        given = {key: value for key in ASKING if (value := getattr(self, key)) is not None}
        if "stages" in given:
            defaults = {key: value for key, value in defaults.items() if key != "approvers"}
        return draft({**defaults, **given}, reason=self.reason)

    def content(self) -> dict[str, Any]:
        """The rule as plain JSON, for its version."""
        found: dict[str, Any] = {}
        for name in (item.name for item in fields(self) if item.name != "line"):
            value = getattr(self, name)
            if isinstance(value, Condition):
                value = value.text
            elif name == "stages" and value is not None:
                value = [[list(stage.names), stage.quorum, stage.within, stage.when] for stage in value]
            elif isinstance(value, QuietHours):
                value = [value.zone, value.start, value.end, list(value.days)]
            elif isinstance(value, tuple):
                value = list(value)
            found[name] = value
        return found


class BoundRule:
    """A rule in its list: compiled patterns, its verdict, and what it says when its condition fails."""

    __slots__ = ("_agent", "_requester", "condition", "failure", "rule", "verdict", "where")

    def __init__(self, rule: Rule, source: str, version: str, defaults: Defaults) -> None:
        self.rule = rule
        self.where = f"{source}:{rule.line}" if rule.line else source
        policy = f"{source}#{rule.name}"
        demand = replace(rule.demand(defaults.given()), policy=policy, version=version)
        asks = rule.then == "require_approval"
        self.verdict = demand if asks else Verdict(rule.then, policy, version, reason=rule.reason)
        self.failure = replace(demand, code="policy_error")
        self.condition = rule.when if isinstance(rule.when, Condition) else None
        self._agent = matcher(rule.agent) if rule.agent is not None else None
        self._requester = matcher(map(person_id, rule.requester)) if rule.requester is not None else None

    def applies(self, facts: Facts) -> str:
        """Empty when agent and requester fit, otherwise which of them does not. Raises `DirectoryUnreadable`."""
        if self._agent is not None and not self._agent(facts.call.agent):
            return "agent"
        if self._requester is not None and not facts.asked_by(self._requester):
            return "requester"
        return ""

    def matches(self, facts: Facts) -> bool:
        """Whether the rule matches a call of its tool. Raises `ConditionFailed`, `DirectoryUnreadable`."""
        return not self.applies(facts) and (self.condition is None or self.condition.holds(facts))

    def failed(self, why: ConditionFailed) -> Verdict:
        """The demand of a rule whose condition failed."""
        return replace(self.failure, reason=f"rule {self.rule.name!r} ({self.where}) failed: {one_line(why)}")


_Touching = tuple[tuple[BoundRule, ...], tuple[BoundRule, ...]]
_NOTHING: _Touching = ((), ())


class RuleList:
    """An ordered list of rules with defaults, groups and tools of its own: what a policy file is.

    ``name`` and the rule's name make `Verdict.policy` (``governor.yaml#refunds``); ``version`` names the content, and
    is computed when it is not given; ``source`` is what messages call the file. Raises `ConfigError` for two rules of
    one name.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        name: str = "python",
        source: str = "",
        version: str = "",
        defaults: Defaults | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        tools: Mapping[str, Tool] | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self.name = text(name, "the name of a list of rules")
        self.source = source or name
        self.defaults = defaults or Defaults()
        self.groups = {group: tuple(people) for group, people in (groups or {}).items()}
        self.tools = dict(tools or {})
        self.keeping = keeping or Keeping()
        self.version = version or version_of([rule.content() for rule in rules])
        self.rules = tuple(BoundRule(rule, name, self.version, self.defaults) for rule in rules)
        self._cache: dict[str, _Touching] = {}
        self._exact: dict[str, list[int]] = {}
        self._globs: list[tuple[Callable[[str], object], int]] = []
        self._index()

    def _index(self) -> None:
        seen: set[str] = set()
        for at, bound in enumerate(self.rules):
            if bound.rule.name in seen:
                raise ConfigError(f"two rules of {self.name} are named {bound.rule.name!r}")
            seen.add(bound.rule.name)
            exact = [pattern for pattern in bound.rule.tool if not is_glob(pattern)]
            for pattern in exact:
                self._exact.setdefault(pattern, []).append(at)
            if len(exact) < len(bound.rule.tool):
                self._globs.append((matcher(set(bound.rule.tool) - set(exact)), at))

    def touching(self, tool: str) -> _Touching:
        """The rules whose pattern fits a tool: those that deny, and the others, each in order."""
        found = self._cache.get(tool)
        if found is None:
            at = {*self._exact.get(tool, ()), *(at for fits, at in self._globs if fits(tool))}
            rules = [self.rules[i] for i in sorted(at)]
            denies = tuple(bound for bound in rules if bound.rule.then == "deny")
            found = (denies, tuple(b for b in rules if b.rule.then != "deny")) if rules else _NOTHING
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[tool] = found
        return found

    def opinions(self, facts: Facts) -> Sequence[Verdict]:
        """What the list says: nothing when it abstains; several verdicts mean the strictest of them."""
        found = self.touching(facts.call.tool)
        return _opinions(found, facts) if found is not _NOTHING else ()


def _opinions(touching: _Touching, facts: Facts) -> Sequence[Verdict]:
    denies, others = touching
    said: list[Verdict] = []
    for bound in denies:
        try:
            if bound.matches(facts):
                return (bound.verdict,)
        except ConditionFailed as why:
            said.append(bound.failed(why))
    for bound in others:
        try:
            if bound.matches(facts):
                said.append(bound.verdict)
                break
        except ConditionFailed as why:
            said.append(bound.failed(why))
    return said


def version_of(content: Any) -> str:
    """The version of plain JSON content: 16 hex digits of the SHA-256 of its canonical bytes."""
    return sha256(freeze(content))[:16]
