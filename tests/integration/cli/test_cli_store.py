"""``store``: check, migrate, stats, copy, export and import, quarantine, as an operator types them."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from governor_agents import Decision, Governor, Worker
from governor_agents.cli.app import run
from governor_agents.core.records import RunState
from governor_agents.handlers.terminal import local_person
from governor_agents.keys import Keys
from tests.integration.cli.conftest import Shop
from tests.stores import KNOWN, STORES

NAMES = [name for name in STORES if name != "redis-cluster"]  # the unit tests of moving have it too
PAIRS = sorted({("sqlite", name) for name in NAMES} | {(name, "sqlite") for name in NAMES})
KILLS = [("sqlite", "sqlite", point) for point in ("backup.inserted:2", "backup.put:after", "halt.set:after")]
KILLS += [(here, there, "backup.inserted:45") for here, there in PAIRS]


@pytest.fixture
def new(tmp_path: Path) -> Callable[[str], str]:
    """Makes the URL of a fresh store."""
    return lambda name: (STORES.get(name) or KNOWN[name])(tmp_path)


def asked(url: str, count: int, tenant: str = "default", *, approved: bool = False) -> list[str]:
    """Approvals that wait in a store, or are given, made by a program that is gone."""
    governor = Governor.from_file("governor.yaml", store=url, tenant=tenant)

    @governor.govern(name="refund")
    def refund(order: str, amount: int, note: str = "") -> str:
        raise AssertionError("only a worker runs it")

    made = [refund.ask_sync(order=str(number), amount=120).approval for number in range(count)]
    for id in made if approved else ():
        governor.decide_sync(id, Decision.approve(), by=local_person())
    governor.close_sync()
    return made


def work(url: str) -> None:
    """Let a worker do all that is due, as the app of the shop would."""
    governor = Governor.from_file("governor.yaml", store=url)

    @governor.govern(name="refund")
    def refund(order: str, amount: int, note: str = "") -> str:
        with Path("ledger").open("a") as ledger:
            ledger.write(f"{order} {amount} {note}\n")
        return f"refunded {amount}"

    async def once() -> None:
        await Worker(governor).run(once=True)
        await governor.close()

    asyncio.run(once())


def digest(text: str) -> str:
    """The digest that a command printed."""
    found = re.search(r"sha256 ([0-9a-f]{64})", text)
    assert found is not None, text
    return found[1]


# -- check, migrate, stats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_safe_store_is_safe(shop: Shop, new: Callable[[str], str], name: str) -> None:
    """Exit 0, and the same as JSON."""
    url = new(name)
    assert shop("store", "migrate", "--store", url).code == 0
    assert "is safe" in shop("store", "check", "--store", url).out
    told = shop("store", "check", "--json", "--store", url)
    assert (told.code, told.json["safe"], told.json["findings"]) == (0, True, [])


def test_an_unsafe_store_is_a_finding(shop: Shop) -> None:
    """It does not open for it, or opens on an explicit word: exit 1 and one line either way."""
    shop("store", "migrate", "--store", "sqlite:///a.db")
    refused = shop("store", "check", "--store", "sqlite:///a.db?synchronous=off")
    assert refused.code == 1 and "synchronous is off" in refused.out and refused.out.count("\n") == 1
    allowed = shop("store", "check", "--json", "--store", "sqlite:///a.db?synchronous=off&unsafe=allow")
    assert allowed.code == 1 and len(allowed.json["findings"]) == 1 and not allowed.json["safe"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:///none.db", "there is no store at"),
        ("sqlite:///governor.yaml", "is not a SQLite database"),
        ("elsewhere://me:secret@host/", "no store is called elsewhere://"),
        ("me:secret@host", "has no scheme"),
        ("memory://", "lives inside one process"),
    ],
)
@pytest.mark.parametrize("command", ["check", "stats", "export", "quarantine"])
def test_a_store_that_is_not_there_is_an_error(shop: Shop, command: str, url: str, why: str) -> None:
    """Exit 2 and one line without the password; nothing is made."""
    more = {"export": ["out.jsonl"], "quarantine": ["--epoch", "e"]}.get(command, [])
    told = shop("store", command, *more, "--store", url)
    assert told.code == 2 and why in told.err and told.err.count("\n") == 1 and "secret" not in told.err
    assert not (shop.folder / "none.db").exists() and not (shop.folder / "out.jsonl").exists()


def test_a_server_that_is_away_is_an_error_and_no_finding(shop: Shop) -> None:
    """Exit 2: nobody knows whether its settings are safe."""
    told = shop("store", "check", "--store", "redis://me:secret@127.0.0.1:1/")
    assert told.code == 2 and "nothing listens there" in told.err and "secret" not in told.err
    asked("sqlite:///a.db", 1)
    told = shop("store", "copy", "sqlite:///a.db", "redis://me:secret@127.0.0.1:1/")
    assert told.code == 2 and told.err.count("\n") == 1


def test_migrate_makes_a_store_and_says_its_schema(shop: Shop) -> None:
    """One line: what is there now, and whether it was made just now."""
    assert re.search(r"schema is version \d+, made now\n$", shop("store", "migrate", "--store", "sqlite:///a.db").out)
    assert re.search(r"schema is version \d+\n$", shop("store", "migrate", "--store", "sqlite:///a.db").out)
    assert shop("store", "migrate", "--store", "memory://").code == 2


@pytest.mark.parametrize("name", NAMES)
def test_stats_count_runs_and_what_waits(shop: Shop, new: Callable[[str], str], name: str) -> None:
    """By tenant and kind; for people and for scripts."""
    url = new(name)
    first = asked(url, 3)[0]
    asked(url, 1, "other")
    assert shop("inbox", "approve", first, "--store", url).code == 0
    told = shop("store", "stats", "--store", url)
    assert told.code == 0 and "2 approvals of 2 runs, the oldest since" in told.out and "1 ready" in told.out
    figures = {(each["tenant"], each["kind"]): each for each in shop("store", "stats", "--json", "--store", url).json}
    runs = figures["default", "run"]
    assert (runs["records"], runs["states"]["waiting"], runs["states"]["ready"]) == (3, 2, 1)
    assert (runs["approvals_waiting"], runs["runs_waiting"]) == (2, 2) and runs["oldest_waiting"] > 0
    assert runs["events"] >= 9 and runs["bytes"]["bodies"] > 0 and len(runs["largest"]) == 3
    assert {tenant for tenant, _ in figures} == {"default", "other"}
    only = shop("store", "stats", "--json", "--tenant", "other", "--store", url).json
    assert [each["tenant"] for each in only] == ["other"]


def test_stats_of_a_sealed_store_need_no_keys(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them it says what it could not count."""
    Keys.create(shop.folder / "keys.json")
    monkeypatch.setenv("GOVERNOR_KEYS", "keys.json")
    asked("sqlite:///a.db", 2)
    assert "2 approvals of 2 runs" in shop("store", "stats", "--store", "sqlite:///a.db").out
    monkeypatch.delenv("GOVERNOR_KEYS")
    told = shop("store", "stats", "--store", "sqlite:///a.db")
    assert told.code == 0 and "approvals of 2 runs" in told.out and "not counted" in told.err


# -- copy ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_a_copy_goes_on_where_the_store_stood(shop: Shop, new: Callable[[str], str], here: str, there: str) -> None:
    """Approved there, run here, once; the old store begins nothing any more."""
    source, target = new(here), new(there)
    first = asked(source, 2)[0]
    assert shop("inbox", "approve", first, "--store", source).code == 0
    told = shop("store", "copy", source, target)
    assert told.code == 0 and "halted and stays so" in told.err
    assert shop("store", "stats", "--json", "--store", target).json
    for url in (source, target):
        work(url)
    assert shop.ledger == ["0 120 "]
    assert [each["scope"] for each in shop("halt", "--json", "--store", source).json] == ["everything"]
    assert shop("halt", "--json", "--store", target).json == []
    assert shop("audit", "verify", "--store", target).code == 0


@pytest.mark.parametrize(("here", "there", "point"), KILLS)
def test_a_copy_that_is_killed_goes_on(
    shop: Shop, new: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, here: str, there: str, point: str
) -> None:
    """SIGKILL at the second and a later record, after a batch, and right behind the halt; said again, it is whole."""
    source, target = new(here), new(there)
    asked(source, 50)
    monkeypatch.setenv("GOVERNOR_CRASH", point)
    killed = shop.process("store", "copy", source, target)
    assert killed.code == -signal.SIGKILL
    monkeypatch.delenv("GOVERNOR_CRASH")
    told = shop("store", "copy", source, target, "--json")
    assert told.code == 0 and told.json["copied"] and told.json["records"] == 51
    assert told.json["written"] < 51 or point == "halt.set:after"
    assert shop("halt", "--json", "--store", target).json == []


def test_nothing_is_copied_while_something_runs(shop: Shop) -> None:
    """A run under a lease is named: exit 1, no halt is set, no other store is made."""
    (approval,) = asked("sqlite:///a.db", 1)
    run_id = approval.rpartition(".")[0]
    shop("inbox", "approve", approval, "--store", "sqlite:///a.db")
    governor = Governor(store="sqlite:///a.db", lease=3600.0)
    claimed = governor.loop.call(governor.open()) or governor.loop.call(governor.beginning.claim(run_id))
    assert claimed.state is RunState.ACTIVE
    told = shop("store", "copy", "sqlite:///a.db", "sqlite:///b.db")
    assert told.code == 1 and f"run {run_id} of tenant default is being driven" in told.out
    assert shop("halt", "--json", "--store", "sqlite:///a.db").json == [] and not (shop.folder / "b.db").exists()
    governor.close_sync()


def test_a_copy_into_another_store_is_refused(shop: Shop) -> None:
    """Exit 1, and nothing is written to it."""
    asked("sqlite:///a.db", 1)
    (other,) = asked("sqlite:///b.db", 1)
    before = shop("store", "stats", "--json", "--store", "sqlite:///b.db").json
    told = shop("store", "copy", "sqlite:///a.db", "sqlite:///b.db")
    assert told.code == 1 and other.rpartition(".")[0] in told.out and "nothing was written" in told.out
    assert shop("store", "stats", "--json", "--store", "sqlite:///b.db").json == before
    assert shop("store", "copy", "sqlite:///a.db", "sqlite:///a.db").code == 2


def test_a_sealed_store_is_copied_without_keys(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the halt needs them: refused in one line, and then taken on the operator's word; sealed it stays."""
    Keys.create(shop.folder / "keys.json")
    monkeypatch.setenv("GOVERNOR_KEYS", "keys.json")
    asked("sqlite:///a.db", 2)
    monkeypatch.delenv("GOVERNOR_KEYS")
    told = shop("store", "copy", "sqlite:///a.db", "sqlite:///b.db")
    assert told.code == 2 and "say --halted" in told.err
    assert shop("store", "copy", "sqlite:///a.db", "sqlite:///b.db", "--halted").code == 0
    assert shop("inbox", "list", "--store", "sqlite:///b.db").code == 2
    monkeypatch.setenv("GOVERNOR_KEYS", "keys.json")
    assert len(shop("inbox", "list", "--json", "--store", "sqlite:///b.db").json) == 2
    assert shop("store", "copy", "sqlite:///a.db", "sqlite:///c.db").code == 0
    assert shop("halt", "--json", "--store", "sqlite:///c.db").json == []
    assert [each["reason"] for each in shop("halt", "--json", "--store", "sqlite:///a.db").json] == ["store copy"]


def test_a_store_that_writes_something_else_is_found(shop: Shop) -> None:
    """The control of the comparison at the end: one byte of the copy changed under our hands, exit 1 and its name."""
    asked("sqlite:///a.db", 3)
    assert shop("store", "copy", "sqlite:///a.db", "sqlite:///b.db").code == 0
    with sqlite3.connect(shop.folder / "b.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = next(name for name in tables if "event" in name)
        database.execute(f"UPDATE {table} SET body = body || ' ' WHERE seq = 1 AND kind = 'run'")
    told = shop("store", "copy", "sqlite:///a.db", "sqlite:///b.db", "--halted")
    assert told.code == 1 and "is not what it is here" in told.out


# -- export and import --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "file"), [("sqlite", "a.jsonl"), *((name, "a.jsonl.gz") for name in NAMES)])
def test_an_export_is_brought_into_another_store(shop: Shop, new: Callable[[str], str], name: str, file: str) -> None:
    """The same digest on both ways, and the approvals wait there as they did."""
    source, target = new(name), new(name)
    made = asked(source, 3)
    written = shop("store", "export", file, "--store", source)
    assert written.code == 0 and (shop.folder / file).stat().st_mode & 0o777 == 0o600
    told = shop("store", "import", file, "--store", target)
    assert told.code == 0 and digest(told.out) == digest(written.err) and "quarantine" in told.err
    assert {each["id"] for each in shop("inbox", "list", "--json", "--store", target).json} == set(made)
    again = shop("store", "import", file, "--json", "--store", target)
    assert again.code == 0 and again.json["written"] == 0
    asked(target, 1)
    assert shop("store", "import", file, "--store", target).code == 1


def test_an_export_goes_through_a_pipe(shop: Shop) -> None:
    """``-`` is stdout, and stdin, which is read whole before anything is written."""
    asked("sqlite:///a.db", 2)
    out = shop.process("store", "export", "-", "--store", "sqlite:///a.db")
    assert out.code == 0 and json.loads(out.out.splitlines()[-1])["end"]["records"] == 2
    cut = shop.process("store", "import", "-", "--store", "sqlite:///b.db", input=out.out[:-20])
    assert cut.code == 2 and "cut off" in cut.err and not (shop.folder / "b.db").exists()
    assert shop.process("store", "import", "-", "--store", "sqlite:///b.db", input=out.out).code == 0
    assert len(shop("inbox", "list", "--json", "--store", "sqlite:///b.db").json) == 2


def test_a_hostile_file_is_one_line_and_nothing_is_written(shop: Shop) -> None:
    """Exit 2 with the number of the line, and no store is made."""
    asked("sqlite:///a.db", 1)
    shop("store", "export", "a.jsonl", "--store", "sqlite:///a.db")
    text = (shop.folder / "a.jsonl").read_text()
    (shop.folder / "a.jsonl").write_text(text.replace('"run"', '"gift"', 1))
    told = shop("store", "import", "a.jsonl", "--store", "sqlite:///b.db")
    assert told.code == 2 and "a.jsonl, line 2: 'gift' is not a kind" in told.err and told.err.count("\n") == 1
    assert not (shop.folder / "b.db").exists()
    assert shop("store", "import", "none.jsonl", "--store", "sqlite:///b.db").code == 2


@pytest.mark.parametrize(
    ("name", "point"), [("sqlite", "backup.inserted:2"), *((name, "backup.inserted:40") for name in NAMES)]
)
def test_an_import_that_is_killed_goes_on(
    shop: Shop, new: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, name: str, point: str
) -> None:
    """SIGKILL while records are written; said again, it is whole."""
    source, target = new("sqlite"), new(name)
    asked(source, 45)
    shop("store", "export", "a.jsonl", "--store", source)
    monkeypatch.setenv("GOVERNOR_CRASH", point)
    assert shop.process("store", "import", "a.jsonl", "--store", target).code == -signal.SIGKILL
    monkeypatch.delenv("GOVERNOR_CRASH")
    told = shop("store", "import", "a.jsonl", "--json", "--store", target)
    assert told.code == 0 and told.json["records"] == 45 and told.json["written"] < 45


# -- a restored copy ----------------------------------------------------------------------------------------------------


class World:
    """A store with an approved call, a backup of it by export, and what happened since: the call ran."""

    def __init__(self, shop: Shop, new: Callable[[str], str], name: str) -> None:
        self.shop = shop
        self.first = new(name)
        self.restored = new(name)
        self.approval = asked(self.first, 1, approved=True)[0]
        assert shop("store", "export", "backup.jsonl", "--store", self.first).code == 0
        work(self.first)
        assert shop.ledger == ["0 120 "]
        assert shop("store", "import", "backup.jsonl", "--store", self.restored).code == 0

    def quarantine(self, epoch: str = "e1") -> None:
        """Put the restored store in quarantine."""
        told = self.shop("store", "quarantine", "--epoch", epoch, "--store", self.restored)
        assert told.code == 0, told.err


@pytest.mark.parametrize("name", NAMES)
def test_without_quarantine_a_restored_copy_runs_it_again(shop: Shop, new: Callable[[str], str], name: str) -> None:
    """The control: the old approval is still there, and nothing knows that it was used up."""
    world = World(shop, new, name)
    work(world.restored)
    assert shop.ledger == ["0 120 ", "0 120 "]


@pytest.mark.parametrize("name", NAMES)
def test_with_quarantine_nothing_runs_without_a_new_approval(shop: Shop, new: Callable[[str], str], name: str) -> None:
    """The worker finds nothing to run; who approves anew is told; what is then approved runs, once."""
    world = World(shop, new, name)
    world.quarantine()
    work(world.restored)
    assert shop.ledger == ["0 120 "]
    shown = shop("inbox", "show", world.approval, "--json", "--store", world.restored).json
    assert (shown["state"], shown["restored"], shown["votes"]) == ("pending", "e1", [])
    assert "may have run since" in shop("inbox", "show", world.approval, "--store", world.restored).out
    world.quarantine()  # the same epoch again
    assert shop("inbox", "approve", world.approval, "--store", world.restored).code == 0
    world.quarantine()  # and after the new decision
    work(world.restored)
    assert shop.ledger == ["0 120 ", "0 120 "]
    assert shop("audit", "verify", "--store", world.restored).code == 0
    assert shop("halt", "--json", "--store", world.restored).json == []


@pytest.mark.parametrize("name", NAMES)
def test_a_quarantine_that_is_killed_stays_halted_and_goes_on(
    shop: Shop, new: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Half way, nothing begins; said again, the rest is done, and the halt is lifted."""
    url = new(name)
    asked(url, 20, approved=True)
    monkeypatch.setenv("GOVERNOR_CRASH", "run.quarantined:after:3")
    assert shop.process("store", "quarantine", "--epoch", "e1", "--store", url).code == -signal.SIGKILL
    monkeypatch.delenv("GOVERNOR_CRASH")
    work(url)
    assert shop.ledger == []
    told = shop("store", "quarantine", "--epoch", "e1", "--json", "--store", url)
    assert told.code == 0 and 0 < told.json[0]["runs"] < 20
    assert shop("halt", "--json", "--store", url).json == []
    assert len(shop("inbox", "list", "--json", "--store", url).json) == 20


def test_a_quarantine_that_is_killed_at_its_end_lifts_its_halt(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it was done but that: said again, it does only that."""
    asked("sqlite:///a.db", 1)
    monkeypatch.setenv("GOVERNOR_CRASH", "halt.lifted:before")
    words = ("store", "quarantine", "--epoch", "e1", "--store", "sqlite:///a.db")
    assert shop.process(*words).code == -signal.SIGKILL
    monkeypatch.delenv("GOVERNOR_CRASH")
    assert len(shop("halt", "--json", "--store", "sqlite:///a.db").json) == 1
    assert "already" in shop(*words).out
    assert shop("halt", "--json", "--store", "sqlite:///a.db").json == []


@pytest.mark.parametrize("name", NAMES)
def test_a_quarantine_of_one_tenant_leaves_the_others(shop: Shop, new: Callable[[str], str], name: str) -> None:
    """And one of all of them takes all; what began after it is none of the old copy, under the same epoch."""
    url = new(name)
    asked(url, 1)
    asked(url, 1, "other")
    one = shop("store", "quarantine", "--epoch", "e1", "--tenant", "other", "--json", "--store", url)
    assert [(each["tenant"], each["runs"]) for each in one.json] == [("other", 1)]
    asked(url, 1, "other")
    both = shop("store", "quarantine", "--epoch", "e1", "--json", "--store", url)
    assert [(each["tenant"], each["runs"]) for each in both.json] == [("default", 1), ("other", 0)]
    assert both.json[1]["done_earlier"] is not None
    again = shop("store", "quarantine", "--epoch", "e2", "--json", "--store", url)
    assert [each["runs"] for each in again.json] == [1, 2]


def test_a_halt_that_stood_before_is_not_lifted(shop: Shop) -> None:
    """Whoever halted everything while he restored lifts it himself."""
    asked("sqlite:///a.db", 1)
    shop("halt", "everything", "--reason", "restoring", "--store", "sqlite:///a.db")
    assert shop("store", "quarantine", "--epoch", "e1", "--store", "sqlite:///a.db").code == 0
    assert [each["reason"] for each in shop("halt", "--json", "--store", "sqlite:///a.db").json] == ["restoring"]


def test_a_run_that_cannot_be_read_keeps_the_halt(shop: Shop) -> None:
    """It is named, the others are done, and nothing begins until somebody has looked: exit 1."""
    (first, _) = asked("sqlite:///a.db", 2)
    run_id = first.rpartition(".")[0]
    with sqlite3.connect("a.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = next(name for name in tables if "record" in name)
        database.execute(f"UPDATE {table} SET body = 'x' WHERE id = ?", (run_id,))
    told = shop("store", "quarantine", "--epoch", "e1", "--json", "--store", "sqlite:///a.db")
    assert told.code == 1 and run_id in told.err and told.json[0]["runs"] == 1
    assert [each["scope"] for each in shop("halt", "--json", "--store", "sqlite:///a.db").json] == ["everything"]


@pytest.mark.parametrize("epoch", ["", " ", "a\nb", "x" * 300])
def test_an_epoch_has_a_name(shop: Shop, epoch: str) -> None:
    """An empty or odd one is refused before anything is touched."""
    assert shop("store", "quarantine", "--epoch", epoch, "--store", "sqlite:///none.db").code == 2


def test_a_sealed_store_is_quarantined_with_its_keys(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them it is refused; with them the trail stays keyed."""
    Keys.create(shop.folder / "keys.json")
    monkeypatch.setenv("GOVERNOR_KEYS", "keys.json")
    asked("sqlite:///a.db", 2)
    told = shop("store", "quarantine", "--epoch", "e1", "--json", "--store", "sqlite:///a.db")
    assert told.code == 0 and told.json[0]["asked"] == 2
    assert shop("audit", "verify", "--store", "sqlite:///a.db").code == 0
    monkeypatch.delenv("GOVERNOR_KEYS")
    assert shop("store", "quarantine", "--epoch", "e2", "--store", "sqlite:///a.db").code == 2


def test_who_quarantined_stands_in_the_trail(shop: Shop) -> None:
    """With the epoch, in the run's own chain."""
    (approval,) = asked("sqlite:///a.db", 1)
    shop("store", "quarantine", "--epoch", "e1", "--store", "sqlite:///a.db")
    lines = shop("audit", "list", approval.rpartition(".")[0], "--json", "--store", "sqlite:///a.db").json
    (line,) = [line for line in lines if line["what"] == "run.quarantined"]
    assert (line["epoch"], line["by"]) == ("e1", local_person())
    assert run(["store", "--help"]) == 0
