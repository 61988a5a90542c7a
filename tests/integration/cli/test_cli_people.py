"""`people` and what `inbox` does beside deciding: right people, one line for what is wrong, JSON for scripts."""

import time
from pathlib import Path
from typing import Any

import pytest

from governor_agents.handlers.terminal import local_person
from tests.people import PEOPLE

ME = local_person()
POLICY = """
version: 1
approvals: {approvers: [group:finance], delegates: [carol, dan]}
"""
MINE = PEOPLE.replace("local: bob", f"local: {ME.removeprefix('local:')}") + ""


@pytest.fixture
def office(shop: Any) -> Any:
    """The shop, with a people file in which whoever runs the tests is bob, one of two who may decide."""
    (shop.folder / "people.yaml").write_text(MINE.replace("groups:", "  dan: {local: dan}\ngroups:"))
    (shop.folder / "governor.yaml").write_text(POLICY)
    (shop.folder / "app.py").write_text(
        (shop.folder / "app.py").read_text().replace('"governor.yaml"', '"governor.yaml", people="people.yaml"')
    )
    return shop


@pytest.fixture
def asked(office: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A request that waits for alice and bob."""
    monkeypatch.setenv("GOVERNOR_PEOPLE", "people.yaml")
    return str(office.ask())


# -- people -------------------------------------------------------------------------------------------------------------


def test_check_says_what_a_file_holds(office: Any) -> None:
    """A file without findings is right, and counted."""
    (office.folder / "right.yaml").write_text(PEOPLE.replace("  nobody: []\n", ""))
    told = office("people", "check", "right.yaml")
    assert (told.code, told.err) == (0, "")
    assert told.out == "right.yaml is right: people 4, groups 2, roles 3, coordinators 1\n"
    assert office("people", "check", "right.yaml", "--json").json == {
        "file": "right.yaml", "people": 4, "groups": 2, "roles": 3, "coordinators": 1, "findings": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("T01/U03", "T01/U02", "people.yaml:12: slack:T01/U02 is an address of alice"),
        ("[alice, bob]", "[alice, bbo]", "people.yaml:16: group finance: unknown person 'bbo'; did you mean 'bob'?"),
        ("nightly: {local: nightly, ", "nightly: {", "nightly has no address: no channel can tell who that is"),
        ("nobody: []", "nobody: [nightly]", "group nobody is nobody"),
        ("bob: {", "bob: {away: {from: 2026-12-30, until: 2027-01-09, substitute: carol}, ", "bob is away too in a time in which"),
        ("service: true,", "service: true, away: {from: 2026-12-30, until: 2027-01-09, substitute: carol},", "needs no substitute"),
    ],
)  # fmt: skip
def test_check_finds_what_is_wrong(shop: Any, old: str, new: str, says: str) -> None:
    """Exit code 1 and a line for each finding, mistakes and what is hardly meant; the same as JSON."""
    assert old in PEOPLE
    (shop.folder / "people.yaml").write_text(PEOPLE.replace(old, new, 1))
    told = shop("people", "check", "people.yaml")
    assert told.code == 1 and any(says in line for line in told.out.splitlines()), told.out
    again = shop("people", "check", "people.yaml", "--json")
    assert again.code == 1 and again.json["findings"] == told.out.splitlines()


def test_check_finds_whom_a_policy_asks_in_vain(office: Any) -> None:
    """Approvers and delegates of each rule that come to nobody."""
    office.folder.joinpath("governor.yaml").write_text(
        "version: 1\napprovals: {approvers: [bob], delegates: [local:nightly]}\nrules:\n"
        "  - {name: r, tool: x, then: require_approval, approvers: [alcie, role:janitor, guest@example.com, alice]}\n"
    )
    found = office("people", "check", "people.yaml", "--policy", "governor.yaml", "--json").json["findings"]
    assert found[1:] == [
        "governor.yaml: the section approvals names local:nightly, and that is nobody: a service never decides",
        "governor.yaml: rule 'r' names alcie, and that is nobody: there is no such person; did you mean 'alice'?",
        "governor.yaml: rule 'r' names role:janitor, and that is nobody",
    ]


BY = "version: 1\napprovals: {channels: %s, approvers: [alice, bob]}\nrules:\n  - {name: r, tool: x, then: require_approval%s}\n"
MET = "the section approvals asks bob by %s, and bob has no %s address"


@pytest.mark.parametrize(
    ("channels", "rule", "found"),
    [
        ("[slack, email]", "", []),
        ("[email]", "", [MET % ("email", "e-mail")]),
        ('[email, "slack:C0123ABC"]', "", []),  # bob may read there
        ("[email, terminal]", "", []),
        ("[slack]", ", channels: [email]", ["rule 'r' asks bob by email, and bob has no e-mail address"]),
        ("[slack]", ", approvers: ['guest@example.com']", [
            "rule 'r' asks guest@example.com by slack, and guest@example.com has no Slack address"]),
        ("[slak]", ", channels: ['slak:C0123ABC']", [
            "the section approvals asks in slak, and no channel is called so here; did you mean 'slack'?"]),
        ("[board]", "", []),  # one that the application makes
        ("[slack]", ", stages: [{approvers: [bob]}, {approvers: [bob]}]", ["rule 'r' wants 2 different people of bob, and that is 1"]),
        ("[slack]", ", stages: [{approvers: [bob]}, {approvers: [bob], when: call.args.amount > 5}]", []),
        ("[slack]", ", stages: [{approvers: [bob], within: 1h}, {approvers: [bob]}]", []),  # the first may pass
        ("[slack]", ", stages: [{approvers: [bob]}, {approvers: [alice, bob]}]", []),
        ("[slack]", ", stages: [{approvers: [bob]}, {approvers: [bob, alice], quorum: 2}]", [
            "rule 'r' wants 3 different people of alice, bob, and that is 2"]),
    ],
)  # fmt: skip
def test_check_finds_whom_a_policy_does_not_reach(office: Any, channels: str, rule: str, found: list[str]) -> None:
    """People without the address that all channels need, channels by another's name, more votes than people."""
    people = office.folder / "people.yaml"
    people.write_text(people.read_text().replace("email: bob@example.com, ", "").replace("  nobody: []\n", ""))
    office.folder.joinpath("governor.yaml").write_text(BY % (channels, rule))
    told = office("people", "check", "people.yaml", "--policy", "governor.yaml", "--json")
    assert told.json["findings"] == [f"governor.yaml: {line}" for line in found] and told.code == bool(found)


def test_check_takes_the_file_that_every_command_takes(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--people`` before the command, else ``$GOVERNOR_PEOPLE``; one that is named behind it goes before both."""
    (office.folder / "other.yaml").write_text("version: 1\npeople: {}\n")
    assert office("--people", "people.yaml", "people", "check", "--json").json["file"] == "people.yaml"
    monkeypatch.setenv("GOVERNOR_PEOPLE", "people.yaml")
    assert office("people", "check", "--json").json["file"] == "people.yaml"
    assert office("--people", "other.yaml", "people", "check", "--json").json["file"] == "other.yaml"
    assert office("people", "check", "other.yaml", "--json").json["file"] == "other.yaml"


def test_show_says_whom_an_address_stands_for(office: Any) -> None:
    """By any of the addresses; as a table for people, and as JSON."""
    for name in ("alice", "Alice@example.com", "oidc:00u1a2b3", "slack:T09/U11"):
        found = office("--people", "people.yaml", "people", "show", name, "--json").json
        assert (found["id"], found["name"], found["groups"]) == ("alice", "Alex Kim", ["finance", "payments"])
        assert (found["roles"], found["service"], found["coordinator"]) == (["cfo"], False, False)
    shown = office("--people", "people.yaml", "people", "show", "carol").out
    assert shown.startswith("carol\n") and "may hand requests of others on" in shown
    assert "never decides" in office("--people", "people.yaml", "people", "show", "nightly").out


def test_show_says_who_is_in_a_group_or_role(office: Any) -> None:
    """As policies name them; services are in none."""
    shown = {name: office("--people", "people.yaml", "people", "show", name) for name in ("group:payments", "role:cfo")}
    assert shown["group:payments"].out.split() == ["group:payments", "members:", "alice,", "bob,", "carol"]
    assert shown["role:cfo"].out.split() == ["role:cfo", "members:", "alice"]
    assert "members:      nobody" in office("--people", "people.yaml", "people", "show", "group:nobody").out
    document = office("--people", "people.yaml", "people", "show", "group:finance", "--json").json
    assert document == {"name": "group:finance", "members": ["alice", "bob"]}


def test_show_says_whom_somebody_stands_for_now(office: Any) -> None:
    """Somebody who is away these days has a substitute."""
    here, there = (time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * 86_400)) for days in (-2, 2))
    text = PEOPLE.replace("2026-12-21", here).replace("2027-01-03", there)
    (office.folder / "people.yaml").write_text(text)
    assert office("--people", "people.yaml", "people", "show", "bob", "--json").json["stands_for"] == ["alice"]
    assert "stands for:" in office("--people", "people.yaml", "people", "show", "bob").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["people", "check", "gone.yaml"], "gone.yaml: No such file or directory"),
        (["people", "check", "people.yaml", "--policy", "gone.yaml"], "gone.yaml: No such file"),
        (["people", "show", "alice"], "name the people file"),
        (["--people", "gone.yaml", "people", "show", "alice"], "gone.yaml: No such file"),
        (["--people", "governor.yaml", "people", "show", "alice"], "governor.yaml:3: unknown key 'approvals'"),
        (
            ["--people", "people.yaml", "people", "show", "Alex Kim"],
            "nobody in the people file has the id or address Alex Kim",
        ),
        (["--people", "people.yaml", "people", "show", "alcie"], "address alcie; did you mean 'alice'?"),
        (
            ["--people", "people.yaml", "people", "show", "group:finanec"],
            "no group:finanec; did you mean 'group:finance'?",
        ),
        (["people", "check"], "name the people file"),
    ],
)
def test_bad_input_is_one_line_and_code_2(office: Any, words: list[str], says: str) -> None:
    """What was written and what to do about it, and nothing on stdout."""
    told = office(*words)
    assert (told.code, told.out) == (2, "") and says in told.err and told.err.count("\n") == 1, told


# -- inbox --------------------------------------------------------------------------------------------------------------


def test_mine_is_what_the_directory_says_is_mine(office: Any, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local account is an address of bob; without the directory it is nobody who was asked."""
    assert [entry["id"] for entry in office("inbox", "list", "--mine", "--json").json] == [asked]
    assert office("inbox", "show", asked, "--json").json["people"] == ["alice", "bob"]
    monkeypatch.delenv("GOVERNOR_PEOPLE")
    assert office("inbox", "list", "--mine", "--json").json == []
    told = office("inbox", "approve", asked)
    assert told.code == 2 and "may not decide this" in told.err
    assert office("--people", "people.yaml", "inbox", "approve", asked, "--json").json["votes"][0]["by"] == "bob"


def test_claim_and_release(office: Any, asked: str) -> None:
    """Who is on it is told; again changes nothing; released, nobody is."""
    told = office("inbox", "claim", asked)
    assert told.code == 0 and told.out == f"{asked} refund is pending: {ME} is on it\n"
    assert office("inbox", "claim", asked, "--json").json["taken_up"]["by"] == "bob"
    assert office("inbox", "claim", asked, "--release", "--json").json["taken_up"] is None


def test_comment(office: Any, asked: str) -> None:
    """It stands beside the request, by whoever wrote it, and decides nothing."""
    found = office("inbox", "comment", asked, "ask the shop first", "--json").json
    assert [(each["by"], each["text"]) for each in found["comments"]] == [("bob", "ask the shop first")]
    assert found["state"] == "pending" and "ask the shop first" in office("inbox", "show", asked).out


def test_delegate(office: Any, asked: str) -> None:
    """The seat is bob's still, and carol may fill it too."""
    told = office("inbox", "delegate", asked, "--to", "carol@example.com")
    assert told.code == 0 and "carol@example.com may decide it too" in told.out
    handed = office("inbox", "show", asked, "--json").json["handed"]
    assert [(each["seat"], each["to"], each["moved"]) for each in handed] == [("bob", "carol", False)]
    assert [entry["id"] for entry in office("inbox", "list", "--mine", "--json").json] == [asked]


def test_reassign(office: Any, asked: str) -> None:
    """Bob's own seat goes to dan, and is bob's no more."""
    found = office("inbox", "reassign", asked, "--from", ME, "--to", "dan", "--json").json
    assert [(each["seat"], each["to"], each["moved"]) for each in found["handed"]] == [("bob", "dan", True)]
    assert office("inbox", "list", "--mine", "--json").json == []
    assert office("inbox", "approve", asked).code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["claim", "run_x.1"], "no approval run_x.1"),
        (["delegate", "{id}", "--to", "nightly"], "nightly"),
        (["delegate", "{id}", "--to", "stranger@example.com"], "does not let a seat be handed to stranger@example.com"),
        (["reassign", "{id}", "--from", "alice", "--to", "carol"], "alice"),
        (["reassign", "{id}", "--to", "carol"], "Missing option"),
        (["comment", "{id}", " "], "this one is empty"),
        (["comment", "{id}", "TEXT"], "your own words"),
    ],
)
def test_what_does_not_count_is_one_line_and_code_2(office: Any, asked: str, words: list[str], says: str) -> None:
    """And nothing changes."""
    told = office("inbox", *(word.replace("{id}", asked) for word in words))
    assert (told.code, told.out) == (2, "") and says in told.err and told.err.count("\n") == 1, told
    found = office("inbox", "show", asked, "--json").json
    assert (found["handed"], found["comments"], found["taken_up"]) == ([], [], None)


def test_a_broken_file_identifies_nobody_at_the_command_line(office: Any, asked: str) -> None:
    """In one line, and the request waits on; mended, the same command counts."""
    good = Path("people.yaml").read_text()
    Path("people.yaml").write_text(good + "  x")
    told = office("inbox", "approve", asked)
    assert told.code == 2 and "people.yaml:" in told.err and told.err.count("\n") == 1
    Path("people.yaml").write_text(good)
    assert office("inbox", "approve", asked).code == 0


def test_a_people_file_that_is_gone_is_told_before_anything_is_listed(office: Any, asked: str) -> None:
    """A command that would decide by it does not start without it."""
    told = office("--people", "gone.yaml", "inbox", "list")
    assert (told.code, told.out) == (2, "") and "gone.yaml: No such file" in told.err and told.err.count("\n") == 1


def test_a_worker_takes_the_people_file_for_an_app_that_names_none(office: Any) -> None:
    """Approvers are those of that file; an app that names another directory is not overruled in silence."""
    (office.folder / "app.py").write_text((office.folder / "app.py").read_text().replace(', people="people.yaml"', ""))
    (office.folder / "governor.yaml").write_text("version: 1\napprovals: {approvers: [group:finance]}\n")
    told = office.process("worker", "app:governor", "--once")
    assert told.code == 2 and "unknown group 'group:finance'; if a people file has it, name" in told.err
    assert office.process("--people", "people.yaml", "worker", "app:governor", "--once").code == 0
    (office.folder / "other.yaml").write_text(MINE)
    (office.folder / "app.py").write_text(
        (office.folder / "app.py").read_text().replace('"governor.yaml"', '"governor.yaml", people="people.yaml"')
    )
    told = office.process("--people", "other.yaml", "worker", "app:governor", "--once")
    assert told.code == 2 and "names its directory of people itself" in told.err and told.err.count("\n") == 1
