"""The store kit over MongoDB: by URL, and over a Motor client of the user's."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from governor_agents.core.ports import Record
from governor_agents.errors import GovernorError
from governor_agents.stores import open_store
from governor_agents.stores.mongodb import MongoDBStore, documents, reading
from governor_agents.stores.mongodb.chunks import Chunks
from governor_agents.testing import SharedStoreConformance
from governor_agents.testing.stores import NewStore, Run
from tests.mongodb import somewhere


@pytest.fixture
def url() -> Iterator[str]:
    """A fresh place, removed afterwards."""
    with somewhere() as place:
        yield place.url


class TestMongoDB(SharedStoreConformance):
    """The MongoDB store."""

    @pytest.fixture
    def new_store(self, url: str) -> NewStore:
        return lambda **options: open_store(url, **options)


class TestMotor(SharedStoreConformance):
    """The MongoDB store over a Motor client, in this process and in others."""

    @pytest.fixture
    def opener(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.syspath_prepend(str(Path(__file__).parent))
        return "mongodb_stores:open_motor"

    @pytest.fixture
    def new_store(self, url: str) -> NewStore:
        from tests.contract.mongodb_stores import open_motor

        return lambda **options: open_motor(url, **options)


@pytest.mark.anyio
async def test_a_list_goes_through_the_field_that_leaves_the_fewest(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many records of one agent a few are blocked: they are found by that, whichever field is the rarer in general."""
    monkeypatch.setattr(reading, "COUNTED", (5, 10))
    store = MongoDBStore(url)
    await store.open()
    states = ["blocked"] * 2 + ["waiting"] * 10
    for at, state in enumerate(states):
        record = Record("run", "t", f"r{at:02}", b"", {"agent": "support", "requester": f"r{at % 2}", "state": state})
        await store.insert(record, op=record.id)
    asked: list[str] = []
    page = reading.Reading._page

    async def noted(self: reading.Reading, stretches: Any, order: Any, index: str, *rest: Any) -> Any:
        asked.append(index)
        return await page(self, stretches, order, index, *rest)

    monkeypatch.setattr(reading.Reading, "_page", noted)
    wanted = [{"agent": "support", "state": "blocked"}, {"requester": "r0", "state": "waiting"}, {"agent": "nobody"}]
    found = [[record.id for record in await store.list("run", "t", where)] for where in wanted]
    assert found == [["r00", "r01"], ["r02", "r04", "r06", "r08", "r10"], []]
    assert asked == ["state", "requester", "agent"], "six of one and ten of the other; and no choice"
    await store.close()


def without(name: str) -> Callable[..., Any]:
    """The filter of a swap, with one of its conditions left out."""

    def broken(*given: Any) -> dict[str, Any]:
        return {key: value for key, value in documents_filter(*given).items() if key != name}

    return broken


async def never(*_: Any) -> None:
    """A step that is left out."""


documents_filter = documents.swap_filter
FAULTS: dict[str, tuple[object, str, Callable[..., Any], str]] = {
    "no version": (documents, "swap_filter", without("v"), "test_swap_keeps_the_ops_of_each_record_apart"),
    "no op": (documents, "swap_filter", without("ops"), "test_swap_repeated_at_the_new_version_is_not_done_twice"),
    "no seq": (documents, "swap_filter", without("events.seq"), "test_swap_refuses_an_event_that_exists"),
    "no tenant": (
        documents,
        "key",
        lambda kind, tenant, id: f"{kind}/{id}",
        "test_tenants_have_their_own_records",
    ),
    "nothing before": (Chunks, "go_ahead", never, "test_blob_may_be_large_or_empty"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_kit_fails_on_the_broken_build(fault: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative controls: each guard of the statements, left out, is missed by the test that is there for it."""
    room, name, broken, noticed_by = FAULTS[fault]
    assert _outcome(url, noticed_by) == "passed"
    monkeypatch.setattr(room, name, broken)
    assert _outcome(url + "&collection=broken", noticed_by) == "failed"


def _outcome(url: str, test: str) -> str:
    """What becomes of one test of the kit on this place."""
    run, store = Run(60.0), MongoDBStore(url)
    run(store.open())
    try:
        getattr(TestMongoDB(), test)(store, run)
    except (AssertionError, GovernorError, TimeoutError, pytest.fail.Exception):
        return "failed"
    finally:
        run(store.close())
        run.close()
    return "passed"
