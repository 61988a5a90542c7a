"""Five calls in one turn: two that people must approve, one allowed write, two that only read."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Run, guard, journal
from governor_agents.core.calls import sha256
from governor_agents.core.records import Call, CallState
from tests.crash import models
from tests.crash.ledger import only
from tests.crash.lives import Case, Life
from tests.crash.models import Turn
from tests.crash.scenes import BOSS, LOOK, Kind, Scene, book, pay
from tests.faults.replays import KINDS, ORDERS, SCENES, Table, aims, spread
from tests.stores import STORES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_dies_at_any_point_runs_each_effect_at_most_once(
    store: str, kind: str, table: Callable[[str], Table]
) -> None:
    """Whatever was decided before the death, and in which order: a doubt only where a tool was running."""
    cases, name = table(store), f"{kind}.five"
    points = cases.points(name, retry="none")
    chosen = spread(aims(points), 9)
    wrong = []
    for aim, decided in zip(chosen, itertools.cycle(ORDERS), strict=False):
        wrong += cases.play_all(name, [aim], retry="none", decided=decided)
    assert wrong == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_without_a_durable_intent_is_found_out(kind: str, table: Callable[[str], Table]) -> None:
    """The negative control: the allowed write of the batch runs again."""
    verdict = table("sqlite").play(f"{kind}.five", ("tool:after@1",), retry="none", broken="forgetful")
    assert any("double" in sentence for sentence in verdict.wrong)


# -- decisions ----------------------------------------------------------------------------------------------------------


def run_in(scene: Scene, folder: Path, store: str, work: Callable[[Life], Any]) -> Any:
    """Do something with a life of this scene, in this process."""

    async def whole() -> Any:
        life = Life(Case(str(folder), STORES[store](folder), scene.name, "none"), scene)
        await life.governor.open()
        try:
            return await work(life)
        finally:
            await life.governor.close()

    return asyncio.run(whole())


def effects(life: Life) -> list[str]:
    """The orders that ran, as often as they ran."""
    return sorted(line["order"] for line in only(life.ledger.lines(), "effect"))


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backwards", [False, True])
def test_each_decision_reaches_its_own_call_in_whatever_order_they_come(
    kind: Kind, store: str, backwards: bool, tmp_path: Path
) -> None:
    """One of the two is rejected, first or last; the other one runs, and the model hears which is which."""
    scene = Scene("mixed", kind, SCENES[f"{kind}.five"].turns, answers={"a": "reject"})

    async def work(life: Life) -> Run:
        run = await life.governor.run("clerk", "go", conversation="c")
        approvals = list(run.approvals)
        for approval in reversed(approvals) if backwards else approvals:
            assert effects(life) == ["b"], "nothing runs before all of the turn are decided"
            await life.governor.decide(approval.id, scene.decision(approval.arguments["order"]), by=BOSS)
        run = await life.governor.resume(run.id)
        assert (run.status, effects(life)) == ("completed", ["b", "c", "d"])
        made = {call.as_tool_call(run).arguments.get("order"): call for call in await life.governor.calls(run.id)}
        assert (made["a"].state, made["c"].state) == (CallState.REJECTED, CallState.SUCCEEDED)
        heard = only(life.ledger.lines(), "model")[1]["heard"]
        assert sum("rejected" in told for told in heard) == 1
        assert {"book b 1: done", "pay c 5: done", "saw x", "saw y"} <= set(heard)
        return run

    run_in(scene, tmp_path, store, work)


# -- call ids -----------------------------------------------------------------------------------------------------------


def ids(monkeypatch: pytest.MonkeyPatch, *given: str) -> None:
    """The provider gives these call ids, then fresh ones."""
    waiting: Iterator[str] = iter(given)
    fresh = models._fresh
    monkeypatch.setattr(models, "_fresh", lambda: next(waiting, None) or fresh())


async def _to_its_end(life: Life) -> Run:
    """Play to the end; what the framework says of a bad turn ends the run."""
    with_error = None
    try:
        await life.play()
    except Exception as error:
        with_error = error
    runs = await life.runs()
    assert runs or with_error
    return runs[0]


def each_on_its_own_record(run: Run, calls: Sequence[Call], ran: Sequence[dict[str, Any]]) -> None:
    """Every effect has a call with its key and its bytes, which the policy allowed or a person approved; no two share one."""
    assert run.state.ended or run.status in ("blocked", "dead"), run.status
    for line in ran:
        [call] = [call for call in calls if call.idem_key == line["key"]]
        assert sha256(call.args) == line["sha256"], "other bytes than the record's"
        assert (call.tool == "pay") == bool(call.votes), "people were asked for what only people may allow"
    assert len({line["key"] for line in ran}) == len(ran), "one record ran twice"


SAME = {"allowed": book("a"), "gated": pay("a")}
OTHER = {
    "allowed, other arguments": (book("a"), book("b")),
    "gated, other arguments": (pay("a"), pay("b")),
    "allowed, then gated": (book("a"), pay("b")),
    "gated, then allowed": (pay("a"), book("b")),
    "read, then write": (LOOK, book("b")),
}
"""A call, and what comes under its id: in the same turn, or in the next."""


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("call", SAME)
def test_the_same_call_under_the_same_id_has_one_effect(
    kind: Kind, store: str, call: str, together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that repeats itself, in one turn or across turns, is answered from the record."""
    ids(monkeypatch, "call_same", "call_same")
    turns: tuple[Turn, ...] = ([SAME[call], SAME[call]],) if together else ([SAME[call]], [SAME[call]])

    async def work(life: Life) -> None:
        run = await _to_its_end(life)
        calls, ran = await life.governor.calls(run.id), only(life.ledger.lines(), "effect")
        each_on_its_own_record(run, calls, ran)
        same = {call.idem_key for call in calls if call.call_id == "call_same"}
        assert sum(line["key"] in same for line in ran) <= 1

    run_in(Scene("same", kind, turns, begin="queue"), tmp_path, store, work)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("pair", OTHER)
def test_other_content_under_a_known_id_gets_neither_its_verdict_nor_its_approval(
    kind: Kind, store: str, pair: str, together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, or decided for itself; whatever ran has a record of its own."""
    ids(monkeypatch, "call_same", "call_same")
    first, second = OTHER[pair]
    turns: tuple[Turn, ...] = ([first, second],) if together else ([first], [second])

    async def work(life: Life) -> None:
        run = await _to_its_end(life)
        each_on_its_own_record(run, await life.governor.calls(run.id), only(life.ledger.lines(), "effect"))

    run_in(Scene("other", kind, turns, begin="queue"), tmp_path, store, work)


def test_a_build_that_takes_a_known_id_for_leave_to_run_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: without the comparison of contents, what comes later runs on the earlier record."""

    async def known(self: Any, claim: Any, run: Any, known: Any, call: Any, *rest: Any) -> Any:
        return journal.Entry(n=known.n, args=call.args, key=known.idem_key, attempt=1)

    monkeypatch.setattr(guard.Guard, "_known", known)
    with pytest.raises(AssertionError, match="other bytes"):
        test_other_content_under_a_known_id_gets_neither_its_verdict_nor_its_approval(
            "langchain", "sqlite", "allowed, other arguments", False, tmp_path, monkeypatch
        )
