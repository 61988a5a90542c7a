"""(g) What the transitions of a gated call cost on each store, as multiples of one bare compare-and-set of its server.

Each step is asked of a real governor from the caller's loop, over a store and a server of its own. Beside it one
``store.swap`` of a record of the same size, on the store's own loop: what the driver adds to the bare one.
"""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from benchmarks.bare import bare
from benchmarks.gates import Gates, governor_over
from benchmarks.measure import Cost, Party, interleave, ratio, timed
from benchmarks.report import Report
from benchmarks.stores import STORES, fresh_store
from governor_agents.core.ports import Record
from governor_agents.nonces import nonce, run_id

ROUNDS = 200
BARE, SWAP = "one bare compare-and-set", "store.swap"


def steps(gates: Gates) -> dict[str, Party]:
    """A party for each step, which takes a run up to it first."""

    async def suspend() -> Cost:
        claim = await gates.begin()
        return await timed(lambda _: gates.suspend(claim))

    async def decide() -> Cost:
        run = await gates.suspended()
        return await timed(lambda _: gates.decide(run.id))

    async def claim() -> Cost:
        run = await gates.decide((await gates.suspended()).id)
        return await timed(lambda _: gates.claim(run.id))

    async def call() -> Cost:
        claimed = await gates.claim((await gates.decide((await gates.suspended()).id)).id)
        return await timed(lambda _: gates.call(claimed))

    async def complete() -> Cost:
        claimed = await gates.claim((await gates.decide((await gates.suspended()).id)).id)
        await gates.call(claimed)
        return await timed(lambda _: gates.complete(claimed))

    return {
        "suspend": suspend,
        "decide": decide,
        "claim": claim,
        "intent and result": call,
        "complete": complete,
    }


def swap(gates: Gates, size: int) -> Party:
    """One compare-and-set through the driver."""
    store, bridge = gates.governor.store, gates.governor.loop.bridge

    async def party() -> Cost:
        index = {"state": "waiting", "agent": "support", "pending": "yes"}
        record = Record("card", "default", run_id(), os.urandom(size), index)
        await bridge(store.insert(record, op=nonce()))
        changed = replace(record, v=1, body=os.urandom(size))
        return await bridge(timed(lambda _: store.swap(changed, op=nonce())))

    return party


async def measure(report: Report, name: str, place: Path, rounds: int) -> None:
    """All steps on one store."""
    with fresh_store(name, place) as url:
        async with governor_over(url) as governor:
            gates = Gates(governor)
            run = await gates.suspended()
            record = await governor.loop.bridge(governor.store.load("run", governor.tenant, run.id))
            assert record is not None
            size = len(record.body)
            async with bare(name, url, size) as compare:
                parties = {BARE: compare, SWAP: swap(gates, size), **steps(gates)}
                samples = await interleave(parties, rounds)
    part = f"g {STORES[name]}"
    for party in parties:
        report.party(part, party, samples)
        if party != BARE:
            report.ratio(part, f"{party} / {BARE}", ratio(samples, party, BARE))


def bench_transitions(report: Report, place: Path, effort: float, store: str) -> None:
    """Suspend, decide, claim, run and complete, each as a multiple of what its server takes for one bare write."""
    asyncio.run(measure(report, store, place, max(3, int(ROUNDS * effort))))
