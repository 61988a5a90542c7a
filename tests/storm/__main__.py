"""``python -m tests.storm``: gates, workers and contradicting approvers under SIGKILL and SIGSTOP, judged by a ledger.

Prints one line and exits with 0, or with 1 when anything is wrong. What is not given is taken from `SIZES`: fewer gates
where a store takes longer, with as many strikes a gate.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from governor_agents.keys import Keys
from tests import shared
from tests.stores import STORES, chosen
from tests.storm import broken
from tests.storm.nemesis import storm

SIZES = {"sqlite": (2000, 300, 100), "redis": (1000, 150, 50), "redis-cluster": (300, 45, 15), "mongodb": (200, 30, 10)}
"""Gates, kills and stops on each store."""


def main() -> int:
    """Run the storm over each store."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--stores", default=",".join(STORES), help="names, separated by commas")
    parser.add_argument("--gates", type=int)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--stops", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=0.0, help="seconds per store before it gives up")
    parser.add_argument("--sealed", action="store_true", help="with keys, so that everything stored is sealed")
    parser.add_argument("--broken", choices=broken.FAULTS, default="", help="run a build with this fault")
    given = parser.parse_args()
    if given.gates == 0 or any((number or 0) < 0 for number in (given.gates, given.kills, given.stops)):
        parser.error("--gates is at least 1, --kills and --stops are at least 0")
    try:
        stores = chosen(given.stores)
    except ValueError as error:
        parser.error(str(error))
    os.environ.update(OPENAI_AGENTS_DISABLE_TRACING="1", LANGSMITH_TRACING="false")
    shared.begin()
    broken.apply(given.broken)
    total, gates = None, []
    for name, url in stores.items():
        asked = (given.gates, given.kills, given.stops)
        size = [usual if number is None else number for number, usual in zip(asked, SIZES[name], strict=True)]
        with tempfile.TemporaryDirectory(prefix="storm-") as folder:
            if given.sealed:
                Keys.create(Path(folder) / "keys.json")
                os.environ["GOVERNOR_KEYS"] = f"{folder}/keys.json"  # as each process of a deployment finds them
            report = storm(
                url(Path(folder)),
                Path(folder),
                gates=size[0],
                kills=size[1],
                stops=size[2],
                seed=given.seed,
                fault=given.broken,
                agents=not given.broken,
                slow=0.3 if given.broken else 0.0,
                limit=given.limit,
            )
        for line in report.wrong[:20]:
            print(f"{name}: {line}", file=sys.stderr)
        total = report if total is None else total.plus(report)
        gates.append(f"{name}:{report.gates}")
    if total is None:
        return 1
    print(total.details(), file=sys.stderr)
    print(f"{total.line(len(stores))} on={','.join(gates)}")
    return 1 if total.bad else 0


if __name__ == "__main__":
    sys.exit(main())
