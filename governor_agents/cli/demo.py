"""``demo``: the main job without any key, from pause to decision to end, each in a process of its own."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from governor_agents.cli.opening import Globals, StoreUrl


class Framework(StrEnum):
    """Whose agent loops the demo runs."""

    OPENAI_AGENTS = "openai-agents"
    LANGCHAIN = "langchain"
    ALL = "all"


class Decide(StrEnum):
    """Who decides in the demo, and what."""

    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"
    ASK = "ask"


def demo(
    ctx: typer.Context,
    framework: Annotated[Framework, typer.Option("--framework", help="Whose agent loop to run.")] = Framework.ALL,
    decide: Annotated[Decide, typer.Option("--decide", help="Decide like this, or ask at the terminal.")] = Decide.ASK,
    store: StoreUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line per framework, last.")] = False,
) -> int:
    """Run the main job: an agent pauses, its process ends, a person decides, another process finishes."""
    from governor_agents import demo as shown

    named = store or (ctx.find_object(Globals) or Globals()).store
    return int(shown.main(framework=framework.value, decide=decide.value, store=named, json=as_json))
