"""The Hypothesis machine on each store: a short form here, the full size in ``python -m tests.model``."""

from __future__ import annotations

import pytest

from governor_agents.deciding import Deciding
from tests.model.machine import play
from tests.model.mutations import MUTATIONS, seeded
from tests.stores import KNOWN, STORES

EXAMPLES = 10
CONTROLS = (
    "a lost attempt is tried again whatever its class",
    "a vote counts on bytes that its voter did not see",
    "a claim does not raise the fence",
    "a moved seat is still its person's",
    "a delegate counts under a policy that knows none",
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


@pytest.mark.timeout(1800)
def test_a_fault_around_the_functions_is_caught_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked is known by the name in the record alone, and so has a seat that goes on; the walk asks no directory."""
    monkeypatch.setattr(Deciding, "_requester", lambda self, approval: (approval.run.requester,))
    assert any(_fails(examples) for examples in (20, 40, 80, 160, 320))


def _fails(examples: int) -> bool:
    """True when the machine finds something; other numbers of examples are other examples."""
    try:
        play("sqlite", KNOWN["sqlite"], examples, shrink=False)
    except AssertionError:
        return True
    return False
