"""A governor with keys: where it takes them from, and what it makes of them."""

import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, Worker
from governor_agents.core.ports import Store
from governor_agents.errors import ConfigError, KeyFileError, SealBroken
from governor_agents.keys import Keys
from governor_agents.stores import open_store
from governor_agents.stores.memory import MemoryStore
from governor_agents.stores.packed import PackedStore
from governor_agents.stores.sealed import SealedStore
from tests.integration import langchain_app, openai_agents_app

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Keys.create(tmp_path / "keys.json")
    return tmp_path / "keys.json"


def beneath(governor: Governor) -> Store:
    """What a governor packs into."""
    assert isinstance(governor.store, PackedStore)
    return governor.store.beneath


def test_keys_come_from_the_argument_the_environment_or_the_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an object, as a path, by name of the environment, or with a store that is sealed already."""
    keys = Keys.from_file(path)
    assert Governor(store=MemoryStore()).keys is None
    assert Governor(store=MemoryStore(), keys=keys).keys is keys
    store = SealedStore(MemoryStore(), keys)
    assert beneath(Governor(store=store)) is store and Governor(store=store).keys is keys
    shared = Governor(store=Governor(store=store).store)
    assert beneath(shared) is store and shared.keys is keys
    monkeypatch.setenv("GOVERNOR_KEYS", str(path))
    for governor in (Governor(store="memory://"), Governor(store=MemoryStore()), Governor([], keys=str(path))):
        assert governor.keys is not None and governor.keys.sealing == keys.sealing
        assert isinstance(beneath(governor), SealedStore)
    monkeypatch.setenv("GOVERNOR_KEYS", str(path) + ".none")
    with pytest.raises(KeyFileError, match="keys rotate"):
        Governor(store="memory://")


def test_two_processes_give_a_call_one_idempotency_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the keys, also after a rotation; a secret that is set goes before them; without either, each makes its own."""

    def secret() -> bytes:
        return Governor(store=MemoryStore()).guard._secret

    assert secret() != secret()
    monkeypatch.setenv("GOVERNOR_KEYS", str(path))
    before = secret()
    Keys.rotate(path)
    assert secret() == before == Keys.from_file(path).idempotency
    monkeypatch.setenv("GOVERNOR_SECRET", "mine")
    assert secret() == b"mine"


async def test_a_sealed_store_is_opened_with_its_keys_only(path: Path, tmp_path: Path) -> None:
    """By whoever has them; without, or with others, the first use says so in one line."""
    url = f"sqlite:///{tmp_path}/governor.db"
    async with Governor(store=url, keys=path) as governor:
        assert await governor.list_runs() == []
    async with Governor(store=url, keys=path):
        Keys.rotate(path)
    async with Governor(store=url, keys=path) as governor:
        assert await governor.list_runs() == []
    with pytest.raises(ConfigError, match="GOVERNOR_KEYS names the key file"):
        await Governor(store=url).list_runs()
    with pytest.raises(SealBroken, match="other keys"):
        await Governor(store=url, keys=Keys.generate()).list_runs()


@pytest.mark.parametrize("tenant", ["default", "other"])
async def test_a_store_in_clear_is_refused_and_not_locked(path: Path, tmp_path: Path, tenant: str) -> None:
    """One look with keys set says what is wrong, and whoever has no keys goes on as before."""
    url = f"sqlite:///{tmp_path}/governor.db"
    async with Governor(store=url, tenant=tenant) as plain:
        run = (await plain.govern(name="pay", approvers=["local:ann"])(lambda: 1).ask()).run
    for turn in range(2):
        with pytest.raises(
            ConfigError, match="holds records in clear, and keys are set; name an empty store, or unset"
        ):
            await Governor(store=url, keys=path, tenant=tenant).list_runs()
        async with Governor(store=url, tenant=tenant) as plain:
            assert [found.id for found in await plain.list_runs()] == [run], turn


@pytest.mark.parametrize("scope", ["everything", "tenant"])
async def test_any_record_in_clear_counts(path: Path, tmp_path: Path, scope: str) -> None:
    """A halt of all tenants is in clear as much as a run; a sealed store that lost its mark is not."""
    url = f"sqlite:///{tmp_path}/governor.db"
    async with Governor(store=url) as plain:
        await plain.halt(scope, by="op")
    with pytest.raises(ConfigError, match="in clear"):
        await Governor(store=url, keys=path).open()
    sealed = f"sqlite:///{tmp_path}/sealed.db"
    async with Governor(store=sealed, keys=path) as governor:
        await governor.halt(scope, by="op")
    with sqlite3.connect(tmp_path / "sealed.db") as database:
        assert database.execute("DELETE FROM ga_record WHERE kind = 'keys'").rowcount == 1
    async with Governor(store=sealed, keys=path) as governor:
        assert [halt.scope for halt in await governor.halts()] == [scope]


async def test_counters_are_sealed_too(path: Path) -> None:
    """A sum that somebody sets back is refused."""
    inner = open_store("memory://")
    store = SealedStore(inner, Keys.from_file(path))
    await store.open()
    assert await store.add_below("t", "budget of ann", 7, 10, op="0") == 7
    [row] = await inner.list("counter", "t")
    assert row.body != b"7" and "ann" not in row.id
    assert await store.add_below("t", "budget of ann", 3, 10, op="1") == 10
    await inner.swap(type(row)(row.kind, row.tenant, row.id, row.body, v=2), op="set back")
    with pytest.raises(SealBroken):
        await store.add_below("t", "budget of ann", 3, 10, op="2")


SECRET = "planted-secret-4711"


async def test_arguments_and_results_are_in_no_log_line_and_no_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of functions and of both frameworks, at every level of the log, also when the tool fails and quotes them.

    (What was raised stands in the trail as the reason of the failure; see the documentation.)
    """
    caplog.set_level(logging.DEBUG, "governor_agents")
    url = f"sqlite:///{tmp_path}/governor.db"
    told: list[Any] = []
    async with Governor(store=url) as governor:

        @governor.govern(name="pay", approvers=["ann@example.com"])
        def pay(token: str) -> str:
            if token.endswith("bad"):
                raise RuntimeError(f"no such token {token}")
            return f"paid with {token}"

        for token in (SECRET, SECRET + "bad"):
            asked = await pay.ask(token=token)
            await governor.decide(asked.approval, Decision.approve(), by="ann@example.com")
            await Worker(governor).run(once=True)
            run = await governor.get(asked.run)
            assert run.state.ended
            told += [*await governor.timeline(run.id), repr(run)]
    openai, _ = openai_agents_app.make_app(url, tmp_path / "ledger", [("refund", {"order": SECRET})])
    async with openai:
        run = await openai_agents_app.decide(openai, await openai.run("support", SECRET), Decision.approve())
        await Worker(openai).run(once=True)
        told += [*await openai.timeline(run.id), repr(await openai.get(run.id))]
    app = langchain_app.App(url, langchain_app.Ledger(tmp_path / "ledger"), [[("pay", {"amount": 10, "to": SECRET})]])
    async with app.governor:
        run = await app.decide(await app.governor.run("support", SECRET), Decision.approve())
        await Worker(app.governor).run(once=True)
        told += [*await app.governor.timeline(run.id), repr(await app.governor.get(run.id))]
    assert (tmp_path / "ledger").read_text().count(SECRET) == 2
    assert "is completed" in caplog.text
    assert SECRET not in caplog.text
    quoting = [each for each in told if SECRET in str(each)]
    assert [(line["what"], line["reason"]) for line in quoting] == [("run.failed", f"no such token {SECRET}bad")]
