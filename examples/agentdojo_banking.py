"""The banking suite of AgentDojo, replayed by governed agents: every write waits for a person, and runs once.

    pip install 'governor-agents[demo]' agentdojo==0.1.35
    python examples/agentdojo_banking.py [--framework openai-agents|langchain|all] [--store URL] [--json]

Each of the suite's user tasks is played by a real agent loop with the suite's own tools and environment; only the model
is scripted: it makes the calls of the task's ground truth, one a turn. The policy lets the agents read and asks a
reviewer about every write. One process starts all tasks, another decides, a third is the worker that resumes them, and
so on until every task is over. Then the suite's own ``utility`` check looks at the environment that is left.

Nothing travels between the processes but the store (a SQLite file, or what ``--store`` names; each framework is a
tenant of its own in it), and for each task its environment as a JSON file, written by the tools themselves. A ledger of
its own counts what really ran.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from governor_agents import Decision, Governor, PolicySet, Worker
from governor_agents.core.urls import shown
from governor_agents.handlers.terminal import TerminalHandler

VERSION = "v1.2.2"
"""The newest version of the suite in AgentDojo 0.1.35."""

REVIEWER = "reviewer@bank.example"
WRITES = ("send_money", "schedule_transaction", "update_scheduled_transaction", "update_password", "update_user_info")
POLICY = f"""
version: 1
approvals: {{deadline: 1h, approvers: [group:reviewers]}}
groups:
  reviewers: [{REVIEWER}]
tools:
  "get_*": {{read_only: true}}
  read_file: {{read_only: true}}
rules:
  - name: writes
    tool: [{", ".join(WRITES)}]
    then: require_approval
"""
LOADED = {
    "openai-agents": ["agents", "governor_agents.adapters.openai_agents"],
    "langchain": ["langchain.agents", "governor_agents.adapters.langchain"],
}
"""The frameworks, and what takes long to import: it is loaded once, in a server from which each process is forked."""

ROUNDS = 10
"""After so many decisions every task must be over; the longest has three writes."""


@cache
def suite() -> Any:
    """The suite, which takes a while to import."""
    from agentdojo.task_suite.load_suites import get_suite

    return get_suite(VERSION, "banking")


class Bank:
    """The world of one task: the suite's tools over an environment that lives in a file."""

    def __init__(self, folder: Path, framework: str, task: str) -> None:
        from agentdojo.functions_runtime import FunctionsRuntime

        self.task = suite().user_tasks[task]
        self.calls = [(call.function, dict(call.args)) for call in self.task.ground_truth(self.before())]
        self.ending = self.task.GROUND_TRUTH_OUTPUT or "Done."
        self.tools = FunctionsRuntime(suite().tools).functions
        self._runtime = FunctionsRuntime(suite().tools)
        self._file = folder / f"{framework}-{task}.json"
        self._ledger = folder / f"{framework}.ledger"

    def before(self) -> Any:
        """The environment as the task finds it."""
        return self.task.init_environment(suite().load_and_inject_default_environment({}))

    def environment(self) -> Any:
        """The environment as it stands."""
        if not self._file.exists():
            return self.before()
        return suite().environment_type.model_validate_json(self._file.read_text(encoding="utf-8"))

    def run(self, tool: str, arguments: dict[str, Any]) -> str:
        """Run one of the suite's tools, and put the environment it leaves back into its file."""
        from agentdojo.agent_pipeline.tool_execution import tool_result_to_str

        environment = self.environment()
        result, _ = self._runtime.run_function(environment, tool, arguments, raise_on_error=True)
        self._note(tool, arguments)
        written = self._file.with_suffix(".new")
        written.write_text(environment.model_dump_json(), encoding="utf-8")
        written.replace(self._file)
        return str(tool_result_to_str(result))

    def _note(self, tool: str, arguments: dict[str, Any]) -> None:
        line = {"task": self.task.ID, "tool": tool, "arguments": arguments, "pid": os.getpid()}
        with self._ledger.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def useful(self, said: str) -> bool:
        """The suite's verdict on what is left, and on what the agent said."""
        from agentdojo.functions_runtime import FunctionCall

        ran = [FunctionCall(function=line["tool"], args=line["arguments"]) for line in read(self._ledger, self.task.ID)]
        before, after = self.before(), self.environment()
        verdict = self.task.utility_from_traces(said, before, after, ran)
        return bool(self.task.utility(said, before, after) if verdict is None else verdict)

    def useful_without_us(self) -> bool:
        """The suite's verdict on the ground truth played by the suite itself."""
        from agentdojo.agent_pipeline.ground_truth_pipeline import GroundTruthPipeline

        useful, _ = suite().run_task_with_pipeline(GroundTruthPipeline(self.task), self.task, None, {})
        return bool(useful)


def read(ledger: Path, task: str) -> list[dict[str, Any]]:
    """The tools that ran for a task, in order."""
    lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
    return [line for line in map(json.loads, lines) if line["task"] == task]


def fresh_id() -> str:
    """Every call of a model has an id of its own, also when the same turn is asked for again."""
    return f"call_{uuid.uuid4().hex}"


# -- the two frameworks -----------------------------------------------------------------------------------------------


def openai_agent(bank: Bank, governor: Governor) -> Any:
    """The task's agent on the OpenAI Agents SDK."""
    from agents import Agent, FunctionTool, Model, ModelResponse, RunConfig, Usage
    from agents.tool_context import ToolContext
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    class GroundTruth(Model):
        """Makes the next call of the ground truth, whatever it has seen."""

        async def get_response(
            self, system_instructions: str | None, input: Any, *args: Any, **kwargs: Any
        ) -> ModelResponse:
            items = [] if isinstance(input, str) else input
            done = sum(item.get("type") == "function_call_output" for item in items)
            return ModelResponse(output=[self._says(done)], usage=Usage(), response_id=None)

        def _says(self, done: int) -> Any:
            if done < len(bank.calls):
                name, arguments = bank.calls[done]
                text = json.dumps(arguments)
                return ResponseFunctionToolCall(type="function_call", call_id=fresh_id(), name=name, arguments=text)
            words = [ResponseOutputText(type="output_text", text=bank.ending, annotations=[])]
            return ResponseOutputMessage(id="msg", type="message", role="assistant", status="completed", content=words)

        def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            raise NotImplementedError("the replay does not stream")

    def tool(name: str, function: Any) -> FunctionTool:
        async def invoke(context: ToolContext[Any], arguments: str) -> str:
            return bank.run(name, json.loads(arguments))

        schema = function.parameters.model_json_schema()
        return FunctionTool(name, function.description, schema, invoke, strict_json_schema=False)

    tools = [tool(name, function) for name, function in bank.tools.items()]
    agent = Agent(name="Banker", instructions="You are a bank's assistant.", model=GroundTruth(), tools=list(tools))
    return agent, {"run_config": RunConfig(tracing_disabled=True)}


def langchain_agent(bank: Bank, governor: Governor) -> Any:
    """The task's agent on LangChain."""
    from langchain.agents import create_agent
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
    from langchain_core.outputs import ChatGeneration, ChatResult
    from langchain_core.tools import BaseTool, StructuredTool

    from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver

    class GroundTruth(BaseChatModel):
        """Makes the next call of the ground truth, whatever it has seen."""

        @property
        def _llm_type(self) -> str:
            return "ground-truth"

        def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> GroundTruth:  # type: ignore[override]
            return self

        def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
            done = sum(isinstance(message, ToolMessage) for message in messages)
            if done < len(bank.calls):
                name, arguments = bank.calls[done]
                message = AIMessage(content="", tool_calls=[{"name": name, "args": arguments, "id": fresh_id()}])
            else:
                message = AIMessage(content=bank.ending)
            return ChatResult(generations=[ChatGeneration(message=message)])

    def tool(name: str, function: Any) -> BaseTool:
        def run(**arguments: Any) -> str:  # LangChain puts in every default, which for the suite's writes is None
            return bank.run(name, {key: value for key, value in arguments.items() if value is not None})

        return StructuredTool(name=name, description=function.description, args_schema=function.parameters, func=run)

    return create_agent(
        GroundTruth(),
        tools=[tool(name, function) for name, function in bank.tools.items()],
        middleware=[GovernorMiddleware(governor)],
        checkpointer=GovernorSaver(governor),
    )


AGENTS = {"openai-agents": openai_agent, "langchain": langchain_agent}


def govern(folder: Path, framework: str, store: str) -> Governor:
    """The governor of one framework, with an agent for each task. Notices go to a file, so that they fill no screen."""
    governor = Governor(
        PolicySet.from_text(POLICY, name="bank.yaml"),
        store=store,
        tenant=framework,
        handlers={"terminal": TerminalHandler((folder / f"{framework}.notices").open("a", encoding="utf-8"))},
    )
    for task in suite().user_tasks:
        governor.agent(task)(lambda task=task: AGENTS[framework](Bank(folder, framework, task), governor))
    return governor


# -- the three processes ----------------------------------------------------------------------------------------------


async def start(folder: Path, framework: str, store: str) -> dict[str, Any]:
    """Start every task, and see what the suite says of its ground truth without us."""
    async with govern(folder, framework, store) as governor:
        runs = {name: await governor.run(name, task.PROMPT) for name, task in suite().user_tasks.items()}
    banks = {name: Bank(folder, framework, name) for name in runs}
    return {
        "runs": {name: run.id for name, run in runs.items()},
        "wanted": {name: bank.calls for name, bank in banks.items()},
        "useful": {name: bank.useful_without_us() for name, bank in banks.items()},
        "useful_undecided": {name: bank.useful(str(runs[name].output)) for name, bank in banks.items()},
    }


async def decide(folder: Path, framework: str, store: str) -> dict[str, Any]:
    """Approve everything that waits, as it was shown. Knows neither agents nor tools."""
    async with Governor(PolicySet.from_text(POLICY, name="bank.yaml"), store=store, tenant=framework) as governor:
        waiting = await governor.inbox(person=REVIEWER)
        for approval in waiting:
            seen = approval.call.digest
            await governor.decide(approval.id, Decision.approve("as the task says"), by=REVIEWER, digest=seen)
    return {"decided": len(waiting)}


async def resume(folder: Path, framework: str, store: str) -> dict[str, Any]:
    """Be the worker: resume what is decided, until nothing is due. Then look at what is over."""
    async with govern(folder, framework, store) as governor:
        await Worker(governor).run(once=True)
        runs = await governor.list_runs()
    ended = {run.agent: run for run in runs if run.state.ended}
    return {
        "states": {run.agent: run.status for run in runs},
        "useful": {name: Bank(folder, framework, name).useful(str(run.output)) for name, run in ended.items()},
    }


def process(phase: str, folder: str, framework: str, store: str, report: str) -> None:
    """One process, from beginning to end; what it saw goes to a file."""
    os.environ.update(LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false")
    logging.getLogger("governor_agents").setLevel(logging.ERROR)
    phases = {"start": start, "decide": decide, "resume": resume}
    seen = asyncio.run(phases[phase](Path(folder), framework, store))
    Path(report).write_text(json.dumps({**seen, "pid": os.getpid()}), encoding="utf-8")


# -- the whole --------------------------------------------------------------------------------------------------------


@dataclass
class Replay:
    """What one framework made of the suite."""

    framework: str
    folder: Path
    reports: list[dict[str, Any]]

    def result(self) -> dict[str, Any]:
        """The outcome of every task, and the sums."""
        begun, last = self.reports[0], self.reports[-1]
        tasks = [self._task(name, begun, last) for name in begun["runs"]]
        return {
            "framework": self.framework,
            "tasks": len(tasks),
            "writes": sum(task["writes"] for task in tasks),
            "decisions": sum(report.get("decided", 0) for report in self.reports),
            "pids": [report["pid"] for report in self.reports],
            "ok": all(task["ok"] for task in tasks),
            "replayed": tasks,
        }

    def _task(self, name: str, begun: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
        wanted = [call for call in begun["wanted"][name] if call[0] in WRITES]
        ran = read(self.folder / f"{self.framework}.ledger", name)
        writes = [[line["tool"], line["arguments"]] for line in ran if line["tool"] in WRITES]
        workers = {report["pid"] for report in self.reports if "states" in report}
        apart = {line["pid"] for line in ran if line["tool"] in WRITES} <= workers
        once = writes == wanted
        useful, without_us = last["useful"].get(name, False), begun["useful"][name]
        return {
            "task": name,
            "run": begun["runs"][name],
            "status": last["states"][name],
            "writes": len(writes),
            "once": once,
            "useful": useful,
            "useful_without_us": without_us,
            "useful_undecided": begun["useful_undecided"][name],
            "ok": once and apart and last["states"][name] == "completed" and (useful or not without_us),
        }


def replay(frameworks: Sequence[str], folder: Path, store: str) -> list[dict[str, Any]]:
    """Play the suite on these frameworks, side by side, each phase in a process of its own."""
    server = multiprocessing.get_context("forkserver")
    loaded = [name for framework in frameworks for name in LOADED[framework]]
    server.set_forkserver_preload(["agentdojo.task_suite.load_suites", *loaded])
    replays = [Replay(framework, folder, []) for framework in frameworks]

    def phase(name: str, turn: int) -> None:
        progress(f"{name} {turn or ''}".strip())
        files = [folder / f"{replay.framework}-{name}-{turn}.report" for replay in replays]
        processes = [
            server.Process(target=process, args=(name, str(folder), replay.framework, store, str(file)))
            for replay, file in zip(replays, files, strict=True)
        ]
        for one in processes:
            one.start()
        for one in processes:
            one.join()
        for one, replay, file in zip(processes, replays, files, strict=True):
            if one.exitcode != 0:
                raise SystemExit(f"the {name} process of {replay.framework} ended with {one.exitcode}")
            replay.reports.append(json.loads(file.read_text(encoding="utf-8")))

    phase("start", 0)
    for turn in range(1, ROUNDS + 1):
        phase("decide", turn)
        phase("resume", turn)
        if all("waiting" not in replay.reports[-1]["states"].values() for replay in replays):
            break
    progress("done\n")
    return [replay.result() for replay in replays]


def progress(text: str) -> None:
    """What happens now."""
    sys.stderr.write(text if text.endswith("\n") else f"{text} ... ")
    sys.stderr.flush()


def table(results: Sequence[dict[str, Any]], seconds: float) -> None:
    """What came of it."""
    print(f"{'framework':<14} {'tasks':>5} {'writes':>6} {'decided':>7} {'useful':>6} {'without us':>10}  ok")
    for found in results:
        useful = sum(task["useful"] for task in found["replayed"])
        without_us = sum(task["useful_without_us"] for task in found["replayed"])
        counts = f"{found['tasks']:>5} {found['writes']:>6} {found['decisions']:>7} {useful:>6} {without_us:>10}"
        print(f"{found['framework']:<14} {counts}  {'yes' if found['ok'] else 'NO'}")
        for task in found["replayed"]:
            if not task["ok"]:
                print(f"  {task}")
    print(f"{seconds:.0f} s")


def main() -> int:
    """0 when every write ran once, from the worker, and no task lost its use."""
    parser = argparse.ArgumentParser(description="Replay AgentDojo's banking suite through governed agents.")
    parser.add_argument("--framework", choices=[*AGENTS, "all"], default="all")
    parser.add_argument("--store", default="", metavar="URL", help="default: a SQLite file of its own")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line per framework")
    given = parser.parse_args()
    frameworks = list(AGENTS) if given.framework == "all" else [given.framework]
    folder = Path(tempfile.mkdtemp(prefix="governor-agents-agentdojo-"))
    began = time.monotonic()
    store = given.store or f"sqlite:///{folder}/bank.db"
    results = replay(frameworks, folder, store)
    if given.json:
        for found in results:
            print(json.dumps(found))
    else:
        table(results, time.monotonic() - began)
        print(f"look on: governor-agents --store '{shown(store)}' --tenant {frameworks[0]} runs list")
    return 0 if all(found["ok"] for found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
