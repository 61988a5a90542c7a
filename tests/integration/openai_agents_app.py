"""What the tests of the OpenAI adapter share: a model that follows a script, and an application as a user writes it.

Run as a program it is a second process: ``openai_agents_app.py STORE LEDGER RUN`` resumes a run and prints where it stands.
"""

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from agents import Agent, Model, ModelResponse, Usage, function_tool, set_tracing_disabled
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from governor_agents import Decision, Governor, PolicySet, Run, ToolCall, Verdict
from governor_agents.adapters.openai_agents import govern
from governor_agents.claims import Claim, held
from governor_agents.core.calls import Tool
from governor_agents.core.records import CallState
from governor_agents.core.verdicts import Stage
from tests.integration.ledger import Ledger

set_tracing_disabled(True)

BOSS = "boss@example.com"
ASK = Verdict("require_approval", stages=(Stage(("boss",), (BOSS,)),), reason="money", exclude_requester=False)
ALLOW = Verdict("allow")
DENY = Verdict("deny", reason="deletes go through a ticket")

Turn = Sequence[tuple[str, Any]] | str


class Scripted(Model):
    """Answers by how many calls the history holds, so it goes on in any process; every call id is fresh.

    A turn is a list of (tool, arguments) or a text. After the last turn it says ``done``.
    """

    def __init__(self, *turns: Turn) -> None:
        self.turns = turns
        self.inputs: list[list[Any]] = []

    def _answer(self, input: Any) -> list[Any]:
        items = [{"role": "user", "content": input}] if isinstance(input, str) else list(input)
        self.inputs.append(items)
        calls = sum(1 for item in items if kind(item) == "function_call")
        for turn in self.turns:
            if isinstance(turn, str):
                return [message(turn)]
            if calls == 0:
                return [tool_call(name, arguments) for name, arguments in turn]
            calls -= len(turn)
        return [message("done")]

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse(output=self._answer(input), usage=Usage(requests=1), response_id=None)

    async def stream_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> AsyncIterator[Any]:
        response = Response(
            id="resp",
            created_at=0,
            model="scripted",
            object="response",
            output=self._answer(input),
            tool_choice="auto",
            tools=[],
            parallel_tool_calls=True,
        )
        yield ResponseCompletedEvent(type="response.completed", response=response, sequence_number=0)

    @property
    def outputs(self) -> list[Any]:
        """The tool outputs that the model saw last."""
        return [field(item, "output") for item in self.inputs[-1] if kind(item) == "function_call_output"]

    @property
    def notes(self) -> list[str]:
        """What users, or those who speak for them, said after the first message, as the model saw it last."""
        return [str(field(item, "content")) for item in self.inputs[-1] if field(item, "role") == "user"][1:]


def field(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


def kind(item: Any) -> Any:
    return field(item, "type")


def tool_call(name: str, arguments: Any) -> ResponseFunctionToolCall:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    fresh = uuid.uuid4().hex
    return ResponseFunctionToolCall(
        type="function_call", name=name, arguments=text, call_id=f"call_{fresh}", id=f"fc_{fresh}", status="completed"
    )


def message(text: str) -> ResponseOutputMessage:
    content = [ResponseOutputText(type="output_text", text=text, annotations=[])]
    return ResponseOutputMessage(id="msg", type="message", role="assistant", status="completed", content=content)


class Table:
    """A policy: verdicts by tool. ``changes`` are seen at once, as after a deploy."""

    def __init__(self, **verdicts: Verdict) -> None:
        self.verdicts = verdicts
        self.seen: list[ToolCall] = []

    def evaluate(self, call: ToolCall, tool: Tool) -> Verdict | None:
        self.seen.append(call)
        return self.verdicts.get(call.tool)


def make_tools(ledger: Ledger) -> dict[str, Any]:
    @function_tool
    def refund(order: str, amount: float = 10.0) -> str:
        """Pay money back."""
        ledger.write(f"refund {order} {amount}")
        return f"refunded {order} {amount}"

    @function_tool
    def wire(to: str) -> str:
        """Send money."""
        ledger.write(f"wire {to}")
        return f"wired {to}"

    @function_tool
    def note(text: str) -> str:
        """Write a note."""
        ledger.write(f"note {text}")
        return f"noted {text}"

    @function_tool
    def look(order: str) -> str:
        """Look up an order."""
        ledger.write(f"look {order}")
        return f"order {order}"

    @function_tool
    def delete(order: str) -> str:
        """Delete an order."""
        ledger.write(f"delete {order}")
        return f"deleted {order}"

    @function_tool
    def fail(order: str) -> str:
        """Fail."""
        ledger.write(f"fail {order}")
        raise RuntimeError(f"no such order {order}")

    return {tool.name: tool for tool in (refund, wire, note, look, delete, fail)}


def make_governor(store: str, *policies: Any) -> Governor:
    table = policies or (Table(refund=ASK, wire=ASK, note=ALLOW, delete=DENY, fail=ALLOW),)
    return Governor(PolicySet(table, tools={"look": Tool("look", read_only=True)}), store=store, secret=b"secret")


def make_app(store: str, ledger: Path, *turns: Turn, policies: Sequence[Any] = ()) -> tuple[Governor, Scripted]:
    """A governor with the agent ``support`` registered, as a process of its own would build them."""
    governor = make_governor(store, *policies)
    model = Scripted(*(turns or ([("refund", {"order": "4711"})],)))

    @governor.agent("support")
    def support() -> Agent[Any]:
        return Agent(name="Support", model=model, tools=list(make_tools(Ledger(ledger)).values()))

    return governor, model


async def decide(governor: Governor, run: Run, *decisions: Decision) -> Run:
    for approval, decision in zip(run.approvals, decisions, strict=True):
        run = await governor.decide(approval.id, decision, by=BOSS)
    return run


def states(run: Run) -> dict[str, CallState]:
    return {call.tool: call.state for call in run.calls}


async def waiting(store: str, ledger: Ledger, *turns: Any) -> tuple[Governor, Run]:
    governor, _ = make_app(store, ledger.path, *turns)
    run = await governor.run("support", "go")
    assert run.status == "waiting"
    return governor, run


async def snapshot_of(governor: Governor, run: Run) -> bytes:
    assert run.snapshot is not None
    return await governor.loop.bridge(governor.runs.blob(run.id, run.snapshot.blob))


async def resume_with(governor: Governor, run: Run, snapshot: bytes) -> Any:
    """The adapter alone, under a claim, with a snapshot of the tester's making."""
    prepared = governor.prepared("support")
    with held(Claim.on(run)):
        return await prepared.adapter.resume(prepared.agent, snapshot, run.calls, options={})


def approve_natively(snapshot: bytes, call_id: str, agent: str = "Support", tool: str = "refund") -> bytes:
    """What somebody with write access to the store would do."""
    data = json.loads(snapshot)
    entry = {"agent": {"name": agent}, "tool_key": tool, "decision": {"approved": [call_id], "rejected": []}}
    data["context"].setdefault("function_tool_approvals", []).append(entry)
    data["context"].setdefault("approvals", {})[tool] = {"approved": [call_id], "rejected": []}
    return json.dumps(data).encode()


@function_tool(needs_approval=True)
def own_gate() -> str:
    """Has its own idea of approval."""
    return "ran"


def own(store: str, ledger: Ledger, *turns: Any) -> tuple[Governor, Agent[Any], Scripted]:
    governor = make_governor(store)
    model = Scripted(*(turns or ([("refund", {"order": "1"}), ("note", {"text": "n"}), ("delete", {"order": "2"})],)))
    agent = Agent(name="Support", model=model, tools=list(make_tools(ledger).values()))
    return governor, govern(agent, governor), model


async def _resume(store: str, ledger: str, run: str) -> None:
    governor, model = make_app(store, Path(ledger))
    after = await governor.resume(run)
    print(json.dumps({"status": after.status, "output": after.output, "told": model.outputs}))
    await governor.close()


if __name__ == "__main__":
    asyncio.run(_resume(*sys.argv[1:4]))
