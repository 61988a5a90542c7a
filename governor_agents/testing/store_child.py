"""The other process in the tests of shared stores.

``python -m governor_agents.testing.store_child OPENER URL WORD …`` opens the store, says ``ready``, waits for a line,
does what the words say and says how it went, one line for each step.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import cast

from governor_agents.core.ports import Store
from governor_agents.testing.store_samples import Run, add, blob, event, record

LIMIT = 60.0
"""Seconds after which a child gives up, so that none outlives its test for long."""


def say(*words: object) -> None:
    """One line to the parent."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def count_up(store: Store, name: str, rounds: int) -> None:
    """Race with others for the number in the record's body; an event for each addition that counted."""
    lost = 0
    for number in range(rounds):
        while True:
            current = await store.load("run", "t", "r")
            if current is None:
                raise RuntimeError("the record is gone")
            new = record(body=str(int(current.body) + 1).encode(), v=current.v)
            if (await store.swap(new, op=f"{name} {number}", events=[event(current.v, name.encode())])).won:
                break
            lost += 1
    say(lost)


async def spend(store: Store, amount: int, limit: int) -> None:
    """Add to the counter until it refuses."""
    sums = []
    while (total := await add(store, amount, limit)) is not None:
        sums.append(total)
    say(json.dumps(sums))


async def write_until_killed(store: Store) -> None:
    """Swap for ever, with an event and a blob each time; say each version once it is acknowledged."""
    current = await store.load("run", "t", "r")
    v = current.v if current else 0
    while True:
        body = f"body of version {v + 1}".encode()
        content = blob(body * 50)
        new = record(body=body, v=v, due=float(v), index={"state": f"s{(v + 1) % 3}"})
        mark = event(v + 1, content.id.encode())
        if v:
            answer = await store.swap(new, op=f"op {v + 1}", events=[mark], blobs=[content])
        else:
            answer = await store.insert(new, op="op 1", events=[mark], blobs=[content])
        v = answer.v
        say(v)


async def swap_once(store: Store, v: int, op: str, body: str) -> None:
    """One swap."""
    answer = await store.swap(record(v=v, body=body.encode()), op=op)
    say(json.dumps([answer.won, answer.v]))


async def show(store: Store) -> None:
    """What stands in the record."""
    current = await store.load("run", "t", "r")
    say(json.dumps(None if current is None else [current.v, current.body.decode()]))


async def act(store: Store, word: str, rest: list[str]) -> None:
    """Do what the words say."""
    if word == "count_up":
        await count_up(store, rest[0], int(rest[1]))
    elif word == "spend":
        await spend(store, int(rest[0]), int(rest[1]))
    elif word == "write_until_killed":
        await write_until_killed(store)
    elif word == "swap_once":
        await swap_once(store, int(rest[0]), rest[1], rest[2])
    elif word == "show":
        await show(store)
    else:
        raise ValueError(f"unknown word {word}")


def main(opener: str, url: str, word: str, *rest: str) -> None:
    """Open the store on a line from the parent (``open_raced``) or at once, then act on a line."""
    module, _, name = opener.partition(":")
    store = cast("Store", getattr(import_module(module), name)(url))
    run = Run(LIMIT)
    if word == "open_raced":
        say("ready")
        sys.stdin.readline()
        run(store.open())
        say(json.dumps(run(add(store, 1, 1000, "opened"))))
    else:
        run(store.open())
        say("ready")
        sys.stdin.readline()
        run(act(store, word, list(rest)))
    run(store.close())
    run.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
