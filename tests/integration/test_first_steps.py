"""What a newcomer meets first, and the mends it names."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor
from governor_agents.errors import ArgumentsError, ConfigError
from tests.terminal import at_a_terminal


@pytest.fixture
def governor(tmp_path: Path) -> Iterator[Governor]:
    """A governor without policies: everything asks, and nobody could approve."""
    made = Governor(store=f"sqlite:///{tmp_path / 'g.db'}")
    yield made
    made.close_sync()


def test_the_demo_asks_at_the_terminal(tmp_path: Path) -> None:
    """The prompt is seen, the answer is taken, the timeline tells it."""
    demo = "from governor_agents.demo import main; raise SystemExit(main(framework='openai-agents'))"
    said = [("skip? ", "reject\n"), (": ", "no photo\n")]
    code, shown = at_a_terminal(demo, said, COLUMNS="90", TMPDIR=str(tmp_path))
    assert code == 0, shown
    assert "no photo" in shown and "rejected" in shown


def test_a_misspelt_demand_of_a_function_is_named(governor: Governor) -> None:
    """The word, and the one that was meant."""
    with pytest.raises(ConfigError, match="did you mean 'approvers'"):
        governor.govern(aprovers=["local:alice"])(lambda: None)


def test_a_generator_is_not_governed(governor: Governor) -> None:
    """It gives no one result that could be recorded."""

    def many() -> Iterator[int]:
        yield 1

    with pytest.raises(ConfigError, match="generator"):
        governor.govern()(many)


def test_an_answer_is_text() -> None:
    """Anything else would be stored as something nobody said."""
    with pytest.raises(ArgumentsError, match="dict"):
        Decision.respond({"x": 1})  # type: ignore[arg-type]


def test_a_result_is_collected_by_a_fresh_governor(tmp_path: Path) -> None:
    """The first call of a process opens the store by itself."""
    url = f"sqlite:///{tmp_path / 'g.db'}"

    def build() -> tuple[Governor, Any]:
        made = Governor(store=url)

        @made.govern(name="pay", approvers=["local:alice"])
        async def pay(amount: int) -> str:
            return f"paid {amount}"

        return made, pay

    async def ask() -> str:
        made, pay = build()
        handle = await pay.ask(5)
        await made.decide(handle.approval, Decision.approve(), by="local:alice")
        await made.close()
        return str(handle.run)

    async def collect(run: str) -> str:
        made, pay = build()
        result = await pay.collect(run, timeout=20)
        await made.close()
        return str(result)

    assert asyncio.run(collect(asyncio.run(ask()))) == "paid 5"


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("openai_agents", "agents", "openai-agents"), ("langchain", "langchain", "langchain")],
)
def test_a_missing_framework_is_one_line(module: str, library: str, extra: str) -> None:
    """The error names what to install."""
    code = (
        "import importlib.util as u; real = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == {library!r} else real(name, *rest)\n"
        f"import governor_agents.adapters.{module}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'governor-agents[{extra}]'" in done.stderr.strip().splitlines()[-1]


async def test_the_same_pause_handed_over_twice_is_one_run() -> None:
    """A retried web handler does not ask people twice for one pause."""
    from agents import Agent, RunConfig, Runner, function_tool

    from governor_agents import Tool
    from governor_agents.adapters.openai_agents import govern
    from governor_agents.demo.openai_app import ScriptedShopModel
    from governor_agents.demo.shop import lookup_order, refund
    from governor_agents.policies import Defaults, PolicySet

    policies = PolicySet(
        default=Defaults(approvers=["local:alice"]), tools={"lookup_order": Tool("lookup_order", read_only=True)}
    )
    async with Governor(policies, store="memory://") as made:
        agent = Agent(
            name="Support", model=ScriptedShopModel(), tools=[function_tool(lookup_order), function_tool(refund)]
        )
        result = await Runner.run(govern(agent, made), "hello", run_config=RunConfig(tracing_disabled=True))
        first, again = await made.suspend(result, name="support"), await made.suspend(result, name="support")
        assert first is not None and again is not None
        assert (first.id, first.agent, first.status) == (again.id, "support", "waiting")
        assert len(await made.list_runs()) == 1
