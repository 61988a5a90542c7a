"""The demo's contract: three processes, one decision, and a gated tool that runs as often as was decided."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Governor
from governor_agents.demo import shop
from tests.shown_demo import Shown
from tests.stores import KNOWN, STORES

FRAMEWORKS = ["openai-agents", "langchain"]

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("demo"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demo on both frameworks with one decision, run once for all tests that look at it.

    Whoever tries it may have set a people file already; the demo has people of its own.
    """

    @cache
    def decided(how: str) -> Shown:
        folder = tmp_path_factory.mktemp(how)
        env = {"GOVERNOR_PEOPLE": str(folder / "gone.yaml")}
        return Shown(folder, "--framework", "all", "--decide", how, "--json", env=env)

    return decided


@pytest.mark.parametrize("how", ["approve", "reject", "edit"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_one_json_line_a_framework(shown: Any, framework: str, how: str) -> None:
    """Suspended, decided, resumed and completed, in three processes; nothing else on stdout."""
    found = shown(how).lines()
    assert list(found) == FRAMEWORKS
    line = found[framework]
    promised = {"framework": framework, "suspended": True, "resumed": True, "decisions": [how], "status": "completed"}
    assert {key: line[key] for key in promised} == promised
    assert line["tool_runs"] == {shop.GATED: 0 if how == "reject" else 1}
    assert len(set(line["pids"])) == 3 and all(isinstance(pid, int) for pid in line["pids"])


OF_A_RUN = ("pids", "run")
"""What differs between any two runs of the demo."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["approve", "reject", "edit"])
@pytest.mark.parametrize("store", [name for name in STORES if name in ("redis", "mongodb")])
def test_a_server_as_the_store_changes_nothing(shown: Any, store: str, how: str, tmp_path: Path) -> None:
    """``--store`` names it: the same JSON for both frameworks, and a ledger that agrees."""
    url = KNOWN[store](tmp_path)
    there = Shown(tmp_path / "demo", "--framework", "all", "--decide", how, "--store", url, "--json")
    assert there.left_behind() == []
    here, found = shown(how), there.lines()
    for framework, line in here.lines().items():
        told = found[framework]
        assert {key: told[key] for key in told if key not in OF_A_RUN} == {
            key: line[key] for key in line if key not in OF_A_RUN
        }
        assert told.keys() == line.keys() and len(set(told["pids"])) == 3
        ran = [(one["tool"], one["arguments"]) for one in there.ledger(framework)]
        assert ran == [(one["tool"], one["arguments"]) for one in here.ledger(framework)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_approved_call_ran_once_as_it_was_asked_in_the_third_process(shown: Any, framework: str) -> None:
    """The ledger, which the tool writes, agrees with the line."""
    line = shown("approve").lines()[framework]
    [ran] = shown("approve").ledger(framework)
    assert ran == {"tool": shop.GATED, "arguments": shop.ASKED, "pid": line["pids"][2]}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_rejected_call_ran_nowhere_and_the_model_was_told_the_reason(shown: Any, framework: str) -> None:
    """The scripted model repeats what it was told last."""
    assert shown("reject").ledger(framework) == []
    assert shop.REASON["reject"] in shown("reject").lines()[framework]["output"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_edited_call_ran_with_the_edited_arguments_only(shown: Any, framework: str) -> None:
    """Not with what the model had asked for, neither before nor after."""
    assert [ran["arguments"] for ran in shown("edit").ledger(framework)] == [shop.EDITED]
    assert shop.EDITED != shop.ASKED


@pytest.mark.parametrize("how", ["approve", "reject", "edit"])
def test_no_process_is_left_behind(shown: Any, how: str) -> None:
    """Neither one of the three, nor a helper of theirs."""
    assert shown(how).left_behind() == []


async def test_the_same_store_serves_a_second_time(tmp_path: Path) -> None:
    """Two runs side by side in one store, each with one payment; what people read is on stdout."""
    store = f"sqlite:///{tmp_path}/shared.db"
    words = ("--framework", "openai-agents", "--decide", "approve", "--store", store)
    first, second = Shown(tmp_path / "first", *words, "--json"), Shown(tmp_path / "second", *words)
    assert (first.code, second.code) == (0, 0), first.stderr + second.stderr
    assert len(first.ledger("openai-agents")) == len(second.ledger("openai-agents")) == 1
    async with Governor(store=store) as governor:
        runs = await governor.list_runs()
        assert [run.status for run in runs] == ["completed", "completed"]
        assert [[call.tool for call in run.calls] for run in runs] == [[shop.GATED]] * 2
    told = ["requires approval", "is waiting", '"4711"', "120.0", "is completed", f"--store {store} runs list"]
    assert [text for text in told if text not in second.stdout] == []


def test_without_a_terminal_it_says_that_it_approves_by_itself(tmp_path: Path) -> None:
    """Nobody can be asked, so nobody is made to believe that somebody was."""
    shown = Shown(tmp_path / "alone", "--framework", "langchain")
    assert shown.code == 0, shown.stderr
    assert "No terminal is attached" in shown.stdout
    assert "the demo approves by itself" in shown.stdout
    assert len(shown.ledger("langchain")) == 1
    assert shown.left_behind() == []


def test_a_store_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    """One line, exit code 2, and nothing has run."""
    shown = Shown(tmp_path / "memory", "--store", "memory://", "--json")
    assert (shown.code, shown.stdout) == (2, "")
    [line] = shown.stderr.splitlines()
    assert "memory://" in line and "sqlite:///" in line
