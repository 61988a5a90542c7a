"""What the tests of the LangChain adapter share: a model that follows a script, and an application as a user writes it.

Run as a program it is a second process: ``langchain_app.py STORE LEDGER`` lets a worker do what is due and prints where
every run stands.
"""

import asyncio
import json
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, tool

from governor_agents import Decision, Governor, PolicySet, Run, Worker
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from tests.integration.ledger import Ledger

ANN, BOB = "local:ann", "local:bob"

POLICY = """
version: 1
approvals: {channels: [terminal], deadline: 24h, approvers: [group:people]}
groups: {people: [local:ann, local:bob]}
tools:
  look: {read_only: true}
  note: {}
  expert: {}
rules:
  - {name: small, tool: pay, when: call.args.amount <= 5, then: allow}
  - {name: large, tool: pay, then: require_approval}
  - {name: ask first, tool: "ask_*", then: require_approval}
  - {name: notes, tool: note, then: allow}
  - {name: experts, tool: expert, then: allow}
  - {name: no deletes, tool: "delete_*", then: deny, reason: deletes go through a ticket}
"""

Turn = Sequence[tuple[str, dict[str, Any]]] | str


class Scripted(BaseChatModel):
    """Answers by how many turns the history holds, so it goes on in any process; every call id is fresh."""

    turns: list[Any]
    seen: list[Any] = []  # noqa: RUF012  a field: each model gets its own

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> "Scripted":
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.seen.append(list(messages))
        since = len(messages) - next(i for i, m in enumerate(reversed(messages)) if m.type == "human")
        at = sum(isinstance(message, AIMessage) for message in messages[since:])
        turn = self.turns[at] if at < len(self.turns) else "done"
        if isinstance(turn, str):
            message = AIMessage(content=turn)
        else:
            calls = [{"name": name, "args": args, "id": f"call_{uuid.uuid4().hex}"} for name, args in turn]
            message = AIMessage(content="", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])

    @property
    def results(self) -> list[ToolMessage]:
        """The tool messages that the model read last."""
        return [message for message in self.seen[-1] if isinstance(message, ToolMessage)]


def make_tools(ledger: Ledger) -> list[BaseTool]:
    @tool
    def pay(amount: int, to: str = "shop") -> str:
        """Pay."""
        ledger.write(f"pay {amount} {to}")
        return f"paid {amount} to {to}"

    @tool
    async def note(text: str) -> str:
        """Write a note."""
        ledger.write(f"note {text}")
        return f"noted {text}"

    @tool
    async def look(at: str) -> str:
        """Look."""
        ledger.write(f"look {at}")
        return f"saw {at}"

    @tool
    def delete_all() -> str:
        """Delete."""
        ledger.write("delete")
        return "deleted"

    return [pay, note, look, delete_all]


class App:
    """A governor with one registered agent; made again it is another process's view of the same store."""

    def __init__(
        self,
        store: Any,
        ledger: Ledger,
        turns: Sequence[Turn],
        *,
        policy: str | PolicySet = POLICY,
        tools: Sequence[BaseTool] | None = None,
        build: Callable[["App"], Any] | None = None,
        **settings: Any,
    ) -> None:
        self.governor = Governor(
            PolicySet.from_text(policy) if isinstance(policy, str) else policy, store=store, **settings
        )
        self.ledger = ledger
        self.model = Scripted(turns=list(turns))
        self.tools = list(tools) if tools is not None else make_tools(ledger)
        self.saver = GovernorSaver(self.governor)
        self.agent = (build or App.plain)(self)
        self.governor.agent("support")(lambda: self.agent)

    def plain(self) -> Any:
        return create_agent(
            self.model,
            tools=self.tools,
            middleware=[GovernorMiddleware(self.governor)],
            checkpointer=self.saver,
            name="support",
        )

    async def decide(self, run: Run, *decisions: Decision, by: str = ANN) -> Run:
        """Decide what waits, in the order it is shown."""
        for approval, decision in zip(run.approvals, decisions, strict=True):
            run = await self.governor.decide(approval.id, decision, by=by)
        return run


def sync_note(ledger: Ledger) -> BaseTool:
    @tool
    def note(text: str) -> str:
        """Write a note."""
        ledger.write(f"note {text}")
        return f"noted {text}"

    return note


def supervisor(
    inner_turns: list[Any], make: Callable[[Any, Ledger], BaseTool], *, governed: bool = True, **options: Any
) -> Callable[[App], Any]:
    """An agent with one tool that runs another agent."""

    def build(app: App) -> Any:
        inner = create_agent(
            Scripted(turns=inner_turns),
            tools=[*make_tools(app.ledger)[:1], sync_note(app.ledger)],
            middleware=[GovernorMiddleware(app.governor)] if governed else [],
            **options,
        )
        return create_agent(
            app.model,
            tools=[*app.tools, make(inner, app.ledger)],
            middleware=[GovernorMiddleware(app.governor)],
            checkpointer=app.saver,
        )

    return build


def async_expert(inner: Any, ledger: Ledger, name: str = "expert") -> BaseTool:
    @tool(name)
    async def expert(question: str) -> str:
        """Ask the expert."""
        ledger.write(f"asked {question}")
        out = await inner.ainvoke({"messages": [("user", question)]})
        return out["messages"][-1].text

    return expert


async def work(store: str, ledger: str) -> None:
    app = App(store, Ledger(Path(ledger)), [])
    async with app.governor as governor:
        await Worker(governor).run(once=True)
        runs = await governor.list_runs()
    print(json.dumps([[run.id, run.status, run.output] for run in runs]))


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
