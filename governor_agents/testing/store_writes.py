"""What a store promises of its writes: insert, swap, delete, add_below."""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from governor_agents.core.ports import INDEX_FIELDS, OPS_KEPT, Store, Swapped
from governor_agents.errors import StoreError
from governor_agents.testing.store_kit import StoreKit
from governor_agents.testing.store_samples import Run, add, blob, event, index, put, record


class InsertPromises(StoreKit):
    """Promises of ``insert``."""

    def test_insert_gives_version_one(self, store: Store, run: Run) -> None:
        """A new record has version 1."""
        assert run(store.insert(record(), op="a")) == Swapped(won=True, v=1)
        assert run(store.load("run", "t", "r")) == record(v=1)

    def test_insert_keeps_every_field(self, store: Store, run: Run) -> None:
        """What is loaded is what was inserted."""
        fields = index(state="waiting", agent="a", requester="q", conversation="c", pending="p")
        whole = record(body=b"\x00\xff", due=1234.5678, index=fields)
        run(store.insert(whole, op="a"))
        assert run(store.load("run", "t", "r")) == replace(whole, v=1)

    def test_insert_loses_to_an_existing_record(self, store: Store, run: Run) -> None:
        """A second insert loses, is shown the first one's record, and changes nothing."""
        run(store.insert(record(body=b"first"), op="a"))
        first = record(body=b"first", v=1)
        assert run(store.insert(record(body=b"second"), op="b")) == Swapped(won=False, current=first)
        assert run(store.load("run", "t", "r")) == first

    def test_insert_repeated_by_its_op_has_won(self, store: Store, run: Run) -> None:
        """An insert whose answer was lost learns that it won, also when others wrote since."""
        run(store.insert(record(), op="a", events=[event(1)]))
        assert run(store.insert(record(), op="a", events=[event(1)])) == Swapped(won=True, v=1)
        run(store.swap(record(body=b"other", v=1), op="b"))
        assert run(store.insert(record(), op="a", events=[event(1)])) == Swapped(won=True, v=2)
        assert run(store.load("run", "t", "r")) == record(body=b"other", v=2)

    def test_insert_that_lost_leaves_no_event(self, store: Store, run: Run) -> None:
        """Events belong to the write: when it loses, they are not there."""
        run(store.insert(record(), op="a", events=[event(1)]))
        run(store.insert(record(), op="b", events=[event(2)]))
        assert run(store.events("run", "t", "r")) == [event(1)]

    def test_insert_cancelled_can_be_repeated(self, store: Store, run: Run) -> None:
        """Whether or not a cancelled insert happened: repeating it with its op makes it happen once."""

        async def cancelled_then_repeated() -> Swapped:
            task = asyncio.ensure_future(store.insert(record(), op="a", events=[event(1)]))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return await store.insert(record(), op="a", events=[event(1)])

        assert run(cancelled_then_repeated()) == Swapped(won=True, v=1)
        assert run(store.events("run", "t", "r")) == [event(1)]


class SwapPromises(StoreKit):
    """Promises of ``swap``: the one primitive that everything else stands on."""

    def test_swap_raises_the_version_by_one(self, store: Store, run: Run) -> None:
        """Each won swap makes the next version."""
        run(put(store, record()))
        assert run(store.swap(record(v=1), op="a")) == Swapped(won=True, v=2)
        assert run(store.swap(record(v=2), op="b")) == Swapped(won=True, v=3)

    def test_swap_replaces_every_field(self, store: Store, run: Run) -> None:
        """Nothing of the old record shines through: fields that the new one lacks are gone."""
        run(put(store, record(due=5.0, index=index(state="waiting", agent="a", conversation="c"))))
        new = record(body=b"new", v=1, index=index(state="done", requester="q"))
        run(store.swap(new, op="a"))
        assert run(store.load("run", "t", "r")) == replace(new, v=2)

    def test_swap_can_change_one_field_alone(self, store: Store, run: Run) -> None:
        """Due, index fields and body change independently of one another."""
        current = record(v=1)
        run(put(store, current))
        changes: list[dict[str, Any]] = [{"due": 5.0}, {"body": b"new"}, {"due": None}, {"body": b""}]
        for field in sorted(INDEX_FIELDS):
            changes += [{"index": index(**{field: value})} for value in ("one", "two", "")] + [{"index": {}}]
        for change in changes:
            changed = replace(current, **change)
            run(store.swap(changed, op=f"op {current.v}"))
            current = replace(changed, v=current.v + 1)
            assert run(store.load("run", "t", "r")) == current

    @pytest.mark.parametrize("v", [0, 1, 3, 99])
    def test_swap_loses_at_another_version(self, store: Store, run: Run, v: int) -> None:
        """Only the stored version can be replaced; the loser is shown what stands, and changes nothing."""
        run(put(store, record()))
        run(store.swap(record(body=b"stands", v=1), op="a"))
        stands = record(body=b"stands", v=2)
        answer = run(store.swap(record(body=b"lost", v=v), op="b", events=[event(1)]))
        assert answer == Swapped(won=False, current=stands)
        assert run(store.load("run", "t", "r")) == stands

    def test_swap_loses_without_a_record(self, store: Store, run: Run) -> None:
        """There is nothing to replace, and nothing comes into being."""
        assert run(store.swap(record(v=1), op="a")) == Swapped(won=False)
        assert run(store.swap(record(v=0), op="b")) == Swapped(won=False)
        assert run(store.load("run", "t", "r")) is None

    def test_swap_that_lost_leaves_no_event(self, store: Store, run: Run) -> None:
        """Events belong to the write: when it loses, they are not there."""
        run(put(store, record()))
        run(store.swap(record(v=1), op="a", events=[event(1)]))
        run(store.swap(record(v=1), op="b", events=[event(2)]))
        assert run(store.events("run", "t", "r")) == [event(1)]

    def test_swap_repeated_by_its_op_has_won(self, store: Store, run: Run) -> None:
        """A swap whose answer was lost learns that it won, and is not done a second time."""
        run(put(store, record()))
        for _ in range(3):
            assert run(store.swap(record(v=1), op="a", events=[event(1)])) == Swapped(won=True, v=2)
        assert run(store.events("run", "t", "r")) == [event(1)]

    def test_swap_repeated_behind_another_writer_has_won(self, store: Store, run: Run) -> None:
        """An op is found again after others wrote; the answer has the version as it stands now."""
        run(put(store, record()))
        run(store.swap(record(body=b"mine", v=1), op="a"))
        run(store.swap(record(body=b"theirs", v=2), op="b"))
        assert run(store.swap(record(body=b"mine", v=1), op="a")) == Swapped(won=True, v=3)
        assert run(store.load("run", "t", "r")) == record(body=b"theirs", v=3)

    def test_swap_repeated_at_the_new_version_is_not_done_twice(self, store: Store, run: Run) -> None:
        """One op is one write, also for a caller that read the record again before it repeated itself."""
        run(put(store, record()))
        run(store.swap(record(v=1), op="a"))
        assert run(store.swap(record(body=b"again", v=2), op="a")) == Swapped(won=True, v=2)
        assert run(store.load("run", "t", "r")) == record(v=2)

    def test_swap_remembers_its_last_ops(self, store: Store, run: Run) -> None:
        """The last `OPS_KEPT` ops of a record are found again, each of them."""
        run(put(store, record()))
        for v in range(1, OPS_KEPT + 1):
            run(store.swap(record(v=v), op=f"op {v}"))
        for v in range(1, OPS_KEPT + 1):
            assert run(store.swap(record(v=v), op=f"op {v}")) == Swapped(won=True, v=OPS_KEPT + 1)

    def test_swap_mistakes_no_op_for_another(self, store: Store, run: Run) -> None:
        """Ops are told apart whole: a part, a longer form or another case of one is another."""
        run(put(store, record()))
        run(store.swap(record(v=1), op="abcdef,123"))
        for other in ("abcdef", "bcd", "123", ",", "abcdef,1234", "ABCDEF,123", "%", "_", "*"):
            assert not run(store.swap(record(v=1), op=other)).won

    def test_swap_keeps_the_ops_of_each_record_apart(self, store: Store, run: Run) -> None:
        """The same op on another record is another write."""
        run(put(store, record("r"), record("other")))
        run(store.swap(record("r", v=1), op="a"))
        assert run(store.swap(record("other", v=9), op="a")) == Swapped(won=False, current=record("other", v=1))

    def test_swap_cancelled_can_be_repeated(self, store: Store, run: Run) -> None:
        """Whether or not a cancelled swap happened: repeating it with its op makes it happen once."""
        run(put(store, record()))

        async def cancelled_then_repeated() -> Swapped:
            task = asyncio.ensure_future(store.swap(record(v=1), op="a", events=[event(1)]))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return await store.swap(record(v=1), op="a", events=[event(1)])

        assert run(cancelled_then_repeated()) == Swapped(won=True, v=2)
        assert run(store.events("run", "t", "r")) == [event(1)]

    def test_swap_refuses_an_event_that_exists(self, store: Store, run: Run) -> None:
        """Events never change: a write that would change one raises, and nothing of it stands."""
        run(put(store, record()))
        run(store.swap(record(v=1), op="a", events=[event(1, b"true")]))
        with pytest.raises(StoreError):
            run(store.swap(record(body=b"new", v=2), op="b", events=[event(2), event(1, b"forged")]))
        assert run(store.events("run", "t", "r")) == [event(1, b"true")]
        assert run(store.load("run", "t", "r")) == record(v=2)
        assert run(store.swap(record(v=2), op="b", events=[event(2)])) == Swapped(won=True, v=3)

    def test_swap_that_failed_disturbs_no_other(self, store: Store, run: Run) -> None:
        """Writes that happen at the same time stand or fail each for itself."""
        versions = [1, 1, 1, 1, 2, 1, 1, 1, 1]
        run(put(store, *(record(f"r{number}") for number in range(9))))
        run(store.swap(record("r4", v=1), op="a", events=[event(1)]))

        async def all_at_once() -> list[Swapped | BaseException]:
            writes = (store.swap(record(f"r{n}", v=v), op="b", events=[event(1)]) for n, v in enumerate(versions))
            return await asyncio.gather(*writes, return_exceptions=True)

        answers = run(all_at_once())
        assert isinstance(answers.pop(4), StoreError)
        assert answers == [Swapped(won=True, v=2)] * 8
        assert run(store.load("run", "t", "r4")) == record("r4", v=2)


class TimedSwapPromises(StoreKit):
    """Promises of ``swap`` with ``not_after``."""

    def test_swap_wins_before_not_after(self, store: Store, run: Run) -> None:
        """A write in time is like any other."""
        run(put(store, record()))
        later = run(store.now()) + 3600
        assert run(store.swap(record(v=1), op="a", not_after=later)) == Swapped(won=True, v=2)

    def test_swap_is_late_behind_not_after(self, store: Store, run: Run) -> None:
        """A write that comes too late loses, says so, and leaves nothing behind."""
        run(put(store, record()))
        earlier = run(store.now()) - 1
        answer = run(store.swap(record(body=b"late", v=1), op="a", not_after=earlier, events=[event(1)]))
        assert answer == Swapped(won=False, current=record(v=1), late=True)
        assert run(store.load("run", "t", "r")) == record(v=1)
        assert run(store.events("run", "t", "r")) == []

    def test_swap_that_was_late_may_be_done_in_time(self, store: Store, run: Run) -> None:
        """A late write used nothing up, not even its op."""
        run(put(store, record()))
        now = run(store.now())
        run(store.swap(record(v=1), op="a", not_after=now - 1))
        assert run(store.swap(record(v=1), op="a", not_after=now + 3600)) == Swapped(won=True, v=2)

    def test_swap_at_another_version_is_not_called_late(self, store: Store, run: Run) -> None:
        """Who lost to another writer must look at that write first, whatever the time."""
        run(put(store, record()))
        run(store.swap(record(v=1), op="a"))
        answer = run(store.swap(record(v=1), op="b", not_after=run(store.now()) - 1))
        assert answer == Swapped(won=False, current=record(v=2))

    def test_swap_repeated_too_late_has_won(self, store: Store, run: Run) -> None:
        """A write that was in time stands, however late its answer is asked for again."""
        run(put(store, record()))
        run(store.swap(record(v=1), op="a"))
        assert run(store.swap(record(v=1), op="a", not_after=run(store.now()) - 1)) == Swapped(won=True, v=2)


class DeletePromises(StoreKit):
    """Promises of ``delete``."""

    def test_delete_removes_the_record(self, store: Store, run: Run) -> None:
        """It is gone from everywhere."""
        run(put(store, record(due=1.0, index=index(state="s"))))
        assert run(store.delete("run", "t", "r", 1)) is True
        assert run(store.load("run", "t", "r")) is None
        assert run(store.due("run", "t")) == run(store.list("run", "t")) == []
        assert run(store.list("run", "t", {"state": "s"})) == []

    def test_delete_loses_at_another_version(self, store: Store, run: Run) -> None:
        """Who read an older record does not delete the newer one."""
        run(put(store, record()))
        run(store.swap(record(v=1), op="a", events=[event(1)]))
        assert run(store.delete("run", "t", "r", 1)) is False
        assert run(store.load("run", "t", "r")) == record(v=2)
        assert run(store.events("run", "t", "r")) == [event(1)]

    def test_delete_may_be_asked_twice(self, store: Store, run: Run) -> None:
        """What is not there is gone: whoever lost the answer and asks again learns the same."""
        run(put(store, record()))
        assert run(store.delete("run", "t", "other", 1)) is True
        assert run(store.delete("run", "t", "r", 1)) is True
        assert run(store.delete("run", "t", "r", 1)) is True

    def test_delete_removes_the_events_of_this_record_only(self, store: Store, run: Run) -> None:
        """Its events go with it, those of its neighbours stay."""
        for id in ("r", "r2"):
            run(store.insert(record(id), op="a", events=[event(1), event(2)]))
        run(store.delete("run", "t", "r", 1))
        assert run(store.events("run", "t", "r")) == []
        assert run(store.events("run", "t", "r2")) == [event(1), event(2)]

    def test_delete_removes_the_blobs_of_this_record_only(self, store: Store, run: Run) -> None:
        """Its content goes with it, equal content of its neighbours stays."""
        same = blob(b"data")
        for id in ("r", "r2"):
            run(store.insert(record(id), op="a", blobs=[same]))
        run(store.delete("run", "t", "r", 1))
        assert run(store.blob("run", "t", "r", same.id)) is None
        assert run(store.blob("run", "t", "r2", same.id)) == b"data"
        run(store.insert(record(), op="b"))
        assert run(store.blob("run", "t", "r", same.id)) is None

    def test_delete_makes_room_for_a_new_record(self, store: Store, run: Run) -> None:
        """A record of the same name begins anew: version 1, no ops, no events."""
        run(store.insert(record(), op="a", events=[event(1)]))
        run(store.delete("run", "t", "r", 1))
        assert run(store.swap(record(v=1), op="a")) == Swapped(won=False)
        assert run(store.insert(record(body=b"new"), op="b", events=[event(1)])) == Swapped(won=True, v=1)
        assert run(store.insert(record(), op="a")) == Swapped(won=False, current=record(body=b"new", v=1))


class CounterPromises(StoreKit):
    """Promises of ``add_below``."""

    def test_add_below_counts_from_nothing(self, store: Store, run: Run) -> None:
        """A counter that nobody used stands at zero."""
        assert [run(add(store, 2, 100)) for _ in range(3)] == [2, 4, 6]

    def test_add_below_reaches_its_limit_and_no_more(self, store: Store, run: Run) -> None:
        """The limit itself may be reached; what would go beyond is refused and changes nothing."""
        assert run(add(store, 7, 10)) == 7
        assert run(add(store, 4, 10)) is None
        assert run(add(store, 3, 10)) == 10
        assert run(add(store, 1, 10)) is None

    def test_add_below_may_refuse_the_first_amount(self, store: Store, run: Run) -> None:
        """A refused first amount leaves the counter at zero."""
        assert run(add(store, 11, 10)) is None
        assert run(add(store, 10, 10)) == 10

    def test_add_below_takes_amounts_back(self, store: Store, run: Run) -> None:
        """A negative amount makes room again."""
        run(add(store, 10, 10))
        assert run(add(store, -4, 10)) == 6
        assert run(add(store, 5, 10)) is None
        assert run(add(store, 4, 10)) == 10

    def test_add_below_counts_exactly_far_up(self, store: Store, run: Run) -> None:
        """Large numbers are counted to the last digit."""
        assert run(add(store, 2**53 - 1, 2**53)) == 2**53 - 1
        assert run(add(store, 1, 2**53)) == 2**53
        assert run(add(store, 1, 2**53)) is None

    def test_add_below_adds_an_op_once(self, store: Store, run: Run) -> None:
        """Whoever lost the answer asks again under the same op, and learns the sum as it stands."""
        first = run(store.add_below("t", "c", 6, 10, op="a"))
        assert run(store.add_below("t", "c", 6, 10, op="a")) == first == 6
        assert run(add(store, 3, 10)) == 9
        assert run(store.add_below("t", "c", 6, 10, op="a")) == 9
        assert run(store.add_below("t", "c", 6, 10, op="b")) is None
        assert run(store.add_below("t", "c", 6, 10, op="b")) is None

    def test_add_below_keeps_counters_apart(self, store: Store, run: Run) -> None:
        """Each id counts for itself."""
        run(add(store, 5, 10))
        assert run(add(store, 1, 10, "c2")) == 1
