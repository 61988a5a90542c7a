"""The banking suite of AgentDojo through both adapters: real tools, every write gated, three processes and more."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.stores import STORES

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = ("openai-agents", "langchain")
WRITES = 14
"""Writes in the ground truth of the suite's sixteen tasks."""

# Whatever asks for the fixture runs in one worker: the suite's import takes long, and the replay is done once.
pytestmark = [
    pytest.mark.agentdojo,
    pytest.mark.slow,
    pytest.mark.xdist_group("agentdojo"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """All of it on each store."""
    return str(request.param)


@pytest.fixture(scope="module")
def folder(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(f"agentdojo-{store}")


@pytest.fixture(scope="module")
def results(store: str, folder: Path) -> dict[str, dict[str, Any]]:
    """The example, run as a user runs it."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "agentdojo_banking.py", "--json", "--store", STORES[store](folder)],
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {result["framework"]: result for result in found}


def ledger(folder: Path, framework: str) -> list[dict[str, Any]]:
    """What the tools themselves wrote down."""
    [file] = folder.glob(f"*/{framework}.ledger")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_task_keeps_its_use_and_every_write_runs_once(results: dict[str, Any], framework: str) -> None:
    """All sixteen: completed, as useful as without us, each write once with the arguments of the ground truth."""
    found = results[framework]
    assert (found["tasks"], found["writes"], found["decisions"]) == (16, WRITES, WRITES)
    wrong = [task for task in found["replayed"] if not task["ok"]]
    assert wrong == []
    assert found["ok"]
    assert {task["status"] for task in found["replayed"]} == {"completed"}
    assert all(task["once"] for task in found["replayed"])
    assert all(task["useful"] for task in found["replayed"] if task["useful_without_us"])
    assert sum(task["useful_without_us"] for task in found["replayed"]) == 16


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_before_the_decision_nothing_is_written(results: dict[str, Any], folder: Path, framework: str) -> None:
    """A task that writes is of no use while it waits, apart from three whose check holds for the untouched bank."""
    writing = [task for task in results[framework]["replayed"] if task["writes"]]
    idle = {task["task"] for task in writing if task["useful_undecided"]}
    assert (len(writing), idle) == (12, {"user_task_5", "user_task_6", "user_task_9"})
    first = results[framework]["pids"][0]
    assert {line["tool"] for line in ledger(folder, framework) if line["pid"] == first} == {
        "get_most_recent_transactions",
        "read_file",
        "get_scheduled_transactions",
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_writes_run_in_the_workers_only(results: dict[str, Any], folder: Path, framework: str) -> None:
    """Seven processes: one starts, then one decides and another resumes, three times over."""
    start, *others = results[framework]["pids"]
    assert len({start, *others}) == 7
    workers = others[1::2]
    writes = [line for line in ledger(folder, framework) if not line["tool"].startswith(("get_", "read_"))]
    assert len(writes) == WRITES
    assert {line["pid"] for line in writes} == set(workers)
    assert max(Counter((line["task"], line["tool"]) for line in writes).values()) == 1


def test_both_frameworks_ran_the_same_writes(results: dict[str, Any], folder: Path) -> None:
    """Task by task, tool by tool, argument by argument."""
    seen = [
        {(line["task"], line["tool"]): line["arguments"] for line in ledger(folder, framework)}
        for framework in FRAMEWORKS
    ]
    writes = [{key: ran for key, ran in found.items() if not key[1].startswith(("get_", "read_"))} for found in seen]
    assert writes[0] == writes[1]
    assert len(writes[0]) == WRITES
