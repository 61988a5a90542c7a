"""What a crash inside a generation costs: lives of the crash suite, judged by what models were asked as well.

A scene is played, killed at a named point, and played on by a fresh process; every scripted model mints fresh call ids at
every call. A question may be asked again only if nothing at all had followed from its answer when the process died.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool as langchain_tool
from langgraph.graph import START, MessagesState, StateGraph

from governor_agents import crash, driver
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver, threads
from governor_agents.adapters.langchain.threads import Threads
from governor_agents.background import Background
from governor_agents.core import driving, execution
from governor_agents.core.records import Call, CallState, evolve
from governor_agents.core.telling import call_event
from governor_agents.responses import Responses
from tests.crash import judge
from tests.crash.forkserver import ForkServer
from tests.crash.ledger import only
from tests.crash.lives import Case, Life
from tests.crash.matrix import surely
from tests.crash.models import LangChainModel, Turn
from tests.crash.scenes import AGENT, BOSS, EXPERT, LOOK, Answer, Kind, Scene, Tools, book, pay
from tests.stores import STORES

NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))
KINDS: tuple[Kind, ...] = ("openai", "langchain")
LIVE = "tests.faults.replays:live"
LOOK_TWICE = ("look", {"at": "y"})


DECIDED: dict[str, Answer] = {"a": "edit", "b": "reject"}


def _scenes(kind: Kind) -> list[Scene]:
    """Four writes around and inside a nested agent; a turn of five calls; writes after every kind of decision; a pause
    inside the nested agent, and writes after it.
    """
    return [
        Scene(f"{kind}.deep", kind, ([book("a")], [EXPERT], [book("d")]), inner=([LOOK], [book("b")], [book("c")])),
        Scene(f"{kind}.five", kind, ([pay("a"), LOOK, book("b"), LOOK_TWICE, pay("c")], [book("d")])),
        Scene(f"{kind}.decided", kind, ([pay("a"), pay("b"), pay("c")], [book("d")], [book("e")]), answers=DECIDED),
        Scene(f"{kind}.inside", kind, ([EXPERT], [book("d")]), inner=([pay("a")], [LOOK, book("b")], [book("c")])),
    ]


NODES = Scene("langchain.nodes", "langchain", ([book("c")],), inner=([book("a")], [LOOK, book("b")]))
"""Two agents as nodes of a graph, one after the other."""

SCENES = {scene.name: scene for scene in (*_scenes("openai"), *_scenes("langchain"), NODES)}
ORDERS = ("together", "backwards", "apart")
"""How people decide: as they were asked, the last first, or each in a life of its own."""


@dataclass(frozen=True)
class Play(Case):
    """One life. ``streamed``: the first one streams; ``decided`` is one of `ORDERS`."""

    streamed: bool = False
    decided: str = "together"


class Replay(Life):
    """A life whose people decide in a given order."""

    case: Play

    def __init__(self, case: Play, scene: Scene) -> None:
        super().__init__(case, scene)
        if scene is NODES:
            self.governor.agents[AGENT] = lambda: _nodes(self)

    async def begin(self) -> None:
        """The request, as a stream if wanted."""
        if self.case.streamed:
            async for _ in self.governor.run_streamed(AGENT, "go", conversation="c"):
                pass
            return None
        return await super().begin()  # type: ignore[return-value]

    async def decide(self) -> int:
        """What people were told of, in the wanted order."""
        waiting = [told for told in self.ledger.read("asked") if told["approval"] not in self._decided]
        if self.case.decided == "backwards":
            waiting.reverse()
        made = 0
        for told in waiting[:1] if self.case.decided == "apart" else waiting:
            self._decided.add(told["approval"])
            approval = await self.governor.approval(told["approval"])
            if approval.call.state is CallState.PENDING:
                decision = self.scene.decision(approval.arguments["order"])
                await self.governor.decide(approval.id, decision, by=BOSS, digest=told["digest"])
                made += 1
        return made or len(waiting)


def _nodes(life: Life) -> Any:
    tools, watched = Tools(life.ledger, None), [GovernorMiddleware(life.governor)]

    @langchain_tool(name_or_callable="book")
    async def writes(order: str, amount: int) -> str:
        """Book."""
        return await tools.run("book", order, amount)

    @langchain_tool
    async def look(at: str) -> str:
        """Look."""
        return f"saw {at}"

    graph = StateGraph(MessagesState)
    before: list[Turn] = [[]] * (len(NODES.inner) + 1)  # what the first agent said stands in the history of the second
    for name, turns in (("inner", NODES.inner), ("outer", (*before, *NODES.turns))):
        model = LangChainModel(called=name, turns=list(turns), ledger=life.ledger)
        graph.add_node(name, create_agent(model, tools=[writes, look], middleware=watched))
    graph.add_edge(START, "inner")
    graph.add_edge("inner", "outer")
    return graph.compile(checkpointer=GovernorSaver(life.governor), name="clerk")


def asked_again(lines: Sequence[dict[str, Any]]) -> list[str]:
    """Questions that were put to a model again although an effect had followed from the first answer, or nobody died."""
    wrong: list[str] = []
    asked: dict[str, int] = {}
    for at, line in enumerate(lines):
        if line["kind"] != "model":
            continue
        question = json.dumps([line["name"], line["heard"]])
        if question in asked:
            between = [other["kind"] for other in lines[asked[question] + 1 : at]]
            if "death" not in between or "effect" in between[: between.index("death")]:
                wrong.append(f"{question} was asked again after {between}")
        asked[question] = at
    return wrong


# -- in the child that is killed ----------------------------------------------------------------------------------------


def _unrecorded() -> None:
    Responses.hold = lambda self, *answer: None  # type: ignore[method-assign]


def _repeated() -> None:
    _unrecorded()
    driver._refuse_to_repeat = lambda run, adapter: None


def _mixed() -> None:
    """All loops share one chain."""
    sound = Responses.given
    Responses.given = lambda self, chain, request: sound(self, (), request)  # type: ignore[method-assign]


def _forgetful() -> None:
    """A call that was begun stands as allowed, or approved, again when its worker dies."""

    def lapse_call(call: Call, now: float) -> tuple[Call, Any]:
        state = CallState.APPROVED if call.stages else CallState.ALLOWED
        return evolve(call, state=state, lapsed=now), call_event(call, reason="no result")

    driving.lapse_call = execution.lapse_call = lapse_call  # type: ignore[attr-defined]


def _outer_later() -> None:
    """An inner graph's checkpoint is stored before the one it hangs on, which no timer makes durable either."""
    Threads._begins = lambda self, place: False  # type: ignore[method-assign]
    threads.LINGER = 3600.0


BROKEN: dict[str, Callable[[], None]] = {
    "outer-later": _outer_later,
    "forgetful": _forgetful,
    "unrecorded": _unrecorded,
    "repeated": _repeated,
    "mixed": _mixed,
}


def live(given: dict[str, Any]) -> int:
    """Play one life; when nobody killed it, write what was found to ``verdict.json``."""
    case = Play(**given)
    if case.broken:
        BROKEN[case.broken]()
    if case.watch:
        crash.watch()
    point, _, nth = case.aim.partition("@")
    crash.arm(point, int(nth or 1))
    asyncio.run(_live(Replay(case, SCENES[case.scene])))
    return 0


async def _live(life: Replay) -> None:
    restless = ""
    try:
        await life.play()
    except RuntimeError as error:
        restless = str(error)
    points = crash.points()
    crash.arm("")
    facts = await life.facts()
    found = judge.judge(facts, restless).as_dict()
    found["asked again"] = asked_again(facts.lines)  # type: ignore[arg-type]
    asks = len(only(facts.lines, "model"))
    await life.governor.close()
    file = Path(life.case.folder) / "verdict.json"
    file.write_text(json.dumps({"found": found, "points": points, "asks": asks}))


# -- around it ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What a case came to: sentences of what is wrong, points reached, questions put to models, calls in doubt."""

    wrong: tuple[str, ...]
    points: tuple[str, ...]
    asks: int
    unknown: int


class Table:
    """Plays cases in children of a fork server."""

    def __init__(self, loop: Background, server: ForkServer, folder: Path, store: str) -> None:
        self._loop = loop
        self._server = server
        self._folder = folder
        self._store = store
        self._count = 0

    def points(self, scene: str, **how: Any) -> Counter[str]:
        """Which points an undisturbed play surely reaches, and how often. Raises when something goes wrong undisturbed."""
        verdict = self.play(scene, (), watch=True, **how)
        if verdict.wrong or verdict.unknown:
            raise RuntimeError(f"{scene} goes wrong undisturbed: {verdict.wrong}")
        return surely(Counter(verdict.points))

    def play(self, scene: str, aims: Sequence[str], **how: Any) -> Verdict:
        """Kill one life at each aim, then let one live."""
        self._count += 1
        folder = self._folder / f"{self._store}-{scene}-{self._count:04}"
        folder.mkdir(parents=True)
        case = {"folder": str(folder), "url": STORES[self._store](folder), "scene": scene, "retry": "idempotent", **how}
        log = folder / "log"
        for life, aim in enumerate((*aims, "")):
            code = self._loop.call(self._server.run(LIVE, log, {**case, "life": life, "aim": aim}))
            if code != (-signal.SIGKILL if aim else 0):
                why = f"the kill at {aim} never came" if aim else "the last life did not end"
                return Verdict((f"{why} ({code}): {log.read_text()[-1500:]}",), (), 0, 0)
        verdict = json.loads((folder / "verdict.json").read_text())
        found = verdict["found"]
        unknown = found.pop("unknown")
        wrong = [f"{kind}: {sentence}" for kind, sentences in found.items() for sentence in sentences]
        return Verdict(tuple(wrong), tuple(verdict["points"]), verdict["asks"], unknown)

    def play_all(self, scene: str, chosen: Iterable[str], **how: Any) -> list[str]:
        """Play a kill at each of these aims; what was wrong, each sentence with its case."""
        return [
            f"{scene} {how or ''} {aim}: {sentence}"
            for aim in chosen
            for sentence in self.play(scene, (aim,), **how).wrong
        ]


def aims(points: Counter[str], *names: str) -> list[str]:
    """``POINT@N`` for each time that a point is reached; of these names, or of all."""
    return [
        f"{name}@{nth}" for name in sorted(points) if not names or name in names for nth in range(1, points[name] + 1)
    ]


def spread(found: Sequence[str], most: int) -> list[str]:
    """At most this many of them, evenly taken; all of them in the nightly size."""
    most = len(found) if NIGHTLY else most
    step = max(1.0, len(found) / max(most, 1))
    return [found[int(at * step)] for at in range(min(most, len(found)))]
