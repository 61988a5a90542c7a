"""A client that the user passes, pymongo's or Motor's, stays on the user's loop while the governor works on its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from governor_agents import Decision, Governor, PolicySet, Worker
from governor_agents.core.records import RunState
from governor_agents.errors import StoreError, StoreUnavailable
from governor_agents.stores.mongodb import MongoDBStore, home
from governor_agents.stores.mongodb.place import Place
from governor_agents.testing.store_samples import put, record
from tests.integration.openai_agents_app import Scripted
from tests.mongodb import Somewhere, somewhere

CLIENTS: dict[str, Callable[[str], Any]] = {"pymongo": AsyncMongoClient, "motor": AsyncIOMotorClient}
POLICY = """
version: 1
approvals: {approvers: ["local:alice"]}
rules: [{name: refunds, tool: refund, then: require_approval, approvers: ["local:alice"]}]
"""


@pytest.fixture
def place() -> Iterator[Somewhere]:
    """A database of its own."""
    with somewhere() as place:
        yield place


@pytest.fixture(params=sorted(CLIENTS))
async def client(request: pytest.FixtureRequest, place: Somewhere) -> AsyncIterator[Any]:
    """A client of the user's, in use on this loop before the store is made."""
    made = CLIENTS[request.param](Place.of(place.url).driver)
    await made.admin.command("ping")
    yield made
    closing = made.close()
    if closing is not None:
        await closing


def governed(store: MongoDBStore, ran: list[float]) -> Governor:
    """A governor with an agent that refunds."""
    from agents import Agent, function_tool

    governor = Governor(PolicySet.from_text(POLICY, name="governor.yaml"), store=store)

    @function_tool
    def refund(amount: float) -> str:
        ran.append(amount)
        return f"refunded {amount}"

    @governor.agent("support")
    def support() -> Agent[Any]:
        return Agent(name="support", model=Scripted([("refund", {"amount": 7.5})], "done"), tools=[refund])

    return governor


async def test_a_run_goes_through_a_client_of_the_users(client: Any, place: Somewhere) -> None:
    """Suspended, decided, resumed by a worker: each step crosses to the client's loop, which stays usable meanwhile."""
    ran: list[float] = []
    store = MongoDBStore(place.url, client=client)
    governor = governed(store, ran)
    run = await governor.run("support", "Refund order 4711")
    assert run.status == "waiting" and ran == []
    assert (await client.admin.command("ping"))["ok"] == 1
    await governor.decide(run.approvals[0].id, Decision.approve(), by="local:alice")
    await Worker(governor).run(once=True)
    done = await governor.get(run.id)
    assert done.state is RunState.COMPLETED and ran == [7.5]
    assert place.count("record", kind="run") == 1
    await governor.close()
    assert (await client.admin.command("ping"))["ok"] == 1, "the store closed a client that is not its own"


async def test_calls_work_from_any_loop(client: Any, place: Somewhere) -> None:
    """Also waiting: a write on the user's loop wakes who waits on another."""
    store = MongoDBStore(place.url, client=client)
    await store.open()
    listening = threading.Event()

    async def elsewhere() -> bool:
        while await store.wait(0.1):
            pass
        listening.set()
        return await store.wait(100)

    waiting = asyncio.ensure_future(asyncio.to_thread(asyncio.run, elsewhere()))
    await asyncio.to_thread(listening.wait)
    await put(store, record())
    assert await waiting is True
    assert await asyncio.to_thread(asyncio.run, store.load("run", "t", "r")) == record(v=1)
    await store.close()


async def test_a_client_of_another_loop_is_told(place: Somewhere) -> None:
    """A client that was used on one loop and passed on another cannot be brought over: one clear line."""
    other = AsyncMongoClient[dict[str, Any]](Place.of(place.url).driver)

    async def used() -> None:
        await other.admin.command("ping")

    await asyncio.to_thread(asyncio.run, used())
    store = MongoDBStore(place.url, client=other)
    with pytest.raises(StoreError, match="another event loop"):
        await store.open()


async def test_a_loop_that_is_blocked_or_ended_is_told(
    client: Any, place: Somewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever for a loop that cannot answer; and one that is closed is named at once."""
    monkeypatch.setattr(home, "PATIENCE", 0.2)
    store = MongoDBStore(place.url, client=client)
    await store.open()
    answered: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(store.now())
        except StoreError as error:
            answered.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()  # this blocks the loop that the client lives on
    assert isinstance(answered[0], StoreUnavailable) and "busy" in str(answered[0])
    ended = asyncio.new_event_loop()
    ended.close()
    store._home.settle(ended)
    with pytest.raises(StoreError, match="has ended"):
        await store.now()
    store._home.settle(asyncio.get_running_loop())
    assert await store.now() > 0
    await store.close()
