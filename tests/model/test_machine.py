"""The Hypothesis machine on each store: a short form here, the full size in ``python -m tests.model``."""

from __future__ import annotations

import pytest

from tests.model.machine import play
from tests.model.mutations import MUTATIONS, seeded
from tests.stores import KNOWN, STORES

EXAMPLES = 10
CONTROLS = (
    "a lost attempt is tried again whatever its class",
    "a vote counts on bytes that its voter did not see",
    "a claim does not raise the fence",
)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", STORES)
def test_store_and_governor_do_as_expected(name: str) -> None:
    """Whatever people, workers, operators and time do, record and expectation agree, and the run comes to its end."""
    play(name, STORES[name], EXAMPLES)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", CONTROLS)
def test_a_seeded_fault_is_caught_on_a_real_store(fault: str) -> None:
    """The expectation is not met by functions with a rule taken out."""
    with seeded(MUTATIONS[fault]):
        assert any(_fails(examples) for examples in (20, 40, 80, 160, 320))


def _fails(examples: int) -> bool:
    """True when the machine finds something; other numbers of examples are other examples."""
    try:
        play("sqlite", KNOWN["sqlite"], examples, shrink=False)
    except AssertionError:
        return True
    return False
