"""The scenes that are killed: small applications as a user writes them, each with a script of what is to happen.

An order names one effect that the scene wants: ``pay`` asks people, ``book`` is allowed, ``look`` only reads. What people
answer stands in the script too, so the judge knows what each order must come to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agents import Agent, RunConfig, Runner, function_tool, set_tracing_disabled
from langchain.agents import create_agent
from langchain_core.tools import tool as langchain_tool

from governor_agents import Decision, Governor, PolicySet, ToolCall, Verdict
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from governor_agents.core.calls import Retry, Tool
from governor_agents.core.verdicts import Stage
from governor_agents.guard import idempotency_key
from governor_agents.policies.asks import Defaults
from governor_agents.probes import Reconciled
from tests.crash.ledger import Ledger
from tests.crash.models import LangChainModel, OpenAIModel, Turn

set_tracing_disabled(True)

BOSS = "boss@example.com"
AGENT = "clerk"
CHANNEL = "desk"
RETRIES: tuple[Retry, ...] = ("none", "idempotent", "reconcilable")

Kind = Literal["openai", "langchain", "functions"]
KINDS: tuple[Kind, ...] = ("openai", "langchain", "functions")
Answer = Literal["approve", "reject", "edit"]
Stall = Callable[[], Awaitable[None]]

EDITED = 7
WRITES = ("pay", "book")
IN_FLIGHT = 2.0


def pay(order: str) -> tuple[str, dict[str, Any]]:
    """A call that people must approve."""
    return "pay", {"order": order, "amount": 5}


def book(order: str) -> tuple[str, dict[str, Any]]:
    """A call that the policy allows."""
    return "book", {"order": order, "amount": 1}


LOOK = ("look", {"at": "x"})
EXPERT = ("expert", {"input": "do it"})


@dataclass(frozen=True)
class Scene:
    """One script. ``begin``: the request is driven by its caller, queued for workers, driven in a loop of the caller's own
    and handed over when it pauses, or (functions) asked for and left.

    ``stalls``: in the first life the tool outlives its lease while somebody else looks at the run. ``abandons``: the
    operator gives up what is in doubt, instead of looking whether it happened.
    """

    name: str
    kind: Kind
    turns: tuple[Turn, ...]
    inner: tuple[Turn, ...] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)
    begin: Literal["drive", "queue", "own", "leave"] = "drive"
    stalls: bool = False
    abandons: bool = False

    @property
    def orders(self) -> dict[str, tuple[str, dict[str, Any] | None]]:
        """Each order: its tool, and the arguments it must run with, None when it must not run."""
        found: dict[str, tuple[str, dict[str, Any] | None]] = {}
        for turn in (*self.turns, *self.inner):
            for name, args in turn:
                if "order" in args:
                    answer = self.answers.get(args["order"], "approve")
                    final = {"approve": args, "reject": None, "edit": {**args, "amount": EDITED}}[answer]
                    found[args["order"]] = (name, final)
        return found

    def decision(self, order: str) -> Decision:
        """What people say to this order."""
        match self.answers.get(order, "approve"):
            case "reject":
                return Decision.reject("no")
            case "edit":
                return Decision.edit({"order": order, "amount": EDITED})
            case _:
                return Decision.approve("fine")


def _agent_scenes(kind: Kind) -> list[Scene]:
    return [
        Scene(f"{kind}.gated", kind, ([pay("a")],)),
        Scene(f"{kind}.allowed", kind, ([book("a")], [pay("b")], [book("c")])),
        Scene(f"{kind}.batch", kind, ([pay("a"), book("b"), pay("c"), LOOK],)),
        Scene(f"{kind}.nested", kind, ([EXPERT],), inner=([book("a")], [pay("b")])),
        Scene(f"{kind}.edit", kind, ([pay("a")],), answers={"a": "edit"}, abandons=True),
        Scene(f"{kind}.reject", kind, ([pay("a"), pay("b")],), answers={"a": "reject"}, begin="queue"),
        Scene(f"{kind}.stall", kind, ([pay("a")],), stalls=True),
        Scene(f"{kind}.own", kind, ([pay("a"), LOOK],), begin="own"),
    ]


SCENES = {
    scene.name: scene
    for scene in (
        *_agent_scenes("openai"),
        *_agent_scenes("langchain"),
        Scene("functions.waiting", "functions", ([pay("a")],)),
        Scene("functions.left", "functions", ([pay("a")],), begin="leave"),
        Scene("functions.edit", "functions", ([pay("a")],), answers={"a": "edit"}, abandons=True),
        Scene("functions.reject", "functions", ([pay("a")],), answers={"a": "reject"}),
        Scene("functions.stall", "functions", ([pay("a")],), begin="leave", stalls=True),
    )
}


def said(tool: str, args: Mapping[str, Any]) -> str:
    """What a tool gives back."""
    return f"{tool} {args['order']} {args['amount']}: done"


class Rules:
    """The policy of every scene."""

    ASK = Verdict(
        "require_approval",
        stages=(Stage(("boss",), (BOSS,)),),
        reason="money",
        exclude_requester=False,
        channels=(CHANNEL,),
    )

    def evaluate(self, call: ToolCall, tool: Tool) -> Verdict | None:
        """Pay asks, the rest that writes is allowed."""
        return {"pay": self.ASK, "book": Verdict("allow"), "expert": Verdict("allow")}.get(call.tool)


def policies(retry: Retry) -> PolicySet:
    """The rules, and the retry class of what writes."""
    tools = {name: Tool(name, retry=retry, in_flight=IN_FLIGHT) for name in WRITES}
    again = Defaults(approvers=BOSS, channels=CHANNEL, exclude_requester=False)  # for an allowed call that is in doubt
    return PolicySet([Rules()], tools={**tools, "look": Tool("look", read_only=True)}, default=again)


class Tools:
    """What the tools of a scene do: the effect, written into the ledger; and stall once, if the scene wants that."""

    def __init__(self, ledger: Ledger, stall: Stall | None) -> None:
        self._ledger = ledger
        self._stall = stall

    def act(self, tool: str, order: str, amount: int) -> str:
        """The effect itself."""
        args = {"order": order, "amount": amount}
        self._ledger.effect(idempotency_key(), args)
        return said(tool, args)

    async def run(self, tool: str, order: str, amount: int) -> str:
        """The effect, and perhaps a long time after it."""
        told = self.act(tool, order, amount)
        stall, self._stall = self._stall, None
        if stall is not None:
            await stall()
        return told


def build(governor: Governor, scene: Scene, ledger: Ledger, retry: Retry, stall: Stall | None) -> Any:
    """Register the scene's agent, or its function, which is given back; and the probes of what writes."""
    tools = Tools(ledger, stall)

    def found(call: ToolCall, key: str) -> Reconciled:
        ran = any(effect.key == key for effect in ledger.effects())
        return Reconciled.happened(said(call.tool, call.arguments)) if ran else Reconciled.did_not_happen()

    for name in WRITES:
        governor.reconcile(name)(found)
    if scene.kind == "functions":
        return _function(governor, scene, tools, retry)
    make = _openai if scene.kind == "openai" else _langchain
    governor.agent(AGENT)(lambda: make(governor, scene, ledger, tools))
    return None


def _function(governor: Governor, scene: Scene, tools: Tools, retry: Retry) -> Any:
    if scene.begin == "leave" and not scene.stalls:  # on a thread, through the guard's synchronous way

        def run(order: str, amount: int) -> str:
            return tools.act("pay", order, amount)

        return governor.govern(name="pay", retry=retry)(run)

    async def run_async(order: str, amount: int) -> str:
        return await tools.run("pay", order, amount)

    return governor.govern(name="pay", retry=retry)(run_async)


def _openai(governor: Governor, scene: Scene, ledger: Ledger, tools: Tools) -> Any:
    @function_tool
    async def pay(order: str, amount: int) -> str:
        """Pay."""
        return await tools.run("pay", order, amount)

    @function_tool
    async def book(order: str, amount: int) -> str:
        """Book."""
        return await tools.run("book", order, amount)

    @function_tool
    async def look(at: str) -> str:
        """Look."""
        return f"saw {at}"

    own: list[Any] = [pay, book, look]
    if scene.inner:
        inner: Agent[Any] = Agent(name="Expert", model=OpenAIModel("inner", scene.inner, ledger), tools=own)
        own = [*own, inner.as_tool("expert", "Knows more.", run_config=RunConfig(tracing_disabled=True))]
    agent: Agent[Any] = Agent(name="Clerk", model=OpenAIModel("outer", scene.turns, ledger), tools=own)
    return agent, {"run_config": RunConfig(tracing_disabled=True)}


def _langchain(governor: Governor, scene: Scene, ledger: Ledger, tools: Tools) -> Any:
    @langchain_tool
    async def pay(order: str, amount: int) -> str:
        """Pay."""
        return await tools.run("pay", order, amount)

    @langchain_tool
    async def book(order: str, amount: int) -> str:
        """Book."""
        return await tools.run("book", order, amount)

    @langchain_tool
    async def look(at: str) -> str:
        """Look."""
        return f"saw {at}"

    own: list[Any] = [pay, book, look]
    watched = [GovernorMiddleware(governor)]
    if scene.inner:
        model = LangChainModel(called="inner", turns=list(scene.inner), ledger=ledger)
        inner = create_agent(model, tools=own, middleware=watched)

        @langchain_tool
        async def expert(input: str) -> str:
            """Knows more."""
            out = await inner.ainvoke({"messages": [("user", input)]})
            return str(out["messages"][-1].text)

        own = [*own, expert]
    model = LangChainModel(called="outer", turns=list(scene.turns), ledger=ledger)
    return create_agent(model, tools=own, middleware=watched, checkpointer=GovernorSaver(governor), name="clerk")


async def run_own(governor: Governor, scene: Scene) -> None:
    """The framework's own loop, and what it paused for handed over."""
    prepared = governor.prepared(AGENT)
    if scene.kind == "openai":
        result = await Runner.run(prepared.agent, "go", **prepared.options)
        await governor.suspend(result, name=AGENT, conversation="c")
        return
    where: Any = {"configurable": {"thread_id": "c"}}
    out = await prepared.agent.ainvoke({"messages": [("user", "go")]}, where)
    await governor.suspend(out, agent=prepared.agent, config=where)
