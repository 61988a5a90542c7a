"""Whom policies ask when there is a directory: persons, groups, roles, addresses; and who is excluded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Governor
from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.identity import Person
from governor_agents.core.ports import Directory
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.directory import Asked, People, PeopleFile, read_people
from governor_agents.errors import ConfigError, DirectoryUnreadable, PoliciesUnavailable, PolicyFileError
from governor_agents.policies import Defaults, PolicySet, Rule, RuleList, require_approval
from governor_agents.policies.reading import Source
from tests.people import PEOPLE


def people(text: str = PEOPLE) -> People:
    return read_people(Source("people.yaml", "people.yaml", text))


def asked(policies: PolicySet, requester: str = "local:mallory", tool: str = "x", **arguments: Any) -> Verdict:
    return policies.evaluate(ToolCall.of(tool, arguments, requester=requester))


def whom(
    *names: str, directory: Directory | None = None, groups: dict[str, list[str]] | None = None
) -> tuple[str, ...]:
    """Whom a rule with these approvers asks; nobody when the call is denied."""
    policies = PolicySet([lambda call: require_approval(names)], groups=groups, directory=directory or people())
    verdict = asked(policies)
    return verdict.stages[0].people if verdict.stages else ()


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["alice"], ("alice",)),
        (["slack:T01/U02"], ("alice",)),
        (["Alice@Example.com"], ("alice",)),
        (["alice", "slack:T01/U02", "oidc:00u1a2b3", "local:alice"], ("alice",)),
        (["group:finance"], ("alice", "bob")),
        (["group:payments", "bob"], ("alice", "bob", "carol")),
        (["role:cfo"], ("alice",)),
        (["group:nobody"], ()),
        (["role:janitor"], ()),
        (["group:gone"], ()),
        (["mallory"], ()),
        (["nightly"], ()),
        (["local:nightly"], ()),
        (["group:own"], ("alice", "local:guest")),
        (["local:guest", "guest@example.com"], ("guest@example.com", "local:guest")),
    ],
)
def test_names_mean_people_of_the_directory(names: list[str], ids: tuple[str, ...]) -> None:
    """One person once, under one id; services, removed ids and empty groups are nobody; unknown addresses themselves."""
    assert whom(*names, groups={"own": ["local:guest", "role:cfo"]}) == ids


def test_one_person_under_many_names_is_no_quorum_of_two() -> None:
    """Two addresses of alice are one alice: a demand for two of them can never be met, and is denied."""
    policies = PolicySet([lambda call: require_approval(["alice", "local:alice"], quorum=2)], directory=people())
    verdict = asked(policies)
    assert (verdict.outcome, verdict.code) == ("deny", "no_approvers") and "that is 1" in verdict.reason
    alone = PolicySet([lambda call: require_approval(["alice", "local:alice"], quorum=2)])
    assert asked(alone).outcome == "require_approval"  # without a directory these are two


def test_delegates_are_people_too() -> None:
    """They are expanded with the verdict, like approvers."""
    policies = PolicySet(
        [lambda call: require_approval(["bob"], delegates=["role:on-call", "nightly"])], directory=people()
    )
    assert asked(policies).delegates == ("carol",)


@pytest.mark.parametrize("requester", ["alice", "slack:T09/U11", "Alice@example.com", "local:alice"])
def test_whoever_asked_is_excluded_under_every_name(requester: str) -> None:
    """Whatever name the run was started under."""
    verdict = asked(
        PolicySet([Rule("r", "x", "require_approval", approvers=["group:finance"])], directory=people()), requester
    )
    assert set(verdict.requesters) == set(people().persons["alice"].names)


def test_somebody_unknown_has_no_other_names() -> None:
    """A requester whom the directory does not know is excluded under the one name there is."""
    policies = PolicySet([Rule("r", "x", "require_approval", approvers=["bob"])], directory=people())
    assert asked(policies, "stranger@example.com").requesters == () == asked(policies, "").requesters


def test_default_approvers_are_looked_up_with_each_call(tmp_path: Path) -> None:
    """What no policy is about, an unknown tool, a policy that fails: whom they ask is not remembered."""
    path = tmp_path / "people.yaml"
    path.write_text(PEOPLE)

    def fails(call: ToolCall) -> Verdict | None:
        if call.arguments:
            raise RuntimeError
        return None

    policies = PolicySet(
        [fails],
        tools={"known": Tool("known")},
        default=Defaults(approvers=["group:finance"]),
        directory=PeopleFile(path),
    )
    calls = [("known", {}), ("unknown", {}), ("known", {"fail": True})]
    assert [asked(policies, tool=tool, **args).stages[0].people for tool, args in calls] == [("alice", "bob")] * 3
    assert policies.demand(ToolCall.of("known", {})).stages[0].people == ("alice", "bob")
    path.write_text(PEOPLE.replace("finance: [alice, bob]", "finance: [carol]"))
    assert [asked(policies, tool=tool, **args).stages[0].people for tool, args in calls] == [("carol",)] * 3
    assert policies.demand(ToolCall.of("known", {})).stages[0].people == ("carol",)
    path.write_text(PEOPLE.replace("finance: [alice, bob]", "finance: []"))
    assert [asked(policies, tool=tool, **args).code for tool, args in calls] == [
        "no_approvers",
        "no_approvers",
        "policy_error",
    ]
    assert all(asked(policies, tool=tool, **args).outcome == "deny" for tool, args in calls)


def test_a_role_that_nobody_has_any_more_asks_nobody_else(tmp_path: Path) -> None:
    """When the last cfo leaves the call is denied; it is not asked of the default approvers instead."""
    path = tmp_path / "people.yaml"
    path.write_text(PEOPLE)
    rule = Rule("r", "x", "require_approval", approvers=["role:auditor"])
    policies = PolicySet([rule], default=Defaults(approvers=["bob"]), directory=PeopleFile(path))
    assert asked(policies).stages[0].people == ("carol",)
    path.write_text(PEOPLE.replace("auditor, ", ""))
    assert (asked(policies).outcome, asked(policies).code) == ("deny", "no_approvers")
    assert "there is nobody in role:auditor" in asked(policies).reason


def test_an_unreadable_directory_asks_nobody(tmp_path: Path) -> None:
    """What would ask is denied with a code of its own; what is allowed or denied stays so; mended, it asks again."""
    path = tmp_path / "people.yaml"
    path.write_text(PEOPLE)
    rules = [
        Rule("ask", "x", "require_approval", approvers=["local:guest"]),
        Rule("no", "y", "deny"),
        Rule("yes", "z", "allow"),
    ]
    policies = PolicySet(rules, default=Defaults(approvers=["bob"]), directory=PeopleFile(path))
    said = {tool: asked(policies, tool=tool) for tool in ("x", "y", "z", "other")}
    assert [said[tool].outcome for tool in said] == ["require_approval", "deny", "allow", "require_approval"]
    path.write_text("broken")
    broken = {tool: asked(policies, tool=tool) for tool in said}
    assert [broken[tool].outcome for tool in said] == ["deny", "deny", "allow", "deny"]
    assert [broken[tool].code for tool in said] == ["directory_unreadable", "rule", "rule", "directory_unreadable"]
    path.write_text(PEOPLE)
    assert {tool: asked(policies, tool=tool) for tool in said} == said


def test_a_run_is_not_taken_in_hand_without_the_directory(tmp_path: Path) -> None:
    """What was approved is not denied because a file is broken for a minute."""
    path = tmp_path / "people.yaml"
    path.write_text(PEOPLE)
    policies = PolicySet([Rule("r", "x", "require_approval", approvers=["bob"])], directory=PeopleFile(path))
    policies.check_people()
    path.write_text("broken")
    with pytest.raises(PoliciesUnavailable, match="nobody is identified"):
        policies.check_people()
    path.write_text(PEOPLE)
    policies.check_people()


FILE = """\
version: 1
approvals: {approvers: [group:finance]}
groups: {mine: [alice, role:on-call]}
rules:
  - {name: a, tool: a, then: require_approval, approvers: [role:cfo, group:mine], delegates: [group:payments]}
"""


def test_a_policy_file_names_people_of_the_directory() -> None:
    """Persons, groups and roles, in its own groups too; beside a directory the simple groups go on working."""
    policies = PolicySet.from_text(FILE, directory=people())
    assert asked(policies, tool="a").stages[0].people == ("alice", "carol")
    assert asked(policies, tool="a").delegates == ("alice", "bob", "carol")
    assert asked(policies, tool="b").stages[0].people == ("alice", "bob")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (FILE.replace("group:finance", "group:finanec"), 2, "unknown group 'group:finanec'"),
        (FILE.replace("group:payments", "group:paymnets"), 5, "unknown group 'group:paymnets'"),
        (FILE.replace("mine:", "finance:"), 3, "group 'finance' has the name of a group in the directory"),
        (FILE.replace("mine:", "bob:"), 3, "group 'bob' has the name of a person in the directory"),
    ],
)
def test_names_that_cannot_be_meant_are_told_with_their_line(text: str, line: int, says: str) -> None:
    """A group that neither the file nor the directory has, and one that both have."""
    with pytest.raises(PolicyFileError) as caught:
        PolicySet.from_text(text, directory=people())
    assert any(each.startswith(f"policy.yaml:{line}: ") and says in each for each in caught.value.errors)


def test_without_a_directory_its_names_are_refused() -> None:
    """A role, and a group that stands in the directory alone, cannot be loaded without it."""
    with pytest.raises(PolicyFileError, match=r"policy\.yaml:\d: .*unknown group"):
        PolicySet.from_text(FILE)
    with pytest.raises(PolicyFileError, match="'role:on-call' needs a directory of people"):
        PolicySet.from_text(FILE.replace("group:finance", "local:a").replace("group:payments", "alice"))


def test_python_policies_cannot_ask_for_groups_that_are_taken() -> None:
    """The same for groups and rules given in Python."""
    with pytest.raises(ConfigError, match="name of a person"):
        PolicySet(groups={"alice": ["bob"]}, directory=people())
    with pytest.raises(ConfigError, match="unknown group 'group:gone'"):
        PolicySet([Rule("r", "x", "require_approval", approvers=["group:gone"])], directory=people())
    policies = PolicySet(directory=people())
    with pytest.raises(ConfigError, match="'mine' is a group"):
        PolicySet(
            [Rule("r", "x", "require_approval", approvers=["mine"])], groups={"mine": ["bob"]}, directory=people()
        )
    policies.add_rule(name="r", tool="x", then="require_approval", approvers=["role:cfo"])
    assert asked(policies).stages[0].people == ("alice",)
    assert asked(policies.with_policies(lambda call: None)).stages[0].people == ("alice",)


def test_policies_have_one_directory() -> None:
    """Given once; what was joined before means its people from then on."""
    policies, here = PolicySet([Rule("r", "x", "require_approval", approvers=["local:alice"])]), people()
    assert asked(policies).stages[0].people == ("local:alice",)
    policies.use(None)
    policies.use(here)
    policies.use(here)
    assert asked(policies).stages[0].people == ("alice",)
    with pytest.raises(ConfigError, match="another directory"):
        policies.use(people())


class Failing(People):
    """A directory that works when the policies are loaded, and fails at one kind of question afterwards."""

    def __init__(self, base: People, at: str) -> None:
        super().__init__(base.persons.values(), base.groups, base.coordinators)
        self.at, self.broken = at, False

    def person(self, address: str) -> Person | None:
        if self.broken and self.at == "person":
            raise ConnectionError("LDAP is away")
        return super().person(address)

    def members(self, name: str) -> tuple[str, ...] | None:
        if self.broken and self.at == "members":
            raise DirectoryUnreadable
        return ("alice", "ghost", "nightly") if self.broken else super().members(name)


@pytest.mark.parametrize("at", ["person", "members"])
def test_a_directory_of_ones_own_that_fails_asks_nobody(at: str) -> None:
    """At whichever question."""
    own = Failing(people(), at)
    policies = PolicySet([lambda call: require_approval(["group:finance"])], directory=Asked(own))
    assert asked(policies).outcome == "require_approval"
    own.broken = True
    assert (asked(policies).outcome, asked(policies).code) == ("deny", "directory_unreadable")


def test_members_that_are_nobody_are_left_out() -> None:
    """A group of one's own directory may name a service, or somebody whom it does not know: neither decides."""
    own = Failing(people(), "nothing")
    policies = PolicySet([lambda call: require_approval(["group:finance"])], directory=Asked(own))
    own.broken = True
    assert asked(policies).stages[0].people == ("alice",)


def test_stages_whose_people_are_given_are_looked_up_as_well() -> None:
    """A Python policy that names people itself cannot name a service, nor somebody twice."""
    stage = Stage(("the desk",), ("local:nightly", "local:alice", "alice"))
    verdict = asked(PolicySet([lambda call: Verdict("require_approval", stages=(stage,))], directory=people()))
    assert verdict.stages == (replace(stage, people=("alice",)),)


def test_a_directory_without_its_guard_still_lets_nothing_through() -> None:
    """Given to a policy set as it is, and raising what no directory should raise: denied."""
    own = Failing(people(), "person")
    policies = PolicySet(
        [lambda call: require_approval(["group:finance"])], default=Defaults(approvers=["bob"]), directory=own
    )
    assert asked(policies).outcome == "require_approval"
    own.broken = True
    assert (asked(policies).outcome, asked(policies).code) == ("deny", "policy_error")
    policies.use(Asked(own))
    assert (asked(policies).outcome, asked(policies).code) == ("deny", "directory_unreadable")


def test_two_governors_may_share_policies_and_a_people_file(tmp_path: Path) -> None:
    """Named twice by its path it is one directory; another path is another."""
    for name in ("people.yaml", "other.yaml"):
        (tmp_path / name).write_text(PEOPLE)
    policies = PolicySet([Rule("r", "x", "require_approval", approvers=["bob"])])
    for tenant in ("a", "b"):
        Governor(policies, store="memory://", tenant=tenant, people=tmp_path / "people.yaml").close_sync()
    Governor(policies, store="memory://", tenant="c").close_sync()
    with pytest.raises(ConfigError, match="another directory"):
        Governor(policies, store="memory://", people=tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("requester", "outcome"),
    [
        ("alice", "deny"),
        ("slack:T09/U11", "deny"),
        ("Alice@example.com", "deny"),
        ("bob", "allow"),
        ("alice.old@example.com", "allow"),
        ("", "allow"),
    ],
)
def test_a_rule_fits_whoever_asked_under_any_name(requester: str, outcome: str) -> None:
    """A denial of alice holds whichever of her addresses the run was started under."""
    for name in ("alice", "alice@example.com", "slack:T01/*"):
        rules = [Rule("not alice", "x", "deny", requester=name), Rule("others", "x", "allow")]
        policies = PolicySet([RuleList(rules)], directory=people())
        expected = "deny" if name == "slack:T01/*" and requester == "bob" else outcome
        assert asked(policies, requester).outcome == expected
        alone = PolicySet([RuleList(rules)])  # without a directory a name is all there is
        assert asked(alone, "slack:T09/U11").outcome == "allow"


def test_a_rule_about_whoever_asked_fails_while_nobody_can_say(tmp_path: Path) -> None:
    """Unless the name that was given fits as it is: nothing is let through that may have been alice's."""
    path = tmp_path / "people.yaml"
    path.write_text(PEOPLE)
    rules = [Rule("not alice", "x", "deny", requester="alice"), Rule("bob", "x", "allow", requester="bob")]
    policies = PolicySet([RuleList(rules)], directory=PeopleFile(path))
    assert [asked(policies, name).outcome for name in ("alice", "local:alice", "bob", "local:bob")] == [
        "deny",
        "deny",
        "allow",
        "allow",
    ]
    path.write_text("broken")
    said = [asked(policies, name) for name in ("alice", "local:alice", "bob", "local:bob")]
    assert [verdict.outcome for verdict in said] == ["deny"] * 4
    assert [verdict.code for verdict in said] == ["rule", *["directory_unreadable"] * 3]
    explained = policies.explain(ToolCall.of("x", {}, requester="local:alice"))
    assert [(each.result, each.why) for each in explained] == [("failed", "the directory of people cannot be read")] * 2
    path.write_text(PEOPLE)
    assert asked(policies, "local:bob").outcome == "allow"
    explained = policies.explain(ToolCall.of("x", {}, requester="local:alice"))
    assert [each.result for each in explained] == ["matched", "not matched"]
