"""The benchmarks of stores in small, so that they cannot rot. No time is looked at."""

import asyncio
from pathlib import Path

import pytest

from benchmarks import bench_clicks, bench_conversation, bench_sizes, bench_stores, bench_workers
from benchmarks.report import Report
from benchmarks.stores import STORES as MEASURED
from tests import shared
from tests.stores import STORES

NAMES = [name for name in STORES if name in MEASURED]


@pytest.fixture(params=NAMES)
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store's name; the benchmarks use the servers of this session."""
    if request.param in shared.OWN:
        monkeypatch.setenv(shared.OWN[request.param], shared.url(request.param))
    return request.param


def figures(report: Report) -> dict[str, float]:
    """What was measured, by name. None of it is nothing."""
    found = {row.what: row.value for row in report.rows}
    assert found and all(value > 0 for value in found.values()), found
    return found


def test_every_step_is_a_multiple_of_a_bare_write(store: str, tmp_path: Path) -> None:
    """Suspend, decide, claim, run and complete are measured beside one bare compare-and-set of the same server."""
    report = Report()
    asyncio.run(bench_stores.measure(report, store, tmp_path, 2))
    found = figures(report)
    for step in ("store.swap", "suspend", "decide", "claim", "intent and result", "complete"):
        assert f"{step} / {bench_stores.BARE}" in found


def test_steps_beside_many_suspended_runs(store: str, tmp_path: Path) -> None:
    """Stores of two sizes take turns, and the larger one is told as a multiple of the smaller."""
    report = Report()
    asyncio.run(bench_sizes.measure(report, store, tmp_path, (40, 100), 2))
    found = figures(report)
    for step in bench_sizes.STEPS:
        assert f"{step}, 100 / 40" in found


def test_copies_are_rows_as_the_governor_writes_them(tmp_path: Path) -> None:
    """A filled store holds as many waiting runs as was said; each is read, verified and shown like any other."""

    async def filled() -> None:
        gates = bench_sizes.Gates(bench_sizes.governor_over(f"sqlite:///{tmp_path}/filled.db"), 50)
        async with gates.governor as governor:
            made = await bench_sizes.fill(gates, 30, 5, "SQLite")
            waiting = await governor.list_runs(state="waiting", limit=100)
            assert len(waiting) == 30
            assert set(made) <= {run.id for run in waiting}
            copied = next(run for run in waiting if run.id not in made)
            assert [event["run"] for event in await governor.timeline(copied.id)] == [copied.id] * 5
            assert len(await governor.inbox(limit=100)) == 30

    asyncio.run(filled())


def test_workers_run_each_approved_call_once(tmp_path: Path) -> None:
    """Two worker processes share a few calls; all of them are begun once and completed."""
    report = Report()
    asyncio.run(bench_workers.measure(report, "sqlite", tmp_path, (2,), 8))
    assert len(figures(report)) == 1


def test_a_conversation_is_kept_by_both_savers(tmp_path: Path) -> None:
    """LangGraph's saver and ours keep the same few turns; the time and the bytes of each are told."""
    report = Report()
    asyncio.run(bench_conversation.measure(report, tmp_path, ["sqlite"], 3))
    found = figures(report)
    assert {f"{name}: file" for name in ("GovernorSaver, SQLite", "AsyncSqliteSaver")} <= set(found)


def test_every_click_counts_and_is_measured_beside_a_bare_answer(tmp_path: Path) -> None:
    """A second of clicks on a server process: each decides its own request, and none is answered otherwise."""
    report = Report()
    asyncio.run(bench_clicks.measure(report, tmp_path, 0.01))
    found = figures(report)
    assert found[f"clicks that count, at {bench_clicks.RATE} a second"] == bench_clicks.RATE
    assert "the same server asked whether it is alive" in found
