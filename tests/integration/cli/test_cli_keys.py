"""``keys list`` and ``keys rotate``, and the whole way of a call under keys from the environment."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from governor_agents.keys import Keys

SECRET = "planted-secret-4711"


@pytest.fixture
def keyed(shop: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The shop with a key file in the environment."""
    monkeypatch.setenv("GOVERNOR_KEYS", "keys.json")
    assert shop("keys", "rotate").code == 0
    return shop


def test_rotate_makes_the_file_and_adds_to_it(shop: Any) -> None:
    """The first time makes it, with a word of what it is worth; each further one adds a key, which seals."""
    first = shop("keys", "rotate", "--file", "keys.json")
    assert first.code == 0 and "keep a copy" in first.err
    second = shop("keys", "rotate", "--file", "keys.json")
    assert second.code == 0 and "restarted" in second.err
    listed = shop("keys", "list", "--file", "keys.json", "--json").json
    assert [key["seals"] for key in listed["sealing"]] == [False, True]
    assert listed["sealing"][1]["id"] in second.out
    assert listed["verify"] == Keys.from_file("keys.json").signing.public_key().public_bytes_raw().hex()


def test_list_shows_no_key(keyed: Any) -> None:
    """Neither the table nor the JSON holds a secret of the file."""
    document = json.loads(Path("keys.json").read_text())
    shown = keyed("keys", "list").out + keyed("keys", "list", "--json").out
    assert document["sealing"][0]["id"] in shown
    for secret in (document["root"], document["sealing"][0]["key"]):
        assert secret not in shown
    assert keyed("keys", "list", "--json").json["verify_id"] in keyed("keys", "list").out


def test_bad_key_files_are_one_line(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file named, none there, one that others may read, one that is something else: exit code 2 and the mend."""
    assert "GOVERNOR_KEYS" in shop("keys", "list").err
    assert "make one: governor-agents keys rotate --file none.json" in shop("keys", "list", "--file", "none.json").err
    shop("keys", "rotate", "--file", "keys.json")
    Path("keys.json").chmod(0o644)
    assert "chmod 600 keys.json" in shop("keys", "list", "--file", "keys.json").err
    monkeypatch.setenv("GOVERNOR_KEYS", "keys.json")
    shop.folder.joinpath("governor.db").touch()
    told = shop("runs", "list")
    assert told.code == 2 and "chmod 600 keys.json" in told.err and told.err.count("\n") == 1


def test_a_call_goes_its_way_under_keys(keyed: Any) -> None:
    """Asked, approved on the command line, run by a worker in another process; nothing stands in clear on the disk."""
    approval = keyed.ask(order=SECRET)
    assert keyed("inbox", "approve", approval).code == 0
    keyed.work()
    assert keyed.ledger == [f"{SECRET} 120 "]
    assert keyed("runs", "list", "--json").json[0]["state"] == "completed"
    assert SECRET in keyed("runs", "show", approval.partition(".")[0], "--json").out
    for file in keyed.folder.glob("governor.db*"):
        assert SECRET.encode() not in file.read_bytes(), file
        assert b"refund" not in file.read_bytes(), file


def test_without_the_keys_a_sealed_store_is_refused(keyed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one line that says what is missing; nothing is written beside what is sealed."""
    approval = keyed.ask()
    monkeypatch.delenv("GOVERNOR_KEYS")
    for words in (["runs", "list"], ["inbox", "approve", approval], ["worker", "app:governor", "--once"]):
        told = keyed.process(*words)
        assert told.code == 2 and "GOVERNOR_KEYS names the key file" in told.err and told.err.count("\n") == 1, words
    monkeypatch.setenv("GOVERNOR_KEYS", "keys.json")
    assert keyed("inbox", "approve", approval).code == 0


def test_other_keys_are_refused(keyed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key file of another installation opens nothing, and says so."""
    approval = keyed.ask()
    keyed("keys", "rotate", "--file", "other.json")
    monkeypatch.setenv("GOVERNOR_KEYS", "other.json")
    told = keyed("inbox", "approve", approval)
    assert told.code == 2 and "sealed under other keys" in told.err and told.err.count("\n") == 1


def test_what_was_written_in_clear_is_refused_once_keys_are_set(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken over silently: the store is named and stays as it was."""
    approval = shop.ask()
    body = "SELECT body FROM ga_record WHERE kind = 'run'"
    before = sqlite3.connect("governor.db").execute(body).fetchall()
    monkeypatch.setenv("GOVERNOR_KEYS", "keys.json")
    shop("keys", "rotate")
    told = shop("inbox", "approve", approval)
    assert told.code == 2 and "holds records in clear" in told.err and "unset GOVERNOR_KEYS" in told.err
    worked = shop.process("worker", "app:governor", "--once")
    assert worked.code == 2 and shop.ledger == []
    assert sqlite3.connect("governor.db").execute(body).fetchall() == before


def test_a_rotation_needs_no_stop(keyed: Any) -> None:
    """What was asked under the older key is decided and run under the newer one."""
    approval = keyed.ask()
    assert keyed("keys", "rotate").code == 0
    assert keyed("inbox", "approve", approval).code == 0
    keyed.work()
    assert keyed.ledger == ["4711 120 "]
