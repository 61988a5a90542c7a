"""(b) An allowed call that is not read-only, in a durable run on SQLite: intent and result, each one durable commit.

Beside it: one compare-and-set of a record of the same size through the same store, asked for on the store's own loop
(so without our hops between threads), and one transaction on an equal row with nothing but `sqlite3`.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.measure import Cost, Log, Party, connect, interleave, ratio, timed
from benchmarks.report import Report
from governor_agents import Governor, PolicySet, Run, Tool, ToolCall
from governor_agents.claims import Claim, held
from governor_agents.core import driving
from governor_agents.core.ports import Record
from governor_agents.core.records import RunState, evolve
from governor_agents.liveness import this_worker
from governor_agents.nonces import nonce, run_id

ROUNDS, CALLS = 200, 2
ARGS = b'{"amount":120,"currency":"EUR","order":"4711"}'
POLICY = """\
version: 1
approvals: {approvers: [local:alice]}
tools: {refund: {effect: money}}
rules: [{name: small refunds, tool: refund, when: call.args.amount <= 500, then: allow}]
"""

JOURNALLED = "allowed call with journal"
SWAP = "one bare store.swap"
FROM_HERE = "one bare store.swap, asked for from the caller's loop"
RAW = "one bare sqlite3 transaction"


async def refund(arguments: bytes) -> str:
    """The tool: nothing at all."""
    return "refunded"


@dataclass(slots=True)
class Bench:
    """A governor over a store file, and runs to measure in."""

    governor: Governor
    tool: Tool
    sizes: list[int] = field(default_factory=list)

    async def open_run(self, calls: int = 0) -> Claim:
        """A claimed run that has ``calls`` journalled calls behind it."""
        governor, now = self.governor, time.time()
        run = Run("default", run_id(), "support", "bench", "service:support", RunState.ACTIVE, now)
        change = driving.start(run, now, owner=this_worker(), lease=600.0)
        claim = Claim.on(await governor.loop.bridge(governor.runs.create(change, now)))
        for _ in range(calls):
            await self.call(claim)
        return claim

    async def call(self, claim: Claim) -> None:
        """One call under a fresh id, through the guard."""
        asked = ToolCall("refund", ARGS, f"call_{nonce()}", agent=claim.agent, run=claim.run, requester=claim.requester)
        ran = await self.governor.guard.run(claim, asked, self.tool, refund)
        if ran.value != "refunded":
            raise RuntimeError(f"the call did not run: {ran}")

    async def body(self, claim: Claim) -> bytes:
        """The run's record as stored."""
        record = await self.governor.loop.bridge(self.governor.store.load("run", "default", claim.run))
        if record is None:
            raise RuntimeError("the run is gone")
        return record.body

    async def bare(self, size: int) -> Record:
        """A record of this size that nobody looks into."""
        record = Record("card", "default", run_id(), os.urandom(size), {"state": "active", "agent": "support"}, v=0)
        await self.governor.loop.bridge(self.governor.store.insert(record, op=nonce()))
        return replace(record, v=1)

    def journalled(self, before: int = 0) -> Party:
        """Calls in a run that has ``before`` calls behind it."""

        async def party() -> Cost:
            claim = await self.open_run(before)
            with held(claim), self.governor.beats.during(claim):  # as a driver does around a stretch of a loop
                return await timed(lambda _: self.call(claim), CALLS)

        return party

    def swaps(self, size: int, *, from_here: bool = False) -> Party:
        """Compare-and-sets of one record, timed on the store's own loop, or ``from_here``, where calls come from."""
        store, bridge = self.governor.store, self.governor.loop.bridge

        async def party() -> Cost:
            record = await self.bare(size)
            versions = [replace(record, v=record.v + at) for at in range(CALLS)]
            if from_here:
                return await timed(lambda at: bridge(store.swap(versions[at], op=nonce())), CALLS)
            return await bridge(timed(lambda at: store.swap(versions[at], op=nonce()), CALLS))

        return party


def raw(path: Path, size: int) -> Party:
    """Transactions on one row of this size, with nothing around them."""
    connection = connect(path)
    connection.execute("CREATE TABLE row (id TEXT PRIMARY KEY, v INTEGER, body BLOB)")

    async def party() -> Cost:
        id = run_id()
        connection.execute("INSERT INTO row VALUES (?, 1, ?)", (id, os.urandom(size)))
        bodies = [os.urandom(size) for _ in range(CALLS)]

        async def one(at: int) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE row SET v = v + 1, body = ? WHERE id = ? AND v = ?", (bodies[at], id, at + 1))
            connection.execute("COMMIT")

        return await timed(one, CALLS)

    return party


async def counted(log: Log, work: Callable[[], Awaitable[object]]) -> tuple[int, int]:
    """Commits and bytes of one operation."""
    with log.counting() as written:
        await work()
    return written[0].commits, written[0].bytes


async def measure(report: Report, place: Path, rounds: int) -> None:
    path = place / "journal.db"
    async with Governor(PolicySet.from_text(POLICY), store=f"sqlite:///{path}", secret=b"bench") as governor:
        bench = Bench(governor, evolve(governor.policies.tool("refund")))
        claim = await bench.open_run()
        commits, written = await counted(Log(path), lambda: bench.call(claim))
        size = len(await bench.body(claim))
        record = await bench.bare(size)
        swap = governor.store.swap
        _, bare_bytes = await counted(Log(path), lambda: governor.loop.bridge(swap(record, op=nonce())))
        report.count("b", "durable commits of one call", commits, exactly=2)
        report.count("b", "bytes written by one call", written, "B")
        report.count("b", f"bytes written by {SWAP}", bare_bytes, "B", note=f"{size} bytes of record")
        parties = {
            JOURNALLED: bench.journalled(),
            SWAP: bench.swaps(size),
            FROM_HERE: bench.swaps(size, from_here=True),
            RAW: raw(place / "journal-raw.db", size),
        }
        samples = await interleave(parties, rounds)
        for name in parties:
            report.party("b", name, samples)
        report.ratio("b", f"{JOURNALLED} / {SWAP}", ratio(samples, JOURNALLED, SWAP), 2.5)
        report.ratio("b", f"{JOURNALLED} / {FROM_HERE}", ratio(samples, JOURNALLED, FROM_HERE))
        report.ratio("b", f"{JOURNALLED} / {RAW}", ratio(samples, JOURNALLED, RAW))
        grown = {before: bench.journalled(before) for before in (0, 20, 100)}
        found = await interleave({str(before): party for before, party in grown.items()}, max(3, rounds // 15))
        for before in (20, 100):
            note = "the record grows until the next pause"
            spread = ratio(found, str(before), "0")
            report.ratio("b", f"{JOURNALLED}, {before} before it / none before it", spread, note=note)


def bench_allowed_call_with_journal(report: Report, place: Path, effort: float) -> None:
    """Two durable commits, in at most two and a half times the time of one."""
    asyncio.run(measure(report, place, max(3, int(ROUNDS * effort))))
