"""The order of evaluation against a slow, literal reading of it, over generated rules, files, policies and calls.

The reference knows nothing of indexes, caches, drafts or CEL: conditions are a table of what they come to.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.verdicts import STRICTNESS, Verdict
from governor_agents.policies import PolicySet, allow, deny, require_approval
from governor_agents.policies.file import read
from governor_agents.policies.reading import Source

TRUE, FALSE, FAILS = "true", "false", "fails"
CONDITIONS = {
    None: lambda n: TRUE,
    "true": lambda n: TRUE,
    "1 == 2": lambda n: FALSE,
    "call.args.n > 3": lambda n: TRUE if n > 3 else FALSE,
    "call.args.missing == 1": lambda n: FAILS,
    "call.args.n": lambda n: FAILS,
    "call.args.n > 3 || call.args.missing": lambda n: TRUE if n > 3 else FAILS,
}  # fmt: skip
GROUPS = {"g": ["p1", "p2"], "h": ["p3", "group:g"], "none": []}
PEOPLE = {"p1": {"p1"}, "p4": {"p4"}, "group:g": {"p1", "p2"}, "group:h": {"p1", "p2", "p3"}, "group:none": set()}


@dataclass(frozen=True)
class R:
    """A rule as generated."""

    tool: str
    agent: str | None
    when: str | None
    then: str
    approvers: tuple[str, ...] | None
    deadline: int | None


@dataclass(frozen=True)
class F:
    """A file as generated: rules and default approvers."""

    rules: tuple[R, ...]
    approvers: tuple[str, ...] | None


@dataclass(frozen=True)
class Case:
    """Files, Python answers, and one call."""

    files: tuple[F, ...]
    answers: tuple[str, ...]
    tool: str
    agent: str
    n: int


@dataclass(frozen=True)
class Said:
    """What the reference says: outcome, code, the people of each stage, the deadline (None when it does not matter)."""

    outcome: str
    code: str
    stages: tuple[tuple[str, ...], ...] = ()
    deadline: int = 0


names = st.sampled_from(sorted(PEOPLE))
approvers = st.none() | st.lists(names, min_size=1, max_size=2, unique=True).map(tuple)
rules = st.builds(
    R,
    tool=st.sampled_from(["a", "b", "a*", "*", "[ab]", "ab"]),
    agent=st.none() | st.sampled_from(["x", "x*"]),
    when=st.sampled_from(list(CONDITIONS)),
    then=st.sampled_from(["allow", "deny", "require_approval"]),
    approvers=approvers,
    deadline=st.none() | st.sampled_from([60, 7200]),
)


def cases_of(rules: st.SearchStrategy[R], most: int, answers: list[str]) -> st.SearchStrategy[Case]:
    files = st.builds(F, rules=st.lists(rules, max_size=5).map(tuple), approvers=approvers)
    return st.builds(
        Case,
        files=st.lists(files, min_size=1, max_size=most).map(tuple),
        answers=st.lists(st.sampled_from(answers), max_size=2).map(tuple),
        tool=st.sampled_from(["a", "b", "ab", "read", "other"]),
        agent=st.sampled_from(["", "x", "xy"]),
        n=st.integers(0, 6),
    ).map(askable)


def defaults(case: Case) -> list[tuple[str, ...]]:
    """The stages of whoever is asked by default: those of each file, the same people once."""
    return list(dict.fromkeys(people(file.approvers) for file in case.files if file.approvers))


def people(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set().union(*(PEOPLE[name] for name in names))))


def askable(case: Case) -> Case:
    """Rules ask somebody: a file with an ask that names nobody would be refused when no file has defaults."""
    if defaults(case):
        return case
    fixed = [replace(f, rules=tuple(replace(r, approvers=r.approvers or ("p1",)) for r in f.rules)) for f in case.files]
    return replace(case, files=tuple(fixed))


# In the dense cases every rule is about the call, so that rules meet one another.
dense = cases_of(rules.map(lambda rule: replace(rule, tool="*", agent=None)), 1, ["abstain", "allow"])
cases = dense | cases_of(rules, 3, ["abstain", "allow", "deny", "ask p4", "ask default", "ask nobody", "raise", "junk"])


def ask(case: Case, code: str, stages: list[tuple[str, ...]], deadline: int | None = None) -> Said:
    if not stages or not all(stages):
        return Said("deny", code if code == "policy_error" else "no_approvers")
    return Said("require_approval", code, tuple(stages), deadline or 86_400)


def rule_says(case: Case, file: F, rule: R, code: str) -> Said:
    """An ask with this rule's people: its own, its file's, or those of the set."""
    own = rule.approvers if rule.then == "require_approval" else None
    stages = [people(own)] if own else [people(file.approvers)] if file.approvers else defaults(case)
    return ask(case, code, stages, rule.deadline if rule.then == "require_approval" else None)


def status(rule: R, case: Case) -> str | None:
    """None when the rule is about other calls."""
    if not fnmatchcase(case.tool, rule.tool) or (rule.agent is not None and not fnmatchcase(case.agent, rule.agent)):
        return None
    return CONDITIONS[rule.when](case.n)


def file_says(case: Case, file: F) -> list[Said]:
    """All that one file says, by the table."""
    found = [(rule, status(rule, case)) for rule in file.rules]
    if any(rule.then == "deny" and is_ == TRUE for rule, is_ in found):
        return [Said("deny", "rule")]
    said = [rule_says(case, file, rule, "policy_error") for rule, is_ in found if rule.then == "deny" and is_ == FAILS]
    for rule, is_ in found:
        if rule.then != "deny" and is_ == FAILS:
            said.append(rule_says(case, file, rule, "policy_error"))
        if rule.then != "deny" and is_ == TRUE:
            said.append(Said("allow", "rule") if rule.then == "allow" else rule_says(case, file, rule, "rule"))
            break
    return said


def python_says(case: Case, answer: str) -> list[Said]:
    return {
        "abstain": [],
        "allow": [Said("allow", "rule")],
        "deny": [Said("deny", "rule")],
        "ask p4": [ask(case, "rule", [("p4",)])],
        "ask default": [ask(case, "rule", defaults(case))],
        "ask nobody": [Said("deny", "no_approvers")],
        "raise": [ask(case, "policy_error", defaults(case))],
        "junk": [ask(case, "policy_error", defaults(case))],
    }[answer]


def reference(case: Case, file_says: Callable[[Case, F], list[Said]] = file_says, pick: Any = max) -> Said:
    """The verdict, read off the documentation."""
    said = [one for file in case.files for one in file_says(case, file)]
    said += [one for answer in case.answers for one in python_says(case, answer)]
    if not said:
        if case.tool == "read":
            return Said("allow", "read_only")
        return ask(case, "unknown_tool" if case.tool == "other" else "default", defaults(case))
    worst = pick(STRICTNESS[one.outcome] for one in said)
    same = [one for one in said if STRICTNESS[one.outcome] == worst]
    if worst == 1:
        stages = dict.fromkeys(stage for one in same for stage in one.stages)
        code = "policy_error" if any(one.code == "policy_error" for one in same) else same[0].code
        return Said("require_approval", code, tuple(stages), min(one.deadline for one in same))
    return next((one for one in same if one.code != "policy_error"), same[0])


def text_of(file: F) -> str:
    """The file as YAML (JSON is YAML)."""
    listed = []
    for at, rule in enumerate(file.rules):
        keys = {"name": f"r{at}", "tool": rule.tool, "agent": rule.agent, "when": rule.when, "then": rule.then}
        if rule.then == "require_approval":
            keys |= {"approvers": rule.approvers and list(rule.approvers), "deadline": rule.deadline}
        listed.append({key: value for key, value in keys.items() if value is not None})
    approvals = {"approvers": list(file.approvers)} if file.approvers else {}
    tools = {"read": {"read_only": True}, "a*": {}, "b": {}}
    return json.dumps({"version": 1, "approvals": approvals, "groups": GROUPS, "tools": tools, "rules": listed})


def _raise() -> Verdict:
    raise ValueError


ANSWERS: dict[str, Callable[[], object]] = {
    "abstain": lambda: None,
    "allow": allow,
    "deny": deny,
    "ask p4": lambda: require_approval(["p4"]),
    "ask default": require_approval,
    "ask nobody": lambda: require_approval([]),
    "raise": _raise,
    "junk": lambda: "allow",
}


def policies_of(case: Case) -> PolicySet:
    lists = read([Source(f"f{at}", f"f{at}", text_of(file)) for at, file in enumerate(case.files)])
    return PolicySet([*lists, *((lambda call, a=answer: ANSWERS[a]()) for answer in case.answers)])  # type: ignore[misc]


def actual(case: Case) -> Said:
    call = ToolCall.of(case.tool, {"n": case.n}, agent=case.agent)
    verdict = policies_of(case).evaluate(call)
    if verdict.outcome != "require_approval":
        return Said(verdict.outcome, verdict.code)
    return Said(verdict.outcome, verdict.code, tuple(stage.people for stage in verdict.stages), int(verdict.deadline))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(cases)
def test_the_set_says_what_the_documentation_says(case: Case) -> None:
    assert actual(case) == reference(case)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(cases, st.sampled_from([TRUE, FALSE]))
def test_a_failure_is_as_strict_as_either_truth_up_to_an_ask(case: Case, truth: str) -> None:
    """Had the conditions that failed been true, or false, an ask or a denial would not have become an allow."""
    settled = {TRUE: "true", FALSE: "1 == 2"}[truth]

    def decided(rule: R) -> R:
        return replace(rule, when=settled) if CONDITIONS[rule.when](case.n) == FAILS else rule

    world = replace(case, files=tuple(replace(f, rules=tuple(map(decided, f.rules))) for f in case.files))
    assert STRICTNESS[actual(case).outcome] >= min(STRICTNESS[actual(world).outcome], 1)


def first_match_wins(case: Case, file: F) -> list[Said]:
    """Mutant: a later deny does not matter."""
    for rule in file.rules:
        is_ = status(rule, case)
        if is_ == FAILS:
            return [rule_says(case, file, rule, "policy_error")]
        if is_ == TRUE:
            return [Said(rule.then, "rule") if rule.then != "require_approval" else rule_says(case, file, rule, "rule")]
    return []


def failures_do_not_match(case: Case, file: F) -> list[Said]:
    """Mutant: a failed condition reads as false."""
    kept = tuple(rule for rule in file.rules if status(rule, case) != FAILS)
    return file_says(case, replace(file, rules=kept))


def failures_match(case: Case, file: F) -> list[Said]:
    """Mutant: a failed condition reads as true."""
    return file_says(
        case, replace(file, rules=tuple(replace(r, when=None) if status(r, case) == FAILS else r for r in file.rules))
    )


def failed_denies_after_a_match_do_not_matter(case: Case, file: F) -> list[Said]:
    """Mutant: once a rule matches, later denies that fail are not looked at."""
    matched = [at for at, rule in enumerate(file.rules) if rule.then != "deny" and status(rule, case) == TRUE]
    cut = (
        matched[0] + 1
        if matched and not any(r.then == "deny" and status(r, case) == TRUE for r in file.rules)
        else None
    )
    return file_says(case, replace(file, rules=file.rules[:cut]))


def a_failure_hides_what_follows(case: Case, file: F) -> list[Said]:
    """Mutant: a failed rule decides alone, so that fewer people are asked than the rules below it want."""
    said = file_says(case, file)
    failed = [one for one in said if one.code == "policy_error"]
    return failed or said


MUTANTS: list[dict[str, Any]] = [
    {"file_says": first_match_wins},
    {"file_says": failures_do_not_match},
    {"file_says": failures_match},
    {"file_says": failed_denies_after_a_match_do_not_matter},
    {"file_says": a_failure_hides_what_follows},
    {"pick": min},
]


@pytest.mark.parametrize(
    "mutant", MUTANTS, ids=lambda mutant: "-".join(getattr(v, "__name__", "") for v in mutant.values())
)
def test_the_comparison_notices_another_order(mutant: dict[str, Any]) -> None:
    """Negative control: for each wrong reading the comparison above finds a case that differs."""
    options = settings(
        max_examples=5000,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        find(dense, lambda case: actual(case) != reference(case, **mutant), settings=options)
    except NoSuchExample:
        pytest.fail("the comparison does not tell this reading from the right one")


def test_a_tool_is_only_what_the_caller_says_it_is() -> None:
    """The reference takes the tool from the files; a caller may say more."""
    case = Case((F((), ("p1",)),), (), "read", "", 0)
    call = ToolCall.of("read", {})
    assert policies_of(case).evaluate(call, Tool("read")).outcome == "require_approval"
