"""AgentBarrier, a judge from outside: all of its scenarios against both adapters."""

from dataclasses import replace
from typing import Any

import pytest
from agentbarrier.models import ApprovalBarrierProfile, ScenarioStatus
from agentbarrier.runner import RunnerOptions, SuiteRunner
from agentbarrier.scenarios import DEFAULT_SCENARIOS

from governor_agents.guard import Guard
from tests.judges import test_agentack
from tests.judges.barrier import FRAMEWORKS, GovernedFramework


def options(*scenarios: str) -> RunnerOptions:
    """Each call has its own approval here: a sibling that needs none does not wait (profile ``per-action``)."""
    return RunnerOptions(
        scenarios=scenarios,
        strict_skips=True,
        approval_profile=ApprovalBarrierProfile.PER_ACTION,
        operation_timeout_seconds=60.0,  # a busy machine is not a finding
        tool_timeout_seconds=0.5,
    )


def shortened(patch: pytest.MonkeyPatch) -> None:
    """What an editor wrote is not what runs."""
    begun = Guard._begun

    async def other(self: Guard, claim: Any, call: Any) -> Any:
        entry = await begun(self, claim, call)
        return replace(entry, args=entry.args.replace(b"reviewed", b"original"))

    patch.setattr(Guard, "_begun", other)


def doubts_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A tool that cannot tell what happened counts as one that failed."""

    async def failed(self: Guard, claim: Any, entry: Any, error: Exception) -> None:
        await self._leave(claim, entry, False, b"{}", str(error))

    patch.setattr(Guard, "_failed", failed)


@pytest.mark.parametrize("scenario", [scenario.scenario_id for scenario in DEFAULT_SCENARIOS])
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_agentbarrier_is_satisfied(framework: str, scenario: str) -> None:
    """Each scenario passes; none is skipped."""
    result = await SuiteRunner(options(scenario)).verify(GovernedFramework(framework))
    (one,) = result.results
    assert one.status is ScenarioStatus.PASSED, (one.detail, one.finding)


BROKEN = {"approval_hold": test_agentack.unapproved_runs, "rejection": test_agentack.denied_runs,
          "replay": test_agentack.replayed, "argument_binding": shortened, "outcome_ambiguity": doubts_forgotten}  # fmt: skip


@pytest.mark.parametrize("scenario", BROKEN)
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_broken_build_is_found(framework: str, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one rule of the package gone, the scenario that is about it fails."""
    BROKEN[scenario](monkeypatch)
    result = await SuiteRunner(options(scenario)).verify(GovernedFramework(framework))
    assert result.results[0].status is ScenarioStatus.FAILED, result.results[0].detail
