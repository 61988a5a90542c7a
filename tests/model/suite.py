"""All of it: the configurations and the seeded faults, over as many processes as wanted, and what came of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from tests.model import rows
from tests.model.configurations import CONFIGURATIONS
from tests.model.machine import play
from tests.model.mutations import MUTATIONS, seeded
from tests.model.walk import Found, Walk
from tests.stores import STORES

EXAMPLES = {"sqlite": 200, "redis": 200, "redis-cluster": 100, "mongodb": 50}
"""How many runs of 50 steps the machine plays on each store: fewer where a step takes longer."""


@dataclass
class Report:
    """What the walks found. ``missed`` are the faults that no walk caught; ``unused`` the rows that none reached.

    ``played`` are the stores on which the machine was played, with what failed there.
    """

    found: dict[str, Found] = field(default_factory=dict)
    caught: dict[str, str] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    played: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    whole: bool = False

    @property
    def breaches(self) -> int:
        """How many kinds of breach, over all configurations."""
        return sum(len(found.breaches) for found in self.found.values())

    @property
    def stuck(self) -> int:
        """How many kinds of world that nothing leads out of."""
        return sum(len(found.stuck) for found in self.found.values())

    @property
    def unused(self) -> tuple[rows.Row, ...]:
        """Rows of the lifecycle tables that no walk used, or that are said to be out of reach and are not.

        Empty where not all configurations were walked.
        """
        used = frozenset(row for found in self.found.values() for row in found.rows)
        return tuple(sorted((rows.ALL - used) ^ rows.EXPLAINED.keys())) if self.whole else ()

    @property
    def good(self) -> bool:
        """True when nothing is wrong, and each row of the tables is used by a walk or its absence explained."""
        return not (self.breaches or self.stuck or self.missed or self.unused or any(self.played.values()))

    def line(self) -> str:
        """The one line."""
        worlds = sum(found.worlds for found in self.found.values())
        steps = sum(found.steps for found in self.found.values())
        seeds = len(self.caught) + len(self.missed)
        wanted = len(rows.ALL) - len(rows.EXPLAINED)
        tables = f" rows={wanted - len(self.unused)}/{wanted}" if self.whole else ""
        stores = sum(not failed for failed in self.played.values())
        examples = ",".join(f"{store}:{EXAMPLES[store]}x50" for store in self.played)
        played = f" stores={stores}/{len(self.played)} examples={examples}" if self.played else ""
        return (
            f"model: configurations={len(self.found)} states={worlds} transitions={steps} violations={self.breaches} "
            f"stuck={self.stuck} mutations={len(self.caught)}/{seeds}{tables}{played}"
        )

    def sizes(self) -> str:
        """How large each walk was."""
        lines = [
            f"{name:24} states={found.worlds} transitions={found.steps} records={found.records} "
            f"seconds={self.seconds[name]:.1f}"
            for name, found in self.found.items()
        ]
        lines += [f"caught in {self.seconds[name]:.1f} s: {name}: {why}" for name, why in self.caught.items()]
        return "\n".join(lines)

    def trouble(self) -> str:
        """Each breach with the shortest way to it; each fault that went unseen; each row that was not reached."""
        lines: list[str] = []
        for name, found in self.found.items():
            for what, way in {**found.breaches, **found.stuck}.items():
                lines += [f"{name}: {what}", *(f"    {at}. {step}" for at, step in enumerate(way, 1))]
        lines += [f"not caught: {name}" for name in self.missed]
        lines += [
            f"not reached, or reached though explained: {state} --{event}--> {to}" for state, event, to in self.unused
        ]
        lines += [f"on {store}: {failed}" for store, failed in self.played.items() if failed]
        return "".join(line + "\n" for line in lines)


Job = tuple[str, str]


def run(*, short: bool = False, only: str | None = None, processes: int = 1) -> Report:
    """Walk, and seed the faults; ``only`` names one configuration and seeds none."""
    names = [only] if only else [name for name, config in CONFIGURATIONS.items() if config.short or not short]
    jobs = [("walk", name) for name in names] + [("seed", name) for name in MUTATIONS if not only]
    jobs += [("play", name) for name in STORES if not short and not only]
    report = Report(whole=not short and not only)
    for (kind, name), result, seconds in _done(jobs, processes):
        report.seconds[name] = seconds
        if kind == "play":
            report.played[name] = result
        elif kind == "walk":
            report.found[name] = result
        elif (why := caught(name, result)) is not None:
            report.caught[name] = why
        else:
            report.missed.append(name)
    return report


def _done(jobs: list[Job], processes: int) -> Iterator[tuple[Job, Any, float]]:
    if processes < 2:
        yield from map(do, jobs)
        return
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(do, jobs)


def do(job: Job) -> tuple[Job, Any, float]:
    """One walk: of a configuration as it is, or with a fault until the breach; or the machine on one store."""
    kind, name = job
    began = time.process_time()
    found: Found | str
    if kind == "play":
        found = _play(name)
    elif kind == "walk":
        found = walk(name)
    else:
        with seeded(MUTATIONS[name]):
            found = walk(MUTATIONS[name].configuration, stop=MUTATIONS[name].breach)
    return job, found, time.process_time() - began


def _play(name: str) -> str:
    """What failed on this store, empty when nothing did."""
    try:
        play(name, STORES[name], EXAMPLES[name])
    except Exception as error:
        return "".join(traceback.format_exception(error))
    return ""


def caught(name: str, found: Found) -> str | None:
    """The breach as which a seeded fault was found, None when it was not."""
    return next((what for what in (*found.breaches, *found.stuck) if MUTATIONS[name].breach in what), None)


def walk(name: str, *, stop: str | None = None) -> Found:
    """Walk a configuration. ``stop``: until the first breach with these words."""
    with rows.listening():
        return Walk(CONFIGURATIONS[name]).walk(stop=stop)
