"""Two tenants in one store: nobody reads, writes or learns of what is the other's, whatever the names look like.

The contract's methods on every store, plain and sealed; then the governor's and the command line's, with another
tenant's ids. (``scan`` is of no tenant: it is for work on a whole store, and no request reaches it. ``wait`` tells that
somebody wrote, and nothing else.)
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor
from governor_agents.core.ports import Blob, Record, Store, StoredEvent, Swapped
from governor_agents.core.records import approval_id
from governor_agents.errors import GovernorError
from governor_agents.keys import Keys
from governor_agents.stores import open_store
from governor_agents.stores.sealed import SealedStore
from tests.faults.app import ALICE, governed
from tests.stores import STORES

TENANTS = (
    "a", "a:", "a:b", "a/", "a/b", "a%2Fb", "a\0", "a\0b", "{a}", "{a", "$a", "$where", "a.b", "a\nb", "a\\nb", "*", "a*",
    "[a]", "a b", " a", "a ", "A", "a'--", 'a"', "1:a", "é", "e\u0301", "\U00010000", "\ufeffa", "default", "run", "-1",
)  # fmt: skip
"""Prefixes of one another, with what separates, quotes, matches and ends names in one store or another."""

NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))
IDS = ("b", ":b", "b:b", "/b", "\0b", "{b}", "$b", "b.b", "b\nb", "*", "B", "e\u0301")
OP = "the same op"

STORED = {**STORES, "memory": lambda folder: "memory://"}
KINDS = ("plain", "sealed")


@pytest.fixture(params=product(STORED, KINDS), ids=lambda each: "-".join(each))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store."""
    name, kind = request.param
    made = open_store(STORED[name](tmp_path))
    if kind == "sealed":
        made = SealedStore(made, Keys.generate())
    await made.open()
    yield made
    await made.close()


def record(tenant: str, id: str, body: bytes = b"", **rest: Any) -> Record:
    """A record that says whose it is."""
    words = f"{tenant}|{id}".encode()
    return Record("run", tenant, id, body or words, index={"state": "waiting", "agent": "x"}, due=1.0, **rest)


async def write(store: Store, tenant: str, id: str) -> None:
    """A record with an event and a blob, each of which says whose it is; all under one op id and one digest."""
    made = record(tenant, id)
    answer = await store.insert(made, op=OP, events=[StoredEvent(1, made.body)], blobs=[Blob("digest", made.body)])
    assert answer == Swapped(won=True, v=1), (tenant, id)


async def seen(store: Store, tenant: str, id: str) -> Any:
    """Everything that can be seen under a name."""
    found = await store.load("run", tenant, id)
    return (
        found and (found.tenant, found.id, found.v, found.body),
        await store.events("run", tenant, id),
        await store.blob("run", tenant, id, "digest"),
        sorted(each.id for each in await store.list("run", tenant, {"state": "waiting"}, limit=10_000)),
        sorted(each.id for each in await store.due("run", tenant, limit=10_000)),
    )


@pytest.mark.timeout(600)
async def test_names_that_run_into_one_another_stay_apart(store: Store) -> None:
    """Each of many pairs of tenant and id finds its own record, events, blobs and counter, and lists its own ids."""
    tenants = TENANTS if NIGHTLY else TENANTS[:10]
    for tenant, id in product(tenants, IDS):
        await write(store, tenant, id)
    for tenant, id in product(tenants, IDS[:4]):
        words = f"{tenant}|{id}".encode()
        assert await seen(store, tenant, id) == (
            (tenant, id, 1, words),
            [StoredEvent(1, words)],
            words,
            sorted(IDS),
            sorted(IDS),
        ), (tenant, id)
    for number, tenant in enumerate(tenants):
        assert await store.add_below(tenant, "c", number, 1000, op=OP) == number
    for number, tenant in enumerate(tenants):
        assert await store.add_below(tenant, "c", 100, 1000, op="second") == number + 100


Method = Callable[[Store, str, str], Awaitable[Any]]
METHODS: dict[str, Method] = {
    "load": lambda store, tenant, id: store.load("run", tenant, id),
    "swap": lambda store, tenant, id: store.swap(record(tenant, id, b"theirs now", v=1), op="swap"),
    "swap under the same op": lambda store, tenant, id: store.swap(record(tenant, id, b"theirs now", v=1), op=OP),
    "swap too late": lambda store, tenant, id: store.swap(record(tenant, id, b"x", v=1), op="late", not_after=0.0),
    "swap events and blobs": lambda store, tenant, id: store.swap(
        record(tenant, id, v=1), op="parts", events=[StoredEvent(2, b"theirs")], blobs=[Blob("digest", b"theirs")]
    ),
    "delete": lambda store, tenant, id: store.delete("run", tenant, id, 1),
    "events": lambda store, tenant, id: store.events("run", tenant, id),
    "blob": lambda store, tenant, id: store.blob("run", tenant, id, "digest"),
    "list": lambda store, tenant, id: store.list("run", tenant, {"state": "waiting"}),
    "list from there": lambda store, tenant, id: store.list("run", tenant, after=id),
    "due": lambda store, tenant, id: store.due("run", tenant),
    "due from there": lambda store, tenant, id: store.due("run", tenant, after=(0.0, id)),
    "add_below": lambda store, tenant, id: store.add_below(tenant, id, 5, 5, op=OP),
    "insert": lambda store, tenant, id: store.insert(record(tenant, id, b"their own"), op=OP),
}
"""Each is asked with the other's id and with one that nobody has; the last ones make something of their own."""


@pytest.mark.timeout(600)
async def test_the_others_ids_are_like_unknown_ones(store: Store) -> None:
    """Every method gives the same answer for both, and what is the other's stays as it was."""
    pairs = list(enumerate(zip(TENANTS, TENANTS[1:] + TENANTS[:1], strict=True)))
    for number, (mine, theirs) in pairs if NIGHTLY else pairs[::2]:
        id, unknown = f"id{number}{IDS[number % len(IDS)]}", f"no{number}{IDS[number % len(IDS)]}"
        await write(store, mine, id)
        assert await store.add_below(mine, id, 5, 5, op="mine") == 5
        before = await seen(store, mine, id)
        for name, method in METHODS.items():
            assert await method(store, theirs, id) == await method(store, theirs, unknown), (mine, theirs, name)
        assert await seen(store, mine, id) == before, (mine, theirs)
        assert await store.add_below(mine, id, 5, 5, op="again") is None
        for each in (id, unknown):  # so that the next pair begins with nothing
            assert await store.delete("run", theirs, each, 1)
        assert await store.delete("run", mine, id, 1)


class Merged:
    """The control: a store that drops the tenant where it builds a key."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        for each in TENANTS:
            if found := await self._inner.load(kind, each, id):
                return found
        return None


async def test_a_store_that_mixes_tenants_is_found_out() -> None:
    """The negative control of both tests."""
    for test in (test_names_that_run_into_one_another_stay_apart, test_the_others_ids_are_like_unknown_ones):
        inner = open_store("memory://")
        await inner.open()
        with pytest.raises(AssertionError):
            await test(Merged(inner))  # type: ignore[arg-type]


# -- the governor -----------------------------------------------------------------------------------------------------

ASKED: dict[str, Callable[[Governor, str], Awaitable[Any]]] = {
    "decide": lambda governor, run: governor.decide(approval_id(run, 1), Decision.approve(), by=ALICE),
    "cancel": lambda governor, run: governor.cancel(run, by=ALICE),
    "resolve": lambda governor, run: governor.resolve(run, 1, "happened", by=ALICE, evidence="seen"),
    "repair": lambda governor, run: governor.repair(run, by=ALICE, reason="mended"),
    "get": lambda governor, run: governor.get(run),
    "approval": lambda governor, run: governor.approval(approval_id(run, 1)),
    "timeline": lambda governor, run: governor.timeline(run),
    "calls": lambda governor, run: governor.calls(run),
    "wait": lambda governor, run: governor.wait(run, timeout=0.0),
    "resume": lambda governor, run: governor.resume(run),
    "claim": lambda governor, run: governor.claim(run),
}


async def said(asked: Callable[[Governor, str], Awaitable[Any]], governor: Governor, run: str) -> tuple[str, str]:
    """What is answered, with the id taken out."""
    try:
        answer = str(await asked(governor, run))
    except GovernorError as error:
        answer = f"{error.code}: {error}"
    return answer.replace(run, "RUN"), answer.partition(":")[0]


@pytest.mark.parametrize("name", STORES)
async def test_the_governor_knows_no_others_runs(name: str, tmp_path: Path) -> None:
    """Every method with an id: the same words for another tenant's run as for none, and the run stays as it was."""
    url = STORES[name](tmp_path)
    async with governed(url, tenant="a:b") as mine, governed(url, tenant="a") as theirs:
        asked = await mine.govern(name="pay", approvers=[ALICE])(lambda amount: amount).ask(5)
        await mine.halt("tool:pay", by=ALICE)
        before = await mine.timeline(asked.run)
        unknown = "run_" + "a" * (len(asked.run) - 4)
        for what, method in ASKED.items():
            told, code = await said(method, theirs, asked.run)
            assert (told, code) == await said(method, theirs, unknown), what
            assert code == "not_found", (what, told)
        assert await theirs.list_runs() == [] and await theirs.inbox() == [] and await theirs.halts() == ()
        assert await mine.timeline(asked.run) == before and (await mine.get(asked.run)).status == "waiting"
        decided = await mine.decide(asked.approval, Decision.approve(), by=ALICE)
        assert len(decided.calls[0].votes) == 1, "the control: it is there for its own tenant"
