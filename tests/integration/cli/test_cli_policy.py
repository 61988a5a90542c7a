"""`policy`: publish, show, history, rollback; a mistake publishes nothing, a death publishes all or nothing."""

import os
import signal
import sys

import pytest

from governor_agents.handlers.terminal import local_person

ME = local_person()


def test_a_publication_is_shown_as_it_was_published(shop) -> None:
    """Byte for byte on stdout, who and when on stderr; JSON holds both."""
    told = shop("policy", "publish", "governor.yaml", "--note", "a\u202eb")
    text = (shop.folder / "governor.yaml").read_text()
    assert told.code == 0 and told.out.startswith("version 1 (") and f"by {ME}: a\\u{{202E}}b\n" in told.out
    shown = shop("policy", "show")
    assert (shown.code, shown.out) == (0, text) and shown.err.startswith("# version 1 ")
    document = shop("policy", "show", "--json").json
    assert (document["version"], document["text"], document["by"], document["note"]) == (1, text, ME, "a\u202eb")
    assert shop("policy", "history", "--json").json == [{k: v for k, v in document.items() if k != "text"}]
    assert shop("policy", "publish", "governor.yaml", "--json").json["version"] == 1


def test_a_terminal_shows_what_hides(shop, monkeypatch) -> None:
    """What moves the cursor is written out there, and only there."""
    (shop.folder / "odd.yaml").write_text("version: 1\n# \u202eodd\n")
    shop("policy", "publish", "odd.yaml")
    assert "\u202e" in shop("policy", "show").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\\u{202E}odd" in shop("policy", "show").out


def test_nothing_published_is_one_line(shop) -> None:
    """Exit code 2 where something is asked for, an empty list where a list is; no store is made by looking."""
    for words in (("show",), ("history",), ("rollback", "1")):
        told = shop("policy", *words)
        assert told.code == 2 and told.err.count("\n") == 1 and "there is no store at" in told.err
    shop.ask()
    assert shop("policy", "show").err.count("\n") == 1 and shop("policy", "show").code == 2
    assert shop("policy", "history", "--json").json == []
    told = shop("policy", "rollback", "1")
    assert told.code == 2 and "no version 1 of the published policies" in told.err and told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version: 1\nrules: [{name: a, tool: t, then: maybe}]\n", "bad.yaml:2: "),
        ("version: 2\n", "bad.yaml:1: version: unknown version 2"),
        ("a: [", "bad.yaml:"),
        (None, "bad.yaml: No such file"),
    ],
)
def test_a_mistake_publishes_nothing(shop, text, says) -> None:
    """One line with file and line, exit code 2; what was in force is in force."""
    shop("policy", "publish", "governor.yaml")
    if text is not None:
        (shop.folder / "bad.yaml").write_text(text)
    told = shop("policy", "publish", "bad.yaml")
    assert told.code == 2 and told.out == "" and told.err.count("\n") == 1 and says in told.err, told.err
    assert [each["version"] for each in shop("policy", "history", "--json").json] == [1]


def test_going_back_is_publishing_again(shop) -> None:
    """A new version with the old text; who expected another one publishes nothing."""
    shop("policy", "publish", "governor.yaml")
    (shop.folder / "b.yaml").write_text("version: 1\n")
    shop("policy", "publish", "b.yaml")
    told = shop("policy", "rollback", "1", "--expect", "1")
    assert told.code == 2 and "version 2 is in force, not 1" in told.err
    back = shop("policy", "rollback", "1", "--json").json
    assert (back["version"], back["note"]) == (3, "version 1 again")
    assert shop("policy", "show").out == (shop.folder / "governor.yaml").read_text()
    assert shop("policy", "show", "--version", "2").out == "version: 1\n"
    table = shop("policy", "history").out.splitlines()
    assert table[0].startswith("VERSION") and [line[0] for line in table[1:]] == ["1", "2", "3"]


def test_a_store_that_nobody_else_sees_is_refused(shop) -> None:
    """What is published in the memory of this process is in force nowhere."""
    told = shop("--store", "memory://", "policy", "publish", "governor.yaml")
    assert told.code == 2 and told.err.count("\n") == 1 and "memory" in told.err


def test_a_cache_that_cannot_be_told_is_said(shop) -> None:
    """Published all the same; the password of its URL is not shown."""
    told = shop.process("policy", "publish", "governor.yaml", "--cache", "redis://me:hunter2@127.0.0.1:1/0", "--json")
    assert told.code == 0 and told.json["version"] == 1 and told.json["announced"] is False
    assert "the policy cache was not told" in told.err and "hunter2" not in told.err + told.out
    assert shop("policy", "publish", "governor.yaml", "--json").json["announced"] is None
    wrong = shop("policy", "publish", "governor.yaml", "--cache", "http://me:hunter2@h/0")
    assert wrong.code == 2 and wrong.err.count("\n") == 1 and "hunter2" not in wrong.err


def test_an_edit_asks_the_published_policies_of_the_app(shop) -> None:
    """`inbox edit --app`: its rules are those in force in the store."""
    (shop.folder / "app.py").write_text(
        (shop.folder / "app.py")
        .read_text()
        .replace('Governor.from_file("governor.yaml")', "Governor(Published())")
        .replace("import Governor\n", "import Governor\nfrom governor_agents.publishing import Published\n")
    )
    shop("policy", "publish", "governor.yaml")
    id = shop.ask()
    refused = shop("inbox", "edit", id, "--args", '{"order": "4711", "amount": 2000}', "--app", "app:governor")
    assert refused.code == 2 and "too much" in refused.err
    edited = shop("inbox", "edit", id, "--args", '{"order": "4711", "amount": 100}', "--app", "app:governor")
    assert edited.code == 0, edited.err
    shop.work()
    assert len(shop.ledger) == 1


@pytest.mark.parametrize(("point", "versions"), [("policy.published:before", [1]), ("policy.published:after", [1, 2])])
def test_a_death_publishes_all_or_nothing(shop, point, versions) -> None:
    """Record, document and event are one write."""
    shop("policy", "publish", "governor.yaml")
    (shop.folder / "b.yaml").write_text("version: 1\n")
    env = {**shop.environment, "GOVERNOR_CRASH": point}
    status = os.spawnve(
        os.P_WAIT, sys.executable, [sys.executable, "-m", "governor_agents", "policy", "publish", "b.yaml"], env
    )
    assert status == -signal.SIGKILL
    assert [each["version"] for each in shop("policy", "history", "--json").json] == versions
    shown = shop("policy", "show", "--json").json
    assert shown["version"] == versions[-1] and shop("audit", "verify").code == 0
