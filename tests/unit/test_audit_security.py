"""The stream of refused requests: what it holds, how little a flood costs, and that it is never in the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor
from governor_agents.audit import chain, security
from governor_agents.audit.log import AuditLog
from governor_agents.audit.security import A_MINUTE, BURST, KEPT_DAYS, Allowance, Refusals, stream_of
from governor_agents.core.ports import Record
from governor_agents.errors import (
    AlreadyDecided,
    ArgumentsError,
    NotAnApprover,
    NotFound,
    StaleDecision,
    StoreUnavailable,
)
from governor_agents.keys import Keys
from governor_agents.stores.sqlite import SQLiteStore
from tests.stores import STORES, Time

pytestmark = pytest.mark.anyio
KEYS = Keys.generate()
DAY = 86_400.0


@asynccontextmanager
async def refusals(url: str, clock: Time | None = None) -> AsyncIterator[tuple[Refusals, Callable[[], Any]]]:
    """The stream over a store, and a function that gives its lines; nothing is written but by `flush`."""
    clock = clock or Time(url)
    store = clock.store()
    await store.open()
    noted = Refusals(store, "t", KEYS.audit, lambda work: work.close(), clock)

    async def lines() -> list[dict[str, Any]]:
        await noted.flush()
        log = AuditLog(store, "t", KEYS, lambda work: work.close())
        return await log.newest(security=True, limit=10_000)

    try:
        yield noted, lines
    finally:
        await store.close()


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return STORES[request.param](tmp_path)


def test_an_allowance_is_a_burst_and_then_a_trickle() -> None:
    """Each name has one of its own; all of them together have another; none is ever negative."""
    allowance = Allowance()
    assert [allowance.grants(("a",), 0.0) for _ in range(BURST + 2)] == [True] * BURST + [False] * 2
    assert allowance.grants(("b",), 0.0)
    assert [allowance.grants(("a",), 6.0), allowance.grants(("a",), 6.0)] == [True, False]
    assert [allowance.grants(("a",), 5.0), allowance.grants(("a",), 12.0)] == [False, True]  # a clock that goes back
    flood = Allowance()
    assert sum(flood.grants((str(at),), 0.0) for at in range(1000)) == A_MINUTE
    assert sum(flood.grants((str(at),), 30.0) for at in range(1000)) == A_MINUTE // 2
    assert len(flood._buckets) <= security._KNOWN


async def test_a_line_says_who_tried_what_and_why_not(url: str) -> None:
    """Reason code, id as given, person, channel, time; chained and keyed; long and broken texts are cut."""
    clock = Time(url)
    async with refusals(url, clock) as (noted, lines):
        noted.note("decide", "not_found", "run_1.1", by="local:eve", channel="slack")
        noted.note("decide", "not_found", "x" * 5000 + "\ud800", by="e" * 5000 + "\ud800", channel="c" * 500)
        first, second = await lines()
        assert {name: first[name] for name in ("what", "asked", "id", "by", "channel", "stream", "seq", "at")} == {
            "what": "refused.not_found", "asked": "decide", "id": "run_1.1", "by": "local:eve", "channel": "slack",
            "stream": stream_of(clock()), "seq": 1, "at": clock(),
        }  # fmt: skip
        assert (len(second["id"]), len(second["by"]), len(second["channel"])) == (100, 200, 50)
        assert first["mac"] == chain.mac(first, KEYS.audit)
        noted.note("decide", "not_found", "\ud800", by="\ud800")
        assert (await lines())[2]["id"] == "\\ud800"


async def test_a_flood_is_counted_not_written(url: str) -> None:
    """Ten thousand requests of one person leave a few lines, and one that counts the rest."""
    async with refusals(url) as (noted, lines):
        for _ in range(10_000):
            noted.note("decide", "not_an_approver", "run_1.1", by="local:eve")
        found = await lines()
        assert [line["what"] for line in found] == ["refused.not_an_approver"] * BURST + ["refused.dropped"]
        assert found[-1]["count"] == 10_000 - BURST
        assert await lines() == found


async def test_a_flood_of_many_people_is_bounded_too(url: str) -> None:
    """Names cost the attacker nothing; all together have an allowance by the minute."""
    clock = Time(url)
    async with refusals(url, clock) as (noted, lines):
        for at in range(5_000):
            noted.note("decide", "not_found", f"run_{at}.1", by=f"local:eve{at}")
        assert len(await lines()) == A_MINUTE + 1
        clock.move(60.0)
        for at in range(5_000):
            noted.note("decide", "not_found", f"run_{at}.1", by=f"local:eve{at}")
        assert len(await lines()) == 2 * (A_MINUTE + 1)


async def test_a_day_has_an_upper_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of a full day says so; what comes after is dropped, and the next day begins anew."""
    monkeypatch.setattr(security, "DAILY", 5)
    clock = Time(url)
    async with refusals(url, clock) as (noted, lines):
        for turn in range(4):
            for at in range(3):
                noted.note("decide", "not_found", f"run_{at}.1", by=f"local:eve{turn}")
            await noted.flush()
        found = await lines()
        assert [line["what"] for line in found] == ["refused.not_found"] * 4 + ["refused.full"]
        clock.move(DAY)
        found = await lines()
        assert (found[-1]["what"], found[-1]["seq"]) == ("refused.dropped", 1)
        assert found[-1]["count"] == 3 * 4 - 4


async def test_an_unsafe_opening_on_a_full_day_is_counted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the full day does not take is no less dropped because it was not a refusal."""
    monkeypatch.setattr(security, "DAILY", 1)
    clock = Time(url)
    async with refusals(url, clock) as (noted, lines):
        for _ in range(3):
            await noted.unsafe(["synchronous is off"], by="me")
        assert [line["what"] for line in await lines()] == ["refused.full"]
        monkeypatch.setattr(security, "DAILY", 10)
        clock.move(DAY)
        found = await lines()
        assert (found[-1]["what"], found[-1]["count"]) == ("refused.dropped", 3)


async def test_days_are_kept_for_a_month(url: str) -> None:
    """The first line of a day removes what is older; nothing else of the kind `audit` is touched."""
    clock = Time(url)
    async with refusals(url, clock) as (noted, lines):
        await noted._store.insert(Record("audit", "t", "checkpoints", b"{}"), op="a")
        for day in range(KEPT_DAYS + 10):
            noted.note("decide", "not_found", f"run_{day}.1", by="local:eve")
            assert len(await lines()) == min(day + 1, KEPT_DAYS + 1)
            clock.move(DAY)
        assert await noted._store.load("audit", "t", "checkpoints") is not None


async def test_two_processes_write_one_stream(url: str) -> None:
    """Whoever loses the compare-and-set writes behind the other: one chain, nothing lost."""
    async with refusals(url) as (one, lines), refusals(url) as (other, _):
        for at in range(10):
            for noted in (one, other):
                noted.note("decide", "not_found", f"run_{at}.1", by=f"local:eve{at}")
            await asyncio.gather(one.flush(), other.flush())
        assert [line["seq"] for line in await lines()] == list(range(1, 21))


class Away(SQLiteStore):
    """A store that takes no lines while it is ``away``."""

    away = False

    async def insert(self, record: Record, **rest: Any) -> Any:
        if self.away and record.kind == "audit":
            raise StoreUnavailable
        return await super().insert(record, **rest)


async def test_a_store_that_takes_no_lines_fails_no_request(tmp_path: Path) -> None:
    """The answer is the same; what could not be written is counted when it can be again."""
    store = Away(f"sqlite:///{tmp_path / 'a.db'}")
    store.away = True
    async with Governor(store=store) as governor:
        for _ in range(3):
            with pytest.raises(NotFound, match=r"no approval run_none\.1"):
                await governor.decide("run_none.1", Decision.approve(), by="local:eve")
        await governor.loop.bridge(governor.audit.refusals.flush())
        store.away = False
        await governor.loop.bridge(governor.audit.refusals.flush())
        lines = await governor.loop.bridge(governor.audit.newest(security=True))
    assert [(line["what"], line["count"]) for line in lines] == [("refused.dropped", 3)]


async def test_a_fault_of_the_stream_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks in it, whoever asked hears why the decision does not count."""
    monkeypatch.setattr(Refusals, "note", lambda *_, **__: 1 / 0)
    async with Governor(store=STORES["sqlite"](tmp_path) if "sqlite" in STORES else "memory://") as governor:
        with pytest.raises(NotFound):
            await governor.decide("run_none.1", Decision.approve(), by="local:eve")


async def test_what_the_facade_refuses_is_in_the_stream(url: str) -> None:
    """Strangers, replays, stale and unknown ids, other tenants' ids, resolves and repairs; no word of any request."""
    secret = "the-words-of-the-request"
    async with Governor(store=url, keys=KEYS) as governor, Governor(store=url, keys=KEYS, tenant="other") as other:
        pay = governor.govern(name="pay", approvers=["local:ann", "local:bob"])(lambda amount: amount)
        asked = (await pay.ask(amount=5)).approval
        approve = Decision.approve(secret)
        refused: list[tuple[type[Exception], Any]] = [
            (NotAnApprover, lambda: governor.decide(asked, approve, by="local:eve", channel="slack")),
            (StaleDecision, lambda: governor.decide(asked, approve, by="local:ann", digest=secret)),
            (NotFound, lambda: governor.decide("run_none.1", approve, by="local:eve")),
            (NotFound, lambda: governor.decide(secret[:4], approve, by="local:eve")),
            (NotFound, lambda: governor.cancel("run_none", by="local:eve", reason=secret)),
            (NotFound, lambda: governor.resolve("run_none", 1, "happened", by="local:eve", evidence=secret)),
            (NotFound, lambda: governor.repair("run_none", by="local:eve", reason=secret)),
        ]
        for kind, attempt in refused:
            with pytest.raises(kind):
                await attempt()
        with pytest.raises(NotFound):
            await other.decide(asked, approve, by="local:ann")
        with pytest.raises(ArgumentsError):  # a slip of the pen is no attack
            await governor.decide(asked, Decision.reject("\ud800"), by="local:ann")
        await governor.decide(asked, approve, by="local:ann")
        with pytest.raises(AlreadyDecided):
            await governor.decide(asked, Decision.reject(secret), by="local:bob")
        for each in (governor, other):
            await each.loop.bridge(each.audit.refusals.flush())
        mine = await governor.loop.bridge(governor.audit.newest(security=True))
        theirs = await other.loop.bridge(other.audit.newest(security=True))
    said = [(line["what"], line["asked"], line["by"]) for line in mine]
    assert said == [
        ("refused.not_an_approver", "decide", "local:eve"),
        ("refused.stale_decision", "decide", "local:ann"),
        ("refused.not_found", "decide", "local:eve"),
        ("refused.not_found", "decide", "local:eve"),
        ("refused.not_found", "cancel", "local:eve"),
        ("refused.not_found", "resolve", "local:eve"),
        ("refused.not_found", "repair", "local:eve"),
        ("refused.already_decided", "decide", "local:bob"),
    ]
    assert [(line["what"], line["id"], line["by"]) for line in theirs] == [("refused.not_found", asked, "local:ann")]
    assert secret not in json.dumps([mine, theirs])


async def test_a_process_that_ends_at_once_leaves_its_line(url: str) -> None:
    """The command line decides, is refused, and is gone: closing writes what was noted."""
    async with Governor(store=url) as governor:
        with pytest.raises(NotFound):
            await governor.decide("run_none.1", Decision.approve(), by="local:eve")
    async with Governor(store=url) as governor:
        assert len(await governor.loop.bridge(governor.audit.newest(security=True))) == 1
        report = await governor.loop.bridge(governor.audit.verify())
    assert (report.findings, report.trails, report.events) == ([], 1, 1)
