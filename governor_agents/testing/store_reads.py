"""What a store promises of its reads, its tenants, its clock and its life."""
# ruff: noqa: S101

from __future__ import annotations

import itertools

import pytest

from governor_agents.core.ports import INDEX_FIELDS, KINDS, Held, Record, Store, StoredEvent, Swapped
from governor_agents.testing.store_kit import NewStore, StoreKit
from governor_agents.testing.store_samples import Run, add, blob, event, ids, index, put, record

STRANGE = [*"ü🦉.~%", "a b", "a:b", "a/b", "a'b", 'a"b', "a%b", "a*b", "a{b}", "a\nb", "--", "$where", "\u202e"]
"""Names that a careless query, key or path would trip over."""


class LoadPromises(StoreKit):
    """Promises of ``load``."""

    def test_load_of_nothing_is_none(self, store: Store, run: Run) -> None:
        """What was never written is not there."""
        assert run(store.load("run", "t", "r")) is None

    @pytest.mark.parametrize("body", [b"", b"\x00", bytes(range(256)), b"\xff\xfe", "ü".encode()])
    def test_load_gives_the_bytes_that_were_written(self, store: Store, run: Run, body: bytes) -> None:
        """Bodies are bytes, not text: none is changed on the way."""
        run(put(store, record(body=body)))
        loaded = run(store.load("run", "t", "r"))
        assert loaded is not None
        assert type(loaded.body) is bytes
        assert loaded.body == body

    def test_load_gives_large_bodies_whole(self, store: Store, run: Run) -> None:
        """A conversation of five megabytes is one body."""
        body = bytes(range(256)) * (5 * 4096)
        run(put(store, record(body=body)))
        # Compared outside of the assertion: under CI, pytest would lay five megabytes of difference out for minutes.
        same = run(store.load("run", "t", "r")) == record(body=body, v=1)
        assert same, "the body came back changed"
        run(store.swap(record(body=body[::-1], v=1), op="a"))
        same = run(store.load("run", "t", "r")) == record(body=body[::-1], v=2)
        assert same, "the body came back changed after a swap"

    def test_load_tells_strange_names_apart(self, store: Store, run: Run) -> None:
        """Any text may be an id, a tenant or an index value; each names its own record."""
        ids_of = {tenant: [STRANGE[(at + by) % len(STRANGE)] for by in (0, 1, 5)] for at, tenant in enumerate(STRANGE)}
        pairs = [(tenant, id) for tenant, ids in ids_of.items() for id in ids]
        for tenant, id in pairs:
            run(put(store, record(id, tenant=tenant, body=f"{tenant} {id}".encode(), index=index(agent=id))))
        for tenant, id in pairs:
            wanted = record(id, tenant=tenant, body=f"{tenant} {id}".encode(), index=index(agent=id), v=1)
            assert run(store.load("run", tenant, id)) == wanted
            assert run(store.list("run", tenant, {"agent": id})) == [wanted]

    def test_load_tells_joined_names_apart(self, store: Store, run: Run) -> None:
        """Tenant and id are two names, wherever one ends and the other begins."""
        run(put(store, record("b:c", tenant="a"), record("bc", tenant="a")))
        assert run(store.load("run", "a:b", "c")) is None
        assert run(store.load("run", "ab", "c")) is None

    def test_load_tells_kinds_apart(self, store: Store, run: Run) -> None:
        """The same id in each kind names as many records, and each stays in its kind."""
        for kind in KINDS:
            run(put(store, record(kind=kind, body=kind.encode(), due=1.0)))
        for kind in KINDS:
            wanted = record(kind=kind, body=kind.encode(), due=1.0, v=1)
            assert run(store.load(kind, "t", "r")) == wanted
            assert run(store.list(kind, "t")) == run(store.due(kind, "t")) == [wanted]


class DuePromises(StoreKit):
    """Promises of ``due``."""

    def test_due_comes_by_time_and_id(self, store: Store, run: Run) -> None:
        """The earliest first; among equals the lower id."""
        run(put(store, *(record(id, due=due) for id, due in [("a", 9.0), ("c", 2.5), ("b", 2.5), ("d", 10.0)])))
        assert ids(run(store.due("run", "t"))) == ["b", "c", "a", "d"]

    def test_due_leaves_what_has_not_come(self, store: Store, run: Run) -> None:
        """What is due later, or never, is not due."""
        now = run(store.now())
        run(put(store, record("past", due=now - 1), record("later", due=now + 3600), record("never")))
        assert ids(run(store.due("run", "t"))) == ["past"]

    def test_due_continues_behind_a_row(self, store: Store, run: Run) -> None:
        """Page by page gives each record once, in order, also where many are due at the same time."""
        wanted = [record(f"r{number:02}", due=float(number // 7)) for number in range(40)]
        run(put(store, *reversed(wanted)))
        found: list[Record] = []
        while page := run(store.due("run", "t", limit=3, after=_place(found))):
            assert len(page) <= 3
            found += page
        assert ids(found) == ids(wanted)

    def test_due_follows_swaps(self, store: Store, run: Run) -> None:
        """A swap makes a record due, moves it or ends it."""
        run(put(store, record("a"), record("b", due=5.0)))
        run(store.swap(record("a", due=7.0, v=1), op="a"))
        assert ids(run(store.due("run", "t"))) == ["b", "a"]
        run(store.swap(record("b", due=8.0, v=1), op="b"))
        assert ids(run(store.due("run", "t"))) == ["a", "b"]
        run(store.swap(record("a", v=2), op="c"))
        assert ids(run(store.due("run", "t"))) == ["b"]

    def test_due_gives_whole_records(self, store: Store, run: Run) -> None:
        """What is listed as due is what ``load`` gives."""
        run(put(store, record(due=0.1 + 0.2, body=b"\x00", index=index(state="s", agent="a"))))
        assert run(store.due("run", "t")) == [run(store.load("run", "t", "r"))]

    def test_due_of_nothing_is_empty(self, store: Store, run: Run) -> None:
        """No record, no work; a limit of nothing gives nothing."""
        assert run(store.due("run", "t")) == []
        run(put(store, record(due=1.0)))
        assert run(store.due("run", "t", limit=0)) == []


def _place(found: list[Record]) -> tuple[float, str] | None:
    last = found[-1] if found else None
    return None if last is None or last.due is None else (last.due, last.id)


class ListPromises(StoreKit):
    """Promises of ``list``."""

    def test_list_comes_by_id(self, store: Store, run: Run) -> None:
        """Without a condition everything of the kind is listed, by the code points of its id."""
        names = ["b", "a", "B", "10", "9", "ä", "🦉", "z"]
        run(put(store, *map(record, names)))
        assert ids(run(store.list("run", "t"))) == sorted(names)

    @pytest.mark.parametrize("field", sorted(INDEX_FIELDS))
    def test_list_finds_by_each_field(self, store: Store, run: Run, field: str) -> None:
        """Every index field can be asked for; records with another value, or without it, stay out."""
        others = sorted(INDEX_FIELDS - {field})
        run(put(store, *(record(f"yes{number}", index={field: "v"}) for number in range(5))))
        run(put(store, record("other value", index={field: "V"}), record("none"), record("empty", index={field: ""})))
        run(put(store, record("other fields", index=dict.fromkeys(others, "v"))))
        first = run(store.list("run", "t", {field: "v"}, limit=3))
        assert ids(first) == ["yes0", "yes1", "yes2"]
        assert ids(run(store.list("run", "t", {field: "v"}, limit=3, after="yes2"))) == ["yes3", "yes4"]
        assert ids(run(store.list("run", "t", {field: ""}))) == ["empty"]

    def test_list_finds_by_several_fields(self, store: Store, run: Run) -> None:
        """All conditions must hold, whichever fields are asked for together."""
        fields = sorted(INDEX_FIELDS)
        everything = list(itertools.product("xy", repeat=len(fields)))
        for values in everything:
            run(put(store, record("".join(values), index=dict(zip(fields, values, strict=True)))))
        for size in range(len(fields) + 1):
            for chosen in itertools.combinations(range(len(fields)), size):
                where = {fields[at]: "xy"[at % 2] for at in chosen}
                wanted = ["".join(v) for v in everything if all(v[at] == "xy"[at % 2] for at in chosen)]
                assert ids(run(store.list("run", "t", where))) == wanted

    def test_list_continues_behind_an_id(self, store: Store, run: Run) -> None:
        """Page by page gives each record once, in order."""
        wanted = [f"r{number:02}" for number in range(20)]
        run(put(store, *(record(id) for id in reversed(wanted))))
        found: list[str] = []
        while page := ids(run(store.list("run", "t", limit=3, after=found[-1] if found else ""))):
            assert len(page) <= 3
            found += page
        assert found == wanted
        assert run(store.list("run", "t", limit=0)) == []

    @pytest.mark.parametrize("field", ["id", "tenant", "body", "v", "nothing", "state = '' OR 1=1 --", "$where", ""])
    def test_list_refuses_other_fields(self, store: Store, run: Run, field: str) -> None:
        """Only the closed list of fields can be asked for; no caller's words become part of a query."""
        run(put(store, record()))
        with pytest.raises(ValueError):
            run(store.list("run", "t", {field: "v"}))
        with pytest.raises(ValueError):
            run(store.list("run", "t", {"state": "s", field: "v"}))

    def test_list_follows_swaps(self, store: Store, run: Run) -> None:
        """A record is found by what it is now, not by what it was."""
        run(put(store, record(index=index(state="waiting", agent="a"))))
        run(store.swap(record(v=1, index=index(state="done")), op="a"))
        assert run(store.list("run", "t", {"state": "waiting"})) == run(store.list("run", "t", {"agent": "a"})) == []
        assert run(store.list("run", "t", {"state": "done"})) == [record(v=2, index=index(state="done"))]


class ContentPromises(StoreKit):
    """Promises of ``events`` and ``blob``."""

    def test_events_come_in_order(self, store: Store, run: Run) -> None:
        """By their seq, whatever the order in which they were handed over."""
        run(store.insert(record(), op="a", events=[event(2, b"two"), event(1, b"one")]))
        run(store.swap(record(v=1), op="b", events=[event(10, b"ten"), event(9, b"\x00\xff")]))
        wanted = [event(1, b"one"), event(2, b"two"), event(9, b"\x00\xff"), event(10, b"ten")]
        assert run(store.events("run", "t", "r")) == wanted

    def test_events_continue_behind_a_seq(self, store: Store, run: Run) -> None:
        """A long history is read in pieces."""
        history = [event(seq, str(seq).encode()) for seq in range(1, 31)]
        run(store.insert(record(), op="a", events=history))
        found: list[StoredEvent] = []
        while page := run(store.events("run", "t", "r", after=len(found), limit=7)):
            assert len(page) <= 7
            found += page
        assert found == history

    def test_events_of_nothing_are_empty(self, store: Store, run: Run) -> None:
        """A record without events, and no record at all."""
        run(put(store, record()))
        assert run(store.events("run", "t", "r")) == run(store.events("run", "t", "other")) == []

    def test_blob_is_written_with_its_record(self, store: Store, run: Run) -> None:
        """Content is there when the write that brought it is there."""
        data = [bytes([number]) * 10 for number in range(4)]
        run(store.insert(record(), op="a", blobs=[blob(data[0]), blob(data[1])]))
        run(store.swap(record(v=1), op="b", blobs=[blob(data[2]), blob(data[3])]))
        assert [run(store.blob("run", "t", "r", blob(each).id)) for each in data] == data

    def test_blob_of_nothing_is_none(self, store: Store, run: Run) -> None:
        """Content that was never written is not there."""
        assert run(store.blob("run", "t", "r", "sha256:none")) is None

    def test_blob_may_be_written_again(self, store: Store, run: Run) -> None:
        """Equal content has one id, so writing it twice, even in one write, changes nothing."""
        same = blob(b"same")
        assert run(store.insert(record(), op="a", blobs=[same, same])) == Swapped(won=True, v=1)
        assert run(store.swap(record(v=1), op="b", blobs=[same])) == Swapped(won=True, v=2)
        assert run(store.insert(record("other"), op="a", blobs=[same])) == Swapped(won=True, v=1)
        assert run(store.blob("run", "t", "r", same.id)) == b"same"

    def test_blob_belongs_to_its_record(self, store: Store, run: Run) -> None:
        """Content is found under the record it was written with, and under no other."""
        mine = blob(b"mine")
        run(store.insert(record(), op="a", blobs=[mine]))
        run(put(store, record("r2"), record(kind="thread")))
        assert run(store.blob("run", "t", "r", mine.id)) == b"mine"
        assert run(store.blob("run", "t", "r2", mine.id)) is None
        assert run(store.blob("thread", "t", "r", mine.id)) is None

    def test_blob_may_be_large_or_empty(self, store: Store, run: Run) -> None:
        """Five megabytes, or nothing at all."""
        large, empty = blob(bytes(range(256)) * (5 * 4096)), blob(b"")
        run(store.insert(record(), op="a", blobs=[large, empty]))
        same = run(store.blob("run", "t", "r", large.id)) == large.data
        assert same, "the blob came back changed"
        assert run(store.blob("run", "t", "r", empty.id)) == b""


class ScanPromises(StoreKit):
    """Promises of ``scan``, by which whole stores are copied and counted."""

    def test_scan_shows_every_tenant_in_order(self, store: Store, run: Run) -> None:
        """All records of the kind, by tenant and id, whatever characters these hold."""
        tenants, names = ["a", "a\x00b", "ab", "b:{1}", "é", "🦉"], ["1", "10", "a\x01", "~"]
        for tenant in reversed(tenants):
            run(put(store, *(record(id, tenant=tenant) for id in names)))
        run(put(store, record("other", kind="thread")))
        found = [(held.record.tenant, held.record.id) for held in run(store.scan("run"))]
        assert found == [(tenant, id) for tenant in tenants for id in names]

    def test_scan_continues_behind_a_record(self, store: Store, run: Run) -> None:
        """Page after page, each record comes once."""
        for number in range(23):
            run(put(store, record(f"{number:02}", tenant=f"t{number % 3}")))
        found: list[tuple[str, str]] = []
        while page := run(store.scan("run", limit=4, after=found[-1] if found else None)):
            assert len(page) <= 4
            found += [(held.record.tenant, held.record.id) for held in page]
        assert found == sorted((f"t{number % 3}", f"{number:02}") for number in range(23))

    def test_scan_gives_records_whole(self, store: Store, run: Run) -> None:
        """Each with all its fields, and the ids of the blobs that it owns."""
        one, two = blob(b"one"), blob(b"two")
        whole = record(body=b"\x00\xff", due=1.5, index=index(state="s"))
        run(store.insert(whole, op="a", blobs=[one]))
        run(store.swap(record(body=b"new", due=2.5, index=index(state="d"), v=1), op="b", blobs=[two]))
        run(store.insert(record("r2"), op="a", blobs=[two]))
        first, second = run(store.scan("run"))
        assert first.record == record(body=b"new", due=2.5, index=index(state="d"), v=2)
        assert list(first.blobs) == sorted([one.id, two.id])
        assert second == Held(record("r2", v=1), (two.id,))

    def test_scan_forgets_what_was_deleted(self, store: Store, run: Run) -> None:
        """A deleted record is not shown."""
        run(put(store, record(), record("r2")))
        run(store.delete("run", "t", "r", 1))
        assert [held.record.id for held in run(store.scan("run"))] == ["r2"]

    def test_insert_keeps_the_version_of_a_copy(self, store: Store, run: Run) -> None:
        """A record that is inserted at a version stands at it, and goes on from there."""
        assert run(store.insert(record(v=7), op="a", events=[event(3)])) == Swapped(won=True, v=7)
        assert run(store.insert(record(v=7), op="a", events=[event(3)])) == Swapped(won=True, v=7)
        assert run(store.load("run", "t", "r")) == record(v=7)
        assert run(store.insert(record(v=9), op="b")) == Swapped(won=False, current=record(v=7))
        assert run(store.swap(record(v=7, body=b"new"), op="c")) == Swapped(won=True, v=8)
        with pytest.raises(ValueError):
            run(store.insert(record("other", v=-1), op="d"))


class TenantPromises(StoreKit):
    """One tenant's records are invisible under another."""

    def test_tenants_have_their_own_records(self, store: Store, run: Run) -> None:
        """The same id in two tenants names two records, each with its own ops and versions."""
        run(put(store, record(tenant="one", body=b"1"), record(tenant="two", body=b"2")))
        assert run(store.swap(record(tenant="one", body=b"new", v=1), op="a")) == Swapped(won=True, v=2)
        assert run(store.load("run", "two", "r")) == record(tenant="two", body=b"2", v=1)
        assert run(store.swap(record(tenant="two", v=9), op="a")).won is False

    def test_tenants_cannot_load_or_swap_across(self, store: Store, run: Run) -> None:
        """Another tenant's id is as unknown as one that does not exist."""
        run(put(store, record(tenant="one")))
        assert run(store.load("run", "two", "r")) is None
        assert run(store.swap(record(tenant="two", v=1), op="a")) == Swapped(won=False)

    def test_tenants_cannot_delete_across(self, store: Store, run: Run) -> None:
        """Nor can it be removed, nor its events."""
        run(store.insert(record(tenant="one"), op="a", events=[event(1)]))
        run(store.insert(record(tenant="two"), op="a", events=[event(1)]))
        run(store.delete("run", "three", "r", 1))
        assert run(store.delete("run", "two", "r", 1)) is True
        assert run(store.load("run", "one", "r")) == record(tenant="one", v=1)
        assert run(store.events("run", "one", "r")) == [event(1)]

    def test_tenants_have_their_own_lists(self, store: Store, run: Run) -> None:
        """Neither ``due`` nor ``list`` shows another tenant's records."""
        run(put(store, record(tenant="one", due=1.0, index=index(state="s"))))
        assert run(store.due("run", "two")) == []
        assert run(store.list("run", "two")) == run(store.list("run", "two", {"state": "s"})) == []

    def test_tenants_have_their_own_events_and_blobs(self, store: Store, run: Run) -> None:
        """Knowing an id or a digest opens nothing."""
        run(store.insert(record(tenant="one"), op="a", events=[event(1)], blobs=[blob(b"secret")]))
        assert run(store.events("run", "two", "r")) == []
        assert run(store.blob("run", "two", "r", blob(b"secret").id)) is None
        assert run(store.insert(record(tenant="two"), op="a", events=[event(1, b"own")])) == Swapped(won=True, v=1)
        assert run(store.events("run", "one", "r")) == [event(1)]

    def test_tenants_have_their_own_counters(self, store: Store, run: Run) -> None:
        """One tenant's use takes nothing from another's limit."""
        run(add(store, 10, 10, tenant="one"))
        assert run(add(store, 10, 10, tenant="two")) == 10


class LifePromises(StoreKit):
    """Promises of ``open``, ``close``, ``check`` and ``now``."""

    def test_store_keeps_the_protocol(self, store: Store) -> None:
        """It has every method, a URL, and says whether others can share it."""
        assert isinstance(store, Store)
        assert "://" in store.url
        assert store.shared in (True, False)

    def test_open_twice_keeps_everything(self, store: Store, run: Run) -> None:
        """A second ``open`` is no second beginning."""
        run(put(store, record()))
        run(store.open())
        assert run(store.load("run", "t", "r")) == record(v=1)

    def test_close_twice_is_fine(self, new_store: NewStore, run: Run) -> None:
        """Neither closing twice nor closing what was never open is an error."""
        store = new_store()
        run(store.close())
        run(store.open())
        run(store.close())
        run(store.close())

    def test_close_lets_it_be_opened_again(self, store: Store, run: Run) -> None:
        """A closed store object works again after ``open``."""
        run(store.close())
        run(store.open())
        run(put(store, record("again")))
        assert run(store.load("run", "t", "again")) == record("again", v=1)

    def test_check_finds_nothing_wrong(self, store: Store, run: Run) -> None:
        """The kit runs on the settings that production needs."""
        assert run(store.check()) == []

    def test_now_never_goes_back(self, store: Store, run: Run) -> None:
        """Each answer is at least the one before, and in the end time passes."""

        async def until_it_moves() -> list[float]:
            times = [await store.now()]
            while len(times) < 100 or times[-1] == times[0]:
                times.append(await store.now())
            return times

        times = run(until_it_moves())
        assert times == sorted(times)
