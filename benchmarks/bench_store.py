"""(f) Transitions of four processes at once on one SQLite file: how many a second, and no ``database is locked``."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.report import Report

PROCESSES, COUNT = 4, 4_000
ROOT = Path(__file__).resolve().parents[1]


def bench_transitions_of_four_processes(report: Report, place: Path, effort: float) -> None:
    """Each transition is one durable compare-and-set with its audit event."""
    url = f"sqlite:///{(place / 'transitions.db').absolute()}"
    count = max(200, int(COUNT * effort))
    command = [sys.executable, "-m", "benchmarks.transitions", url, str(count)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(PROCESSES)
        ]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in processes:  # all of them before anybody is listened to
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [json.loads(process.communicate()[0]) for process in processes]
    made = sum(one["made"] for one in said)
    seconds = max(one["ended"] for one in said) - min(one["begun"] for one in said)
    report.count("f", "transitions a second, four processes", round(made / seconds), "/s", note=f"{made} transitions")
    report.count("f", "of them refused as locked", sum(one["errors"] for one in said), exactly=0)
