"""The matrix: every scene, retry class and crash point; which kills are made, how they are played, and what came of them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any
from zlib import crc32

from governor_agents.core.calls import Retry
from governor_agents.keys import Keys
from tests.crash.broken import BROKEN
from tests.crash.forkserver import ForkServer
from tests.crash.scenes import KINDS, RETRIES, SCENES, Kind
from tests.stores import STORES, drop

AT_ONCE = 3

BAD = ("lost", "double", "outside", "altered")
LIVE = "tests.crash.lives:live"
FIRST = "tool:after@1"
"""The kill after which a recovery has most to do."""

TIMED = ("checkpoint", "run.awaited", "run.renewed")
"""Points that time decides the number of: writes that are gathered, or made every so often."""

Points = dict[tuple[str, Retry], Counter[str]]
"""How often each point is reached, by scene and retry class."""


@dataclass(frozen=True)
class Kill:
    """One case. ``aims`` are ``POINT@N``, one for each life that is killed; ``*@N`` is the N-th point whatever its name."""

    store: str
    scene: str
    retry: Retry
    aims: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.store}/{self.scene}/{self.retry}/{'+'.join(self.aims)}"

    @property
    def sealed(self) -> bool:
        """True for about every third case: its store is sealed under keys."""
        return crc32(str(self).encode()) % 3 == 0

    @property
    def point(self) -> str:
        """The name of the point of its first kill."""
        return self.aims[0].partition("@")[0]

    @classmethod
    def parse(cls, text: str, store: str = "") -> Kill:
        """From what `str` gives; without a store in front when ``store`` is given. Raises `ValueError`."""
        parts = [store, *text.split("/", 2)] if store else text.split("/", 3)
        if len(parts) != 4 or parts[0] not in STORES or parts[1] not in SCENES or parts[2] not in RETRIES:
            raise ValueError(f"no case {text!r}; a case looks like sqlite/openai.gated/none/tool:after@1")
        aims = tuple(parts[3].split("+"))
        for aim in aims:
            point, _, nth = aim.partition("@")
            if not point or not nth.isdigit():
                raise ValueError(f"no aim {aim!r}; an aim looks like tool:after@1")
        return cls(parts[0], parts[1], parts[2], aims)  # type: ignore[arg-type]


@dataclass
class Report:
    """Sums over all kills, and the bad cases in words. Everything but ``kills`` and ``unknown`` must stay 0."""

    stores: int = 1
    kills: int = 0
    lost: int = 0
    double: int = 0
    unknown: int = 0
    outside: int = 0
    altered: int = 0
    missed: int = 0
    cases: int = 0
    points: dict[tuple[Kind, Retry], set[str]] = field(default_factory=lambda: defaultdict(set))
    wrong: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        """True when a promise was broken or a kill did not happen."""
        return any(getattr(self, name) for name in (*BAD, "missed"))

    def line(self) -> str:
        """The sums in one line."""
        names = ("stores", "kills", "lost", "double", "unknown", "outside", "altered", "missed")
        return "crash: " + " ".join(f"{name}={getattr(self, name)}" for name in names)


class Matrix:
    """Plays cases in children of one fork server, a few at a time. Each case has a folder of its own."""

    def __init__(self, server: ForkServer, folder: Path, tell: Callable[[str], None] = lambda _: None) -> None:
        self._server = server
        self._folder = folder
        self._tell = tell
        self._count = 0
        self._keys = folder / "keys.json"
        Keys.create(self._keys)
        self._free = asyncio.Semaphore(AT_ONCE)

    # -- which points there are -------------------------------------------------------------------------------------

    async def discover(self, store: str, scenes: Iterable[str], retries: Sequence[Retry] = RETRIES) -> Points:
        """Play each scene twice without a kill: a point counts as often as it was reached both times (`surely`)."""
        places = [(scene, retry) for scene in scenes for retry in retries]
        found = await asyncio.gather(*(self._dry(Kill(store, *place, ())) for place in places for _ in range(2)))
        return {place: surely(*both) for place, *both in zip(places, found[::2], found[1::2], strict=True)}

    async def discover_recoveries(self, store: str, points: Points) -> Points:
        """The same for the life that follows on a kill right after a tool ran."""
        places = [place for place, counts in points.items() if FIRST.partition("@")[0] in counts]
        found = await asyncio.gather(*(self._dry(Kill(store, *place, (FIRST,))) for place in places for _ in range(2)))
        return {place: surely(*both) for place, *both in zip(places, found[::2], found[1::2], strict=True)}

    async def _dry(self, kill: Kill) -> Counter[str]:
        """The points of a life that nobody disturbs, after those that ``kill`` ends."""
        async with self._free:
            folder, url = self._place(kill)
            for life, aim in enumerate(kill.aims):
                await self._life(kill, folder, url, life, aim=aim)
            code = await self._life(kill, folder, url, len(kill.aims), watch=True)
            if code != 0:
                raise RuntimeError(f"{kill} does not even live undisturbed ({code}):\n{_tail(folder)}")
            verdict = json.loads((folder / "verdict.json").read_text())
            if any(verdict["findings"][name] for name in BAD):
                raise RuntimeError(f"{kill} goes wrong undisturbed: {verdict['findings']}")
            _clear(folder, url)
            return Counter(verdict["points"])

    # -- playing cases ----------------------------------------------------------------------------------------------

    async def play(self, kills: Sequence[Kill], *, broken: str = "") -> Report:
        """Play all of them and add up."""
        report = Report(stores=len({kill.store for kill in kills}))
        await asyncio.gather(*(self._case(kill, report, broken) for kill in kills))
        return report

    async def _case(self, kill: Kill, report: Report, broken: str) -> None:
        async with self._free:
            folder, url = self._place(kill)
            lives, code = 0, 0
            for life, aim in enumerate(kill.aims):
                code = await self._life(kill, folder, url, life, aim=aim, broken=broken)
                if code != -signal.SIGKILL:
                    break
                lives += 1
            report.missed += lives == 0
            if lives == len(kill.aims):
                code = await self._life(kill, folder, url, lives, broken=broken, contend=True)
        report.kills += lives
        report.cases += 1
        report.points[kind_of(kill.scene), kill.retry].add(kill.point)
        wrong = self._add_up(report, folder, code) + ["the aimed kill never came"] * (lives == 0)
        if wrong:
            report.wrong += [f"{kill}: {sentence} (in {folder})" for sentence in wrong]
        else:
            _clear(folder, url)
        self._tell(f"{report.line()} cases={report.cases}")

    def _add_up(self, report: Report, folder: Path, code: int | str) -> list[str]:
        """Add a case's findings; the bad ones in words."""
        file = folder / "verdict.json"
        if code != 0 or not file.exists():
            report.lost += 1
            return [f"the last life ended with {code}: {_tail(folder)}"]
        findings = json.loads(file.read_text())["findings"]
        report.unknown += findings["unknown"]
        for name in BAD:
            setattr(report, name, getattr(report, name) + bool(findings[name]))
        return [f"{name}: {sentence}" for name in BAD for sentence in findings[name]]

    def _place(self, kill: Kill) -> tuple[Path, str]:
        self._count += 1
        folder = self._folder / f"{self._count:05}"
        folder.mkdir(parents=True)
        return folder, STORES[kill.store](folder)

    async def _life(self, kill: Kill, folder: Path, url: str, life: int, **more: Any) -> int | str:
        case = {"folder": str(folder), "url": url, "scene": kill.scene, "retry": kill.retry, "life": life, **more}
        if kill.sealed and not more.get("broken"):
            case["keys"] = str(self._keys)
        return await self._server.run(LIVE, folder / "log", case)


def _clear(folder: Path, url: str) -> None:
    shutil.rmtree(folder)
    drop(url)


def _tail(folder: Path) -> str:
    log = folder / "log"
    return log.read_text(errors="replace")[-800:] if log.exists() else ""


def surely(*plays: Counter[str]) -> Counter[str]:
    """How often each point is reached on any machine, by what these plays reached.

    Of those that time makes more or fewer, the first half; and before a write as often as after it, because one that lost
    to somebody is tried again.
    """
    all_of_them = reduce(and_, plays)
    sure: Counter[str] = Counter()
    for name, n in all_of_them.items():
        stood = all_of_them.get(name.replace(":before", ":after"), n)
        sure[name] = max(1, n // 2) if name.startswith(TIMED) else max(1, min(n, stood))
    return sure


# -- which kills are made -----------------------------------------------------------------------------------------------


def aimed(store: str, points: Points, *before: str) -> list[Kill]:
    """Every kill at a named point: each scene, each retry class, each time it is reached, after the kills ``before``."""
    return [
        Kill(store, scene, retry, (*before, f"{name}@{nth}"))
        for (scene, retry), counts in points.items()
        for name, count in sorted(counts.items())
        for nth in range(1, count + 1)
    ]


def chosen(store: str, points: Points, recoveries: Points, *, kills: int, seed: int, whole: bool = True) -> list[Kill]:
    """So many cases, or as many as there must be, chosen by the seed.

    Each point of each adapter and retry class once, also those that only a recovery reaches; then others of either kind,
    then two kills in a row at any moments. Not ``whole``: no more than so many, also of the first.
    """
    rng = random.Random(f"{seed}/{store}")
    everything, second = aimed(store, points), aimed(store, recoveries, FIRST)
    rng.shuffle(everything)
    rng.shuffle(second)
    seen: set[tuple[Kind, Retry, str]] = set()
    must: list[Kill] = []
    others: list[Kill] = []
    for kill in (*everything, *second):
        place = (kind_of(kill.scene), kill.retry, kill.aims[-1].partition("@")[0])
        (others if place in seen else must).append(kill)
        seen.add(place)
    rng.shuffle(others)
    if not whole:
        rng.shuffle(must)
    made = [*must, *others][: max(kills, len(must) if whole else 0)]
    made += [_twice(rng.choice(everything), points, rng) for _ in range(kills - len(made))]
    return made


def sampled(store: str, points: Points, *, kills: int, seed: int) -> list[Kill]:
    """So many kills at named points, one scene after the other, chosen by the seed: the short form."""
    rng = random.Random(f"{seed}/{store}")
    everything = aimed(store, points)
    rng.shuffle(everything)
    places = {place: [kill for kill in everything if (kill.scene, kill.retry) == place] for place in points}
    turns = [kills_of[at] for at in range(kills) for kills_of in places.values() if at < len(kills_of)]
    return turns[:kills]


def _twice(kill: Kill, points: Points, rng: random.Random) -> Kill:
    """The same, and a second kill at any moment of the life that recovers."""
    moments = sum(points[kill.scene, kill.retry].values())
    return Kill(kill.store, kill.scene, kill.retry, (*kill.aims, f"*@{rng.randint(1, moments)}"))


async def control(matrix: Matrix, store: str, name: str) -> tuple[bool, Report]:
    """Play a seeded broken build's own kills; True when each of them was found to be bad in the way expected."""
    kills = [Kill.parse(text, store) for text in BROKEN[name].kills]
    report = await matrix.play(kills, broken=name)
    return getattr(report, BROKEN[name].finding) == len(kills), report


def kind_of(scene: str) -> Kind:
    """Which adapter."""
    return SCENES[scene].kind


def kinds_and_retries() -> list[tuple[Kind, Retry]]:
    """The columns of the matrix."""
    return [(kind, retry) for kind in KINDS for retry in RETRIES]


def nightly() -> bool:
    """True when the long form was asked for."""
    return bool(os.environ.get("GOVERNOR_NIGHTLY"))
