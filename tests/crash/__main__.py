"""The crash matrix from the command line: ``python -m tests.crash``; one line on stdout, 0 when every promise held.

``--kills N --seed S`` chooses the kills (on the first store at least one at each point of each adapter and retry class),
``--stores sqlite`` the stores, ``--nightly`` (or ``GOVERNOR_NIGHTLY=1``) makes at least 5,000 of them a store. ``--only CASE`` plays one case
again, as a bad one was printed. ``--broken NAME`` plays a seeded broken build, which must be found out; without it all of
them are, after the matrix, on the first store (``--no-controls`` leaves them out).
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests import shared
from tests.crash.broken import BROKEN
from tests.crash.forkserver import ForkServer
from tests.crash.matrix import Kill, Matrix, Report, chosen, control, kinds_and_retries, nightly
from tests.crash.scenes import SCENES
from tests.stores import chosen as chosen_stores

KILLS = 300
NIGHTLY = 5_000
POINTS = 16
SEED = 20261130


def tell(line: str) -> None:
    """How far it is, where somebody looks on."""
    if sys.stderr.isatty():
        print(f"\r{line}", end="", file=sys.stderr, flush=True)


async def run(given: argparse.Namespace, folder: Path) -> int:
    """What was asked for; the exit code."""
    async with ForkServer("tests.crash.lives") as server:
        matrix = Matrix(server, folder, tell)
        if given.only:
            return say(await matrix.play([Kill.parse(given.only)], broken=given.broken))
        if given.broken:
            _, report = await control(matrix, next(iter(given.stores)), given.broken)
            return say(report)
        total = Report(stores=0)
        first = next(iter(given.stores))  # which points there are is the protocol's matter, and the same on every store
        points = await matrix.discover(first, SCENES)
        recoveries = await matrix.discover_recoveries(first, points)
        for store in given.stores:
            whole = store == first  # what follows has the same points, and takes longer
            kills = chosen(store, points, recoveries, kills=given.kills, seed=given.seed, whole=whole)
            report = await matrix.play(kills)
            print(f"{store}: {report.line()}", file=sys.stderr)
            add(total, report)
            for place in kinds_and_retries():
                if len(report.points[place]) < POINTS:
                    total.missed += 1
                    total.wrong.append(f"{store}: only {len(report.points[place])} points of {'/'.join(place)}")
        controls = [] if given.no_controls else list(BROKEN)
        caught = await asyncio.gather(*(found_out(matrix, first, name) for name in controls))
        return say(total, f" controls={sum(caught)}/{len(caught)}") or int(not all(caught))


async def found_out(matrix: Matrix, store: str, name: str) -> bool:
    """True when a seeded broken build was found out on this store."""
    caught, report = await control(matrix, store, name)
    if not caught:
        print(f"\nthe broken build {name} was not found out on {store}: {report.line()}", file=sys.stderr)
    return caught


def add(total: Report, report: Report) -> None:
    """Add one store's report to the sums."""
    for name, value in vars(report).items():
        if isinstance(value, int):
            setattr(total, name, getattr(total, name) + value)
    total.wrong += report.wrong


def say(report: Report, end: str = "") -> int:
    """Print the line, and each bad case with what plays it again; the exit code."""
    if sys.stderr.isatty():
        print(file=sys.stderr)
    for sentence in report.wrong:
        print(sentence, file=sys.stderr)
    print(report.line() + end)
    return int(report.bad)


def main() -> int:
    """0 when every promise held, 1 when not, 2 for what cannot be asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__.splitlines()[0])
    parser.add_argument("--stores", default="", help="names with commas between; default: all")
    parser.add_argument("--kills", type=int, default=0, help=f"kills per store; default {KILLS}")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--nightly", action="store_true", default=nightly())
    parser.add_argument("--only", default="", metavar="CASE", help="such as sqlite/openai.gated/none/tool:after@1")
    parser.add_argument("--broken", default="", choices=["", *BROKEN], metavar="NAME", help=", ".join(BROKEN))
    parser.add_argument("--no-controls", action="store_true")
    given = parser.parse_args()
    given.kills = given.kills or (NIGHTLY if given.nightly else KILLS)
    try:
        given.stores = chosen_stores(given.stores)
        if given.only:
            Kill.parse(given.only)
    except ValueError as error:
        parser.error(str(error))
    shared.begin()
    folder = Path(tempfile.mkdtemp(prefix="governor-agents-crash-"))
    began = time.monotonic()
    code = asyncio.run(run(given, folder))
    print(f"seed={given.seed} seconds={time.monotonic() - began:.0f}", file=sys.stderr)
    if code == 0:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
