"""The crash matrix in short: a few kills of each adapter, and broken builds that it must find (`python -m tests.crash`)."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.crash.broken import BROKEN
from tests.crash.forkserver import ForkServer
from tests.crash.matrix import BAD, FIRST, Kill, Matrix, aimed, chosen, control, kind_of, kinds_and_retries, sampled
from tests.crash.scenes import RETRIES, SCENES
from tests.stores import STORES

# They share the server that has the frameworks loaded, and none may be hurried on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 4711
SHORT = (("openai.batch", "idempotent"), ("langchain.gated", "none"), ("functions.waiting", "reconcilable"))
T = TypeVar("T")


def play(folder: Path, work: Callable[[Matrix], Awaitable[T]]) -> T:
    """Do something with a matrix on a fork server of its own."""

    async def run() -> T:
        async with ForkServer("tests.crash.lives") as server:
            return await work(Matrix(server, folder))

    return asyncio.run(run())


@pytest.mark.parametrize("store", STORES)
def test_kills_at_named_points_lose_nothing_and_run_nothing_twice(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All three kinds of governed tools, a process killed at seven points of each, a fresh one that goes on."""

    async def work(matrix: Matrix) -> None:
        points = {}
        for scene, retry in SHORT:
            points |= await matrix.discover(store, [scene], [retry])  # type: ignore[list-item]
        kills = sampled(store, points, kills=20, seed=SEED)
        assert len({kill.scene for kill in kills}) == len(SHORT)
        kills.append(Kill(store, "langchain.gated", "none", (FIRST,)))
        report = await matrix.play(kills)
        with capsys.disabled():
            print(f"\n{report.line()}")
        assert not report.bad, report.wrong
        assert report.kills == len(kills)
        assert report.unknown >= 1, "what was begun and not recorded is a doubt, and people settled it"

    play(tmp_path, work)


def test_broken_builds_are_found_out(tmp_path: Path) -> None:
    """The negative control: an intent, a notice, an edit that are not what they should be; and a kill that never came."""

    async def work(matrix: Matrix) -> None:
        for name in ("intent-in-memory", "notice-lost", "edit-ignored"):
            caught, report = await control(matrix, "sqlite", name)
            assert caught, (name, report.line(), report.wrong)
            assert report.bad
        report = await matrix.play([Kill("sqlite", "functions.left", "none", ("tool:after@9",))])
        assert (report.missed, report.kills, report.bad) == (1, 0, True)

    play(tmp_path, work)


def test_the_chosen_kills_hold_every_point_of_each_column_and_follow_the_seed() -> None:
    """Whoever runs the full matrix with few kills still gets every point, and the same ones again with the same seed."""
    points, recoveries = (
        {(scene, retry): Counter(counts) for scene in SCENES for retry in RETRIES}
        for counts in ({"run.claimed:before": 2, "tool:after": 1}, {"run.claimed:before": 1, "call.resolved:after": 1})
    )
    made = chosen("sqlite", points, recoveries, kills=10, seed=1)
    names = [(kind_of(kill.scene), kill.retry, kill.aims[-1].partition("@")[0], len(kill.aims)) for kill in made]
    wanted = [("run.claimed:before", 1), ("tool:after", 1), ("call.resolved:after", 2)]
    assert sorted(names) == sorted((*column, *place) for column in kinds_and_retries() for place in wanted)
    assert made == chosen("sqlite", points, recoveries, kills=10, seed=1)
    many = chosen("sqlite", points, recoveries, kills=500, seed=1)
    assert len(many) == 500
    assert set(many) >= {*aimed("sqlite", points), *aimed("sqlite", recoveries, FIRST)}
    assert any(kill.aims[1:] and kill.aims[1].startswith("*@") for kill in many)
    assert [Kill.parse(str(kill)) for kill in many] == many


def test_every_broken_build_names_kills_and_a_finding() -> None:
    """A control without kills would be found out by nobody."""
    for name, build in BROKEN.items():
        assert build.kills, name
        assert build.finding in BAD, name
        assert [str(Kill.parse(text, "sqlite")) for text in build.kills], name
