"""What `docs/operating.md` shows is what happens: workers are killed for it, and every command is typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from governor_agents import PolicySet
from governor_agents.handlers.terminal import local_person

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
STORIES = dict(re.findall(r"^```console ([\w-]+)\n(.*?)^```", PAGE, re.M | re.S))
BANK = """
import os
from pathlib import Path

def pay(order, amount, headers):
    if Path("deadly").exists():
        os.kill(os.getpid(), 9)
    Path("paid").open("a").write(headers["Idempotency-Key"] + "\\n")
    return f"paid {amount}"

def find(key):
    return "receipt 77" if Path("receipt").exists() else None
"""
ASK = "import app; print(app.refund.ask_sync('4711', 120.0).approval); app.governor.close_sync()"
ELSEWHERE = "from governor_agents import liveness as l; l._me = l.this_worker().replace(l.socket.gethostname(), 'elsewhere', 1)\n"

pytestmark = pytest.mark.timeout(300)


def only(language: str) -> str:
    """The one block in this language."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
    return str(found)


class Place:
    """A folder with what the page shows, and a run whose worker was killed inside its tool."""

    def __init__(self, folder: Path, **changes: str) -> None:
        self.folder = folder
        policy = only("yaml").replace("local:alice", local_person())
        for old, new in changes.items():
            assert old in policy
            policy = policy.replace(old, new)
        (folder / "governor.yaml").write_text(policy)
        (folder / "bank.py").write_text(BANK)
        (folder / "app.py").write_text(only("python"))

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "GOVERNOR_LEASE": "0.8"}
        done = subprocess.run([sys.executable, *words], cwd=self.folder, env=env, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        program, *words = shlex.split(line)
        assert program == "governor-agents"
        return self.python("-m", "governor_agents", *words)

    def approved(self) -> str:
        """Ask and approve; the approval."""
        id = self.python("-c", ASK).stdout.strip()
        assert self.type(f"governor-agents inbox approve {id}").returncode == 0
        return id

    def killed(self, before: str = "") -> str:
        """Ask, approve, and kill the worker inside the tool; the run."""
        id = self.approved()
        (self.folder / "deadly").touch()
        worker = "from governor_agents.cli.app import run; run(['worker', 'app:governor', '--once'])"
        while self.python("-c", before + worker).returncode != -9:
            pass  # a machine so slow that the lease was over before the tool began
        (self.folder / "deadly").unlink()
        return id.removesuffix(".1")

    def until(self, run: str, state: str) -> dict[str, Any]:
        """Let workers work until the run stands so."""
        while True:
            found = json.loads(self.type(f"governor-agents runs show {run} --json").stdout)
            if found["state"] == state:
                return dict(found)
            self.type("governor-agents worker app:governor --once")


def tell(place: Place, run: str, story: str) -> None:
    """Type each command of a story, and compare what it prints with what the page shows; ``...`` is anything."""
    parts = re.split(r"^\$ (.*)\n", story, flags=re.M)[1:]
    assert parts
    for line, shown in zip(parts[::2], parts[1::2], strict=True):
        done = place.type(line.replace("run_...", run))
        assert done.returncode == (1 if "not yet" in shown else 2 if "no run run_" in shown else 0), done.stderr
        if line.endswith("--once"):  # it prints its log
            continue
        printed = re.sub(r" +", " ", done.stdout + done.stderr)
        wanted = re.escape(re.sub(r" +", " ", shown).replace("run_...", run)).replace(r"\.\.\.", ".*?")
        assert re.fullmatch(wanted, printed, re.S), f"{line}\n{printed}\n{shown}"


def test_the_page_tells_stories() -> None:
    """Each block of commands is one of those that are told below."""
    told = {"in-doubt", "happened", "early", "did-not-happen", "elsewhere", "dead", "halted", "kept"}
    assert set(STORIES) == told and PAGE.count("```console") == len(told)


def test_the_snippets_are_used_as_they_stand(tmp_path: Path) -> None:
    """A probe that finds the payment settles the doubt by itself, with the receipt as the result."""
    assert PolicySet.from_text(only("yaml")).tool("refund").in_flight == 30.0
    place = Place(tmp_path)
    run = place.killed()
    (tmp_path / "receipt").touch()
    found = place.until(run, "completed")
    assert found["output"] == "receipt 77" and not (tmp_path / "paid").exists()


def test_a_doubt_is_found_and_answered(tmp_path: Path) -> None:
    """List, show, too early, happened: in the order of the page, on one run."""
    place = Place(tmp_path)
    run = place.killed()
    place.until(run, "blocked")
    for name in ("in-doubt", "early"):
        tell(place, run, STORIES[name])
    with pytest.raises(AssertionError):  # a page that shows something else is noticed
        tell(place, run, STORIES["in-doubt"].replace("it did not", "it did"))
    tell(place, run, STORIES["happened"])
    assert not (tmp_path / "paid").exists()


def test_did_not_happen_asks_anew(tmp_path: Path) -> None:
    """The same with a short flight: the new approval pays once."""
    place = Place(tmp_path, **{"in_flight: 30s": "in_flight: 0.01"})
    run = place.killed()
    place.until(run, "blocked")
    tell(place, run, STORIES["did-not-happen"])
    assert len((tmp_path / "paid").read_text().splitlines()) == 1


def test_a_worker_elsewhere_needs_a_word(tmp_path: Path) -> None:
    """It is refused until the operator gives it, and the wait begins then."""
    place = Place(tmp_path)
    run = place.killed(ELSEWHERE)
    place.until(run, "blocked")
    tell(place, run, STORIES["elsewhere"])


def test_a_dead_run_is_repaired(tmp_path: Path) -> None:
    """One try, for the test's sake."""
    place = Place(tmp_path, reconcilable="idempotent")
    app = tmp_path / "app.py"
    app.write_text(app.read_text().replace('from_file("governor.yaml")', 'from_file("governor.yaml", max_attempts=1)'))
    run = place.killed()
    place.until(run, "dead")
    tell(place, run, STORIES["dead"])
    assert place.until(run, "completed")["output"] == "paid 120.0"


def test_a_halt_stops_a_worker(tmp_path: Path) -> None:
    """Halted, explained, listed, lifted; then the worker pays once."""
    place = Place(tmp_path)
    run = place.approved().removesuffix(".1")
    tell(place, run, STORIES["halted"])
    assert not (tmp_path / "paid").exists()
    assert place.until(run, "completed")["output"] == "paid 120.0"


def test_an_ended_run_goes_when_it_was_kept_for_long_enough(tmp_path: Path) -> None:
    """For thirty days it stays; then, which is here another word in the file, it goes and leaves an entry."""
    place = Place(tmp_path)
    run = place.approved().removesuffix(".1")
    place.until(run, "completed")
    place.type("governor-agents worker app:governor --once")
    with pytest.raises(AssertionError):  # it is still there
        tell(place, run, STORIES["kept"])
    file = tmp_path / "governor.yaml"
    file.write_text(file.read_text().replace("completed: 30d", "completed: 0.001"))
    tell(place, run, STORIES["kept"])


def test_links_and_names_are_there() -> None:
    """Commands that the text names exist."""
    for words in re.findall(r"`governor-agents ([a-z]+ [a-z]+)`", PAGE):
        done = subprocess.run(
            [sys.executable, "-m", "governor_agents", *words.split(), "--help"],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, words
