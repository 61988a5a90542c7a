"""What a policy says of a request beside who decides: headline, reminders, quiet hours, delegates, risk, targets."""

from dataclasses import replace
from typing import Any

import pytest

from governor_agents import Governor
from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.hours import QuietHours
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import ConfigError, PolicyFileError
from governor_agents.policies import Defaults, PolicySet, Rule, RuleList, require_approval

POLICY = """\
version: 1
approvals:
  approvers: [group:ops]
  channels: [slack:C0123, "slack:T01/C0456", email, "webhook:orders", terminal]
  headline: "{tool} for {requester}"
  reminders: [1h, 4h]
  quiet_hours: {from: "18:00", to: "08:00", days: [sat, sun], timezone: Europe/Berlin}
  delegates: [group:ops, cfo@example.com]
groups: {ops: [ops@example.com, local:alice]}
tools:
  refund: {risk: high}
  look: {risk: low}
rules:
  - name: all
    tool: refund
    then: require_approval
    headline: "Refund {args.amount} of {args.order.id}, {{really}}"
    reminders: [30m]
    quiet_hours: {days: [sun, sat]}
    delegates: [CFO@example.com]
    channels: ["slack:T01/C0456/1700000000.000100"]
  - {name: none, tool: look, then: require_approval, headline: "", reminders: [], quiet_hours: {}, delegates: []}
  - {name: default, tool: other, then: require_approval}
limits: {asks: 30}
"""

OPS = ("local:alice", "ops@example.com")
QUIET = QuietHours("Europe/Berlin", "18:00", "08:00", ("sat", "sun"))


def asked(policies: PolicySet, tool: str, **arguments: Any) -> Verdict:
    return policies.evaluate(ToolCall.of(tool, arguments))


def test_a_rule_says_what_it_says() -> None:
    """Every key of a rule reaches the verdict, in its one form."""
    verdict = asked(PolicySet.from_text(POLICY), "refund")
    assert verdict.headline == "Refund {args.amount} of {args.order.id}, {{really}}"
    assert (verdict.reminders, verdict.delegates) == ((1800.0,), ("cfo@example.com",))
    assert verdict.quiet_hours == QuietHours("UTC", "", "", ("sun", "sat"))
    assert verdict.channels == ("slack:T01/C0456/1700000000.000100",)


def test_defaults_fill_what_a_rule_leaves_open() -> None:
    """The section ``approvals`` holds for rules that say nothing, and for calls that no rule is about."""
    policies = PolicySet.from_text(POLICY)
    for tool in ("other", "unheard-of"):
        verdict = asked(policies, tool)
        assert (verdict.headline, verdict.reminders, verdict.quiet_hours) == (
            "{tool} for {requester}",
            (3600.0, 14_400.0),
            QUIET,
        )
        assert verdict.delegates == ("cfo@example.com", *OPS)
        assert verdict.channels == ("slack:C0123", "slack:T01/C0456", "email", "webhook:orders", "terminal")


def test_a_rule_may_have_none_of_it() -> None:
    """Empty is not the default: no headline, no reminder, no quiet hours, nobody to hand a seat to."""
    verdict = asked(PolicySet.from_text(POLICY), "look")
    assert (verdict.headline, verdict.reminders, verdict.quiet_hours, verdict.delegates) == ("", (), None, ())


def test_a_tool_has_a_risk() -> None:
    """As declared in the file, or where it is decorated; normal where nothing is said; conditions may ask for it."""
    policies = PolicySet.from_text(POLICY)
    assert [policies.tool(name).risk for name in ("refund", "look", "other")] == ["high", "low", "normal"]
    risky = PolicySet(
        [Rule("r", "*", "deny", when="tool.risk == 'high'")], tools={"a": Tool("a", risk="high"), "b": Tool("b")}
    )
    assert [asked(risky, name).outcome for name in "ab"] == ["deny", "deny"]
    assert [asked(risky, name).code for name in "ab"] == ["rule", "no_approvers"]
    with pytest.raises(ConfigError, match="risk must be one of low, normal, high"):
        PolicySet(tools={"a": Tool("a", risk="huge")})  # type: ignore[arg-type]


def test_a_governed_function_has_a_risk_and_terms_of_its_own() -> None:
    """``govern(...)`` takes what a rule takes."""
    governor = Governor(store="memory://")

    @governor.govern(
        name="pay", risk="high", approvers=["local:a"], headline="Pay {args.amount}", reminders=["1h"],
        quiet_hours={"from": "18:00", "to": "08:00"}, delegates=["local:b"], channels=["slack:C01"],
        stages=None,
    )  # fmt: skip
    def pay(amount: int) -> str:
        return "paid"

    verdict = asked(governor.policies, "pay", amount=1)
    assert (pay.tool.risk, verdict.headline, verdict.reminders) == ("high", "Pay {args.amount}", (3600.0,))
    assert verdict.quiet_hours == QuietHours("UTC", "18:00", "08:00") and verdict.delegates == ("local:b",)
    governor.close_sync()


def test_python_policies_say_the_same() -> None:
    """``require_approval(...)`` with every term, and with those of the policy set where it says nothing."""
    full = require_approval(
        ["local:a"], headline="{tool}", reminders=[60, "1h"], quiet_hours=QUIET, delegates=["local:b"], channels="slack:C01"
    )  # fmt: skip
    verdict = asked(PolicySet([lambda call: full]), "x")
    assert (verdict.headline, verdict.reminders, verdict.quiet_hours, verdict.delegates, verdict.channels) == (
        "{tool}", (60.0, 3600.0), QUIET, ("local:b",), ("slack:C01",),
    )  # fmt: skip
    default = Defaults(headline="d", reminders=["2h"], quiet_hours={"days": ["sun"]}, delegates=["local:c"])
    verdict = asked(PolicySet([lambda call: require_approval(["local:a"])], default=default), "x")
    assert (verdict.headline, verdict.reminders, verdict.delegates) == ("d", (7200.0,), ("local:c",))
    assert verdict.quiet_hours == QuietHours(days=("sun",))


HEAD = "version: 1\napprovals: {approvers: [local:a]}\n"


@pytest.mark.parametrize(
    ("term", "says"),
    [
        ("headline: '{amount}'", "headline: a headline knows no {amount}; it may name {args.NAME}"),
        ("headline: '{args}'", "knows no {args}"),
        ("headline: '{args.a} {'", "a single {"),
        ("headline: [a]", "headline: must be one value"),
        ("reminders: 1h", "reminders: must be a list"),
        ("reminders: [soon]", "'soon' is no duration"),
        ("reminders: [1h, 2h, 3h, 4h, 5h, 6h, 7h, 8h, 9h, 10h, 11h]", "at most 10"),
        ("deadline: 1h\n    reminders: [2h]", "a reminder after 7200 s, the deadline is 3600 s"),
        ("quiet_hours: night", "quiet_hours: must be written like {from"),
        ("quiet_hours: {from: 18:00}", "a start and an end"),
        ("quiet_hours: {from: 18:00, to: 25:00}", "'25:00' is no time of day"),
        ("quiet_hours: {from: 18:00, to: 18:00}", "last all day"),
        ("quiet_hours: {days: [saturday]}", "'saturday' is no day"),
        ("quiet_hours: {days: [mon, tue, wed, thu, fri, sat, sun]}", "all seven days"),
        ("quiet_hours: {days: [sun], timezone: Mars/Base}", "unknown time zone 'Mars/Base'"),
        ("quiet_hours: {days: [sun], zone: UTC}", "unknown key 'zone'"),
        ("delegates: [group:nobody-knows]", "delegates: unknown group"),
        ("delegates: local:a", "delegates: must be a list"),
        ("channels: ['slack:#general']", "'#general' is no Slack channel; write the channel's id"),
        ("channels: ['slack:T01/U02']", "is no Slack channel"),
        ("channels: ['slack:']", "'slack:' is no channel"),
        ("channels: [':C01']", "is no channel"),
        ("channels: ['sl ack']", "is no channel"),
        ("channels: ['email:cfo@example.com']", "email takes no target"),
        ("channels: ['webhook:a b']", "'a b' is no target"),
        ("stages: [{approvers: [local:a], when: 'call.args.amount >'}]", "when: not a valid CEL expression"),
        ("stages: [{approvers: [local:a], when: 'amount > 1'}]", "when: "),
        ("stages: [{approvers: [local:a], if: 'true'}]", "unknown key 'if'"),
        ("approvers: ['slack:U02']", "'slack:U02' is no Slack user; write its team too"),
        ("approvers: ['role:cfo']", "'role:cfo' needs a directory of people"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(term: str, says: str) -> None:
    """One line with file and line, before any call is made; the same rule without the term loads."""
    rule = "rules:\n  - name: r\n    tool: x\n    then: require_approval\n"
    assert PolicySet.from_text(HEAD + rule)
    with pytest.raises(PolicyFileError) as caught:
        PolicySet.from_text(HEAD + rule + f"    {term}\n")
    line = caught.value.errors[0]
    assert line.startswith("policy.yaml:") and says in line and "\n" not in line
    assert int(line.split(":")[1]) >= 4


def test_limits_are_read_and_said_once() -> None:
    """``asks`` is a whole number; two files that say different ones contradict one another."""
    assert PolicySet.from_text(POLICY).keeping.asks == 30 and PolicySet.from_text("version: 1").keeping.asks is None
    with pytest.raises(PolicyFileError, match="asks: must be a whole number"):
        PolicySet.from_text("version: 1\nlimits: {asks: many}")
    two = [RuleList([], name=str(n), keeping=replace(PolicySet.from_text(POLICY).keeping, asks=n)) for n in (1, 2)]
    with pytest.raises(ConfigError, match=r"limits\.asks is 1 in 1 and 2 in 2; say it once"):
        PolicySet(two)


@pytest.mark.parametrize(
    "wrong",
    [
        {"headline": "{x}"},
        {"reminders": ["soon"]},
        {"quiet_hours": "night"},
        {"quiet_hours": QuietHours(start="18:00")},
        {"delegates": ["*"]},
        {"channels": ["slack:#x"]},
        {"stages": [Stage(("a",), when="nonsense ==")]},
    ],
)
def test_what_is_wrong_in_python_is_told_too(wrong: dict[str, Any]) -> None:
    """Where it is written; a policy that answers with it asks the default approvers instead."""
    for make in (require_approval, lambda **given: Rule("r", "x", "require_approval", **given)):
        with pytest.raises(ConfigError):
            make(**wrong)

    def policy(call: ToolCall) -> Verdict:
        given = {
            "stages": (Stage(("local:a",)),),
            **{k: tuple(v) if isinstance(v, list) else v for k, v in wrong.items()},
        }
        return Verdict("require_approval", **given)

    verdict = asked(PolicySet([policy], default=Defaults(approvers=["local:boss"])), "x")
    assert (verdict.code, verdict.stages[0].people) == ("policy_error", ("local:boss",))


# -- several policies ---------------------------------------------------------------------------------------------------


def joined(*demands: dict[str, Any]) -> Verdict:
    says = [require_approval([f"local:{n}"], **{"delegates": ["local:d"], **terms}) for n, terms in enumerate(demands)]
    return asked(PolicySet([lambda call, verdict=verdict: verdict for verdict in says]), "x")


def test_the_first_headline_is_shown() -> None:
    """Of several demands, the first that has one."""
    assert joined({}, {"headline": "b"}, {"headline": "c"}).headline == "b"


def test_people_are_reminded_whenever_one_wants_it() -> None:
    """Every reminder of every demand, once each."""
    assert joined({"reminders": ["1h", "2h"]}, {"reminders": [3600, "30m"]}).reminders == (1800.0, 3600.0, 7200.0)


def test_hours_are_quiet_only_when_all_say_so() -> None:
    """Quiet hours lengthen a deadline, so the stricter demand is the one without them, or with others."""
    assert joined({"quiet_hours": QUIET}, {"quiet_hours": QUIET}).quiet_hours == QUIET
    assert joined({"quiet_hours": QUIET}, {"quiet_hours": {"days": ["sun"]}}).quiet_hours is None
    assert joined({"quiet_hours": QUIET}, {}).quiet_hours is None


def test_a_seat_may_be_handed_to_those_alone_whom_all_allow() -> None:
    """The people named by each demand; a demand that names nobody lets no seat be handed on."""
    one, other = {"delegates": ["local:x", "local:y"]}, {"delegates": ["local:y", "local:z"]}
    assert joined(one, other).delegates == ("local:y",)
    assert joined(one, {"delegates": []}).delegates == ()


# -- stages with a condition --------------------------------------------------------------------------------------------

STAGED = """\
version: 1
rules:
  - name: money
    tool: pay
    then: require_approval
    stages:
      - {approvers: [local:ops]}
      - {approvers: [local:cfo], when: call.args.amount > 10000}
      - {approvers: [local:ceo], when: "call.args.amount > 1000000 || call.args.to == 'ceo'"}
"""


@pytest.mark.parametrize(
    ("arguments", "people"),
    [
        ({"amount": 10_000, "to": "x"}, ["local:ops"]),
        ({"amount": 10_001, "to": "x"}, ["local:ops", "local:cfo"]),
        ({"amount": 5, "to": "ceo"}, ["local:ops", "local:ceo"]),
        ({"amount": 2_000_000, "to": "x"}, ["local:ops", "local:cfo", "local:ceo"]),
        # What cannot be decided is asked:
        ({"to": "x"}, ["local:ops", "local:cfo", "local:ceo"]),
        ({"amount": "much", "to": "x"}, ["local:ops", "local:cfo", "local:ceo"]),
        ({"amount": 5}, ["local:ops", "local:ceo"]),
        ({"amount": 2**70, "to": "x"}, ["local:ops", "local:cfo", "local:ceo"]),
    ],
)
def test_a_stage_is_asked_unless_its_condition_is_false(arguments: dict[str, Any], people: list[str]) -> None:
    """A missing key, another type and a number that cannot be compared leave no stage out."""
    python = [
        Stage(("local:ops",)),
        Stage(("local:cfo",), when="call.args.amount > 10000"),
        Stage(("local:ceo",), when="call.args.amount > 1000000 || call.args.to == 'ceo'"),
    ]
    for policies in (
        PolicySet.from_text(STAGED),
        PolicySet([lambda call: require_approval(stages=python)]),
        PolicySet([lambda call: Verdict("require_approval", stages=tuple(python))]),
        PolicySet([Rule("r", "pay", "require_approval", stages=python)]),
    ):
        verdict = asked(policies, "pay", **arguments)
        assert [name for stage in verdict.stages for name in stage.people] == people
        assert all(not stage.when for stage in verdict.stages)


def test_a_call_that_no_stage_is_for_is_denied() -> None:
    """When every condition is false nobody could approve it; that is no approval."""
    rule = Rule("r", "pay", "require_approval", stages=[Stage(("local:cfo",), when="call.args.amount > 10")])
    verdict = asked(PolicySet([rule]), "pay", amount=5)
    assert (verdict.outcome, verdict.code) == ("deny", "no_approvers") and "none of its stages" in verdict.reason
    assert asked(PolicySet([rule]), "pay", amount=50).outcome == "require_approval"


def test_a_condition_is_explained() -> None:
    """`explain` says of each stage with a condition whether it is asked, and why."""
    policies = PolicySet.from_text(STAGED)
    said = policies.explain(ToolCall.of("pay", {"amount": 20_000}))[0]
    assert said.result == "matched"
    assert "stage 2 (local:cfo) is asked, since call.args.amount > 10000 is true" in said.why
    assert "stage 3 (local:ceo) is asked, since" in said.why and "failed: there is no key" in said.why
    said = policies.explain(ToolCall.of("pay", {"amount": 1, "to": "x"}))[0]
    assert "stage 2 (local:cfo) is left out, since call.args.amount > 10000 is false" in said.why


def test_the_version_names_the_new_terms_too() -> None:
    """Two rules that differ in one of them have two versions."""
    plain = {"name": "r", "tool": "x", "then": "require_approval", "approvers": ["a"]}
    more: list[dict[str, Any]] = [
        {}, {"headline": "h"}, {"reminders": ["1h"]}, {"quiet_hours": QUIET}, {"delegates": ["b"]},
    ]  # fmt: skip
    versions = {RuleList([Rule(**plain, **terms)]).version for terms in more}
    staged = {
        RuleList([Rule("r", "x", "require_approval", stages=[Stage(("a",), when=when)])]).version
        for when in ("", "true")
    }
    assert len(versions) == len(more) and len(staged) == 2
