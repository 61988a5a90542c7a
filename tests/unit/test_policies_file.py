"""The policy file: what it means, and that what is wrong with it is told in one line with file, line and mend."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.verdicts import Stage
from governor_agents.errors import PolicyFileError
from governor_agents.policies import PolicySet, document
from governor_agents.policies.document import MAX_BYTES, MAX_NODES, Problem, parse

GOVERNOR_YAML = """
version: 1
approvals: {channels: [terminal], deadline: 24h, approvers: [group:operators]}
groups:
  operators: [ops@example.com, local:alice]
  finance: [cfo@example.com, controller@example.com]
tools:
  lookup_order: {read_only: true}
rules:
  - name: small refunds
    tool: refund
    when: call.args.amount <= 50
    then: allow
  - name: refunds
    tool: refund
    then: require_approval
    approvers: [group:finance]
  - name: no deletes
    tool: "delete_*"
    then: deny
    reason: deletes go through a ticket
"""

EVERYTHING = """
version: 1
approvals:
  channels: [slack, terminal]
  deadline: 4h
  approvers: [group:all]
  run_within: 1d
  reason_required: true
  on_expire: end_run
  exclude_requester: false
groups:
  ops: [Ops@Example.com, local:Alice]
  all: [group:ops, cfo@example.com]
  nobody: []
tools:
  lookup: {read_only: true}
  "pay_*": {effect: money, retry: idempotent, idempotency_ttl: 1d12h}
rules:
  - name: two stages
    tool: [pay_*, refund]
    agent: "sup*"
    requester: ["*@Example.com"]
    when: >
      call.args.amount > 10
      && tool.effect == 'money'
    then: require_approval
    stages:
      - {approvers: [group:ops], within: 30m}
      - {approvers: [cfo@example.com, local:Bob], quorum: 2}
    deadline: 3600
    run_within: 1h30m
    reason: more than ten
    reason_required: false
    on_expire: continue
    exclude_requester: true
    channels: [email]
  - {name: defaults, tool: refund, then: require_approval, quorum: 2}
  - {name: for nobody, tool: nothing, then: require_approval, approvers: [group:nobody]}
"""


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds for libyaml's parser and for the one in Python."""
    monkeypatch.setattr(document, "_PARSER", getattr(yaml, request.param))


def refused(text: str) -> PolicyFileError:
    with pytest.raises(PolicyFileError) as caught:
        PolicySet.from_text(text, name="governor.yaml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert str(caught.value).startswith(caught.value.errors[0])
    return caught.value


def test_the_file_of_the_design_does_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "governor.yaml"
    path.write_text(GOVERNOR_YAML)
    policies = PolicySet.from_file(path)

    def said(tool: str, **arguments: object) -> tuple[str, str, str]:
        verdict = policies.evaluate(ToolCall.of(tool, arguments))
        return verdict.outcome, verdict.policy, verdict.code

    assert said("refund", amount=12.5) == ("allow", "governor.yaml#small refunds", "rule")
    assert said("refund", amount=50) == ("allow", "governor.yaml#small refunds", "rule")
    assert said("refund", amount=51) == ("require_approval", "governor.yaml#refunds", "rule")
    assert said("delete_user") == ("deny", "governor.yaml#no deletes", "rule")
    assert said("lookup_order") == ("allow", "default", "read_only")
    assert said("send_mail") == ("require_approval", "default", "unknown_tool")
    asked = policies.evaluate(ToolCall.of("refund", {"amount": 51}))
    assert asked.stages == (Stage(("group:finance",), ("cfo@example.com", "controller@example.com")),)
    assert (asked.deadline, asked.channels) == (86_400.0, ("terminal",))
    assert policies.evaluate(ToolCall.of("delete_x", {})).reason == "deletes go through a ticket"


def test_every_key_reaches_the_verdict() -> None:
    policies = PolicySet.from_text(EVERYTHING, name="g.yaml")
    asked = policies.evaluate(ToolCall.of("pay_bill", {"amount": 11}, agent="support", requester="Bob@example.com"))
    assert asked.policy == "g.yaml#two stages"
    assert asked.stages == (
        Stage(("group:ops",), ("local:Alice", "ops@example.com"), 1, 1800.0),
        Stage(("cfo@example.com", "local:Bob"), ("cfo@example.com", "local:Bob"), 2),
    )
    assert (asked.deadline, asked.run_within, asked.reason, asked.reason_required) == (
        3600,
        5400,
        "more than ten",
        False,
    )
    assert (asked.on_expire, asked.exclude_requester, asked.channels) == ("continue", True, ("email",))
    assert policies.tool("pay_bill") == Tool("pay_bill", effect="money", retry="idempotent", idempotency_ttl=129_600.0)
    assert policies.tool("refund") == Tool("refund", known=False)


def test_what_a_rule_does_not_say_comes_from_approvals() -> None:
    asked = PolicySet.from_text(EVERYTHING).evaluate(ToolCall.of("refund", {"amount": 1}))
    assert asked.stages == (Stage(("group:all",), ("cfo@example.com", "local:Alice", "ops@example.com"), 2),)
    assert (asked.deadline, asked.run_within, asked.reason_required) == (14_400, 86_400, True)
    assert (asked.on_expire, asked.exclude_requester, asked.channels) == ("end_run", False, ("slack", "terminal"))


def test_a_group_without_people_means_nobody() -> None:
    verdict = PolicySet.from_text(EVERYTHING).evaluate(ToolCall.of("nothing", {}))
    assert (verdict.outcome, verdict.code) == ("deny", "no_approvers")


HEAD = "version: 1\napprovals: {approvers: [ops@x.com]}\n"
RULE = HEAD + "rules:\n  - name: a\n    tool: t\n"
ASK = RULE + "    then: require_approval\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "the file is empty; it must begin with version: 1"),
        ("rules: []", 1, "the file has no 'version'"),
        ("version: 2", 1, "unknown version 2; this release reads version 1"),
        ("version: '1'", 1, "unknown version"),
        ("version: 1.0", 1, "unknown version"),
        ("- a", 1, "must be a mapping"),
        ("version: 1\nversion: 1", 2, "the key 'version' stands twice; the first is on line 1"),
        ("version: 1\nrulez: []", 2, "unknown key 'rulez'; did you mean 'rules'?"),
        ("version: 1\nrules: {a: b}", 2, "rules must be a list"),
        ("version: 1\nrules: [a]", 2, "a rule must be a mapping"),
        ("version: 1\ntools: []", 2, "tools must be a mapping"),
        ("version: 1\ngroups: [a]", 2, "groups must be a mapping"),
        ("version: 1\napprovals: []", 2, "approvals must be a mapping"),
        (ASK + "    aprovers: [a@x.com]", 7, "unknown key 'aprovers'; did you mean 'approvers'?"),
        (RULE, 4, "a rule has no 'then'"),
        (RULE + "    then: ask", 6, "then: must be one of allow, deny, require_approval, not 'ask'"),
        (RULE + "    then: allow\n    approvers: [x@y.com]", 7, "'approvers' says nothing in a rule that is then: allow"),
        (RULE + "    then: deny\n    deadline: 4h", 7, "'deadline' says nothing in a rule that is then: deny"),
        (RULE + "    then: allow\n  - {name: a, tool: u, then: deny}", 7, "two rules are named 'a'; the first is on line 4"),
        (ASK + "    approvers: [ops@x.com,\n      group:fin]", 8, "unknown group 'group:fin'"),
        (HEAD + "groups:\n  finance: [group:opz]\n  ops: []", 4, "unknown group 'group:opz'; did you mean 'group:ops'?"),
        (HEAD + "groups:\n  a: [group:b]\n  b: [group:a]", 4, "groups hold each other: 'a' in 'b' in 'a'"),
        (HEAD + "groups:\n  a: [group:a]", 4, "groups hold each other"),
        (HEAD + "groups: {group:a: [b@x.com]}", 3, "write 'a' here"),
        (HEAD + "groups: {fin: [a@x.com]}\nrules: [{name: a, tool: t, then: require_approval, approvers: [fin]}]", 4, "did you mean 'group:fin'?"),
        ("version: 1\nrules:\n  - {name: a, tool: t, then: require_approval}", 3, "rule 'a' asks nobody; give it approvers"),
        (ASK + "    approvers: []", 7, "approvers: must name at least one"),
        (ASK + "    approvers: ops@x.com", 7, "approvers: must be a list, written like [a, b]"),
        (ASK + "    approvers: ['*@x.com']", 7, "never by a pattern"),
        (ASK + "    quorum: 3", 4, "it needs 3 of ops@x.com, and that is 1"),
        (ASK + "    quorum: two", 7, "quorum: must be a whole number"),
        (ASK + "    quorum: 0", 7, "quorum: must be a whole number"),
        (ASK + "    deadline: 4 hours", 7, "deadline: '4 hours' is no duration; write it like 90s"),
        (ASK + "    deadline: 0", 7, "longer than zero"),
        (ASK + "    deadline:", 7, "deadline: has no value"),
        (ASK + "    deadline: [4h]", 7, "deadline: must be one value, not a list"),
        (ASK + "    channels: []", 7, "channels: must name at least one"),
        (ASK + "    on_expire: approve", 7, "on_expire: must be one of continue, end_run, not 'approve'"),
        (ASK + "    reason_required: yes", 7, "reason_required: must be true or false, not 'yes'"),
        (ASK + "    stages: [{approvers: [a@x.com], wihtin: 8h}]", 7, "unknown key 'wihtin'; did you mean 'within'?"),
        (ASK + "    stages: [{within: 8h}]", 7, "a stage has no 'approvers'"),
        (ASK + "    stages: []", 7, "stages: must name at least one"),
        (ASK + "    approvers: [a@x.com]\n    stages: [{approvers: [a@x.com]}]", 4, "give either stages, or approvers and quorum"),
        (ASK + "    deadline: 8h\n    stages: [{approvers: [a@x.com], within: 8h}, {approvers: [b@x.com]}]", 4, "its last stage would be asked after 28800 s"),
        (RULE + "    then: allow\n    when: call.args.x <=", 7, "when: not a valid CEL expression"),
        (RULE + "    then: allow\n    when: cal.args.x <= 1", 7, "when: unknown name 'cal' in the condition; did you mean 'call'?"),
        (RULE + "    then: allow\n    when: true", 7, "when: a condition is a CEL expression written as text, not True"),
        (HEAD + "rules:\n  - {name: a, tool: [t, 5], then: allow}", 4, "tool: a pattern must be text, not 5"),
        (HEAD + "rules:\n  - {name: a, tool: [], then: allow}", 4, "tool: must name at least one"),
        (HEAD + "tools:\n  t: {readonly: true}", 4, "unknown key 'readonly'; did you mean 'read_only'?"),
        (HEAD + "tools:\n  t: {retry: always}", 4, "retry: must be one of none, idempotent, reconcilable"),
        (HEAD + "tools:\n  t:", 4, "t must be a mapping"),
        (RULE + "\tthen: allow", 6, "not valid YAML"),
        ("version: 1\nx: [1,\ny: }", 3, "not valid YAML"),
        ("version: 1\nrules: *a", 2, "unknown alias *a"),
        ("version: 1\nrules: &a [*a]", 2, "*a stands inside what it stands for"),
        ("version: 1\nrules: !!python/object/apply:os.system [id]", 2, "tags are not supported"),
        ("version: 1\ngroups: {a: !!str b}", 2, "not supported; write the plain value"),
        ("version: 1\n---\nversion: 1", 2, "one document"),
        ("version: 1\ngroups:\n  <<: {a: b}", 3, "merge keys (<<) are not supported"),
        ("version: 1\n? [a]\n: b", 2, "keys must be plain text"),
        ("version: 1\nx: " + "[" * 1000, 2, "nested deeper than 20"),
        ("version: 1\nx: " + "{a: " * 1000, 2, "nested deeper than 20"),
        ("version: 1\nx: a\0b", 2, "not valid YAML"),
        ("version: 1\n#" + "x" * MAX_BYTES, 1, "larger than"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, said: str) -> None:
    error = refused(text)
    assert error.errors[0].startswith(f"governor.yaml:{line}: "), error.errors
    assert said in error.errors[0]


def test_all_problems_are_told_the_first_in_the_message() -> None:
    error = refused(
        HEAD + "tools:\n  t: {readonly: true}\n  u: {read_only: yes}\nrules:\n  - {name: a, tol: x, then: maybe}"
    )
    assert [message.split(":")[1] for message in error.errors] == ["4", "5", "7", "7", "7"]
    assert str(error) == error.errors[0] + " (and 4 more)"


def test_aliases_work_and_are_counted() -> None:
    text = HEAD + "groups:\n  a: &a [x@x.com]\n  b: *a\n"
    assert PolicySet.from_text(text).people(["group:b"]) == ("x@x.com",)
    levels = ["l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert f"more than {MAX_NODES} values" in str(refused("version: 1\n" + "\n".join(levels)))


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = "[yes, no, on, 'true', true, null, ~, 12, 1_000, 012, 0x1F, 12:30, 1.5, 1e3, 1e999, .nan, 2020-01-01, -0]"
    plain = parse(text).plain()
    assert plain == [
        "yes", "no", "on", "true", True, None, None, 12, "1_000", "012", "0x1F", "12:30", 1.5, 1000.0, "1e999", ".nan",
        "2020-01-01", 0,
    ]  # fmt: skip


def test_the_version_is_stable_over_comments_and_layout() -> None:
    one = PolicySet.from_text(GOVERNOR_YAML)
    other = PolicySet.from_text(json.dumps(yaml.safe_load(GOVERNOR_YAML)) + "\n# a comment\n")
    changed = PolicySet.from_text(GOVERNOR_YAML.replace("<= 50", "<= 51"))
    assert one.version == other.version != changed.version
    assert len(one.version) == 16 and int(one.version, 16)
    assert one.evaluate(ToolCall.of("delete_x", {})).version == one.version


def test_files_share_groups_and_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "people.yaml").write_text(
        "version: 1\ngroups: {fin: [cfo@x.com]}\napprovals: {approvers: [ops@x.com]}\n"
    )
    (tmp_path / "rules.yaml").write_text(
        "version: 1\nrules:\n"
        "- {name: pay, tool: pay, then: require_approval, approvers: [group:fin]}\n"
        "- {name: ask, tool: ask, then: require_approval}\n"
    )
    policies = PolicySet.from_files(tmp_path / "rules.yaml", tmp_path / "people.yaml")
    assert policies.evaluate(ToolCall.of("pay", {})).stages[0].people == ("cfo@x.com",)
    assert policies.evaluate(ToolCall.of("ask", {})).stages[0].people == ("ops@x.com",)
    assert policies.evaluate(ToolCall.of("pay", {})).policy == "rules.yaml#pay"


@pytest.mark.parametrize(
    ("second", "said"),
    [("groups: {fin: [other@x.com]}", "other people"), ("tools: {t: {read_only: false}}", "declared otherwise")],
)
def test_files_that_contradict_each_other_are_refused(tmp_path: Path, second: str, said: str) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\ngroups: {fin: [cfo@x.com]}\ntools: {t: {read_only: true}}\n")
    (tmp_path / "b.yaml").write_text(f"version: 1\n{second}\n")
    with pytest.raises(PolicyFileError, match=f"b.yaml:2: .*{said}"):
        PolicySet.from_files(tmp_path / "a.yaml", tmp_path / "b.yaml")


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "g.yaml").write_text("version: 1\nrules: [{name: x, tool: '*', then: deny}]\n")
    policies = PolicySet.from_files(tmp_path / "a" / "g.yaml", tmp_path / "b" / "g.yaml")
    assert policies.evaluate(ToolCall.of("t", {})).policy == f"{tmp_path / 'a' / 'g.yaml'}#x"


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"version: 1\n# caf\xe9\n")
    for path, said in ((tmp_path / "none.yaml", "none.yaml: No such file"), (tmp_path, "Is a directory"),
                       (tmp_path / "latin.yaml", "latin.yaml:2: the file is not UTF-8"), ("/dev/zero", "larger than")):  # fmt: skip
        with pytest.raises(PolicyFileError, match=said) as caught:
            PolicySet.from_file(path)
        assert "\n" not in str(caught.value) and caught.value.errors


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_bytes(b"\xef\xbb\xbfversion: 1\n")
    assert PolicySet.from_file(tmp_path / "g.yaml").version


@settings(max_examples=200)
@given(st.text(alphabet="abv:-[]{}&*!'\"#\n\t \\1|>?%@,", max_size=80))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    for whole in (text, HEAD + text, RULE + "    " + text):
        try:
            PolicySet.from_text(whole)
        except PolicyFileError as error:
            assert "\n" not in str(error) and error.errors


@settings(max_examples=200)
@given(st.text(alphabet="abv:-[]{}&*!'\"#\n \\1|>,", max_size=60))
def test_both_parsers_give_the_same_tree(text: str) -> None:
    def tree() -> object:
        try:
            return repr(parse(text))
        except Problem:
            return "refused"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "_PARSER", yaml.SafeLoader)
        in_python = tree()
        patch.setattr(document, "_PARSER", yaml.CSafeLoader)
        in_c = tree()
    if "refused" not in (in_python, in_c):
        assert in_python == in_c
