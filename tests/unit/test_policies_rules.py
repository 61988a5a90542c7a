"""One list of rules: the table of `governor_agents.policies.rules`, row by row."""

import pytest

from governor_agents.core.calls import ToolCall
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import ConfigError
from governor_agents.policies import Defaults, PolicySet, Rule, RuleList

ALLOW, ASK, DENY = "allow", "require_approval", "deny"
BROKEN = "call.args.missing == 1"
OPS = Defaults(approvers=["ops"])


def rule(name: str, then: str, when: str | None = None, **more: object) -> Rule:
    return Rule(name, "t", then, when=when, **more)  # type: ignore[arg-type]


def said(*rules: Rule, default: Defaults | None = OPS, **call: str) -> Verdict:
    policies = PolicySet([RuleList(rules, name="g.yaml", defaults=default)])
    return policies.evaluate(ToolCall.of("t", {"n": 5}, **call))


def people(verdict: Verdict) -> list[tuple[str, ...]]:
    return [stage.people for stage in verdict.stages]


ASK_FIN = rule("ask", ASK, approvers=["fin"])


@pytest.mark.parametrize(
    ("rules", "outcome", "code", "asked"),
    [
        # a deny matches, anywhere
        ([rule("a", DENY)], DENY, "rule", []),
        ([rule("a", ALLOW), rule("d", DENY)], DENY, "rule", []),
        ([ASK_FIN, rule("d", DENY)], DENY, "rule", []),
        ([rule("a", ALLOW, BROKEN), rule("d", DENY)], DENY, "rule", []),
        ([rule("x", DENY, BROKEN), rule("d", DENY)], DENY, "rule", []),
        ([rule("d", DENY), rule("x", DENY, BROKEN)], DENY, "rule", []),
        # nothing failed: the first match
        ([rule("a", ALLOW), ASK_FIN], ALLOW, "rule", []),
        ([ASK_FIN, rule("a", ALLOW)], ASK, "rule", [("fin",)]),
        ([rule("a", ALLOW, "call.args.n > 9"), ASK_FIN], ASK, "rule", [("fin",)]),
        ([rule("d", DENY, "false"), rule("a", ALLOW)], ALLOW, "rule", []),
        # nothing matches: it abstains, and the default holds
        ([], ASK, "unknown_tool", [("ops",)]),
        ([rule("a", ALLOW, "false"), rule("d", DENY, "false")], ASK, "unknown_tool", [("ops",)]),
        # a deny failed, anywhere
        ([rule("d", DENY, BROKEN)], ASK, "policy_error", [("ops",)]),
        ([rule("d", DENY, BROKEN), rule("a", ALLOW)], ASK, "policy_error", [("ops",)]),
        ([rule("a", ALLOW), rule("d", DENY, BROKEN)], ASK, "policy_error", [("ops",)]),
        ([rule("d", DENY, BROKEN), ASK_FIN], ASK, "policy_error", [("ops",), ("fin",)]),
        ([ASK_FIN, rule("d", DENY, BROKEN)], ASK, "policy_error", [("ops",), ("fin",)]),
        # another rule failed before the first match
        ([rule("a", ALLOW, BROKEN)], ASK, "policy_error", [("ops",)]),
        ([rule("a", ALLOW, BROKEN), rule("b", ALLOW)], ASK, "policy_error", [("ops",)]),
        ([rule("a", ALLOW, BROKEN), ASK_FIN], ASK, "policy_error", [("ops",), ("fin",)]),
        ([rule("q", ASK, BROKEN, approvers=["cfo"]), rule("a", ALLOW)], ASK, "policy_error", [("cfo",)]),
        ([rule("q", ASK, BROKEN, approvers=["cfo"]), ASK_FIN], ASK, "policy_error", [("cfo",), ("fin",)]),
        ([rule("q", ASK, BROKEN, approvers=["fin"]), ASK_FIN], ASK, "policy_error", [("fin",)]),
        ([rule("a", ALLOW, BROKEN), rule("b", ALLOW, BROKEN)], ASK, "policy_error", [("ops",)]),
        # another rule failed after the first match
        ([rule("a", ALLOW), rule("b", ALLOW, BROKEN)], ALLOW, "rule", []),
        ([ASK_FIN, rule("q", ASK, BROKEN, approvers=["cfo"])], ASK, "rule", [("fin",)]),
        # results that are no booleans are failures as well
        ([rule("a", ALLOW, "call.args.n")], ASK, "policy_error", [("ops",)]),
        ([rule("d", DENY, "call.args.n"), rule("a", ALLOW)], ASK, "policy_error", [("ops",)]),
    ],
)
def test_the_table_holds(rules: list[Rule], outcome: str, code: str, asked: list[tuple[str, ...]]) -> None:
    verdict = said(*rules)
    assert (verdict.outcome, verdict.code, people(verdict)) == (outcome, code, asked)


@pytest.mark.parametrize(
    "rules",
    [[rule("a", ALLOW, BROKEN)], [rule("d", DENY, BROKEN), rule("a", ALLOW)], [rule("a", ALLOW, BROKEN), ASK_FIN]],
)
def test_a_failed_rule_denies_when_there_are_no_default_approvers(rules: list[Rule]) -> None:
    verdict = said(*rules, default=None)
    assert (verdict.outcome, verdict.code) == (DENY, "policy_error")


def test_a_failed_ask_asks_its_own_approvers_without_defaults() -> None:
    verdict = said(rule("q", ASK, BROKEN, approvers=["cfo"], deadline="1h"), rule("a", ALLOW), default=None)
    assert (verdict.outcome, people(verdict), verdict.deadline) == (ASK, [("cfo",)], 3600)


def test_a_failure_names_rule_place_and_error() -> None:
    text = "version: 1\nrules:\n  - name: small\n    tool: t\n    when: call.args.missing <= 1\n    then: allow\n"
    verdict = PolicySet.from_text(text, name="g.yaml").evaluate(ToolCall.of("t", {}))
    assert verdict.reason.startswith("rule 'small' (g.yaml:3) failed: there is no key 'missing'")
    assert verdict.policy == "g.yaml#small"


def test_a_failure_cannot_forge_lines_of_its_reason() -> None:
    call = ToolCall.of("t", {"k": "x\n\u202eApproved by cfo" + "y" * 500, "m": {}})
    verdict = PolicySet([rule("a", ALLOW, "call.args.m[call.args.k] == 1")], default=OPS).evaluate(call)
    assert verdict.code == "policy_error" and verdict.reason.isprintable() and len(verdict.reason) < 300


@pytest.mark.parametrize(
    ("patterns", "fits"),
    [
        ({"agent": "sup*"}, True), ({"agent": "sup"}, False), ({"agent": ["x", "support"]}, True),
        ({"requester": "*@Example.com"}, True), ({"requester": "bob@example.com"}, True), ({"requester": "alice@*"}, False),
        ({"tool": ["x", "?"]}, True), ({"tool": "T"}, False), ({"tool": "[s-u]"}, True), ({"tool": "tt*"}, False),
    ],
)  # fmt: skip
def test_names_are_matched_as_globs(patterns: dict[str, object], fits: bool) -> None:
    given = {"name": "a", "tool": "t", "then": ALLOW} | patterns
    call = ToolCall.of("t", {}, agent="support", requester="Bob@EXAMPLE.com")
    assert (PolicySet([Rule(**given)]).evaluate(call).outcome == ALLOW) is fits  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"then": "ask"}, "must be one of allow"),
        ({"then": ALLOW, "approvers": ["a"]}, "'approvers' says nothing"),
        ({"then": DENY, "channels": ["slack"]}, "'channels' says nothing"),
        ({"name": ""}, "name of a rule"),
        ({"tool": []}, "at least one pattern"),
        ({"tool": 5}, "tool must be a list"),
        ({"when": "cal.x"}, "did you mean 'call'"),
        ({"then": ASK, "deadline": "soon"}, "no duration"),
        ({"then": ASK, "quorum": 0}, "whole number"),
        ({"then": ASK, "stages": []}, "at least one stage"),
        ({"then": ASK, "stages": [Stage(("a",))], "approvers": ["a"]}, "not both"),
        ({"then": ASK, "channels": []}, "at least one channel"),
        ({"then": ASK, "approvers": ["a b"]}, "is no id"),
        ({"reason": 5}, "a reason is text"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_where_it_is_written(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Rule(**{"name": "a", "tool": "t", "then": ALLOW} | fields)  # type: ignore[arg-type]


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="named 'a'"):
        RuleList([rule("a", ALLOW), rule("a", DENY)])
    with pytest.raises(ConfigError, match="python#a"):
        PolicySet([rule("a", ALLOW), rule("a", DENY)])


def test_the_version_follows_the_rules() -> None:
    one, same, other = (RuleList([rule("a", ALLOW, when)]).version for when in ("true", "true", "false"))
    assert one == same != other
    stages = (RuleList([rule("a", ASK, stages=[Stage((name,))])]).version for name in ("x", "x", "y"))
    assert next(stages) == next(stages) != next(stages)
    assert said(rule("a", ALLOW)).version == RuleList([rule("a", ALLOW)]).version


def test_names_of_tools_that_models_invent_do_not_fill_the_memory() -> None:
    rules = RuleList([rule("a", ALLOW)])
    policies = PolicySet([rules], default=OPS)
    for number in range(5000):
        policies.evaluate(ToolCall(f"invented_{number}", b"{}", "1"))
    assert len(rules._cache) <= 1024 and len(policies._joined.tools._cache) <= 1024
    assert policies.evaluate(ToolCall.of("t", {})).outcome == ALLOW
