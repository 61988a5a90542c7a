"""What a shared store promises to several objects and several processes."""
# ruff: noqa: S101

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest

from governor_agents.core.ports import Record, Store, StoredEvent, Swapped
from governor_agents.testing.store_kit import Child, NewStore, StoreKit
from governor_agents.testing.store_races import FAR, count_up
from governor_agents.testing.store_samples import Run, add, blob, event, gather, ids, index, put, record


class SharedKit(StoreKit):
    """Fixtures for stores that other processes can open."""

    @pytest.fixture
    def opener(self) -> str:
        """``module:function`` that makes a store from its URL in another process. Override it for your own."""
        return "governor_agents.stores:open_store"

    @pytest.fixture
    def other(self, open_store: NewStore, store: Store) -> Store:
        """A second open store object over the same data."""
        return open_store()


class SharingPromises(SharedKit):
    """Two store objects over the same data, and objects that come later."""

    def test_shared_store_says_so(self, store: Store) -> None:
        """``shared`` tells the rest of the package what it may rely on."""
        assert store.shared is True

    def test_reopen_keeps_everything(self, store: Store, new_store: NewStore, run: Run) -> None:
        """Records, ops, events, blobs and counters are there after everybody was gone."""
        whole = record(due=1.5, index=index(state="s"), body=b"\x00")
        run(store.insert(whole, op="a", events=[event(1)], blobs=[blob(b"data")]))
        run(add(store, 3, 10))
        run(store.close())
        again = new_store()
        run(again.open())
        assert run(again.load("run", "t", "r")) == record(due=1.5, index=index(state="s"), body=b"\x00", v=1)
        assert ids(run(again.due("run", "t"))) == ids(run(again.list("run", "t", {"state": "s"}))) == ["r"]
        assert run(again.events("run", "t", "r")) == [event(1)]
        assert run(again.blob("run", "t", "r", blob(b"data").id)) == b"data"
        assert run(add(again, 7, 10)) == 10
        assert run(again.insert(whole, op="a")) == Swapped(won=True, v=1)
        run(again.close())

    def test_write_is_seen_by_others_at_once(self, store: Store, other: Store, run: Run) -> None:
        """When a write has returned, every other object sees it, in every way of looking."""
        for v in range(1, 20):
            if v == 1:
                run(put(store, record(due=1.0)))
            else:
                run(store.swap(record(due=float(v), index=index(state=str(v)), v=v - 1), op=str(v), events=[event(v)]))
                assert ids(run(other.list("run", "t", {"state": str(v)}))) == ["r"]
                assert run(other.events("run", "t", "r", after=v - 1)) == [event(v)]
            loaded = run(other.load("run", "t", "r"))
            assert loaded is not None
            assert loaded.v == v
            assert run(other.due("run", "t")) == [loaded]

    def test_op_is_recognised_by_others(self, store: Store, other: Store, run: Run) -> None:
        """Who repeats a write after a restart, through another object, learns that it won."""
        run(put(store, record()))
        run(store.swap(record(v=1), op="a"))
        assert run(other.swap(record(v=1), op="a")) == Swapped(won=True, v=2)

    def test_swap_raced_by_objects_has_one_winner(self, store: Store, other: Store, run: Run) -> None:
        """Two objects race like two tasks: one winner each round."""
        run(put(store, record()))
        stores = [store, other]
        for v in range(1, 11):

            def swap(n: int, v: int = v) -> Coroutine[Any, Any, Swapped]:
                return stores[n % 2].swap(record(v=v), op=f"{v} {n}")

            assert sum(answer.won for answer in run(gather(16, swap))) == 1

    def test_wait_wakes_for_another_object(self, store: Store, other: Store, run: Run) -> None:
        """A write through one object wakes who waits on another."""

        async def woken() -> bool:
            while await other.wait(0.2):
                pass
            waiting = asyncio.ensure_future(other.wait(FAR))
            await put(store, record())
            return await waiting

        assert run(woken()) is True

    def test_wait_wakes_for_what_came_before(self, store: Store, other: Store, run: Run) -> None:
        """What another object wrote between two calls wakes the second at once."""

        async def woken() -> bool:
            while await other.wait(0.2):
                pass
            await put(store, record())
            return await other.wait(FAR)

        assert run(woken()) is True

    def test_now_never_goes_back_over_a_reopen(self, store: Store, new_store: NewStore, run: Run) -> None:
        """A new object begins where the last one's time was."""
        run(put(store, record()))
        last = run(store.now())
        run(store.close())
        again = new_store()
        run(again.open())
        assert run(again.now()) >= last
        run(again.close())


class ProcessPromises(SharedKit):
    """Other processes, some of which die."""

    def test_url_opens_the_store_elsewhere(self, store: Store, opener: str, run: Run) -> None:
        """Another process that knows only the URL sees the same records."""
        run(put(store, record(body=b"here")))

        async def elsewhere() -> str:
            async with Child(opener, store.url, "show") as child:
                await child.line()
                await child.go()
                return await child.line()

        assert json.loads(run(elsewhere())) == [1, "here"]

    def test_open_raced_by_processes_makes_one_store(self, new_store: NewStore, opener: str, run: Run) -> None:
        """Processes that open a new place at the same time all get the same, whole store."""
        url = new_store().url

        async def raced() -> list[int]:
            async with AsyncExitStack() as stack:
                children = [await stack.enter_async_context(Child(opener, url, "open_raced")) for _ in range(4)]
                for child in children:
                    assert await child.line() == "ready"
                await asyncio.gather(*(child.go() for child in children))
                return sorted([int(await child.line()) for child in children])

        assert run(raced()) == [1, 2, 3, 4]

    def test_swap_raced_by_processes_loses_no_update(self, store: Store, opener: str, run: Run) -> None:
        """Three processes and this one add to one number: every addition counts, with its event."""
        run(put(store, record(body=b"0")))

        async def raced() -> None:
            async with AsyncExitStack() as stack:
                children = [
                    await stack.enter_async_context(Child(opener, store.url, "count_up", f"child {n}", "40"))
                    for n in range(3)
                ]
                for child in children:
                    assert await child.line() == "ready"
                await asyncio.gather(*(child.go() for child in children), count_up(store, "parent", 40))
                for child in children:
                    assert int(await child.line()) >= 0

        run(raced())
        assert run(store.load("run", "t", "r")) == record(body=b"160", v=161)
        assert [each.seq for each in run(store.events("run", "t", "r"))] == list(range(1, 161))

    def test_add_below_raced_by_processes_is_exact(self, store: Store, opener: str, run: Run) -> None:
        """Three processes spend one budget: no sum is given twice, none exceeds the limit, nothing is left."""

        async def raced() -> list[int]:
            async with AsyncExitStack() as stack:
                children = [
                    await stack.enter_async_context(Child(opener, store.url, "spend", "3", "200")) for _ in range(3)
                ]
                for child in children:
                    assert await child.line() == "ready"
                await asyncio.gather(*(child.go() for child in children))
                return sorted([total for child in children for total in json.loads(await child.line())])

        assert run(raced()) == list(range(3, 200, 3))

    def test_wait_wakes_for_another_process(self, store: Store, opener: str, run: Run) -> None:
        """A write of another process wakes who waits here."""
        run(put(store, record()))

        async def woken() -> tuple[bool, str]:
            async with Child(opener, store.url, "swap_once", "1", "a", "theirs") as child:
                await child.line()
                while await store.wait(0.2):
                    pass
                waiting = asyncio.ensure_future(store.wait(FAR))
                await child.go()
                return await waiting, await child.line()

        assert run(woken()) == (True, "[true, 2]")
        assert run(store.load("run", "t", "r")) == record(body=b"theirs", v=2)

    def test_op_of_a_killed_process_is_recognised(self, store: Store, opener: str, run: Run) -> None:
        """A process wrote and was killed before it used the answer: whoever repeats the op learns that it won."""
        run(put(store, record()))

        async def killed() -> None:
            async with Child(opener, store.url, "swap_once", "1", "a", "theirs") as child:
                await child.line()
                await child.go()
                await child.line()

        run(killed())
        assert run(store.swap(record(v=1, body=b"theirs"), op="a")) == Swapped(won=True, v=2)

    def test_killed_process_leaves_whole_writes(self, store: Store, opener: str, run: Run) -> None:
        """Killed while it writes, again and again: what was acknowledged is there, and of each write all or nothing."""
        seen = 0
        for turn in range(5):
            acknowledged = run(self._write_and_die(store.url, opener, 20 + 7 * turn))
            current, listed, history = run(self._at_rest(store))
            assert current is not None
            assert current.v >= acknowledged
            assert current.body == f"body of version {current.v}".encode()
            assert listed == [current]
            assert [each.seq for each in history] == list(range(1, current.v + 1))
            fresh, seen = history[seen:], len(history)
            for each in fresh:
                content = blob(f"body of version {each.seq}".encode() * 50)
                assert each.body == content.id.encode()
                assert run(store.blob("run", "t", "r", content.id)) == content.data

    async def _at_rest(self, store: Store) -> tuple[Record | None, list[Record], list[StoredEvent]]:
        """What stands. A server may still carry out what a process had sent when it was killed: then look again."""
        while True:
            current = await store.load("run", "t", "r")
            state = f"s{current.v % 3}" if current else ""
            found = await store.list("run", "t", {"state": state}), await store.events("run", "t", "r", limit=10_000)
            if await store.load("run", "t", "r") == current:
                return current, *found

    async def _write_and_die(self, url: str, opener: str, writes: int) -> int:
        async with Child(opener, url, "write_until_killed") as child:
            await child.line()
            await child.go()
            acknowledged = 0
            for _ in range(writes):
                acknowledged = int(await child.line())
            return max([acknowledged, *map(int, await child.kill())])
