"""The model fails after the tool ran: the approval is neither burnt nor reused, the tool does not run again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from governor_agents import guard
from governor_agents.responses import Responses
from tests.crash.scenes import Kind
from tests.faults.replays import KINDS, NIGHTLY, Table, aims, spread
from tests.faults.troubled import FAULTS, Injection, injections, play, scenes
from tests.stores import STORES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNT = 88 if NIGHTLY else 8
DEATHS = 12 if NIGHTLY else 2
"""With the deaths of the process, a hundred injections per framework in the nightly size."""


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_fails_after_the_tool_is_asked_again_with_the_recorded_result(
    store: str, kind: Kind, tmp_path: Path
) -> None:
    """500, time-out, reset and answers without sense, up to three times in a row: one effect, one intent, one vote."""
    wrong = []
    for at, injection in enumerate(injections(kind, COUNT)):
        wrong += play(injection, tmp_path / str(at), store)
    assert wrong == []


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_dies_while_the_model_answers_loses_no_result(
    store: str, kind: Kind, table: Callable[[str], Table]
) -> None:
    """SIGKILL before and after each answer that follows a tool."""
    cases = table(store)
    points = cases.points(f"{kind}.five", retry="none")
    after = [aim for aim in aims(points, "model:before", "model:after") if not aim.endswith("@1")]
    assert len(after) == 4
    chosen = (after * 3)[:DEATHS] if NIGHTLY else spread(after, DEATHS)
    assert cases.play_all(f"{kind}.five", chosen, retry="none") == []


def test_the_injections_meet_every_fault_and_every_scene() -> None:
    """The short form too: an injection that never came would say nothing, and neither would one kind of them."""
    for kind in KINDS:
        short = injections(kind, 8)
        assert {one.fault for one in short} == set(FAULTS)
        assert {one.scene.name for one in short} == {scene.name for scene in scenes(kind)}
        assert len({str(one) for one in injections(kind, 88)}) >= 80


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_that_forgets_results_is_found_out(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: without the journal's result the retry runs the tool again, or leaves a doubt."""

    async def leave(self: Any, *_: Any) -> None: ...

    monkeypatch.setattr(guard.Guard, "_leave", leave)
    gated = next(scene for scene in scenes(kind) if scene.name == "allowed")
    assert play(Injection(gated, "500", 1), tmp_path / "case", "sqlite")


def test_a_build_that_records_no_responses_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the replay: the run is parked in the place of a retry."""
    monkeypatch.setattr(Responses, "hold", lambda self, *answer: None)
    allowed = next(scene for scene in scenes("openai") if scene.name == "allowed")
    wrong = play(Injection(allowed, "500", 1), tmp_path / "case", "sqlite")
    assert any("blocked: replay" in sentence for sentence in wrong)
