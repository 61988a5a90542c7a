"""One policy file, the same calls, two frameworks: the same verdicts, and the same audit trail."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.integration.parity_app import POLICY, TOOLS, Played, conversations, play
from tests.stores import KNOWN, STORES

# The tests share what was played, so they run in one worker.
pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("parity")]

CALLS = 200
SEED = 20263


@pytest.fixture(scope="module")
def talks() -> Any:
    """The generated conversations, with one call a turn."""
    return conversations(SEED, CALLS)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, talks: Any) -> tuple[Played, Played]:
    """What both frameworks make of them under the same policy."""
    return asyncio.run(both(tmp_path_factory.mktemp("parity"), talks))


async def both(folder: Path, talks: Any, *, other: str = POLICY) -> tuple[Played, Played]:
    """The conversations on both frameworks; ``other`` is the policy of the second."""
    played = []
    for framework, policy in (("openai-agents", POLICY), ("langchain", other)):
        home = folder / framework
        home.mkdir()
        played.append(await play(framework, home, policy, talks))
    return played[0], played[1]


def by_call(trail: list[dict[str, Any]]) -> tuple[list[Any], dict[int, list[Any]]]:
    """A trail taken apart: what happened to the run, and what happened to each generated call."""
    of_run = [_without(event, "seq") for event in trail if "n" not in event]
    numbers = {event["n"]: event["call"] for event in trail if "call" in event}
    calls: dict[int, list[Any]] = {}
    for event in trail:
        if "n" in event:
            calls.setdefault(numbers[event["n"]], []).append(_without(event, "seq", "n"))
    return of_run, calls


def _without(event: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in keys}


def test_200_calls_get_the_same_verdicts_and_leave_the_same_trail(played: tuple[Played, Played], talks: Any) -> None:
    """One call a turn, so that even the order of every event is the same."""
    openai, langchain = played
    assert sorted(openai.verdicts) == list(range(CALLS)), "every call was asked about"
    assert openai.verdicts == langchain.verdicts
    assert openai.trails == langchain.trails
    assert openai.refused == langchain.refused
    assert openai.states == langchain.states == ["completed"] * len(talks)
    assert openai.ran == langchain.ran


def test_the_calls_reach_every_kind_of_verdict(played: tuple[Played, Played], talks: Any) -> None:
    """The generated calls are worth comparing: all tools, all outcomes, failing conditions, all decisions."""
    assert {call.tool for turns in talks for turn in turns for call in turn} == set(TOOLS)
    first = {(said[0].outcome, said[0].code) for said in played[0].verdicts.values()}
    assert {outcome for outcome, _ in first} == {"allow", "deny", "require_approval"}
    assert {code for _, code in first} == {"rule", "default", "read_only", "policy_error", "unknown_tool"}
    events = {event["what"] for trail in played[0].trails for event in trail}
    assert events >= {"call.approved", "call.rejected", "call.answered", "call.edited", "call.voted", "call.denied"}
    assert any("denied by policy" in line for line in played[0].refused), "an edit that the policies deny"


async def test_several_calls_in_a_turn_leave_the_same_trail_call_by_call(tmp_path: Path) -> None:
    """Tools of one turn run side by side, so only what happens to one call, and to the run, has an order."""
    talks = conversations(SEED + 1, 60, at_once=3)
    assert any(len(turn) > 1 for turns in talks for turn in turns)
    openai, langchain = await both(tmp_path, talks)
    assert openai.verdicts == langchain.verdicts
    assert openai.refused == langchain.refused
    assert [by_call(trail) for trail in openai.trails] == [by_call(trail) for trail in langchain.trails]
    assert Counter(openai.ran) == Counter(langchain.ran)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in STORES if name != "sqlite"])
async def test_a_server_as_the_store_leaves_the_same_trail(
    name: str, tmp_path: Path, played: tuple[Played, Played], talks: Any
) -> None:
    """The first conversations again, on a server, by both frameworks: verdicts, decisions and trail as on SQLite."""
    few = talks[:12]
    assert sum(len(turns) for turns in few) >= 30
    for framework, before in zip(("openai-agents", "langchain"), played, strict=True):
        home = tmp_path / framework
        home.mkdir()
        again = await play(framework, home, POLICY, few, store=KNOWN[name](tmp_path))
        assert len(again.verdicts) >= 30
        assert again.verdicts == {at: before.verdicts[at] for at in again.verdicts}
        assert again.trails == before.trails[: len(few)] and again.states == before.states[: len(few)]
        assert again.ran == before.ran[: len(again.ran)]


async def test_another_policy_is_noticed(tmp_path: Path, played: tuple[Played, Played], talks: Any) -> None:
    """The negative control: one number in one rule differs, and so do verdicts and trail."""
    other = POLICY.replace("call.args.amount <= 50 &&", "call.args.amount <= 60 &&")
    assert other != POLICY
    changed = await play("langchain", tmp_path, other, talks)
    outcomes = [
        {at: [verdict.outcome for verdict in said] for at, said in found.verdicts.items()}
        for found in (played[0], changed)
    ]
    differ = [at for at in range(CALLS) if outcomes[0][at] != outcomes[1][at]]
    assert 0 < len(differ) < 20, "only payments between 50 and 60"
    shown = [[[event["what"] for event in trail] for trail in found.trails] for found in (played[0], changed)]
    assert shown[0] != shown[1]
