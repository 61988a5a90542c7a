"""The walk over the real transition functions, and the faults that it must find. The full size is ``make model-check``."""

from __future__ import annotations

from pathlib import Path

import pytest

from governor_agents.core.lifecycle import CALLS, RUNS, CallEvent, RunEvent, next_call, next_run
from governor_agents.core.records import CallState, RunState
from governor_agents.errors import IllegalTransition
from tests.model.__main__ import main
from tests.model.configurations import CONFIGURATIONS
from tests.model.diagram import page
from tests.model.mutations import MUTATIONS, Mutation, seeded
from tests.model.suite import caught, do

SHORT = [name for name, config in CONFIGURATIONS.items() if config.short]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SHORT)
def test_nothing_wrong_can_be_reached(name: str) -> None:
    """In every world of a configuration the promises hold, and an end can be reached."""
    _, found, _ = do(("walk", name))
    assert not found.breaches and not found.stuck
    assert found.worlds > 100


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_seeded_fault_is_caught(name: str) -> None:
    """Each rule taken out of the functions shows as a breach, with the way to it."""
    _, found, _ = do(("seed", name))
    assert (why := caught(name, found)) is not None
    assert found.breaches.get(why) or found.stuck.get(why)


def test_a_fault_whose_text_is_gone_is_an_error() -> None:
    """A fault that can no longer be seeded is not taken for one that was caught."""
    gone = Mutation("execution", "intent", "words that stand nowhere", "", "none")
    with pytest.raises(LookupError, match="does not say"), seeded(gone):
        pass


@pytest.mark.parametrize("event", CallEvent)
@pytest.mark.parametrize("state", [None, *CallState])
def test_a_call_moves_only_by_its_table(state: CallState | None, event: CallEvent) -> None:
    """Every pair of state and event has an answer: the targets of the table, and a refusal of all others."""
    allowed = CALLS.get((state, event), frozenset())
    assert {to for to in CallState if _goes(next_call, state, event, to)} == allowed


@pytest.mark.parametrize("event", RunEvent)
@pytest.mark.parametrize("state", [None, *RunState])
def test_a_run_moves_only_by_its_table(state: RunState | None, event: RunEvent) -> None:
    """Every pair of state and event has an answer: the targets of the table, and a refusal of all others."""
    allowed = RUNS.get((state, event), frozenset())
    assert {to for to in RunState if _goes(next_run, state, event, to)} == allowed


def _goes(step: object, state: object, event: object, to: object) -> bool:
    try:
        return step(state, event, to) is to  # type: ignore[operator]
    except IllegalTransition:
        return False


def test_what_is_over_has_no_event() -> None:
    """No row leads out of a state that is an end, but those out of a doubt."""
    over = {state for state in CallState if not state.open}
    assert not [row for row in CALLS if row[0] in over]
    assert not [row for row in RUNS if row[0] is not None and row[0].ended]


def test_the_page_is_drawn_from_the_tables() -> None:
    """The documentation shows the lifecycle as it is."""
    drawn = Path(__file__).parents[2] / "docs" / "lifecycle.md"
    assert drawn.read_text(encoding="utf-8") == page(), "run: python -m tests.model.diagram > docs/lifecycle.md"


def test_the_command_prints_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One configuration is walked by name; an unknown name is refused in one line."""
    assert main(["--only", "nobody", "--processes", "1"]) == 0
    assert capsys.readouterr().out.startswith("model: configurations=1 states=")
    assert main(["--only", "nothing"]) == 2
    assert "no configuration is called 'nothing'" in capsys.readouterr().err
