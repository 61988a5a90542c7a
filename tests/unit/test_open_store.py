"""Opening stores by URL, and the arguments that every store refuses."""

from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from governor_agents import stores
from governor_agents.core.ports import Blob, Record, Store, StoredEvent
from governor_agents.errors import ConfigError, MissingExtra, StoreError
from governor_agents.stores import default_url, open_store
from governor_agents.stores.memory import MemoryStore
from governor_agents.stores.sqlite import SQLiteStore

RECORD = Record("run", "t", "r", b"body")


def plug_in(monkeypatch: pytest.MonkeyPatch, name: str, target: str) -> None:
    """An installed distribution that registers a store under this name."""
    entries = [EntryPoint(name, target, stores.GROUP)]
    monkeypatch.setattr(stores, "entry_points", lambda group: entries if group == stores.GROUP else [])


def test_open_store_picks_the_driver_by_scheme(tmp_path: Path) -> None:
    """The scheme names the driver; options go to it."""
    assert isinstance(open_store("memory://", clock=lambda: 1.0), MemoryStore)
    assert isinstance(open_store(f"sqlite:///{tmp_path}/s.db", clock=lambda: 1.0), SQLiteStore)


def test_open_store_does_not_open(tmp_path: Path) -> None:
    """Naming a store touches nothing."""
    open_store(f"sqlite:///{tmp_path}/s.db")
    assert list(tmp_path.iterdir()) == []


def test_open_store_finds_plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point adds a scheme."""
    plug_in(monkeypatch, "mine", "governor_agents.stores.memory:MemoryStore")
    assert open_store("mine://somewhere").url == "mine://somewhere"


def test_open_store_lets_no_plug_in_take_a_built_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another distribution cannot put itself between the approvals and their store."""
    plug_in(monkeypatch, "sqlite", "governor_agents.stores.memory:MemoryStore")
    assert isinstance(open_store("sqlite:///s.db"), SQLiteStore)


def test_open_store_names_the_known_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown scheme is a configuration error that says what there is, and never shows a password."""
    plug_in(monkeypatch, "mine", "nowhere:Store")
    with pytest.raises(ConfigError, match=r"postgres://.*memory, mine, .*sqlite") as caught:
        open_store("postgres://user:secret@host/db")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "governor.db", "user:secret@host", "://x", "sqlite:/x.db"])
def test_open_store_says_what_a_url_looks_like(url: str) -> None:
    """A path is not a URL."""
    with pytest.raises(ConfigError, match=r"sqlite:///governor\.db") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
    assert url.startswith(str(caught.value).split("'")[1])


@pytest.mark.parametrize(
    ("scheme", "extra"),
    [("redis", "redis"), ("rediss+cluster", "redis"), ("mongodb", "mongodb"), ("mongodb+srv", "mongodb")],
)
def test_open_store_names_the_missing_extra(
    scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A driver whose library is not installed says what to install, whatever the scheme is called."""
    (tmp_path / "driver_without_library.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(stores.BUILT_IN, scheme, "driver_without_library:Store")
    with pytest.raises(MissingExtra, match=rf"no_such_library.*governor-agents\[{extra}\]"):
        open_store(f"{scheme}://localhost")


def test_open_store_hides_no_fault_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of this package that is not there is a bug, not a missing extra."""
    monkeypatch.setitem(stores.BUILT_IN, "mine", "governor_agents.stores.mine:Store")
    with pytest.raises(ModuleNotFoundError):
        open_store("mine://")


def test_default_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """GOVERNOR_STORE, else a file beside the program; an empty variable counts as none."""
    monkeypatch.delenv("GOVERNOR_STORE", raising=False)
    assert default_url() == "sqlite:///governor.db"
    monkeypatch.setenv("GOVERNOR_STORE", "")
    assert default_url() == "sqlite:///governor.db"
    monkeypatch.setenv("GOVERNOR_STORE", "memory://")
    assert default_url() == "memory://"


@pytest.fixture(params=["memory", "sqlite"])
def unopened(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/s.db")


@pytest.mark.parametrize(
    ("record", "rest"),
    [
        (replace(RECORD, kind="runs"), {}),
        (replace(RECORD, tenant=""), {}),
        (replace(RECORD, id=""), {}),
        (replace(RECORD, id="\ud800"), {}),
        (replace(RECORD, id=7), {}),
        (replace(RECORD, body="text"), {}),
        (replace(RECORD, body=bytearray(b"x")), {}),
        (replace(RECORD, due=float("nan")), {}),
        (replace(RECORD, due=float("inf")), {}),
        (replace(RECORD, index={"colour": "red"}), {}),
        (replace(RECORD, index={"state": 7}), {}),
        (RECORD, {"op": ""}),
        (RECORD, {"events": [StoredEvent(0, b"")]}),
        (RECORD, {"events": [StoredEvent(1, "text")]}),  # type: ignore[arg-type]
        (RECORD, {"blobs": [Blob("", b"")]}),
        (RECORD, {"blobs": [Blob("b", "text")]}),  # type: ignore[arg-type]
    ],
)
async def test_stores_refuse_what_not_all_could_keep(unopened: Store, record: Record, rest: dict[str, Any]) -> None:
    """What one store could not keep exactly, none takes."""
    await unopened.open()
    arguments = {"op": "a", **rest}
    with pytest.raises(ValueError):
        await unopened.insert(record, **arguments)
    with pytest.raises(ValueError):
        await unopened.swap(replace(record, v=1), **arguments)
    assert await unopened.list("run", "t") == []
    await unopened.close()


@pytest.mark.parametrize(("amount", "limit"), [(2**53 + 1, 2**53), (1, 2**53 + 1), (-(2**53) - 1, 1)])
async def test_stores_refuse_counts_that_not_all_could_count(unopened: Store, amount: int, limit: int) -> None:
    """Beyond 2**53 a store that counts in doubles would be wrong."""
    await unopened.open()
    with pytest.raises(ValueError):
        await unopened.add_below("t", "c", amount, limit, op="a")
    await unopened.close()


async def test_stores_work_only_while_they_are_open(unopened: Store) -> None:
    """Before ``open`` and after ``close`` every call says so, rather than that there is nothing."""

    async def refused() -> None:
        for call in (
            unopened.check(),
            unopened.now(),
            unopened.insert(RECORD, op="a"),
            unopened.load("run", "t", "r"),
            unopened.swap(RECORD, op="a"),
            unopened.delete("run", "t", "r", 1),
            unopened.due("run", "t"),
            unopened.list("run", "t"),
            unopened.blob("run", "t", "r", "b"),
            unopened.scan("run"),
            unopened.events("run", "t", "r"),
            unopened.wait(0),
            unopened.add_below("t", "c", 1, 1, op="a"),
        ):
            with pytest.raises(StoreError, match="not open"):
                await call

    await refused()
    await unopened.open()
    await unopened.close()
    await refused()


async def test_memory_stores_share_nothing() -> None:
    """Each object has its own data, whatever its URL says, and forgets it when it is closed."""
    one, two = open_store("memory://same"), open_store("memory://same")
    await one.open()
    await two.open()
    await one.insert(RECORD, op="a")
    assert await two.load("run", "t", "r") is None
    await one.close()
    await one.open()
    assert await one.load("run", "t", "r") is None
