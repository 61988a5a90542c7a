"""Durations, ids, globs and groups: the small values of a policy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor_agents.errors import ConfigError
from governor_agents.policies.groups import Groups
from governor_agents.policies.values import approver, matcher, one_line, person_id, seconds, suggestion


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90s", 90), ("30m", 1800), ("4h", 14_400), ("1d", 86_400), ("1h30m", 5400), ("1d12h", 129_600),
        ("1d1h1m1s", 90_061), (90, 90), (0.5, 0.5), ("3660d", 316_224_000),
    ],
)  # fmt: skip
def test_a_duration_is_seconds(written: object, meant: float) -> None:
    assert seconds(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "", "4", "4 hours", "h", "30m1h", "1h 30m", "1.5h", "-1h", "0s", "3661d", "٤h", "9" * 5000 + "d",
        0, -1, float("nan"), float("inf"), True, None, [1], 10**400,
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ConfigError):
        seconds(written)


def test_only_mail_addresses_are_lower_cased() -> None:
    assert person_id("Ops@Example.COM") == "ops@example.com"
    assert person_id("local:Alice") == "local:Alice"
    assert person_id("slack:T1@U2") == "slack:T1@U2"
    assert person_id("Alice") == "Alice"


def test_look_alike_addresses_stay_different() -> None:
    """The Kelvin sign lower-cases to k in Unicode; two people must not become one."""
    assert person_id("\u212aim@example.com") != person_id("kim@example.com")


@given(st.text())
def test_the_one_form_of_an_id_is_stable(text: str) -> None:
    assert person_id(person_id(text)) == person_id(text)


@pytest.mark.parametrize("name", ["", "a b", "*@example.com", "group:", "a\nb", "x" * 300, "a\u202eb", 5, None])
def test_what_is_no_approver_is_refused(name: object) -> None:
    with pytest.raises(ConfigError):
        approver(name)


def test_groups_expand_through_groups_sorted_and_once() -> None:
    groups = Groups({"all": ["group:a", "z@x.com", "group:b"], "a": ["m@x.com"], "b": ["m@x.com", "b@x.com"]})
    assert groups.people(["group:all", "m@x.com", "local:me"]) == ("b@x.com", "local:me", "m@x.com", "z@x.com")
    assert groups.people([]) == ()


def test_groups_that_hold_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="hold each other"):
        Groups({"a": ["group:b"], "b": ["group:c"], "c": ["group:a"]})


def test_a_long_chain_of_groups_is_no_recursion() -> None:
    chain = {f"g{i}": [f"group:g{i + 1}"] for i in range(5000)} | {"g5000": ["end@x.com"]}
    assert Groups(chain).people(["group:g0"]) == ("end@x.com",)


@pytest.mark.parametrize(
    ("name", "said"), [("group:fin", "did you mean 'group:finance'"), ("finance", "group:finance")]
)
def test_an_unknown_group_gets_a_mend(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Groups({"finance": []}).people([name])


def test_globs_match_whole_names_with_their_case() -> None:
    fits = matcher(["delete_*", "drop?"])
    assert all(fits(name) for name in ("delete_", "delete_a.b\nc", "drop1"))
    assert not any(fits(name) for name in ("Delete_x", "xdelete_", "drop", "drop12"))


@given(st.text(max_size=400))
def test_one_line_is_one_printable_line(text: str) -> None:
    assert one_line(text).isprintable()
    assert len(one_line(text, 10)) <= 10 * 10 + 3


def test_a_suggestion_names_the_nearest_or_all() -> None:
    assert suggestion("aprovers", ["approvers", "deadline"]) == "; did you mean 'approvers'?"
    assert suggestion("zzz", ["b", "a"]) == "; known: a, b"
    assert suggestion("zzz", []) == ""
