"""[19] Every way in which stored bytes are read, fed with bytes that want to be more: data or a typed error, no more.

Nothing is imported, compiled or executed meanwhile (an audit hook listens), and nothing comes out that is not in the
closed list of what the way may give.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, ModelResponse, Usage
from langchain_core.messages import AIMessage, HumanMessage

from governor_agents import Decision, Governor, PolicySet
from governor_agents.adapters.langchain import adapter as langchain_adapter
from governor_agents.adapters.langchain import messages as langchain_results
from governor_agents.adapters.langchain.entries import Place
from governor_agents.adapters.langchain.saver import GovernorSaver
from governor_agents.adapters.langchain.values import Serde, Values
from governor_agents.adapters.openai_agents import answers, outputs, snapshots
from governor_agents.audit import chain
from governor_agents.core.calls import freeze_text, thaw
from governor_agents.core.codec import decode_calls, decode_run, encode_calls, encode_run
from governor_agents.core.ports import Record, StoredEvent
from governor_agents.errors import GovernorError, SnapshotError
from governor_agents.keys import Keys
from governor_agents.responses import Responses
from governor_agents.stores.memory import MemoryStore
from governor_agents.stores.sealed import SealedStore
from tests.faults.hostile import BYTES, MARKER, VALUES, Watch, broken, kinds, places, put
from tests.integration import openai_agents_app
from tests.integration.ledger import Ledger

pytestmark = pytest.mark.timeout(3600 if os.environ.get("GOVERNOR_NIGHTLY") else 900)

PLAIN = (type(None), bool, int, float, str, list, dict)
EACH_PLACE = 10_000 if os.environ.get("GOVERNOR_NIGHTLY") else 250
"""About how many payloads are put inside a document, all places together."""
BIG = {name for name, text in VALUES.items() if len(text) > 5_000}


def plain(value: Any) -> bool:
    """Plain JSON."""
    return type(value) in PLAIN


def of(*modules: str) -> Callable[[Any], bool]:
    """Plain data, and classes of these packages."""
    allowed = ("builtins", "enum", *modules)
    return lambda value: type(value).__module__.split(".")[0] in allowed or type(value).__module__ in allowed


@dataclass(frozen=True)
class Way:
    """One way in: a document that it reads, how it is read, and what may come out."""

    document: Any
    load: Callable[[bytes], Any]
    allowed: Callable[[Any], bool] = plain
    wrap: Callable[[bytes], bytes] = field(default=lambda data: data)
    """What stands around a document in this way."""


@cache
def paused() -> tuple[bytes, bytes, bytes]:
    """A run that waits, its calls, and its snapshot, as the OpenAI adapter makes them."""

    async def pause() -> tuple[bytes, bytes, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            governor, run = await openai_agents_app.waiting("memory://", Ledger(Path(folder) / "ledger"))
            snapshot = await openai_agents_app.snapshot_of(governor, run)
            run = await governor.decide(run.approvals[0].id, Decision.approve("fine"), by=openai_agents_app.BOSS)
            await governor.close()
            return encode_run(run), encode_calls(run.calls), snapshot

    return asyncio.run(pause())


@cache
def agent() -> Agent[Any]:
    """The agent of that run, governed."""
    governor, _ = openai_agents_app.make_app("memory://", Path(tempfile.gettempdir()) / "none")
    made: Agent[Any] = governor.prepared("support").agent
    return made


OPENED: list[Governor] = []


def in_a_store(kind: str, id: str, index: dict[str, str], read: Callable[[Governor], Any]) -> Callable[[bytes], Any]:
    """Read a record whose body is the payload through a governor (the same one, which keeps nothing of it)."""
    store = MemoryStore()
    governor = Governor([], store=store)
    asyncio.run(governor.open())
    OPENED.append(governor)
    reading = read(governor)

    async def write(body: bytes) -> None:
        if (found := await store.load(kind, "default", id)) is not None:
            await store.delete(kind, "default", id, found.v)
        await store.insert(Record(kind, "default", id, body, index), op="a")

    def load(body: bytes) -> Any:
        governor.loop.call(write(body))
        made = reading()
        return governor.loop.call(made) if asyncio.iscoroutine(made) else made

    return load


def thread(governor: Governor) -> Callable[[], Any]:
    """The newest checkpoint of a thread."""
    saver = GovernorSaver(governor)
    return lambda: saver.get_tuple({"configurable": {"thread_id": "t", "checkpoint_ns": ""}})


def in_a_file(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """Read a file that holds the payload."""

    def load(data: bytes) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "file")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(data)
            read(path)

    return load


def sealed(data: bytes) -> Any:
    """A record of a sealed store, written past it."""
    store = MemoryStore()

    async def act() -> Any:
        await store.open()
        await store.insert(Record("run", "t", "r", data), op="a")
        with pytest.raises(GovernorError):
            decode_run((await SealedStore(store, keys()).list("run", "t"))[0].body)
        return await SealedStore(store, keys()).load("run", "t", "r")

    return asyncio.run(act())


@cache
def keys() -> Keys:
    return Keys.generate()


def stored_output(data: bytes) -> Any:
    """What a run gave back."""
    inside = json.loads(paused()[0][len(b'{"schema":2,"run":') : -1])
    inside["output_json"] = data.decode("utf-8", "replace")
    return decode_run(b'{"schema":1,"run":' + json.dumps(inside).encode() + b"}").output


MESSAGES = [HumanMessage("hello", id="1"), AIMessage("", tool_calls=[{"name": "pay", "args": {"a": 1}, "id": "c"}])]
VALUE = json.loads(Values().dumps({"messages": MESSAGES, "pair": (1, {2}), "plain": [1.5, None, "x"]}))
CHECKPOINT = {"v": 4, "id": "1", "ts": "t", "channel_values": VALUE, "channel_versions": {}, "versions_seen": {}}
ENTRY = {"id": "1", "parent": "", "checkpoint": CHECKPOINT, "metadata": {"source": "loop", "step": 1}}
WRITES = [{"of": "1", "task": "x", "path": "", "items": [[0, "messages", VALUE]]}]
THREAD = {"v": 1, "thread": "t", "ns": "", "checkpoints": [ENTRY], "writes": WRITES}
LANGGRAPH = of(
    "langchain_core",
    "langgraph",
    "governor_agents.adapters.langchain.values",
    "collections",
    "datetime",
    "decimal",
    "uuid",
)
OPENAI = of("agents", "openai")
ANSWER = ModelResponse(
    output=[openai_agents_app.message("hello"), openai_agents_app.tool_call("refund", {"order": "1"})],
    usage=Usage(requests=1, input_tokens=3),
    response_id="r",
)
POLICY = {"version": 1, "rules": [{"name": "x", "tool": "pay", "when": "call.args.amount <= 5", "then": "allow"}]}
KEY = "A" * 43 + "="
KEYFILE = {"governor_agents_keys": 1, "root": KEY, "sealing": [{"id": "12345678", "created": 1, "key": KEY}]}


@cache
def ways() -> dict[str, Way]:
    """Every way in."""
    run, calls, snapshot = paused()
    state = json.loads(snapshot)
    core = of("governor_agents.core.records", "governor_agents.core.verdicts")
    tool = openai_agents_app.make_tools(Ledger(Path("none")))["refund"]
    newest = f"{Place('t', '').prefix}c999999999999"
    return {
        "a run": Way(json.loads(run)["run"], decode_run, core, lambda data: b'{"schema":1,"run":' + data + b"}"),
        "a run, head and all": Way(json.loads(run), decode_run, core),
        "calls that are over": Way(json.loads(calls), decode_calls, core),
        "arguments": Way({"order": "4711", "amount": 1}, thaw),
        "arguments as a model wrote them": Way({"order": "4711"}, freeze_text, lambda value: type(value) is bytes),
        "an output": Way({"a": [1]}, stored_output),
        "a result, OpenAI": Way({"a": 1}, lambda data: outputs.load(tool, data)),
        "a result, LangChain": Way(VALUE, langchain_results.load, LANGGRAPH),
        "a value": Way(VALUE, Values().loads, LANGGRAPH),
        "a value with its kind": Way(
            VALUE, lambda data: Serde(Values()).loads_typed(("governor-json", data)), LANGGRAPH
        ),
        "a thread": Way(THREAD, in_a_store("thread", newest, {"conversation": "t"}, thread), LANGGRAPH),
        "a snapshot, LangGraph": Way({"v": 1, "thread_id": "t"}, langchain_adapter._thread),
        "a snapshot, OpenAI": Way(
            state,
            lambda data: asyncio.run(snapshots.unpack(agent(), data)),
            of(
                "agents",
                "openai",
                "governor_agents",
                "typing",
                "pydantic",
                "dataclasses",
                "collections",
                "asyncio",
                "_asyncio",
                "weakref",
                "functools",
                "types",
                "logging",
                "re",
                "uuid",
                "datetime",
                "threading",
                "_thread",
                "tests",
            ),
        ),
        "what a model answered": Way(
            json.loads(answers.dump(ANSWER)), lambda data: answers.load(data.decode("utf-8", "replace")), OPENAI
        ),
        "what is kept of it": Way(
            {"reads": {"c1": [True, "text"]}, "response": "text"},
            lambda data: Responses().load({"id": data}),  # a text, or refused
        ),
        "a conversation's pointer": Way(
            "run_a",
            in_a_store("thread", "conversation:c", {}, lambda g: lambda: g.conversations.look("c")),
            of("governor_agents"),
        ),
        "events": Way({"seq": 1, "what": "x"}, lambda data: chain.read([StoredEvent(1, data)])),
        "a halt": Way(
            {
                "tenant": "default",
                "id": "tenant",
                "halts": [{"scope": "tenant", "by": "ann", "at": 1.0, "reason": ""}],
                "seq": 1,
            },
            in_a_store("halt", "tenant", {}, lambda g: lambda: g.stopped.scopes()),
            of("governor_agents"),
        ),
        "a policy file": Way(POLICY, in_a_file(PolicySet.from_file)),
        "a key file": Way(KEYFILE, in_a_file(Keys.from_file)),
        "a sealed store": Way({"a": 1}, sealed),
    }


def payloads(way: Way) -> Iterator[tuple[str, bytes]]:
    """What is fed to a way: all bytes and values alone, every small value in every place, the large ones in one."""
    for name, data in BYTES.items():
        yield name, data
    for name, text in VALUES.items():
        yield name, text.encode("utf-8", "surrogatepass")
        yield f"{name}, inside", way.wrap(text.encode("utf-8", "surrogatepass"))
    yield from ((name, way.wrap(data)) for name, data in broken(way.document))
    ways_in = list(places(way.document))
    small = [name for name in VALUES if name not in BIG]
    share = 1 + len(ways_in) * len(small) // EACH_PLACE
    for at, place in enumerate(ways_in):
        # In each place every kind of trouble would be too much of the same: each place gets another share of them.
        for name in small[at % share :: share]:
            yield f"{name} at {place}", way.wrap(put(way.document, place, VALUES[name]))
    for name in BIG:
        for place in ways_in[:: 1 + len(ways_in) // 3]:
            yield f"{name} at {place}", way.wrap(put(way.document, place, VALUES[name]))


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    yield Watch()
    for governor in OPENED:
        governor.close_sync()


NAMES = [
    "a run",
    "a run, head and all",
    "calls that are over",
    "arguments",
    "arguments as a model wrote them",
    "an output",
    "a result, OpenAI",
    "a result, LangChain",
    "a value",
    "a value with its kind",
    "a thread",
    "a snapshot, LangGraph",
    "a snapshot, OpenAI",
    "what a model answered",
    "what is kept of it",
    "a conversation's pointer",
    "events",
    "a halt",
    "a policy file",
    "a key file",
    "a sealed store",
]


def feed(way: Way, watch: Watch, given: Iterator[tuple[str, bytes]]) -> tuple[int, list[str]]:
    """How many payloads were loaded, and every one that came to more than data or a typed error."""
    count, bad = 0, []
    for name, data in given:
        count += 1
        try:
            with watch.on():
                value = way.load(data)
        except GovernorError as error:
            if "\n" in str(error) or len(str(error)) > 2000:
                bad.append(f"{name}: an error of {len(str(error))} characters")
        except Exception as error:
            bad.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
        else:
            bad += [f"{name}: gave a {kind}" for kind in kinds(value, way.allowed)]
        bad += [f"{name}: {event}" for event in watch.seen]
        watch.seen.clear()
    return count, bad


def warm(way: Way) -> None:
    """Load what is well, so that modules which libraries load late are there; it must be readable."""
    way.load(way.wrap(json.dumps(way.document, separators=(",", ":")).encode()))
    for data in (b"{}", b"x", b"[1]"):
        try:
            way.load(data)
        except GovernorError:
            continue


@pytest.mark.parametrize("name", NAMES)
def test_hostile_bytes_are_data_or_refused(name: str, watch: Watch) -> None:
    """No object outside of the closed list, no import, no code, no other error."""
    way = ways()[name]
    warm(ways()["a key file"] if name == "a sealed store" else way)  # of sealed records nobody can make up a good one
    count, bad = feed(way, watch, payloads(way))
    assert bad == []
    assert count >= 60


def test_there_are_enough() -> None:
    """At least sixty payloads, and every way in has its test."""
    assert len(VALUES) + len(BYTES) >= 60
    assert sorted(ways()) == sorted(NAMES)


KINDS = ["json", "msgpack", "pickle", "bytes", "bytearray", "null", "", "governor-json2", "aes"]


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_other_kinds_are_not_read(kind: str, watch: Watch) -> None:
    """LangGraph asks its serializer by kind; only ours is known."""
    serde = Serde(Values())
    with watch.on():
        for data in BYTES.values():
            with pytest.raises(SnapshotError, match="not read"):
                serde.loads_typed((kind, data))
    assert watch.seen == []


def test_the_control(watch: Watch) -> None:
    """A reader that trusts its input is caught: it imports, and it gives objects."""
    import pickle

    trusting = Way({}, pickle.loads)
    _, bad = feed(trusting, watch, iter([("pickle", BYTES["pickle"])]))
    assert any(f"import ('{MARKER}'" in line for line in bad)
    _, bad = feed(Way({}, lambda data: Path("/etc")), watch, iter([("path", b"")]))
    assert bad == ["path: gave a pathlib.PosixPath"]
    _, bad = feed(Way({}, json.loads), watch, iter([("cut off", b"{")]))
    assert len(bad) == 1 and "JSONDecodeError" in bad[0]


def test_the_marker_is_nobodys_module() -> None:
    """Else an import of it would prove nothing."""
    with pytest.raises(ModuleNotFoundError):
        __import__(MARKER)
