"""100 times ``kill -9`` at random moments of the demo: every run ends or says why it stands, and nothing runs twice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.demo_kills import kill

ROOT = Path(__file__).resolve().parents[2]
SEED = 4711

# They share the server that has the frameworks loaded, so they run in one worker.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo_kills"), pytest.mark.timeout(600)]


def test_100_kills_at_random_moments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All three phases, both frameworks: every run ends or is explained, nothing is lost, no refund is paid twice."""
    report = kill(tmp_path, kills=100, seed=SEED)
    with capsys.disabled():
        print(f"\n{report.line()}\n{report.details()}")
    assert (report.kills, report.double, report.lost) == (100, 0, 0), report.wrong
    assert report.ended + report.blocked == report.runs
    assert min(report.phases[phase] for phase in ("start", "decide", "resume")) >= 10
    assert {"nothing", "active", "waiting"} <= set(report.left), "the kills came at different moments"


def test_kills_right_after_the_tool_ran_block_the_run(tmp_path: Path) -> None:
    """Where it hurts most: money is gone and no result is written. The run stands, and ``runs show`` says why."""
    report = kill(tmp_path, kills=8, seed=SEED, aimed=True)
    assert (report.kills, report.double, report.lost) == (8, 0, 0), report.wrong
    assert report.blocked >= 1
    store, run, because = report.standing[0]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    shown = subprocess.run(
        [sys.executable, "-m", "governor_agents", "runs", "show", run, "--store", store],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert because == "a call was started and nobody recorded a result: it may or may not have happened"
    assert because in shown.stdout
    assert f"{run}.1 refund" in shown.stdout


def test_a_build_that_records_nothing_is_found_out(tmp_path: Path) -> None:
    """The negative control: without durable intent and result, the same kills pay twice, and the harness sees it."""
    report = kill(tmp_path, kills=4, seed=SEED, aimed=True, broken=True)
    assert report.kills == 4
    assert report.double >= 1
    assert report.wrong
