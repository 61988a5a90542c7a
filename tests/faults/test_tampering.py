"""[18] A store that somebody tampers with: under keys nothing changed is believed, no tool runs on it, others go on.

Every test takes some runs whose call is approved and not yet run, changes what is stored past the package, and lets a
worker of another process's view do all that is due. The ledger is the witness of what ran.
"""

import os
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, Run, Worker
from governor_agents.errors import SealBroken, SnapshotError, StoreError
from governor_agents.keys import Keys
from governor_agents.stores import sealed
from tests.faults.rows import REACHED, ROWS, Row, SQLiteRows, flipped
from tests.integration import langchain_app, openai_agents_app
from tests.stores import STORES

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3600 if os.environ.get("GOVERNOR_NIGHTLY") else 600)]

ANN = "ann@example.com"
FLIPS = 2000 if os.environ.get("GOVERNOR_NIGHTLY") else 200
AGENT_RUNS = 60 if os.environ.get("GOVERNOR_NIGHTLY") else 12


@dataclass
class World:
    """One store, whoever has it open, and what ran."""

    url: str
    rows: SQLiteRows
    keys: Keys | None = None
    ran: list[int] = field(default_factory=list)

    def governor(self, tenant: str = "default") -> Governor:
        """A process of its own, as far as memory goes."""
        governor = Governor(store=self.url, tenant=tenant, keys=self.keys)

        @governor.govern(name="pay", approvers=[ANN])
        def pay(number: int) -> str:
            self.ran.append(number)
            return f"paid {number}"

        governor.pay = pay  # type: ignore[attr-defined]
        return governor

    async def approved(self, numbers: Iterable[int], tenant: str = "default") -> dict[int, str]:
        """Runs whose call is approved and waits for a worker: number to id."""
        made = {}
        async with self.governor(tenant) as governor:
            for number in numbers:
                asked = await governor.pay.ask(number=number)  # type: ignore[attr-defined]
                await governor.decide(asked.approval, Decision.approve(), by=ANN)
                made[number] = asked.run
        return made

    async def work(self, tenant: str = "default") -> None:
        """Let a worker do all that is due."""
        async with self.governor(tenant) as governor:
            await Worker(governor).run(once=True)

    async def get(self, id: str, tenant: str = "default") -> Run:
        """The run, as a process sees it that knows nothing."""
        async with self.governor(tenant) as governor:
            return await governor.get(id)

    def row(self, id: str) -> Row:
        """The stored record of a run."""
        return next(row for row in self.rows.rows() if row.id == id)


@pytest.fixture(params=REACHED)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    url = STORES[request.param](tmp_path)
    return World(url, ROWS[request.param](url), Keys.create(tmp_path / "keys.json"))


async def accepted(world: World, changed: Iterable[Row], tenant: str = "default") -> list[str]:
    """Which of the changed rows somebody believes; also that a worker leaves the rest as they are."""
    changed = list(changed)
    world.rows.put(*changed)
    await world.work(tenant)
    standing = {row.id: row for row in world.rows.rows()}
    believed = [
        row.id
        for row, after in ((row, standing[row.id]) for row in changed)
        if (after.v, after.body, after.index, after.due) != (row.v, row.body, row.index, row.due)
    ]
    async with world.governor(tenant) as governor:
        for row in changed:
            try:
                await governor.get(row.id)
            except SealBroken as error:
                assert row.id in str(error)
            else:
                believed.append(row.id)
        assert not {run.id for run in await governor.list_runs(limit=10_000)} & {row.id for row in changed} - {
            *believed
        }
    return sorted(set(believed))


def flips(world: World, ids: Iterable[str]) -> list[Row]:
    """The rows of these runs, each with a byte of its body changed, somewhere."""
    dice = random.Random(18)
    stored = {row.id: row for row in world.rows.rows()}
    rows = [stored[id] for id in ids]
    return [replace(row, body=flipped(row.body, dice.randrange(len(row.body)))) for row in rows]


async def test_each_flipped_byte_is_refused(world: World) -> None:
    """A byte of the body, anywhere; the runs beside go on."""
    made = await world.approved(range(FLIPS + 5))
    bad = flips(world, [made[number] for number in range(FLIPS)])
    assert await accepted(world, bad) == []
    assert sorted(world.ran) == list(range(FLIPS, FLIPS + 5))


async def test_without_keys_flips_are_believed(world: World) -> None:
    """The control: what keys are for. Some of the same flips run the tool, although the record was changed."""
    world.keys = None
    made = await world.approved(range(60))
    world.rows.put(*flips(world, made.values()))
    await world.work()
    assert len(world.ran) > 10


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("body", ["text", 7, 10**12, 1.5])
async def test_what_is_no_bytes_stops_nobody_else(world: World, body: Any, keyed: bool) -> None:
    """A database that keeps anything anywhere: with keys and without, the run is refused, and the worker goes on."""
    world.keys = world.keys if keyed else None
    made = await world.approved(range(3))
    world.rows.put(replace(world.row(made[0]), body=body))
    await world.work()
    assert sorted(world.ran) == [1, 2]
    with pytest.raises(SnapshotError):
        await world.get(made[0])


async def test_bodies_of_two_runs_swapped_are_refused(world: World) -> None:
    """Each body is whole and sealed; it stands under another's name."""
    made = await world.approved(range(6))
    rows = [world.row(made[number]) for number in range(4)]
    assert await accepted(world, [replace(row, body=rows[at - 1].body) for at, row in enumerate(rows)]) == []
    assert sorted(world.ran) == [4, 5]


async def test_rows_moved_to_another_tenant_are_refused(world: World) -> None:
    """A row under another tenant's name, and a body in a row of another tenant."""
    ours, theirs = await world.approved(range(3)), await world.approved([10, 11], tenant="theirs")
    moved = world.row(ours[0])
    world.rows.remove(moved)
    changed = [replace(moved, tenant="theirs"), replace(world.row(theirs[10]), body=world.row(ours[1]).body)]
    assert await accepted(world, changed, tenant="theirs") == []
    await world.work()
    assert sorted(world.ran) == [1, 2, 11]


async def test_a_body_of_an_older_version_is_refused(world: World) -> None:
    """What was asked once does not wait again under the version that was decided."""
    async with world.governor() as governor:
        asked = [await governor.pay.ask(number=number) for number in range(2)]  # type: ignore[attr-defined]
    older = world.row(asked[0].run)
    async with world.governor() as governor:
        for each in asked:
            await governor.decide(each.approval, Decision.approve(), by=ANN)
    assert await accepted(world, [replace(world.row(asked[0].run), body=older.body)]) == []
    assert world.ran == [1]


async def test_that_control_without_what_is_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the two above: a seal that binds nothing beside it lets the older body pass."""
    monkeypatch.setattr(sealed, "_bound", lambda *parts: b"")
    async with world.governor() as governor:
        asked = await governor.pay.ask(number=1)  # type: ignore[attr-defined]
        older = world.row(asked.run)
        await governor.decide(asked.approval, Decision.approve(), by=ANN)
    world.rows.put(replace(world.row(asked.run), body=older.body))
    assert (await world.get(asked.run)).status == "waiting"


CLEAR: dict[str, Any] = {
    "due earlier": lambda row: replace(row, due=row.due - 1.0),
    "due later": lambda row: replace(row, due=row.due + 1e6),
    "never due": lambda row: replace(row, due=None),
    "due as text": lambda row: replace(row, due="soon"),
    "version": lambda row: replace(row, v=row.v + 1),
    "version as text": lambda row: replace(row, v=f"{row.v}x"),
    "state": lambda row: replace(row, index={**row.index, "state": "queued"}),
    "no state": lambda row: replace(row, index={**row.index, "state": None}),
    "pending": lambda row: replace(row, index={**row.index, "pending": "yes"}),
    "agent": lambda row: replace(row, index={**row.index, "agent": row.index["requester"]}),
    "agent in clear": lambda row: replace(row, index={**row.index, "agent": "pay"}),
    "requester": lambda row: replace(row, index={**row.index, "requester": row.index["agent"]}),
    "conversation": lambda row: replace(row, index={**row.index, "conversation": "c"}),
    "state as bytes": lambda row: replace(row, index={**row.index, "state": b"ready"}),
    "body as text": lambda row: replace(row, body="text"),
    "no bytes": lambda row: replace(row, body=b""),
}


async def test_clear_columns_are_bound(world: World) -> None:
    """What stands in clear beside the body cannot be changed either."""
    made = await world.approved(range(len(CLEAR) + 1))
    changed = [change(world.row(made[at])) for at, change in enumerate(CLEAR.values())]
    assert await accepted(world, changed) == []
    assert world.ran == [len(CLEAR)]


async def test_rows_in_clear_are_refused(world: World) -> None:
    """An approved run that somebody wrote, whole and right but for the seal: a new row, and in the place of another."""
    plain = World(world.url + "-plain.db", SQLiteRows(world.url + "-plain.db"))
    forged = [plain.row(id) for id in (await plain.approved([100, 101])).values()]
    made = await world.approved(range(2))
    inside = replace(world.row(made[0]), body=forged[1].body)
    assert await accepted(world, [forged[0], inside]) == []
    assert world.ran == [1]
    await plain.work()
    assert sorted(plain.ran) == [100, 101], "the control: without keys the same rows run"


async def test_other_keys_open_nothing(world: World) -> None:
    """Neither the store, nor, when the mark of its keys is removed, a single run; nothing is read as if it were plain."""
    made = await world.approved(range(3))
    before = [world.row(id) for id in made.values()]
    world.keys = Keys.generate()
    with pytest.raises(SealBroken, match="other keys"):
        await world.work()
    world.rows.remove(*world.rows.rows("keys"))
    await world.work()
    for id in made.values():
        with pytest.raises(SealBroken):
            await world.get(id)
    assert world.ran == [] and [world.row(id) for id in made.values()] == before


async def test_a_store_without_its_mark_is_not_read_without_keys(world: World) -> None:
    """Whoever has no keys sees that they are missing, run by run, also where the mark was removed."""
    made = await world.approved(range(2))
    world.rows.remove(*world.rows.rows("keys"))
    world.keys = None
    await world.work()
    with pytest.raises(SealBroken, match="GOVERNOR_KEYS"):
        await world.get(made[0])
    assert world.ran == []


async def test_changed_events_are_refused(world: World) -> None:
    """A byte of any event, and an event in another's place: whoever reads the trail is told which one."""
    made = await world.approved(range(6))
    dice = random.Random(34)
    for id in made.values():
        events = world.rows.events(id)
        for seq, body in events:
            world.rows.put_event(id, seq, flipped(body, dice.randrange(len(body))))
            async with world.governor() as governor:
                with pytest.raises(SealBroken, match=f"event {seq}"):
                    await governor.timeline(id)
            world.rows.put_event(id, seq, body)
        world.rows.put_event(id, 1, events[1][1])
        async with world.governor() as governor:
            with pytest.raises(SealBroken, match="event 1"):
                await governor.timeline(id)
        world.rows.put_event(id, 1, events[0][1])
    async with world.governor() as governor:
        assert [line["seq"] for line in await governor.timeline(made[0])] == [
            seq for seq, _ in world.rows.events(made[0])
        ]


async def test_a_row_put_back_whole_meets_its_own_events(world: World) -> None:
    """The seal cannot see it. Its next transition would write an event that exists: it is refused, and no tool runs."""
    made = await world.approved([1])
    before = world.row(made[1])
    await world.work()
    assert world.ran == [1]
    world.rows.put(before)
    await world.work()
    assert world.ran == [1]
    async with world.governor() as governor:
        with pytest.raises(StoreError, match="events never change"):
            await governor.resume(made[1])


async def test_that_control_a_row_put_back_with_its_trail_runs_again(world: World) -> None:
    """The control, and the limit: with the events cut as well only a checkpoint of the audit can tell, and it does."""
    made = await world.approved([1, 2])
    before, seq = world.row(made[1]), len(world.rows.events(made[1]))
    await world.work()
    world.rows.put(before)
    world.rows.cut_events(made[1], seq)
    async with world.governor() as governor:
        report = await governor.loop.bridge(governor.audit.verify())
    assert {finding.id for finding in report.findings} == {made[1]}
    await world.work()
    assert sorted(world.ran) == [1, 1, 2]


async def test_a_changed_halt_stops_everything(world: World) -> None:
    """Nobody lifts a halt past the package, nor by breaking its record: what cannot be read stops all calls."""
    made = await world.approved(range(3))
    async with world.governor() as governor:
        await governor.halt("tool:other", by=ANN)
    [halt] = world.rows.rows("halt")
    world.rows.put(replace(halt, body=flipped(halt.body, 70)))
    await world.work()
    assert world.ran == []
    world.rows.put(halt)
    async with world.governor() as governor:
        assert (await governor.get(made[0])).status in ("ready", "blocked")
        await governor.lift("tool:other", by=ANN)


async def test_changed_contents_of_openai_runs_are_refused(world: World, monkeypatch: Any, tmp_path: Path) -> None:
    """A byte of a content, another content, one in clear: the run is parked, no tool of it runs, the others go on."""
    keys = world.keys
    assert keys is not None
    monkeypatch.setenv("GOVERNOR_KEYS", str(keys.path))
    ledger = tmp_path / "ledger"
    dice, known, ids = random.Random(12), set[str](), []
    for number in range(AGENT_RUNS):
        governor, _ = openai_agents_app.make_app(world.url, ledger, [("refund", {"order": str(number)})])
        run = await openai_agents_app.decide(
            governor, await governor.run("support", f"go {number}"), Decision.approve()
        )
        ids.append(run.id)
        await governor.close()
        fresh = [blob for blob in world.rows.blobs() if blob[1] not in known]
        known |= {id for _, id, _ in fresh}
        if number > 1:
            tenant, id, data = dice.choice(fresh)
            others: list[Any] = [b"{}", "text", 10**12, world.rows.blobs()[0][2], b""]
            changed = others[number - 2] if number - 2 < len(others) else flipped(data, dice.randrange(len(data)))
            world.rows.put_blob(tenant, id, changed)
    governor, _ = openai_agents_app.make_app(world.url, ledger)
    async with governor:
        await Worker(governor).run(once=True)
        after = [await governor.get(id) for id in ids]
    assert [run.status for run in after] == ["completed"] * 2 + ["blocked"] * (AGENT_RUNS - 2)
    assert all(run.blocked == "snapshot" and "blob" in run.blocked_detail for run in after[2:])
    assert sorted(ledger.read_text().split("\n")) == ["", "refund 0 10.0", "refund 1 10.0"]


async def test_changed_threads_of_langgraph_runs_are_refused(world: World, tmp_path: Path) -> None:
    """A byte of the row that a thread stands on: the run is parked, its tool does not run, the others go on."""
    dice, ids = random.Random(13), []
    ledger = langchain_app.Ledger(tmp_path / "ledger")
    known: set[str] = set()
    for number in range(AGENT_RUNS):
        app = langchain_app.App(world.url, ledger, [[("pay", {"amount": 10 + number})]], keys=world.keys)
        async with app.governor as governor:
            run = await governor.run("support", "go", conversation=f"ann@example.com {number}")
            ids.append((await app.decide(run, Decision.approve())).id)
        fresh = [row for row in world.rows.rows("thread") if row.id not in known]
        known |= {row.id for row in fresh}
        checkpoints = [row for row in fresh if re.fullmatch(r"~[0-9a-f]{40}c.*", row.id)]
        if number > 1:
            row = min(checkpoints, key=lambda row: row.id)  # the newest; an older one is not looked at to go on
            world.rows.put(replace(row, body=flipped(row.body, dice.randrange(len(row.body)))))
    app = langchain_app.App(world.url, ledger, [], keys=world.keys)
    async with app.governor as governor:
        await Worker(governor).run(once=True)
        after = [await governor.get(id) for id in ids]
    assert [run.status for run in after] == ["completed"] * 2 + ["blocked"] * (AGENT_RUNS - 2)
    assert sorted(ledger.lines) == ["pay 10 shop", "pay 11 shop"]


async def test_nothing_names_people_in_clear(world: World, tmp_path: Path) -> None:
    """Ids and index fields of conversations, threads, requesters and agents: no name stands in the rows."""
    ledger = langchain_app.Ledger(tmp_path / "ledger")
    app = langchain_app.App(world.url, ledger, [[("pay", {"amount": 10})]], keys=world.keys)
    async with app.governor as governor:
        run = await governor.run("support", "go", conversation="zoe@example.com", requester="yan@example.com")
        own = await app.agent.ainvoke(
            {"messages": [("user", "hello")]}, {"configurable": {"thread_id": "xen@example.com"}}
        )
        assert own
        again = await governor.get(run.id)
        assert (again.conversation, again.requester) == ("zoe@example.com", "yan@example.com")
        assert [each.id for each in await governor.list_runs(agent="support")]
    everything = repr([world.rows.rows(kind) for kind in ("run", "thread", "worker", "keys", "halt")])
    everything += repr(world.rows.blobs())
    for name in ("zoe", "yan", "xen", "support", "pay", "local:ann"):
        assert name not in everything, name
