"""The policy set: Python policies, how several answers become one, and that nothing that fails lets a call through."""

import functools
import logging
import threading

import pytest

from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.verdicts import Policy, Stage, Verdict
from governor_agents.errors import ConfigError
from governor_agents.policies import Defaults, PolicySet, Rule, RuleList, allow, deny, require_approval

CALL = ToolCall.of("pay", {"amount": 5}, agent="support", requester="bob")
OPS = Defaults(approvers=["ops"])


def people(verdict: Verdict) -> list[tuple[str, ...]]:
    return [stage.people for stage in verdict.stages]


def always(verdict: object) -> object:
    return lambda call: verdict


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([allow()], "allow"),
        ([None, allow()], "allow"),
        ([allow(), deny("no")], "deny"),
        ([require_approval(["a"]), deny("no")], "deny"),
        ([allow(), require_approval(["a"])], "require_approval"),
        ([require_approval(["a"]), allow(), allow()], "require_approval"),
    ],
)
def test_the_strictest_answer_wins_in_any_order(answers: list[Verdict | None], outcome: str) -> None:
    for order in (answers, answers[::-1]):
        assert PolicySet([always(answer) for answer in order]).evaluate(CALL).outcome == outcome  # type: ignore[misc]


def test_asks_add_up() -> None:
    one = require_approval(["b", "a"], deadline="2h", run_within="1d", channels=["slack"], reason="first")
    two = require_approval(
        ["cfo"], deadline="1h", run_within=60, reason_required=True, on_expire="end_run", exclude_requester=True,
        channels=["terminal", "slack"], reason="second",
    )  # fmt: skip
    three = require_approval(["a", "b"], exclude_requester=False)
    verdict = PolicySet([always(one), always(two), always(three)]).evaluate(CALL)
    assert people(verdict) == [("a", "b"), ("cfo",)]
    assert (verdict.deadline, verdict.run_within, verdict.reason_required) == (3600, 60, True)
    assert (verdict.on_expire, verdict.exclude_requester) == ("end_run", True)
    assert verdict.channels == ("slack", "terminal")
    assert verdict.reason == "first; second"


def test_a_stage_that_two_policies_ask_alike_is_asked_once_but_two_of_one_policy_twice() -> None:
    twice = require_approval(stages=[Stage(("a", "b")), Stage(("a", "b"))])
    once = require_approval(["b", "a"])
    assert people(PolicySet([always(once), always(twice), always(once)]).evaluate(CALL)) == [("a", "b")] * 2
    differing = require_approval(["a", "b"], quorum=2)
    assert [s.quorum for s in PolicySet([always(once), always(differing)]).evaluate(CALL).stages] == [1, 2]


def test_of_several_denials_a_rule_is_told_before_a_failure() -> None:
    def broken(call: ToolCall) -> None:
        raise ValueError

    verdict = PolicySet([broken, always(deny("ticket first"))]).evaluate(CALL)
    assert (verdict.outcome, verdict.code, verdict.reason) == ("deny", "rule", "ticket first")


@pytest.mark.parametrize(
    ("tools", "default", "outcome", "code"),
    [
        ({"pay": Tool("pay", read_only=True)}, None, "allow", "read_only"),
        ({"pay": Tool("pay", read_only=True)}, OPS, "allow", "read_only"),
        ({"p*": Tool("p*", effect="money")}, OPS, "require_approval", "default"),
        ({"p*": Tool("p*")}, None, "deny", "no_approvers"),
        ({}, OPS, "require_approval", "unknown_tool"),
        ({}, None, "deny", "no_approvers"),
        ({}, Defaults(approvers=[]), "deny", "no_approvers"),
        ({}, Defaults(approvers=["group:none"]), "deny", "no_approvers"),
    ],
)
def test_when_all_abstain(tools: dict[str, Tool], default: Defaults | None, outcome: str, code: str) -> None:
    policies = PolicySet([always(None)], tools=tools, default=default, groups={"none": []})  # type: ignore[list-item]
    verdict = policies.evaluate(CALL)
    assert (verdict.outcome, verdict.code, verdict.policy) == (outcome, code, "default")


def test_the_tool_that_the_caller_knows_counts() -> None:
    assert PolicySet().evaluate(CALL, Tool("pay", read_only=True)).outcome == "allow"
    assert PolicySet(tools={"pay": Tool("pay", read_only=True)}).evaluate(CALL, Tool("pay")).outcome == "deny"


def test_an_exact_name_of_a_tool_goes_before_a_glob_and_globs_in_order() -> None:
    policies = PolicySet(tools={"db_*": Tool("", effect="db"), "*_read": Tool("", read_only=True), "db_read": Tool("")})
    assert policies.tool("db_read") == Tool("db_read")
    assert policies.tool("db_x_read") == Tool("db_x_read", effect="db")
    assert policies.tool("x_read") == Tool("x_read", read_only=True)
    assert policies.tool("other") == Tool("other", known=False)


def raises(error: BaseException) -> object:
    def broken(call: ToolCall) -> Verdict:
        raise error

    return broken


async def later() -> Verdict:
    return allow()


JUNK = [
    True, "allow", ("allow",), 1, object(), Verdict("yes"), Verdict("allow", policy=None),  # type: ignore[arg-type]
    Verdict("require_approval", stages=[Stage(("a",))]), Verdict("require_approval", stages=(Stage(("a",), quorum=0),)),  # type: ignore[arg-type]
    Verdict("require_approval", stages=("a",)), Verdict("require_approval", stages=(Stage(("group:typo",)),)),  # type: ignore[arg-type]
    Verdict("require_approval", stages=(Stage(("a",)),), deadline=-1), Verdict("require_approval", stages=(Stage(("a",)),), channels=()),
    Verdict("require_approval", stages=(Stage(("a",)),), deadline=float("nan")), require_approval(["a", "group:typo"]),
    Verdict("require_approval", stages=(Stage(("a b",)),)), Verdict("require_approval", stages=(Stage((), (5,)),)),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(
    "policy",
    [
        raises(e)
        for e in (ValueError("x"), RecursionError(), MemoryError(), SystemExit(1), GeneratorExit(), BaseException())
    ]
    + [always(junk) for junk in JUNK]
    + [lambda: None, lambda call: later(), lambda call: call.nothing],
)
def test_a_policy_that_fails_asks_or_denies(policy: object, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        asked = PolicySet([always(allow()), policy], default=OPS).evaluate(CALL)  # type: ignore[list-item]
        denied = PolicySet([always(allow()), policy]).evaluate(CALL)  # type: ignore[list-item]
    assert (asked.outcome, asked.code, people(asked)) == ("require_approval", "policy_error", [("ops",)])
    assert (denied.outcome, denied.code) == ("deny", "policy_error")


def test_what_a_policy_raised_goes_to_the_log_and_not_to_the_model(caplog: pytest.LogCaptureFixture) -> None:
    verdict = PolicySet([raises(ValueError("the password"))], default=OPS).evaluate(CALL)  # type: ignore[list-item]
    assert "ValueError" in verdict.reason and "password" not in verdict.reason
    assert "the password" in caplog.text


def test_a_person_who_stops_the_program_is_obeyed() -> None:
    with pytest.raises(KeyboardInterrupt):
        PolicySet([raises(KeyboardInterrupt())]).evaluate(CALL)  # type: ignore[list-item]


@pytest.mark.parametrize("call", [None, "pay", object(), ToolCall(None, b"{}", "1"), ToolCall(["x"], b"{}", "1")])  # type: ignore[arg-type]
def test_what_is_no_call_is_not_let_through(call: object) -> None:
    rules = [Rule("a", "*", "allow", agent="x"), Rule("b", "*", "allow", when="call.args.x == 1")]
    for default, outcome in ((OPS, "require_approval"), (None, "deny")):
        verdict = PolicySet(rules, default=default).evaluate(call)  # type: ignore[arg-type]
        assert (verdict.outcome, verdict.code) == (outcome, "policy_error")


def test_what_is_no_tool_is_not_let_through() -> None:
    for tool in ("read", {"read_only": True}, object()):
        assert PolicySet().evaluate(CALL, tool).outcome == "deny"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (require_approval([]), "no_approvers"),
        (require_approval(["group:none"]), "no_approvers"),
        (require_approval(["a"], quorum=2), "no_approvers"),
        (require_approval(stages=[Stage(("a",)), Stage(("group:none",))]), "no_approvers"),
        (Verdict("require_approval"), "no_approvers"),
        (Verdict("require_approval", stages=(Stage(()),)), "no_approvers"),
    ],
)
def test_an_ask_that_nobody_could_approve_denies(verdict: Verdict, code: str) -> None:
    """Also with default approvers: an empty list of approvers means nobody, never everybody, never somebody else."""
    found = PolicySet([always(verdict)], default=OPS, groups={"none": []}).evaluate(CALL)  # type: ignore[list-item]
    assert (found.outcome, found.code) == ("deny", code)


def test_python_asks_take_what_they_do_not_say_from_the_file() -> None:
    text = "version: 1\napprovals: {approvers: [group:ops], channels: [slack], deadline: 4h, on_expire: end_run}\ngroups: {ops: [a, b]}"
    asked = PolicySet.from_text(text).with_policies(always(require_approval(quorum=2))).evaluate(CALL)  # type: ignore[arg-type]
    assert asked.stages == (Stage(("group:ops",), ("a", "b"), 2),)
    assert (asked.channels, asked.deadline, asked.on_expire) == (("slack",), 14_400, "end_run")
    by_group = PolicySet.from_text(text).with_policies(always(require_approval(["group:ops"], deadline=60)))  # type: ignore[arg-type]
    assert by_group.evaluate(CALL).deadline == 60
    over = PolicySet([RuleList([], defaults=OPS)], default=Defaults(approvers=["cfo"], deadline="1h")).evaluate(CALL)
    assert (people(over), over.deadline) == ([("cfo",)], 3600)


def test_defaults_of_several_files_add_up() -> None:
    lists = [
        RuleList([], name="a", defaults=Defaults(approvers=["a"], deadline="4h", channels="slack")),
        RuleList([], name="b", defaults=Defaults(approvers=["b"], deadline="1h", channels=["terminal"])),
        RuleList([], name="c"),
    ]
    asked = PolicySet(lists).evaluate(CALL)
    assert (people(asked), asked.deadline, asked.channels) == ([("a",), ("b",)], 3600, ("slack", "terminal"))


def test_rules_one_by_one_are_policies_and_in_a_list_have_an_order() -> None:
    small, ask = Rule("small", "pay", "allow"), Rule("ask", "pay", "require_approval", approvers=["a"])
    assert PolicySet([small, ask]).evaluate(CALL).outcome == "require_approval"
    assert PolicySet([RuleList([small, ask])]).evaluate(CALL).outcome == "allow"


def test_a_rule_can_be_added_and_only_makes_it_stricter() -> None:
    policies = PolicySet(tools={"pay": Tool("pay", read_only=True)}, groups={"fin": ["cfo"]})
    before = policies.version
    policies.add_rule(tool="pay", name="@govern(pay)", then="require_approval", approvers=["group:fin"], deadline="4h")
    asked = policies.evaluate(CALL)
    assert (asked.policy, people(asked), asked.deadline) == ("python#@govern(pay)", [("cfo",)], 14_400)
    assert policies.version != before
    with pytest.raises(ConfigError, match="asks nobody"):
        policies.add_rule(tool="pay", name="again", then="require_approval")
    assert policies.evaluate(CALL) == asked


@pytest.mark.parametrize("rule", [{"approvers": ["group:typo"]}, {"approvers": ["a"], "quorum": 2}, {}])
def test_a_rule_that_can_never_be_approved_is_refused(rule: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="rule 'r'"):
        PolicySet([Rule("r", "pay", "require_approval", **rule)])  # type: ignore[arg-type]


class Threshold:
    version = "v7"

    def evaluate(self, call: ToolCall, tool: Tool) -> Verdict | None:
        return deny("too much") if call.arguments["amount"] > 3 else None


def test_policies_are_named_by_what_they_are() -> None:
    def check(call: ToolCall) -> Verdict:
        return deny()

    def two(limit: int, call: ToolCall) -> Verdict:
        return deny()

    named = Threshold()
    named.name = "limits"  # type: ignore[attr-defined]
    assert PolicySet([named]).evaluate(CALL).policy == "limits"
    assert isinstance(Threshold(), Policy)
    verdict = PolicySet([Threshold()]).evaluate(CALL)
    assert (verdict.policy, verdict.version) == (f"{__name__}.Threshold", "v7")
    assert PolicySet([check]).evaluate(CALL).policy.endswith(".<locals>.check")
    assert PolicySet([functools.partial(two, 3)]).evaluate(CALL).policy.endswith(".<locals>.two")
    assert PolicySet([always(Verdict("deny", policy="mine", version="1"))]).evaluate(CALL).policy == "mine"  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("policy", "said"),
    [(Threshold, "is a class"), (later, "asynchronous"), ("deny", "is no policy"), (None, "is no policy")],
)
def test_what_can_be_no_policy_is_refused(policy: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PolicySet([policy])  # type: ignore[list-item]


def test_people_and_groups_are_told() -> None:
    policies = PolicySet(groups={"fin": ["CFO@x.com", "group:ops"], "ops": ["a"]})
    assert policies.people(["group:fin", "a"]) == ("a", "cfo@x.com")
    assert policies.groups == {"fin": ("cfo@x.com", "group:ops"), "ops": ("a",)}


def test_explain_tells_why_each_rule_matches_or_not() -> None:
    text = """
version: 1
rules:
  - {name: tool, tool: other, then: deny}
  - {name: agent, tool: pay, agent: sales, then: deny}
  - {name: when, tool: pay, when: call.args.amount > 9, then: deny}
  - {name: fails, tool: pay, when: call.args.missing > 9, then: deny}
  - {name: yes, tool: "p*", when: call.args.amount > 1, then: allow}
  - {name: all, tool: "*", then: allow}
"""
    policies = PolicySet.from_text(text, "g.yaml").with_policies(Threshold(), always(None))  # type: ignore[arg-type]
    found = policies.explain(CALL)
    assert [(one.policy.rpartition("#")[2], one.result) for one in found[:6]] == [
        ("tool", "not matched"), ("agent", "not matched"), ("when", "not matched"), ("fails", "failed"), ("yes", "matched"), ("all", "matched"),
    ]  # fmt: skip
    assert found[0].why == "tool is none of other" and found[1].why == "agent is none of sales"
    assert found[2].where == "g.yaml:6" and found[2].why == "call.args.amount > 9 is false"
    assert "missing" in found[3].why and found[3].outcome == "require_approval"
    money = PolicySet([Rule("m", "pay", "deny", when="tool.effect == 'money'")])
    assert money.explain(CALL)[0].result == "not matched"
    assert money.explain(CALL, Tool("pay", effect="money"))[0].result == "matched"
    assert [(one.result, one.outcome) for one in found[6:]] == [("matched", "deny"), ("abstained", None)]


def test_rules_may_be_added_while_others_evaluate() -> None:
    policies, seen = PolicySet(default=OPS), set()

    def work() -> None:
        for _ in range(2000):
            seen.add(policies.evaluate(CALL).outcome)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(20):
        policies.add_rule(name=str(number), tool=f"t{number}", then="deny")
    for thread in threads:
        thread.join()
    assert seen == {"require_approval"} and len(policies.explain(CALL)) == 20
