"""`inbox`: what waits is listed and shown whole; a decision counts once, for the person that the system names."""

import json
import time

import pytest

from governor_agents.core.calls import freeze
from governor_agents.handlers.message import parse_visible
from governor_agents.handlers.terminal import local_person

ME = local_person()
HOSTILE = "\u202ea\u200bb\x1b[2J\r\n<script>[bold]`\\u{41}" + " " * 40 + "x" * 3000
KEYS = {
    "id", "run", "run_state", "tenant", "agent", "requester", "conversation", "tool", "state", "outcome", "arguments",
    "args", "args_sha256", "digest", "approvers", "people", "deadline", "votes", "stages", "reason_required",
}  # fmt: skip


def test_list_shows_what_waits_as_table_and_as_json(shop) -> None:
    first, second = shop.ask(order="1"), shop.ask(order="2", amount=77)
    lines = shop("inbox", "list").out.splitlines()
    assert lines[0].split() == ["ID", "TOOL", "AGENT", "ASKED", "FOR", "BY", "APPROVERS", "DEADLINE"]
    assert [line.split()[0] for line in lines[1:]] == [first, second]
    found = shop("inbox", "list", "--json").json
    assert [entry["id"] for entry in found] == [first, second]
    assert all(entry.keys() >= KEYS for entry in found)
    assert found[0]["arguments"] == {"amount": 120, "note": "", "order": "1"}


def test_a_digest_that_never_was_is_refused_when_a_decision_is_repeated_too(shop) -> None:
    """Saying the same again is no error, saying it of another request is."""
    id = shop.ask()
    digest = shop("inbox", "show", id, "--json").json["digest"]
    assert shop("inbox", "approve", id, "--digest", digest).code == 0
    assert shop("inbox", "approve", id).code == shop("inbox", "approve", id, "--digest", digest).code == 0
    told = shop("inbox", "approve", id, "--digest", "zz")
    assert told.code == 2 and "its digest is not zz" in told.err and told.err.count("\n") == 1


def test_list_mine_is_what_i_may_decide(shop) -> None:
    mine, _ = shop.ask(), shop.ask(amount=77)
    assert [entry["id"] for entry in shop("inbox", "list", "--mine", "--json").json] == [mine]


def test_list_of_nothing_is_empty(shop) -> None:
    shop("inbox", "reject", shop.ask())
    told = shop("inbox", "list")
    assert (told.code, told.out) == (0, "") and "nothing waits" in told.err
    assert shop("inbox", "list", "--json").json == []


def test_list_says_when_it_looked_at_a_part(shop) -> None:
    shop.ask(), shop.ask()
    assert "there may be more" in shop("inbox", "list", "--limit", "1").err
    assert shop("inbox", "list", "--limit", "3").err.count("more") == 0


def test_show_says_everything_and_hides_nothing(shop) -> None:
    """Hostile arguments: the text reads back to the stored bytes and holds no character that acts."""
    id = shop.ask(note=HOSTILE)
    shown = shop("inbox", "show", id).out
    frozen = freeze({"order": "4711", "amount": 120, "note": HOSTILE}).decode()
    assert frozen in [parse_visible(line.strip()) for line in shown.splitlines()]
    assert all(line.isprintable() for line in shown.splitlines())
    assert f"governor-agents inbox approve {id}" in shown
    document = shop("inbox", "show", id, "--json")
    assert document.json["args"] == frozen and document.json["arguments"]["note"] == HOSTILE
    assert document.out.isascii() and "\x1b" not in document.out
    assert document.json["digest"] in shown


def test_approve_lets_exactly_these_bytes_run_once(shop) -> None:
    id = shop.ask(note="as shown")
    told = shop("inbox", "approve", id, "--reason", "checked")
    assert told.code == 0 and told.err == ""
    assert told.out.startswith(f"{id} refund is approved: approved by {ME} at ") and "(checked)" in told.out
    shop.work()
    shop.work()
    assert shop.ledger == ["4711 120 as shown"]
    assert shop("inbox", "show", id, "--json").json["state"] == "succeeded"


def test_reject_keeps_it_from_running_and_tells_why(shop) -> None:
    id = shop.ask()
    document = shop("inbox", "reject", id, "--reason", "no invoice", "--json").json
    assert (document["state"], document["told"], document["votes"][0]["by"]) == ("rejected", "no invoice", ME)
    shop.work()
    assert shop.ledger == []


def test_respond_answers_in_the_tools_place(shop) -> None:
    id = shop.ask()
    assert "answered by" in shop("inbox", "respond", id, "it was refunded before").out
    shop.work()
    assert shop.ledger == []
    assert shop("runs", "show", id.rpartition(".")[0], "--json").json["output"] == "it was refunded before"


@pytest.mark.parametrize("source", ["here", "--policy", "--app", "--args-file", "stdin"])
def test_edit_runs_the_new_arguments_and_only_those(shop, source: str) -> None:
    """Wherever policies and arguments come from."""
    id = shop.ask()
    new = json.dumps({"order": "4711", "amount": 30, "note": "edited"})
    (shop.folder / "new.json").write_text(new)
    if source in ("--policy", "--app"):
        (shop.folder / "governor.yaml").rename(shop.folder / "other.yaml")
    words = (
        ["--args-file", {"stdin": "-"}.get(source, "new.json")]
        if source in ("--args-file", "stdin")
        else ["--args", new]
    )
    words += ["--policy", "other.yaml"] if source == "--policy" else []
    if source == "--app":
        (shop.folder / "app.py").write_text((shop.folder / "app.py").read_text().replace("governor.yaml", "other.yaml"))
        words += ["--app", "app:governor"]
    told = shop.process("inbox", "edit", id, *words, "--json", input=new)
    assert told.code == 0, told.err
    assert told.json["arguments"]["amount"] == 30 and told.json["asked_arguments"]["amount"] == 120
    if source == "--policy":
        (shop.folder / "other.yaml").rename(shop.folder / "governor.yaml")
    shop.work()
    assert shop.ledger == ["4711 30 edited"]


def test_edit_needs_policies(shop) -> None:
    """Without policies to ask, an edit would go past them."""
    id = shop.ask()
    (shop.folder / "governor.yaml").unlink()
    told = shop("inbox", "edit", id, "--args", '{"order": "4711", "amount": 5}')
    assert told.code == 2 and "--policy FILE or --app APP:GOVERNOR" in told.err
    assert shop("inbox", "show", id, "--json").json["state"] == "pending"


def test_edit_that_a_policy_denies_changes_nothing(shop) -> None:
    id = shop.ask()
    before = shop("inbox", "show", id, "--json").json
    told = shop("inbox", "edit", id, "--args", '{"order": "4711", "amount": 5000}')
    assert told.code == 2 and "denied by policy: too much" in told.err
    assert shop("inbox", "show", id, "--json").json == before


def test_second_decision_is_refused_and_told_who_was_first(shop) -> None:
    id = shop.ask()
    assert shop("inbox", "reject", id).code == 0
    told = shop("inbox", "approve", id)
    assert told.code == 2 and f"already rejected by {ME}" in told.err
    assert shop("inbox", "reject", id).code == 0  # the same again is no error and changes nothing
    assert len(shop("inbox", "show", id, "--json").json["votes"]) == 1


def test_decision_after_the_deadline_is_refused(shop) -> None:
    id = shop.ask(amount=1)
    time.sleep(1.1)
    told = shop("inbox", "approve", id)
    assert told.code == 2 and f"the deadline of {id} has passed" in told.err


def test_reason_is_required_where_the_policy_says(shop) -> None:
    id = shop.ask(amount=600)
    assert "--reason TEXT" in shop("inbox", "show", id).out
    told = shop("inbox", "approve", id)
    assert told.code == 2 and "asks for a reason" in told.err
    assert shop("inbox", "approve", id, "--reason", "checked").code == 0


def test_who_decides_is_the_operating_systems_word(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an option nor the environment makes somebody an approver."""
    id = shop.ask(amount=77)
    for name in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "cfo@example.com")
    told = shop("inbox", "approve", id)
    assert told.code == 2 and f"{ME} may not decide this" in told.err
    assert shop("inbox", "approve", id, "--by", "cfo@example.com").code == 2
    assert shop("inbox", "show", id, "--json").json["votes"] == []


def test_quorum_says_that_more_are_needed(shop) -> None:
    told = shop("inbox", "approve", shop.ask(amount=22))
    assert told.code == 0 and "waits for more votes" in told.out and "2 of them" in told.out


def test_digest_pins_what_was_seen(shop) -> None:
    id = shop.ask()
    digest = shop("inbox", "show", id, "--json").json["digest"]
    told = shop("inbox", "approve", id, "--digest", digest[:-1] + ("0" if digest[-1] != "0" else "1"))
    assert told.code == 2 and "has changed since it was shown" in told.err
    assert shop("inbox", "approve", id, "--digest", digest).code == 0


def test_tenants_do_not_see_each_other(shop) -> None:
    """Another tenant's id and an unknown one look the same."""
    id = shop.ask(tenant="blue")
    assert shop("inbox", "list", "--json").json == []
    other, unknown = shop("inbox", "approve", id), shop("inbox", "approve", "run_none.1")
    assert other.code == unknown.code == 2
    assert other.err.replace(id, "ID") == unknown.err.replace("run_none.1", "ID")
    assert shop("--tenant", "blue", "inbox", "show", id).out.count("--tenant blue") == 2
    assert shop("inbox", "approve", "--tenant", "blue", id).code == 0


def test_store_is_taken_before_and_behind_the_command(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    id = shop.ask()
    monkeypatch.setenv("GOVERNOR_STORE", "sqlite:///elsewhere.db")
    assert shop("inbox", "list").code == 2
    assert shop("--store", "sqlite:///governor.db", "inbox", "list", "--json").json[0]["id"] == id
    assert shop("inbox", "list", "--store", "sqlite:///governor.db", "--json").json[0]["id"] == id
    assert "--store sqlite:///governor.db" in shop("inbox", "show", id, "--store", "sqlite:///governor.db").out
