"""Negative controls: the handler kit must fail on every broken handler, or a green run of it would mean nothing."""

from pathlib import Path

import pytest

from tests.contract.controls import Outcomes, catchers, played

# One run over all broken handlers serves every test here, so they stay in one process.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("handler_kit_controls")]

BROKEN = Path(__file__).with_name("broken_handlers.py")
CATCHERS = catchers(BROKEN)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of the tests over each broken handler, in one run of pytest; of the sound ones, all of their tests."""
    return played(BROKEN, CATCHERS, tmp_path_factory.mktemp("controls"))


@pytest.mark.parametrize("name", [name for name, tests in CATCHERS.items() if tests])
def test_kit_fails_on_the_broken_handler(name: str, outcomes: Outcomes) -> None:
    """Each fault is noticed by the tests that are there for it, by a failure and not by an error around them."""
    assert outcomes[name] == dict.fromkeys(CATCHERS[name], "failure")


@pytest.mark.parametrize("name", [name for name, tests in CATCHERS.items() if not tests])
def test_kit_passes_on_the_sound_handler(name: str, outcomes: Outcomes) -> None:
    """Without a fault, in the same run, nothing fails and nothing is skipped."""
    assert set(outcomes[name].values()) == {"passed"}


def test_kit_is_as_large_as_promised(outcomes: Outcomes) -> None:
    """Fewer tests or faults than these would mean that some were lost."""
    assert len(outcomes["TestSound"]) >= 14
    assert len(CATCHERS) >= 20
