"""Models in trouble after a tool ran: the provider's 500, a time-out, a reset, an answer that makes no sense.

Played with the lives of the crash suite, in this process; deaths of the process are played by `replays`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from agents import ModelResponse, Usage
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from governor_agents.core.records import CallState, RunState
from tests.crash import judge
from tests.crash.ledger import only
from tests.crash.lives import Case, Life
from tests.crash.models import LangChainModel, OpenAIModel, _openai_call
from tests.crash.scenes import EXPERT, LOOK, Kind, Scene, book, pay
from tests.stores import STORES

_REQUEST = httpx.Request("POST", "https://provider.example/v1/responses")


def _error_500() -> Exception:
    return openai.InternalServerError("upstream", response=httpx.Response(500, request=_REQUEST), body=None)


ERRORS: dict[str, Callable[[], Exception]] = {
    "500": _error_500,
    "timeout": lambda: openai.APITimeoutError(_REQUEST),
    "reset": lambda: ConnectionResetError(104, "Connection reset by peer"),
}
MALFORMED = ("nothing", "no tool", "no answer")
FAULTS = (*ERRORS, *MALFORMED)
"""What a model does in the place of an answer: three errors, three answers that no loop can use."""


def scenes(kind: Kind) -> list[Scene]:
    """Every way in which a tool runs before the model is asked again."""
    return [
        Scene("gated", kind, ([pay("a")],)),
        Scene("allowed", kind, ([book("a")], [book("b")]), begin="queue"),
        Scene("batch", kind, ([pay("a"), book("b"), pay("c"), LOOK],), begin="queue"),
        Scene("edit", kind, ([pay("a")], [pay("b")]), answers={"a": "edit"}),
        Scene("reject", kind, ([pay("a"), pay("b")],), answers={"a": "reject"}),
        Scene("nested", kind, ([EXPERT], [book("b")]), inner=([LOOK], [pay("a")])),
    ]


@dataclass(frozen=True)
class Injection:
    """A fault of the outer model, ``times`` times in a row, at the first question that tells it of a tool's outcome."""

    scene: Scene
    fault: str
    times: int

    def __str__(self) -> str:
        return f"{self.scene.kind}.{self.scene.name}: {self.fault} x{self.times}"


def injections(kind: Kind, count: int) -> list[Injection]:
    """This many, such that few are enough to meet every fault and every scene."""
    made, found = scenes(kind), []
    for at in range(count):
        turn = at // len(FAULTS)
        scene = made[(at + turn) % len(made)]
        found.append(Injection(scene, FAULTS[at % len(FAULTS)], 1 + (turn // len(made) + at) % 3))
    return found


class Trouble:
    """Puts a fault in the place of answers. ``met`` counts how often it did."""

    def __init__(self, injection: Injection) -> None:
        self.injection = injection
        self.met = 0

    def strikes(self, name: str, heard: bool) -> bool:
        """True when this question is not to be answered."""
        due = name == "outer" and heard and self.met < self.injection.times
        self.met += due
        return due

    def openai(self) -> ModelResponse:
        """What the SDK gets. Raises what a client raises."""
        if self.injection.fault in ERRORS:
            raise ERRORS[self.injection.fault]()
        if self.injection.fault == "no answer":
            return None  # type: ignore[return-value]
        answer = ModelResponse(output=[_openai_call("nobody", {})], usage=Usage(), response_id=None)
        if self.injection.fault == "nothing":
            answer.output = None  # type: ignore[assignment]
        return answer

    def langchain(self) -> ChatResult:
        """What LangChain gets. Raises what a client raises."""
        if self.injection.fault in ERRORS:
            raise ERRORS[self.injection.fault]()
        if self.injection.fault == "nothing":
            return ChatResult(generations=[])
        if self.injection.fault == "no answer":
            return None  # type: ignore[return-value]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="", tool_calls=[{"id": 1}]))])  # type: ignore[list-item]

    @contextlib.contextmanager
    def put(self) -> Iterator[None]:
        """Around a play."""
        answers, generates = OpenAIModel.get_response, LangChainModel._generate

        async def get_response(model: Any, instructions: Any, input: Any, *rest: Any, **more: Any) -> Any:
            items = [] if isinstance(input, str) else input
            told = any(item.get("type") == "function_call_output" for item in items)
            if self.strikes(model._name, told):
                return self.openai()
            return await answers(model, instructions, input, *rest, **more)

        def generate(model: Any, messages: Any, *rest: Any, **more: Any) -> Any:
            if self.strikes(model.called, any(message.type == "tool" for message in messages)):
                return self.langchain()
            return generates(model, messages, *rest, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OpenAIModel, "get_response", get_response)
            patch.setattr(LangChainModel, "_generate", generate)
            yield


def play(injection: Injection, folder: Path, store: str) -> list[str]:
    """What was wrong with one injection, in sentences."""
    folder.mkdir(parents=True)
    case = Case(str(folder), STORES[store](folder), injection.scene.name, "none")
    trouble = Trouble(injection)
    with trouble.put():
        wrong = asyncio.run(_played(Life(case, injection.scene)))
    if trouble.met != injection.times:
        wrong.append(f"the fault came {trouble.met} times")
    return [f"{injection}: {sentence}" for sentence in wrong]


async def _played(life: Life) -> list[str]:
    await life.play()
    facts = await life.facts()
    found = judge.judge(facts).as_dict()
    wrong = [f"{kind}: {sentence}" for kind in ("lost", "double", "outside", "altered") for sentence in found[kind]]
    [run] = facts.runs
    if run.state is not RunState.COMPLETED or found["unknown"]:
        wrong.append(f"the run is {run.status} with {found['unknown']} doubts: {run.error}")
    begun = [event["n"] for event in await life.governor.timeline(run.id) if event["what"] == "call.executing"]
    if len(begun) != len(set(begun)):
        wrong.append(f"a call was begun twice: {begun}")
    for call in facts.calls[run.id]:
        if call.stages and len(call.votes) != 1:
            wrong.append(f"{call.tool} has {len(call.votes)} votes")
        if call.state is CallState.SUCCEEDED and call.result is None:
            wrong.append(f"{call.tool} has no result")
    outer = [line["heard"] for line in only(facts.lines, "model") if line["name"] == "outer"]
    if len(outer) != len({tuple(heard) for heard in outer}):
        wrong.append(f"a question that had an answer was put again: {outer}")
    await life.governor.close()
    return wrong
