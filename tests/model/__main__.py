"""``python -m tests.model``: walk every configuration, seed every fault, print one line. 0 when nothing is wrong, else 1."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tests import shared
from tests.model.configurations import CONFIGURATIONS
from tests.model.suite import Report, run


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        "python -m tests.model", description="Walk every state of the transition functions."
    )
    parser.add_argument("--short", action="store_true", help="the configurations of `make test` only")
    parser.add_argument("--only", metavar="CONFIG", help="one configuration, without the seeded faults")
    parser.add_argument("--list", action="store_true", help="name the configurations, and what each asks")
    parser.add_argument("--sizes", action="store_true", help="print a line for each configuration and fault")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), help="default: two")
    given = parser.parse_args(arguments)
    if given.list:
        for name, config in CONFIGURATIONS.items():
            print(f"{name:24} {'short ' if config.short else '      '} {config.says}")
        return 0
    if given.only and given.only not in CONFIGURATIONS:
        print(f"no configuration is called {given.only!r}; known: {', '.join(CONFIGURATIONS)}", file=sys.stderr)
        return 2
    shared.begin()
    report: Report = run(short=given.short, only=given.only, processes=given.processes)
    if given.sizes:
        print(report.sizes())
    print(report.trouble(), end="", file=sys.stderr)
    print(report.line())
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
