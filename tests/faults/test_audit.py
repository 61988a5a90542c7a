"""[34] A trail that somebody with write access to the database changes: found against a checkpoint kept elsewhere.

The store is not sealed here, so that nothing but the audit itself can notice. Whoever attacks may write every row; in
the worst case the audit key has leaked too, all but the signing key. Each attack is made at 100 places. The control is
the same verifier with the checks switched off that are meant to find it: then it goes unnoticed.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from governor_agents import Governor
from governor_agents.audit import chain, verify
from governor_agents.audit.checkpoints import from_document, to_document
from governor_agents.audit.log import AuditLog, Published, Report
from governor_agents.core import driving
from governor_agents.core.calls import freeze, sha256, thaw
from governor_agents.core.codec import decode_run, encode_run
from governor_agents.core.records import Run, RunState
from governor_agents.keys import Keys
from governor_agents.runs import Runs
from governor_agents.stores import open_store
from tests.faults.rows import REACHED, ROWS, Row, SQLiteRows, flipped
from tests.stores import STORES

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

PLACES = 100
ROUNDS = 4
RUNS = 8
Events = list[tuple[int, bytes]]
Place = tuple[Callable[[bytes], None], bytes]


@dataclass(frozen=True)
class World:
    """A store with some trails, the checkpoint of them that was kept elsewhere, and how to reach behind the store."""

    url: str
    rows: SQLiteRows
    keys: Keys
    published: Published
    events: dict[str, Events]
    records: dict[str, Row]
    older: dict[str, tuple[Row, int]]

    def places(self, seed: int) -> list[tuple[str, int]]:
        """Where to attack: a run and one of its events."""
        every = [(id, seq) for id, events in self.events.items() for seq, _ in events]
        chosen = random.Random(seed)
        return [chosen.choice(every) for _ in range(PLACES)]

    @asynccontextmanager
    async def changed(self, id: str, events: Events, row: Row | None) -> AsyncIterator[None]:
        """The store with this in the place of a run's events and record, and as it was afterwards."""
        self._set(id, events, row)
        try:
            yield
        finally:
            self._set(id, self.events[id], self.records[id])

    def _set(self, id: str, events: Events, row: Row | None) -> None:
        self.rows.set_events(id, events)
        if row is None:
            self.rows.remove(self.records[id])
        else:
            self.rows.put(row)

    async def verify(self, id: str = "", *, published: bool = True) -> Report:
        """What an auditor finds who has the keys and the checkpoint."""
        async with self.opened() as log:
            return await log.verify(id, published=[self.published] if published else [])

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AuditLog]:
        store = open_store(self.url)
        await store.open()
        try:
            yield AuditLog(store, "default", self.keys, lambda work: work.close())
        finally:
            await store.close()


async def _build(name: str, folder: Path) -> World:
    """Runs that were claimed and given back a few times, and one checkpoint."""
    url, keys = STORES[name](folder), Keys.generate()
    store, rows = open_store(url), ROWS[name](url)
    await store.open()
    runs = Runs(store, "default", keys.audit)
    log = AuditLog(store, "default", keys, lambda work: work.close())
    older = {}
    for at in range(RUNS):
        run = Run("default", f"run_{at}", "agent", "x", "requester", RunState.QUEUED, 0.0, max_attempts=100)
        await runs.create(driving.queue(run, 1.0), 1.0)
    for turn in range(ROUNDS):
        for at in range(RUNS):
            claimed = await runs.change(f"run_{at}", lambda run, now: driving.claim(run, now, owner="w", lease=60.0))
            fence = claimed.run.fence
            await runs.change(
                f"run_{at}",
                lambda run, now, fence=fence: driving.release(run, now, owner="w", fence=fence, error="it broke"),
            )
        if turn == 0:
            await store.close()
            older = {row.id: (row, len(rows.events(row.id))) for row in rows.rows()}
            await store.open()
    made = await log.checkpoints.make()
    assert made is not None
    await store.close()
    published = Published("kept.json", from_document(freeze(to_document(made)), "kept.json"))
    records = {row.id: row for row in rows.rows()}
    return World(url, rows, keys, published, {id: rows.events(id) for id in records}, records, older)


@pytest.fixture(scope="module", params=REACHED)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """One store for all attacks: each puts back what it changed."""
    with tempfile.TemporaryDirectory() as folder:
        yield asyncio.run(_build(request.param, Path(folder)))


# What an attacker does: the events and the record of a run as they are afterwards.

Attack = Callable[[World, str, int], tuple[Events, Row | None]]


def lied(body: bytes) -> bytes:
    """The event as the attacker would have it."""
    return freeze({**thaw(body), "by": "mallory"})


def anew(events: Events, begin: int, key: bytes | None) -> Events:
    """The events from a seq on, linked anew; with a key their MACs too."""
    made, prev = [], ""
    for seq, body in events:
        if seq >= begin:
            line = {**thaw(body), "prev": prev, "seq": seq}
            if key is not None:
                line["mac"] = chain.mac(line, key)
            body = freeze(line)
        made.append((seq, body))
        prev = sha256(body)
    return made


def agreeing(row: Row, events: Events) -> Row:
    """The record, made to say what the events say."""
    run = decode_run(row.body)
    head = sha256(events[-1][1]) if events else ""
    return replace(row, body=encode_run(replace(run, seq=events[-1][0] if events else 0, chain=head)))


def numbered(bodies: list[bytes]) -> Events:
    return list(enumerate(bodies, 1))


def edit(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    events = [(at, lied(body) if at == seq else body) for at, body in world.events[id]]
    return events, world.records[id]


def edit_and_link(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    events, _ = edit(world, id, seq)
    events = anew(events, seq + 1, None)
    return events, agreeing(world.records[id], events)


def insert(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    bodies = [body for _, body in world.events[id]]
    events = numbered([*bodies[:seq], lied(bodies[seq - 1]), *bodies[seq:]])
    return events, agreeing(world.records[id], events)


def reorder(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    bodies = [body for _, body in world.events[id]]
    other = seq if seq < len(bodies) else seq - 2
    bodies[seq - 1], bodies[other] = bodies[other], bodies[seq - 1]
    events = numbered(bodies)
    return events, agreeing(world.records[id], events)


def delete_in_the_middle(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    seq = min(seq, len(world.events[id]) - 1)
    return [(at, body) for at, body in world.events[id] if at != seq], world.records[id]


def delete_and_close_up(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    seq = min(seq, len(world.events[id]) - 1)
    events = anew(numbered([body for at, body in world.events[id] if at != seq]), seq, world.keys.audit)
    return events, agreeing(world.records[id], events)


def cut_the_tail(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    return [(at, body) for at, body in world.events[id] if at < seq], world.records[id]


def cut_the_tail_and_the_record(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    seq = max(seq, 2)
    events = [(at, body) for at, body in world.events[id] if at < seq]
    return events, agreeing(world.records[id], events)


def delete_the_chain(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    return [], agreeing(world.records[id], [])


def delete_the_run(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    return [], None


def hash_anew_with_the_key(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    events = anew([(at, lied(body) if at == seq else body) for at, body in world.events[id]], seq, world.keys.audit)
    return events, agreeing(world.records[id], events)


def put_the_row_back(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    row, length = world.older[id]
    return world.events[id][:length], row


def put_only_the_row_back(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    return world.events[id], world.older[id][0]


def put_the_version_back(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    return world.events[id], replace(world.records[id], v=world.older[id][0].v)


def go_on_without_the_key(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    seq = max(seq, 2)
    plain = [
        (at, freeze({name: value for name, value in thaw(body).items() if at < seq or name != "mac"}))
        for at, body in world.events[id]
    ]
    events = anew(plain, seq, None)
    return events, agreeing(world.records[id], events)


def strip_all_macs(world: World, id: str, seq: int) -> tuple[Events, Row | None]:
    bodies = [(at, lied(body) if at == seq else body) for at, body in world.events[id]]
    plain = [(at, freeze({name: value for name, value in thaw(body).items() if name != "mac"})) for at, body in bodies]
    events = anew(plain, 1, None)
    return events, agreeing(world.records[id], events)


ATTACKS: dict[Attack, set[str]] = {
    edit: {"links", "macs", "end", "pinned"},
    edit_and_link: {"macs", "pinned"},
    insert: {"places", "links", "macs", "pinned"},
    reorder: {"places", "links", "end", "pinned"},
    delete_in_the_middle: {"places", "links"},
    delete_and_close_up: {"pinned"},
    cut_the_tail: {"end", "pinned"},
    cut_the_tail_and_the_record: {"pinned"},
    delete_the_chain: {"end", "pinned"},
    delete_the_run: {"pinned"},
    hash_anew_with_the_key: {"pinned"},
    put_the_row_back: {"pinned"},
    put_only_the_row_back: {"end", "pinned"},
    put_the_version_back: {"pinned"},
    go_on_without_the_key: {"macs", "pinned"},
    strip_all_macs: {"pinned"},
}
"""Every attack, and the checks that are meant to find it."""


async def test_an_untouched_trail_verifies(world: World) -> None:
    """The control of all that follows: nothing is found where nothing was changed, with the checkpoint and without."""
    report = await world.verify()
    assert (report.findings, report.trails, report.unkeyed) == ([], RUNS, 0)
    assert report.checkpoints == 2  # the store's own and the one that was kept
    assert report.events == sum(map(len, world.events.values()))
    assert (await world.verify(published=False)).findings == []


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_every_change_is_found(world: World, attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 100 places: found, in the right run; and not found by a verifier without the checks meant for it."""
    meant = ATTACKS[attack]
    others = tuple(check for check in verify.CHECKS if check.__name__ not in meant)
    assert len(others) == len(verify.CHECKS) - len(meant)
    found = unnoticed = 0
    for id, seq in world.places(seed=list(ATTACKS).index(attack)):
        events, row = attack(world, id, seq)
        async with world.changed(id, events, row), world.opened() as log:
            report = await log.verify(id, published=[world.published])
            found += bool(report.findings) and {finding.id for finding in report.findings} == {id}
            with monkeypatch.context() as patch:
                patch.setattr(verify, "CHECKS", others)
                unnoticed += not (await log.verify(id, published=[world.published])).findings
    assert (found, unnoticed) == (PLACES, PLACES)
    assert (await world.verify()).findings == []


@pytest.mark.parametrize("attack", [edit, delete_the_run, hash_anew_with_the_key, put_the_row_back])
async def test_a_look_at_everything_finds_it_too(world: World, attack: Attack) -> None:
    """Nobody has to know which run it is."""
    events, row = attack(world, "run_3", 5)
    async with world.changed("run_3", events, row):
        report = await world.verify()
        assert {finding.id for finding in report.findings} == {"run_3"}
        assert report.trails == RUNS


@pytest.mark.parametrize("attack", [hash_anew_with_the_key, cut_the_tail_and_the_record, delete_the_run])
async def test_the_checkpoints_in_the_store_find_it_as_long_as_they_are_there(world: World, attack: Attack) -> None:
    """Without any that was kept elsewhere; they are signed, so whoever attacks can only take them away."""
    events, row = attack(world, "run_5", 4)
    async with world.changed("run_5", events, row):
        assert [finding.id for finding in (await world.verify(published=False)).findings] == ["run_5"]


async def test_a_store_that_was_put_back_whole_is_found_by_what_was_kept_elsewhere(world: World) -> None:
    """All rows as they were before the checkpoint, its record and events with them: nothing inside can tell."""
    [record] = world.rows.rows("audit")
    statements = world.rows.events(record.id)
    events, row = put_the_row_back(world, "run_1", 1)
    world.rows.remove(record)
    world.rows.set_events(record.id, [])
    try:
        async with world.changed("run_1", events, row):
            assert (await world.verify(published=False)).findings == []
            told = {finding.id: finding.means for finding in (await world.verify()).findings}
            assert told["1"].startswith("checkpoint 1 is published in kept.json, but the store ends at 0")
            assert "kept.json: checkpoint 1" in told["run_1"]
    finally:
        world.rows.put(record)
        world.rows.set_events(record.id, statements, kind="audit")
    assert (await world.verify()).findings == []


@pytest.mark.parametrize("name", REACHED)
async def test_rows_that_cannot_be_opened_are_findings(name: str, tmp_path: Path) -> None:
    """In a sealed store a broken seal anywhere is one line that names the place; the rest is still looked at."""
    keys, url = Keys.generate(), STORES[name](tmp_path)
    async with Governor(store=url, keys=keys) as governor:
        pay = governor.govern(name="pay", approvers=["local:ann"])(lambda amount: amount)
        one, other = [(await pay.ask(amount=at)).run for at in range(2)]
        await governor.loop.bridge(governor.audit.checkpoints.make())
    rows = ROWS[name](url)
    [checkpoints], [row] = rows.rows("audit"), [row for row in rows.rows() if row.id == other]

    def event(id: str, seq: int) -> Place:
        return lambda body: rows.put_event(id, seq, body), dict(rows.events(id))[seq]

    places: dict[str, Place] = {
        one: event(one, 2),
        other: (lambda body: rows.put(replace(row, body=body)), row.body),
        "1": event(checkpoints.id, 1),
        "2": (lambda body: rows.put(replace(checkpoints, body=body)), checkpoints.body),
    }
    for id, (write, body) in places.items():
        write(flipped(body, len(body) // 2))
        async with Governor(store=url, keys=keys) as governor:
            report = await governor.loop.bridge(governor.audit.verify())
        assert ([finding.id for finding in report.findings], report.trails) == ([id], 2)
        write(body)


@pytest.mark.parametrize("name", REACHED)
async def test_who_rewrites_and_waits_is_found_by_the_older_checkpoint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the audit key the rewritten trail goes on, honestly, and is pinned again: the earlier pin still counts."""
    world = await _build(name, tmp_path)
    for at, id in enumerate(world.events):
        events, row = hash_anew_with_the_key(world, id, 1 + at)
        world.rows.set_events(id, events)
        assert row is not None
        world.rows.put(row)
    store = open_store(world.url)
    await store.open()
    runs, log = (
        Runs(store, "default", world.keys.audit),
        AuditLog(store, "default", world.keys, lambda work: work.close()),
    )
    for id in world.events:
        await runs.change(id, lambda run, now: driving.claim(run, now, owner="w", lease=60.0))
    made = await log.checkpoints.make()
    assert made is not None and {head.id for head in made.heads} == world.events.keys()
    report = await log.verify()
    assert {finding.id: finding.code for finding in report.findings} == dict.fromkeys(world.events, "rewritten")
    assert all("checkpoint 1" in finding.means for finding in report.findings)
    monkeypatch.setattr(verify, "CHECKS", [check for check in verify.CHECKS if check is not verify.pinned])
    assert (await log.verify()).findings == []
    await store.close()
