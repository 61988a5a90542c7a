"""The same gated tools behind a plain function, an OpenAI agent and a LangChain agent: what several suites compare."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from agents import Agent, FunctionTool, RunConfig
from agents.tool_context import ToolContext
from langchain.agents import create_agent
from langchain_core.tools import StructuredTool

from governor_agents import Decision, Governor, PolicySet, Run, Tool, ToolCall, Verdict
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from governor_agents.core.calls import freeze, freeze_text
from governor_agents.core.records import Call
from governor_agents.core.verdicts import Stage
from tests.asking import Silent
from tests.integration.langchain_app import Scripted as LangChainScript
from tests.integration.openai_agents_app import Scripted as OpenAIScript

FRAMEWORKS = ("functions", "openai-agents", "langchain")
AGENTS = ("openai-agents", "langchain")

BOSS = "boss@example.com"
CHIEF = "chief@example.com"
ASK = Verdict("require_approval", "p#ask", "1", stages=(Stage(("boss",), (BOSS,)),), deadline=3600.0)
ALLOW = Verdict("allow", "p#allow", "1")
DENY = Verdict("deny", "p#deny", "2", reason="not any more")

SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "amount": {"type": "integer"}},
    "required": ["path", "amount"],
    "additionalProperties": False,
}
ARGS = {"path": "deploy.sh", "amount": 5}

Said = Verdict | Callable[[ToolCall], Verdict | None] | None


class Desk:
    """A governor whose agent (or function) asks for ``deploy``, and everything that really ran.

    ``say`` may be changed at any moment, as by a deployment. ``inside`` is awaited in each tool, with its name. The
    model asks for all ``tools`` in each of its ``turns``. Made again on the same URL it is another process's view of
    the store.
    """

    def __init__(
        self,
        framework: str,
        store: Any,
        *,
        say: Said = ASK,
        tools: tuple[str, ...] = ("deploy",),
        turns: int = 1,
        args: dict[str, Any] | None = None,
        schema: dict[str, Any] | None = None,
        policies: PolicySet | None = None,
        declared: dict[str, Tool] | None = None,
        **settings: Any,
    ) -> None:
        self.framework = framework
        self.say = say
        self.tools = tools
        self.turns = turns
        self.args = ARGS if args is None else args
        self.schema = SCHEMA if schema is None else schema
        self.ran: list[tuple[str, bytes]] = []
        self.inside: Callable[[str], Awaitable[None]] | None = None
        self.declared = declared or {}
        policies = policies or PolicySet([self._said], tools=self.declared)
        settings = {"secret": b"secret", "handlers": {"terminal": Silent()}, **settings}
        self.governor = Governor(policies, store=store, **settings)
        self._functions: dict[str, Any] = {}
        if framework == "functions":
            self._functions = {name: self._function(name) for name in tools}
        else:
            self.governor.agent("support")(self._openai if framework == "openai-agents" else self._langchain)

    def _said(self, call: ToolCall) -> Verdict | None:
        return self.say(call) if callable(self.say) else self.say

    async def _work(self, name: str, args: bytes) -> str:
        if self.inside is not None:
            await self.inside(name)
        self.ran.append((name, args))
        return "done"

    def _function(self, name: str) -> Any:
        if "more" in self.schema["properties"]:

            async def deploy(path: Any, amount: Any, more: Any = None) -> str:
                return await self._work(name, freeze({"path": path, "amount": amount}))
        else:

            async def deploy(path: Any, amount: Any) -> str:  # type: ignore[misc]
                return await self._work(name, freeze({"path": path, "amount": amount}))

        return self.governor.govern(name=name)(deploy)

    def _openai(self) -> Any:
        def tool(name: str) -> FunctionTool:
            async def invoke(context: ToolContext[Any], text: str) -> str:
                return await self._work(name, freeze_text(text))

            return FunctionTool(name, f"The tool {name}.", self.schema, invoke, strict_json_schema=False)

        model = OpenAIScript(*[[(name, self.args) for name in self.tools]] * self.turns)
        agent: Agent[Any] = Agent(name="support", model=model, tools=[tool(name) for name in self.tools])
        return agent, {"run_config": RunConfig(tracing_disabled=True)}

    def _langchain(self) -> Any:
        def tool(name: str) -> StructuredTool:
            async def invoke(**args: Any) -> str:
                return await self._work(name, freeze(args))

            return StructuredTool(name=name, description=f"The tool {name}.", args_schema=self.schema, coroutine=invoke)

        return create_agent(
            LangChainScript(turns=[[(name, self.args) for name in self.tools]] * self.turns),
            tools=[tool(name) for name in self.tools],
            middleware=[GovernorMiddleware(self.governor)],
            checkpointer=GovernorSaver(self.governor),
            name="support",
        )

    # -- what a test does --------------------------------------------------------------------------------------------

    async def ask(self) -> Run:
        """Let the call be asked for; the run as it then stands."""
        if self.framework != "functions":
            return await self.governor.run("support", "go", requester="eve@example.com")
        pending = await self._functions[self.tools[0]].ask(**self.args)
        return await self.governor.get(pending.run)

    async def call(self) -> Any:
        """Call the plain function."""
        return await self._functions[self.tools[0]](**self.args)

    async def approve(self, run: Run, by: str = BOSS) -> Run:
        """Approve all that waits."""
        for approval in run.approvals:
            run = await self.governor.decide(approval.id, Decision.approve(), by=by)
        return run

    async def approved(self) -> Run:
        """A run whose calls are approved and have not begun."""
        run = await self.approve(await self.ask())
        assert run.status == "ready", run
        return run

    async def go_on(self, run: Run) -> Run:
        """Claim and drive, as a worker does."""
        await self.governor.resume(run.id)
        return await self.governor.get(run.id)

    async def calls(self, run: Run) -> dict[str, Call]:
        """The run's calls by tool, the newest of each."""
        return {call.tool: call for call in await self.governor.calls(run.id)}


@contextlib.asynccontextmanager
async def desk(framework: str, url: Any, **settings: Any) -> AsyncIterator[Desk]:
    """One whose store is closed at the end."""
    made = Desk(framework, url, **settings)
    async with made.governor:
        yield made
