"""``audit`` on the command line: what it prints, what it finds, its exit codes, and that nothing needs the store twice."""

import csv
import json
import re
import sqlite3
from io import StringIO
from pathlib import Path

import pytest

from governor_agents.handlers.terminal import local_person
from governor_agents.keys import Keys

ME = local_person()


@pytest.fixture
def keyed(shop, monkeypatch: pytest.MonkeyPatch):
    """The shop, with keys."""
    Keys.create("keys.json")
    monkeypatch.setenv("GOVERNOR_KEYS", str(Path("keys.json").resolve()))
    return shop


def decided(shop, count: int = 1) -> list[str]:
    """Runs whose call was approved; their ids."""
    ids = [shop.ask(order=str(at)) for at in range(count)]
    for id in ids:
        assert shop("inbox", "approve", id).code == 0
    return [id[:-2] for id in ids]


def test_list_tells_all_runs_or_one_by_time_and_name(keyed) -> None:
    one, other = decided(keyed, 2)
    told = keyed("audit", "list")
    assert told.code == 0 and one in told.out and other in told.out and f"#1 refund  {ME}" in told.out
    events = keyed("audit", "list", one, "--json").json
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["run"] for event in events} == {one}
    assert [event["what"] for event in keyed("audit", "list", one, "--what", "call.", "--json").json] == [
        "call.asked", "call.approved",
    ]  # fmt: skip
    newest = keyed("audit", "list", one, "--limit", "2", "--json")
    assert newest.json == events[-2:] and "there are older ones" in newest.err
    assert keyed("audit", "list", "--since", "1h", "--until", "2999-01-01T00:00+02:00", "--json").json
    assert keyed("audit", "list", "--until", "2001-01-01", "--json").json == []
    assert keyed("audit", "list", "--until", "2001-01-01").err == "no such events\n"


def test_refused_requests_are_listed_apart(keyed) -> None:
    [run] = decided(keyed)
    assert keyed("audit", "list", "--security").err == "nothing was refused\n"
    assert keyed("inbox", "reject", f"{run}.1").code == 2
    assert keyed("inbox", "approve", "run_none.1\u202e").code == 2
    told = keyed("audit", "list", "--security")
    assert [line.split()[3] for line in told.out.splitlines()[1:]] == ["refused.already_decided", "refused.not_found"]
    assert f"{run}.1" in told.out and ME in told.out and "\u202e" not in told.out
    assert [line["what"] for line in keyed("audit", "list", "--security", "--json").json] == [
        "refused.already_decided", "refused.not_found",
    ]  # fmt: skip
    assert "refused" not in keyed("audit", "list").out


@pytest.mark.parametrize("kind", ["audit", "halt"])
def test_a_record_that_was_touched_is_one_finding(keyed, kind: str) -> None:
    """A day of refused requests, or what is halted: the rest is still looked at, listed and exported."""
    [run] = decided(keyed)
    keyed("inbox", "reject", f"{run}.1")
    keyed("halt", "tool:other", "--reason", "flood")
    with sqlite3.connect("governor.db") as database:
        ((id, body),) = database.execute("SELECT id, body FROM ga_record WHERE kind = ?", [kind]).fetchall()
        body = body[:-1] + bytes([body[-1] ^ 1])
        database.execute("UPDATE ga_record SET body = ? WHERE kind = ?", [body, kind])
    told = keyed("audit", "verify", "--json")
    assert told.code == 1 and told.json["trails"] == 3
    assert [(each["code"], each["id"]) for each in told.json["findings"]] == [("unreadable", id)]
    assert keyed("audit", "checkpoint").code == 0
    told = keyed("audit", "export")
    assert run in told.out
    if kind == "audit":
        assert told.code == 1 and "refused." not in told.out and f"left out: audit {id}: " in told.err
        told = keyed("audit", "list", "--security")
        assert (told.code, told.out) == (1, "") and f"left out: audit {id}: " in told.err
        assert "nothing was refused" not in told.err
    assert keyed("audit", "list").code == 0 and run in keyed("audit", "list").out


def test_checkpoint_signs_prints_and_writes(keyed) -> None:
    decided(keyed)
    told = keyed("audit", "checkpoint", "--out", "one.json")
    assert told.code == 0 and "checkpoint 1 of " in told.out and "1 (all trails)" in told.out
    document = json.loads(Path("one.json").read_text())
    assert document["statement"]["number"] == 1 and document["statement"]["full"] is True
    again = keyed("audit", "checkpoint", "--json")
    assert again.json == document and "nothing changed since checkpoint 1" in again.err
    decided(keyed)
    assert keyed("audit", "checkpoint", "--json").json["statement"]["heads"] == 1
    assert keyed("audit", "checkpoint", "--full", "--json").json["statement"]["heads"] == 2
    assert keyed("audit", "verify", "--checkpoint", "one.json").out == (
        "nothing was changed: 2 trails, 10 events, 4 checkpoints\n"
    )


def cut(run: str, behind: int) -> None:
    """Somebody takes the end of a trail away."""
    with sqlite3.connect("governor.db") as database:
        database.execute("DELETE FROM ga_event WHERE id = ? AND seq > ?", [run, behind])


def test_verify_finds_what_was_taken_away_and_exits_with_1(keyed) -> None:
    one, other = decided(keyed, 2)
    keyed("audit", "checkpoint", "--out", "kept.json")
    cut(one, 3)
    told = keyed("audit", "verify")
    assert told.code == 1
    assert told.out.splitlines() == [
        f"cut         {one} event 3: the trail ends at event 3, the record says at 5: the end is cut",
        f"cut         {one} event 3: the trail ends at event 3; checkpoint 1 has 5: the end was cut, or an older row put back",
        "2 findings in 2 trails, 8 events, 1 checkpoint",
    ]
    found = keyed("audit", "verify", "--checkpoint", "kept.json", "--json")
    assert found.code == 1 and found.json["trails"] == 2
    assert [finding["code"] for finding in found.json["findings"]] == ["cut"] * 2
    assert found.json["findings"][0] == {
        "code": "cut", "kind": "run", "id": one, "seq": 3,
        "means": "the trail ends at event 3, the record says at 5: the end is cut",
    }  # fmt: skip
    assert keyed("audit", "verify", other).code == 0
    assert keyed("audit", "verify", one).code == 1


def test_a_run_that_is_gone_is_still_known_to_checkpoints(keyed) -> None:
    [run] = decided(keyed)
    keyed("audit", "checkpoint")
    with sqlite3.connect("governor.db") as database:
        database.execute("DELETE FROM ga_event WHERE id = ?", [run])
        database.execute("DELETE FROM ga_record WHERE id = ?", [run])
    for words in ([], [run]):
        told = keyed("audit", "verify", *words)
        assert (
            told.code == 1
            and f"gone        {run} event 0: the whole run is gone; checkpoint 1 has it with 5" in told.out
        )


def test_an_export_is_verified_without_store_and_secret(keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the public key alone, also in a folder of its own; what was changed in it is found."""
    one, other = decided(keyed, 2)
    keyed("inbox", "approve", "run_none.1")
    keyed("audit", "checkpoint", "--out", "kept.json")
    public = re.findall(r"[0-9a-f]{64}", keyed("keys", "list").out)[0]
    assert keyed("audit", "export", "--out", "trail.jsonl").err == "11 events written to trail.jsonl\n"
    text = Path("trail.jsonl").read_text()
    assert keyed("audit", "export").out == text
    assert keyed("audit", "export", one).out in text and other not in keyed("audit", "export", one).out
    monkeypatch.delenv("GOVERNOR_KEYS")
    words = ("audit", "verify", "--file", "trail.jsonl", "--checkpoint", "kept.json", "--public-key", public)
    assert keyed(*words).out == "nothing was changed: 3 trails, 11 events, 1 checkpoint\n"
    assert keyed(*words, one).out == "nothing was changed: 1 trail, 5 events, 1 checkpoint\n"
    told = keyed(*words, "nope")
    assert (told.code, told.out) == (2, "") and "no run nope in trail.jsonl" in told.err
    lines = text.splitlines(keepends=True)
    for changed, codes in (
        (lines[:3] + lines[4:], {"missing", "unlinked"}),
        ([*lines[:3], lines[4], lines[3], *lines[5:]], {"missing", "unlinked"}),
        ([lines[0].replace("run.started", "run.stopped"), *lines[1:]], {"unlinked"}),
        (lines[5:], {"gone"}),
        (lines[:4] + lines[5:], {"cut"}),
        ([lines[0], "{}\n", *lines[2:]], {"moved", "unlinked", "downgraded"}),
    ):
        Path("trail.jsonl").write_text("".join(changed))
        found = keyed(*words, "--json")
        assert found.code == 1 and {finding["code"] for finding in found.json["findings"]} <= codes
    Path("trail.jsonl").write_text(text)
    assert keyed(*words[:-2], "--public-key", "00" * 32).code == 1  # somebody else's key


def test_csv_is_for_spreadsheets(keyed) -> None:
    """Each event with its place in the chain; nothing in it is a formula."""
    id = keyed.ask(order="1")
    keyed("inbox", "reject", id, "--reason", "=cmd|'/C calc'!A0")
    rows = list(csv.DictReader(StringIO(keyed("audit", "export", "--format", "csv").out)))
    assert [int(row["seq"]) for row in rows] == list(range(1, len(rows) + 1))
    assert [row["prev"] for row in rows[1:]] == [row["sha256"] for row in rows[:-1]]
    assert all(row["mac"].startswith("hmac-sha256:") and row["trail"] == id[:-2] for row in rows)
    assert not [cell for row in rows for cell in row.values() if cell[:1] in ("=", "+", "-", "@")]


def test_without_keys_a_chain_is_still_checked(shop) -> None:
    """It is said what cannot be known then."""
    [run] = decided(shop)
    told = shop("audit", "verify")
    assert told.code == 0 and told.out == "nothing was changed: 1 trail, 5 events, 0 checkpoints\n"
    assert "whether an end was cut off" in told.err and "1 trail without keys" in told.err
    cut(run, 4)
    assert shop("audit", "verify").code == 1


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (
            "checkpoint",
            r"no keys are set: GOVERNOR_KEYS names the key file; .*: governor-agents keys rotate --file PATH",
        ),
        ("list run_none", r"no run run_none \(in tenant default"),
        ("list --since yesterday", r"'yesterday' is no time; write 2026-11-30"),
        ("list --limit 0", r"greater than or equal to 1|0 is not in the range"),
        ("verify run_none", r"no run run_none"),
        ("verify --checkpoint none.json", r"none\.json cannot be read: No such file"),
        ("verify --checkpoint governor.yaml", r"governor\.yaml is not a checkpoint"),
        (
            "verify --public-key governor.yaml",
            r"governor\.yaml is not an Ed25519 public key; `governor-agents keys list`",
        ),
        ("verify --public-key none.pem", r"none\.pem is neither 64 hex digits nor a file"),
        ("verify --file none.jsonl", r"none\.jsonl cannot be read"),
        ("verify --file governor.yaml", r"governor\.yaml is no export of an audit trail"),
        ("export --out governor.yaml", r"governor\.yaml exists already; name a new file"),
        ("export --out none/x.jsonl", r"none/x\.jsonl cannot be written"),
        ("export --format xml", r"'xml' is not one of"),
        ("export run_none", r"no run run_none"),
        ("export run_none --out none.jsonl", r"no run run_none"),
        ("checkpoint --out governor.yaml", r"governor\.yaml exists already; name a new file"),
        ("frob", r"No such command 'frob'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(shop, words: str, pattern: str) -> None:
    decided(shop)
    told = shop("audit", *words.split())
    assert (told.code, told.out) == (2, "")
    assert re.search(pattern, told.err), told.err
    assert told.err.startswith("governor-agents: ") and told.err.count("\n") == 1
    assert not Path("none.jsonl").exists()


def test_no_store_is_made_by_looking(keyed) -> None:
    for words in (["list"], ["verify"], ["export"], ["checkpoint"]):
        assert keyed("audit", *words).code == 2
    assert not Path("governor.db").exists()


def test_worker_makes_checkpoints(keyed) -> None:
    decided(keyed)
    assert keyed.process("worker", "app:governor", "--once", "--checkpoint-every", "5").code == 0
    assert "nothing changed since checkpoint" in keyed("audit", "checkpoint").err
    assert keyed("audit", "verify").code == 0


def test_events_that_are_none_are_listed_as_such(shop) -> None:
    """Whatever somebody wrote into the trail, a list of it can be read; `verify` says what it is."""
    [run] = decided(shop)
    bodies = [b"\xff\x00", b'{"at":"yesterday","by":[1],"n":{},"seq":"x"}', b"[]", b"{}"]
    with sqlite3.connect("governor.db") as database:
        for seq, body in enumerate(bodies, 1):
            database.execute("UPDATE ga_event SET body = ? WHERE id = ? AND seq = ?", [body, run, seq])
    told = shop("audit", "list")
    assert told.code == 0 and told.out.count("(not readable)") == 3
    assert len(shop("audit", "list", "--json").json) == 5
    assert shop("audit", "export").code == shop("audit", "export", "--format", "csv").code == 0
    assert shop("audit", "verify").code == 1


def test_a_broken_seal_hides_one_trail_not_all(keyed) -> None:
    """Lists and exports leave out what cannot be opened, and say so."""
    one, other = decided(keyed, 2)
    with sqlite3.connect("governor.db") as database:
        database.execute("UPDATE ga_event SET body = ? WHERE id = ? AND seq = 2", [b"in clear", one])
    told = keyed("audit", "list")
    assert told.code == 1 and other in told.out and one not in told.out
    assert told.err.startswith(f"governor-agents: not readable, left out: run {one}: event 2")
    told = keyed("audit", "export", "--out", "trail.jsonl")
    assert told.code == 1 and f"left out: run {one}" in told.err and "5 events written" in told.err
    assert keyed("audit", "list", one).code == 2
    told = keyed("audit", "verify")
    assert told.code == 1 and told.out.startswith(
        f"unreadable  {one} event 0: its events cannot be read: run {one}: event 2"
    )
