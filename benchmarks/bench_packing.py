"""What packing makes of the snapshot of a long conversation: bytes and time, zlib beside zstd.

Two agents of real loops answer a hundred times, each time after a tool that looks something up, and then ask for a
refund. What they read and say is prose that nobody generated: the reference of Python's own help. Measured is the
text that a store would keep of that pause: a `RunState`, and the newest checkpoint of a thread.
"""

import asyncio
import json
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median
from typing import Any

from agents import Agent, Model, ModelResponse, Usage, function_tool
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from benchmarks.report import Report
from benchmarks.scripted import ALICE, ASKED, QUESTION, QuietHandler, fresh_id, refund
from benchmarks.scripted_openai import CONFIG
from governor_agents import Governor, PolicySet, Run
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver

TURNS = 100
POLICY = f"""\
version: 1
approvals: {{approvers: [{ALICE}], channels: [quiet], deadline: 1h}}
tools: {{refund: {{effect: money}}, look_up: {{read_only: true}}}}
rules: [{{name: refunds, tool: refund, then: require_approval}}]
"""
Pack = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


def passages() -> list[str]:
    """Paragraphs of prose, none twice."""
    found = (" ".join(part.split()) for text in topics.values() for part in text.split("\n\n"))
    return list(dict.fromkeys(part for part in found if 200 <= len(part) <= 1200))


PROSE = passages()


def look_up(question: str) -> str:
    """Look something up."""
    return PROSE[zlib.crc32(question.encode()) % len(PROSE)]


def step(done: int) -> tuple[str, str, dict[str, Any]]:
    """What the model says, and the call that it makes, after so many answers."""
    words = PROSE[done % len(PROSE)]
    return (words, "look_up", {"question": words[:60]}) if done < TURNS else (words, "refund", ASKED)


class Talking(Model):
    """A model of the OpenAI Agents SDK that goes on for a hundred turns."""

    async def get_response(self, system: str | None, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        items = [] if isinstance(input, str) else input
        words, name, asked = step(sum(item.get("type") == "function_call_output" for item in items))
        text = ResponseOutputText(type="output_text", text=words, annotations=[])
        said = ResponseOutputMessage(
            id=fresh_id("msg"), type="message", role="assistant", status="completed", content=[text]
        )
        call = ResponseFunctionToolCall(
            type="function_call", call_id=fresh_id("call"), name=name, arguments=json.dumps(asked)
        )
        return ModelResponse(output=[said, call], usage=Usage(requests=1), response_id=fresh_id("resp"))

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class TalkingChat(BaseChatModel):
    """The same for LangChain."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> "TalkingChat":
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        words, name, asked = step(sum(isinstance(message, ToolMessage) for message in messages))
        message = AIMessage(content=words, tool_calls=[{"name": name, "args": asked, "id": fresh_id("call")}])
        return ChatResult(generations=[ChatGeneration(message=message)])


def support_openai(governor: Governor) -> Any:
    tools = [function_tool(look_up), function_tool(refund)]
    agent = Agent(name="Support", instructions="Help.", model=Talking(), tools=tools)
    return agent, {"run_config": CONFIG, "max_turns": 3 * TURNS}


def support_langchain(governor: Governor) -> Any:
    graph = create_agent(
        TalkingChat(),
        tools=[tool(look_up), tool(refund)],
        middleware=[GovernorMiddleware(governor)],
        checkpointer=GovernorSaver(governor),
    )
    return graph, {"config": {"recursion_limit": 10 * TURNS}}


async def paused(url: str, support: Callable[[Governor], Any]) -> tuple[Run, list[bytes]]:
    """The run at its pause, and everything long that its store keeps of it."""
    async with Governor(
        PolicySet.from_text(POLICY), store=url, handlers={"quiet": QuietHandler()}, secret=b"bench"
    ) as governor:
        governor.agent("support")(lambda: support(governor))
        run = await governor.run("support", QUESTION)
        assert run.approvals and run.snapshot is not None
        store, loop = governor.store, governor.loop
        texts = [await loop.bridge(governor.runs.blob(run.id, run.snapshot.blob))]
        texts += [record.body for record in await loop.bridge(store.list("thread", "default", limit=1000))]
        return run, texts


def packers() -> dict[str, Pack]:
    """zlib of three levels, and zstd where it is installed."""
    found: dict[str, Pack] = {
        f"zlib {level}": (lambda data, level=level: zlib.compress(data, level), zlib.decompress) for level in (1, 6, 9)
    }
    try:
        import zstandard
    except ImportError:
        return found
    unpack = zstandard.ZstdDecompressor().decompress
    return found | {f"zstd {level}": (zstandard.ZstdCompressor(level).compress, unpack) for level in (1, 3, 9)}


def best_time(operation: Callable[[], object], times: int) -> float:
    """Seconds of processor time, the median."""
    took = []
    for _ in range(times):
        begun = time.process_time()
        operation()
        took.append(time.process_time() - begun)
    return median(took)


def bench_packing(report: Report, place: Path, effort: float) -> None:
    """Bytes and milliseconds for each way, in turn over the same texts."""
    times = max(3, round(30 * effort))
    for way, support in {"OpenAI Agents": support_openai, "LangChain": support_langchain}.items():
        _, texts = asyncio.run(paused(f"sqlite:///{place / way.replace(' ', '-')}-packing.db", support))
        text = max(texts, key=len)
        report.count("packing", f"{way}: the pause after {TURNS} turns", len(text) / 1024, "KiB")
        whole = sum(map(len, texts))
        report.count("packing", f"{way}: all that is kept of the conversation", whole / 1024, "KiB")
        packed = sum(len(zlib.compress(each, 1)) for each in texts)
        report.count(
            "packing", f"{way}: the same, zlib 1", packed / 1024, "KiB", note=f"{whole / packed:.1f} times less"
        )
        for name, (pack, unpack) in packers().items():
            short = pack(text)
            assert unpack(short) == text
            took, back = best_time(partial(pack, text), times), best_time(partial(unpack, short), times)
            note = f"{took * 1e3:.1f} ms to pack, {back * 1e3:.1f} ms to unpack"
            report.count("packing", f"{way}: {name}", len(short) / 1024, "KiB", note=note)
