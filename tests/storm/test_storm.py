"""The storm in short: nothing runs twice, nothing rejected runs, nobody is told a wrong winner; broken builds are found.

``python -m tests.storm`` is the full size.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stores import STORES

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(
    r"storm: stores=(?P<stores>\d+) gates=(?P<gates>\d+) kills=(?P<kills>\d+) stops=(?P<stops>\d+) "
    r"double=(?P<double>\d+) rejected_but_executed=(?P<rejected>\d+) winners_wrong=(?P<winners>\d+) lost=(?P<lost>\d+) "
    r"unknown=(?P<unknown>\d+)"
)

pytestmark = pytest.mark.timeout(900)


def storm(store: str, *options: str) -> tuple[int, dict[str, int], str]:
    """Exit code, numbers and everything that was said by one storm."""
    command = [sys.executable, "-m", "tests.storm", "--stores", store, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = LINE.search(done.stdout)
    assert found is not None, done.stderr
    return done.returncode, {name: int(value) for name, value in found.groupdict().items()}, done.stdout + done.stderr


@pytest.mark.parametrize("store", STORES)
def test_storm_leaves_one_winner_and_one_effect(store: str) -> None:
    """Workers, approvers and callers are killed and stopped: every gate ends in a state that its record explains."""
    code, numbers, said = storm(store, "--gates", "60", "--kills", "14", "--stops", "5", "--sealed")
    assert code == 0, said
    assert numbers["gates"] >= 60 and (numbers["kills"], numbers["stops"]) == (14, 5)
    assert {numbers[name] for name in ("double", "rejected", "winners", "lost")} == {0}


@pytest.mark.parametrize(
    ("fault", "strikes", "found"),
    [
        ("last_write_wins", (0, 0), ("winners",)),
        ("forgets_writes", (0, 0), ("winners",)),
        ("late_votes", (0, 0), ("winners",)),
        ("rejected_runs", (0, 0), ("rejected",)),
        ("no_fence", (4, 4), ("double",)),
        ("effect_before_intent", (4, 4), ("double",)),
    ],
)
def test_storm_finds_a_broken_build(fault: str, strikes: tuple[int, int], found: tuple[str, ...]) -> None:
    """The controls: with one fault in the build, the same storm ends with 1 and names what is wrong."""
    kills, stops = strikes
    code, numbers, said = storm(
        "sqlite", "--broken", fault, "--gates", "24", "--kills", str(kills), "--stops", str(stops)
    )
    assert code == 1, said
    assert all(numbers[name] >= 1 for name in found), said


def test_a_storm_that_cannot_end_in_time_says_so() -> None:
    """No time to do it all: it ends all the same, with 1 and the number of gates that were left over."""
    code, numbers, said = storm("sqlite", "--gates", "5000", "--kills", "0", "--stops", "0", "--limit", "2")
    assert code == 1
    assert numbers["gates"] < 5000 and re.search(r" undrained=[1-9]", said), said


def test_unknown_store_is_named() -> None:
    """A store that nobody knows is a usage error in one line."""
    command = [sys.executable, "-m", "tests.storm", "--stores", "nosuch"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "'nosuch'" in done.stderr
