"""A crash inside a generation: what models answered is given back, nothing runs twice, nothing is paid for twice."""

from collections.abc import Callable

import pytest

from tests.faults.replays import KINDS, Table, aims, spread
from tests.stores import STORES

# They share the server that has the frameworks loaded, and none may be hurried on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DEEP = 8
"""Questions put to the models of the nested scene when nobody dies."""

THIRD = "tool:before@3"
"""In the third tool that writes, inside the nested agent."""


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_crash_in_the_third_tool_gives_five_responses_back_and_each_write_runs_once(
    store: str, kind: str, table: Callable[[str], Table]
) -> None:
    """A nested agent's responses are among them; every question is put to a model once."""
    verdict = table(store).play(f"{kind}.deep", (THIRD,))
    assert (verdict.wrong, verdict.asks) == ((), DEEP)


@pytest.mark.parametrize("store", STORES)
def test_a_streamed_run_that_died_is_given_back_its_responses(store: str, table: Callable[[str], Table]) -> None:
    """What a stream brought is recorded before its last event is passed on, and given to a loop that does not stream."""
    verdict = table(store).play("openai.deep", (THIRD,), streamed=True)
    assert (verdict.wrong, verdict.asks) == ((), DEEP)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("scene", ["openai.deep", "langchain.deep", "langchain.nodes"])
def test_a_crash_at_any_point_repeats_neither_a_write_nor_a_paid_question(
    store: str, scene: str, table: Callable[[str], Table]
) -> None:
    """A question may come again only if nothing had run since its answer; agents in tools and in nodes of a graph."""
    cases = table(store)
    assert cases.play_all(scene, spread(aims(cases.points(scene)), 7)) == []


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scene", "aim", "asks"), [("decided", "model:before@4", 4), ("inside", "model:before@5", 7)])
def test_a_crash_after_people_decided_asks_what_was_asked_then(
    store: str, kind: str, scene: str, aim: str, asks: int, table: Callable[[str], Table]
) -> None:
    """The model is told of an edit and of a no in the same words again; a pause inside a nested agent is gone on from."""
    verdict = table(store).play(f"{kind}.{scene}", (aim,), retry="none")
    assert (verdict.wrong, verdict.asks) == ((), asks)


@pytest.mark.parametrize("store", STORES)
def test_a_second_crash_while_responses_are_given_back_changes_nothing(
    store: str, table: Callable[[str], Table]
) -> None:
    """What the first life recorded stays, and what the second adds comes behind it."""
    verdict = table(store).play("openai.deep", ("tool:before@2", "tool:before@2", "tool:before@1"))
    assert (verdict.wrong, verdict.asks) == ((), DEEP)


def test_a_build_that_records_nothing_is_found_out(table: Callable[[str], Table]) -> None:
    """The negative control: the run is parked; without that, the write runs again under a fresh call id."""
    cases = table("sqlite")
    verdict = cases.play("openai.deep", (THIRD,), broken="unrecorded")
    assert any("blocked: replay" in sentence for sentence in verdict.wrong)
    verdict = cases.play("openai.deep", (THIRD,), broken="repeated")
    assert any("double" in sentence for sentence in verdict.wrong)
    assert any("asked again" in sentence for sentence in verdict.wrong)


def test_a_build_that_mixes_the_loops_up_is_found_out(table: Callable[[str], Table]) -> None:
    """The negative control of the chains: an inner loop is not given the outer one's answers."""
    assert table("sqlite").play("openai.deep", (THIRD,), broken="mixed").wrong


def test_a_build_that_stores_an_inner_graph_before_the_outer_one_is_found_out(table: Callable[[str], Table]) -> None:
    """The negative control for LangGraph: after the crash nothing leads to the inner checkpoint; the run is parked."""
    wrong = table("sqlite").play("langchain.nodes", ("call.succeeded:after@1",), broken="outer-later").wrong
    assert any("blocked: replay" in sentence for sentence in wrong)
