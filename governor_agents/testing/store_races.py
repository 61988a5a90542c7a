"""What a store promises when many tasks want the same thing at the same time, and how it wakes who waits."""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from governor_agents.core.ports import Store, Swapped
from governor_agents.testing.clock import MovableClock
from governor_agents.testing.store_kit import NewStore, StoreKit
from governor_agents.testing.store_samples import Run, add, blob, event, gather, ids, put, record

FAR = 3600.0
"""A time-out that no test waits for: when nothing wakes the waiter, the kit's time limit fails the test."""


async def count_up(store: Store, name: str, rounds: int) -> None:
    """Add one to the number in the record's body, ``rounds`` times, with an event for each."""
    for number in range(rounds):
        while True:
            current = await store.load("run", "t", "r")
            assert current is not None
            new = record(body=str(int(current.body) + 1).encode(), v=current.v)
            if (await store.swap(new, op=f"{name} {number}", events=[event(current.v, name.encode())])).won:
                break


class RacePromises(StoreKit):
    """Compare-and-set under concurrency."""

    def test_insert_raced_has_one_winner(self, store: Store, run: Run) -> None:
        """Of 64 inserts of one id one wins, and all others are shown its record."""

        def insert(n: int) -> Coroutine[Any, Any, Swapped]:
            return store.insert(record(body=str(n).encode()), op=str(n), events=[event(n + 1)])

        answers = run(gather(64, insert))
        (winner,) = [number for number, answer in enumerate(answers) if answer.won]
        stands = record(body=str(winner).encode(), v=1)
        assert run(store.load("run", "t", "r")) == stands
        assert [answer for answer in answers if not answer.won] == [Swapped(won=False, current=stands)] * 63
        assert run(store.events("run", "t", "r")) == [event(winner + 1)]

    def test_swap_raced_has_one_winner(self, store: Store, run: Run) -> None:
        """Of 64 swaps of one version one wins, each round; all others are shown its record."""
        run(put(store, record()))
        for v in range(1, 9):

            def swap(n: int, v: int = v) -> Coroutine[Any, Any, Swapped]:
                body = str(n).encode()
                return store.swap(record(body=body, v=v), op=f"{v} {n}", events=[event(v, body)])

            answers = run(gather(64, swap))
            (winner,) = [number for number, answer in enumerate(answers) if answer.won]
            stands = record(body=str(winner).encode(), v=v + 1)
            assert run(store.load("run", "t", "r")) == stands
            assert [answer for answer in answers if not answer.won] == [Swapped(won=False, current=stands)] * 63
            assert run(store.events("run", "t", "r", after=v - 1)) == [event(v, str(winner).encode())]

    def test_swap_raced_loses_no_update(self, store: Store, run: Run) -> None:
        """Tasks that read, add one and swap until they win: every addition counts, with its event."""
        run(put(store, record(body=b"0")))
        run(gather(16, lambda n: count_up(store, str(n), 8)))
        assert run(store.load("run", "t", "r")) == record(body=b"128", v=129)
        assert [each.seq for each in run(store.events("run", "t", "r"))] == list(range(1, 129))

    def test_swap_raced_by_one_op_is_done_once(self, store: Store, run: Run) -> None:
        """One op sent 16 times at once is one write, and each sender learns that it won."""
        run(put(store, record()))
        answers = run(gather(16, lambda n: store.swap(record(body=b"new", v=1), op="a", events=[event(1)])))
        assert answers == [Swapped(won=True, v=2)] * 16
        assert run(store.load("run", "t", "r")) == record(body=b"new", v=2)

    def test_swap_raced_with_delete_has_one_winner(self, store: Store, run: Run) -> None:
        """Either the record is replaced or it is gone, never both."""
        for number in range(16):
            id = f"r{number}"
            run(put(store, record(id)))

            async def both(id: str = id) -> tuple[Swapped, bool]:
                return await asyncio.gather(store.swap(record(id, v=1), op="a"), store.delete("run", "t", id, 1))

            swapped, gone = run(both())
            assert swapped.won is not gone
            assert run(store.load("run", "t", id)) == (None if gone else record(id, v=2))

    def test_delete_raced_removes_it(self, store: Store, run: Run) -> None:
        """Each of many deletes learns that it is gone."""
        run(store.insert(record(), op="a", events=[event(1)], blobs=[blob(b"data")]))
        assert run(gather(16, lambda n: store.delete("run", "t", "r", 1))) == [True] * 16
        assert run(store.load("run", "t", "r")) is None
        assert run(store.events("run", "t", "r")) == []

    def test_add_below_raced_by_one_op_adds_once(self, store: Store, run: Run) -> None:
        """One op sent 16 times at once is one addition."""
        assert run(gather(16, lambda n: store.add_below("t", "c", 3, 100, op="a"))) == [3] * 16

    def test_add_below_raced_is_exact(self, store: Store, run: Run) -> None:
        """64 tasks that each want 3 of 100: 33 get them, no sum is given twice, none exceeds the limit."""
        sums = run(gather(64, lambda n: add(store, 3, 100)))
        assert sorted(each for each in sums if each is not None) == list(range(3, 100, 3))


class WaitPromises(StoreKit):
    """Promises of ``wait``. It is a hint: it may wake for nothing, but it may not sleep through a write."""

    def test_wait_ends_without_a_write(self, store: Store, run: Run) -> None:
        """When nobody writes, it comes back after its time-out with False, sooner or later."""

        async def until_nothing() -> None:
            while await store.wait(0.01):
                pass

        run(until_nothing())

    def test_wait_wakes_for_a_write_before_it(self, store: Store, run: Run) -> None:
        """What was written between two calls wakes the second at once."""
        run(self._quiet(store))
        run(put(store, record()))
        assert run(store.wait(FAR)) is True

    def test_wait_wakes_for_each_kind_of_write(self, store: Store, run: Run) -> None:
        """Insert, swap, delete and a counter: whatever changes the store wakes who waits."""
        run(put(store, record()))

        async def woken(write: Coroutine[Any, Any, Any]) -> bool:
            await self._quiet(store)
            waiting = asyncio.ensure_future(store.wait(FAR))
            await asyncio.sleep(0)
            await write
            return await waiting

        assert run(woken(store.insert(record("other"), op="a"))) is True
        assert run(woken(store.swap(record(v=1), op="b"))) is True
        assert run(woken(store.delete("run", "t", "r", 2))) is True
        assert run(woken(add(store, 1, 10))) is True

    def test_wait_wakes_every_time(self, store: Store, run: Run) -> None:
        """A hundred writes, one after the other: a waiter that looks after each wake-up misses none."""

        async def writer() -> None:
            for number in range(100):
                await put(store, record(f"{number:03}"))

        async def reader() -> list[str]:
            found: list[str] = []
            while len(found) < 100:
                await store.wait(FAR)
                found = ids(await store.list("run", "t", limit=200))
            return found

        async def both() -> list[str]:
            return (await asyncio.gather(reader(), writer()))[0]

        assert run(both()) == [f"{number:03}" for number in range(100)]

    def test_wait_cancelled_can_be_called_again(self, store: Store, run: Run) -> None:
        """A waiter that was cancelled leaves nothing behind that stops or wakes the next one wrongly."""

        async def cancelled_then_again() -> bool:
            await self._quiet(store)
            waiting = asyncio.ensure_future(store.wait(FAR))
            await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            waiting = asyncio.ensure_future(store.wait(FAR))
            await asyncio.sleep(0)
            await put(store, record())
            return await waiting

        assert run(cancelled_then_again()) is True

    async def _quiet(self, store: Store) -> None:
        while await store.wait(0):
            pass


class ClockPromises(StoreKit):
    """Promises about time of a store that takes a ``clock``; every test gives it one that it moves by hand."""

    def test_now_follows_the_clock(self, open_store: NewStore, run: Run) -> None:
        """The store's time is the clock's."""
        clock = MovableClock()
        store = open_store(clock=clock)
        assert run(store.now()) == clock()
        clock.move(0.25)
        assert run(store.now()) == clock()

    def test_now_never_follows_it_back(self, open_store: NewStore, run: Run) -> None:
        """A clock that is set back holds the store's time still until it has caught up."""
        clock = MovableClock()
        store = open_store(clock=clock)
        highest = run(store.now())
        clock.move(-3600)
        assert run(store.now()) == highest
        clock.move(3599)
        assert run(store.now()) == highest
        clock.move(2)
        assert run(store.now()) == highest + 1

    def test_now_never_goes_behind_a_write(self, open_store: NewStore, run: Run) -> None:
        """A time that was written at holds, even when nobody asked for it."""
        clock = MovableClock()
        store = open_store(clock=clock)
        run(put(store, record()))
        written = clock()
        clock.move(-3600)
        assert run(store.now()) == written

    def test_due_comes_on_the_second(self, open_store: NewStore, run: Run) -> None:
        """A record is due from its time on, that time included."""
        clock = MovableClock()
        store = open_store(clock=clock)
        run(put(store, record(due=clock() + 10)))
        clock.move(9.999)
        assert run(store.due("run", "t")) == []
        clock.move(0.001)
        assert ids(run(store.due("run", "t"))) == ["r"]

    def test_due_stays_due_when_the_clock_goes_back(self, open_store: NewStore, run: Run) -> None:
        """What had come due does not become undue."""
        clock = MovableClock()
        store = open_store(clock=clock)
        run(put(store, record(due=clock() + 10)))
        clock.move(10)
        assert ids(run(store.due("run", "t"))) == ["r"]
        clock.move(-3600)
        assert ids(run(store.due("run", "t"))) == ["r"]

    def test_swap_wins_on_the_second_of_not_after(self, open_store: NewStore, run: Run) -> None:
        """``not_after`` itself is in time; anything behind it is late."""
        clock = MovableClock()
        store = open_store(clock=clock)
        run(put(store, record()))
        deadline = clock() + 10
        clock.move(10)
        assert run(store.swap(record(v=1), op="a", not_after=deadline)) == Swapped(won=True, v=2)
        clock.move(0.001)
        assert run(store.swap(record(v=2), op="b", not_after=deadline)).late

    def test_swap_stays_late_when_the_clock_goes_back(self, open_store: NewStore, run: Run) -> None:
        """A deadline that has passed has passed."""
        clock = MovableClock()
        store = open_store(clock=clock)
        run(put(store, record()))
        deadline = clock() + 10
        clock.move(11)
        assert run(store.swap(record(v=1), op="a", not_after=deadline)).late
        clock.move(-3600)
        assert run(store.swap(record(v=1), op="b", not_after=deadline)).late
