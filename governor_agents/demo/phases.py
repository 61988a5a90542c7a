"""The three processes of the demo: one starts the run and ends, one decides, one resumes.

Each is ``python -m governor_agents.demo PHASE ...`` and writes what it saw as JSON to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from governor_agents.core.records import Decision
from governor_agents.demo import shop
from governor_agents.errors import StoreError
from governor_agents.governor import Governor
from governor_agents.policies import PolicySet
from governor_agents.stores import default_url
from governor_agents.worker import Worker

AGENT = "support"


def governor(framework: str, store: str) -> Governor:
    """The demo's governor: policy, store, and the agent of one framework."""
    made = Governor(PolicySet.from_text(shop.policy(), name="governor.yaml"), store=store)
    if framework == "openai-agents":
        from governor_agents.demo import openai_app

        made.agent(AGENT)(openai_app.support)
    else:
        from governor_agents.demo import langchain_app

        made.agent(AGENT)(langchain_app.support(made))
    return made


async def start(framework: str, store: str, run: str, how: str) -> dict[str, Any]:
    """Run the agent until it pauses."""
    async with governor(framework, store) as made:
        begun = await made.run(AGENT, shop.QUESTION)
        return {"run": begun.id, "status": begun.status, "approvals": [a.id for a in begun.approvals]}


async def decide(framework: str, store: str, run: str, how: str) -> dict[str, Any]:
    """Take the decision: as told, or from the person at the terminal. Needs no agent framework."""
    async with Governor(PolicySet.from_text(shop.policy(), name="governor.yaml"), store=store) as made:
        decisions: list[str] = []
        for approval in (await made.get(run)).approvals:
            decision = shop.decision(how) if how != "ask" else await asyncio.to_thread(_ask, approval)
            if decision is None:
                return {"decisions": decisions, "skipped": True}
            await made.decide(approval.id, decision, by=shop.me(), digest=approval.call.digest, channel="terminal")
            decisions.append(decision.kind)
        return {"decisions": decisions}


def _ask(approval: Any) -> Decision | None:
    from governor_agents.handlers.terminal import ask_in_place

    return ask_in_place(approval)


async def resume(framework: str, store: str, run: str, how: str) -> dict[str, Any]:
    """Do what a worker does: resume every run that is decided."""
    logging.getLogger("governor_agents").setLevel(logging.ERROR)
    async with governor(framework, store) as made:
        await Worker(made).run(once=True)
        ended = await made.get(run)
        return {"status": ended.status, "output": ended.output, "error": ended.error, "blocked": ended.blocked}


PHASES = {"start": start, "decide": decide, "resume": resume}


def main(arguments: list[str] | None = None) -> int:
    """Run one phase in this process."""
    parser = argparse.ArgumentParser(prog="governor_agents.demo")
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("--framework", required=True)
    parser.add_argument("--store", default=default_url())
    parser.add_argument("--run", default="")
    parser.add_argument("--decide", default="approve")
    parser.add_argument("--report", required=True, type=Path)
    given = parser.parse_args(arguments)
    try:
        found = asyncio.run(PHASES[given.phase](given.framework, given.store, given.run, given.decide))
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    given.report.write_text(json.dumps({**found, "pid": os.getpid()}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
