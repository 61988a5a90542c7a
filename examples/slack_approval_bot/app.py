"""A support agent that asks in Slack before it pays, on either framework. README.md says how to set it up.

    python app.py "Order 4711 arrived broken, please refund it"              # the OpenAI Agents SDK
    python app.py --langchain "Order 4711 arrived broken, please refund it"  # LangChain

It starts a run and ends. A card in Slack asks the people of governor.yaml; a worker goes on once they have decided.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from governor_agents import Governor, idempotency_key

HERE = Path(__file__).parent
MODEL = os.environ.get("BOT_MODEL", "gpt-5")
INSTRUCTIONS = "You help customers of a shop. Look an order up before you pay anything back."

# Where runs are kept: $GOVERNOR_STORE, else governor.db in the folder that the process stands in.
governor = Governor.from_file(HERE / "governor.yaml", people=HERE / "people.yaml")


# -- what the agent can do: put your own API here -------------------------------------------------------


def lookup_order(order: str) -> str:
    """Look an order up."""
    return f"order {order}: one lamp, 120.00, delivered"


def refund(order: str, amount: float) -> str:
    """Pay money back to the customer of an order."""
    # The same key however often this one approval is tried: hand it to the payment provider.
    return f"refunded {amount:.2f} for order {order} ({idempotency_key()[:12]}...)"


def close_account(customer: str) -> str:
    """Close a customer's account for good."""
    return f"the account of {customer} is closed"


TOOLS = (lookup_order, refund, close_account)


# -- the agents, by factories, so that any process can build them again ---------------------------------


@governor.agent("support")
def support() -> Any:
    from agents import Agent, function_tool

    return Agent(name="Support", instructions=INSTRUCTIONS, model=MODEL, tools=[function_tool(tool) for tool in TOOLS])


@governor.agent("support-langchain")
def support_langchain() -> Any:
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver

    return create_agent(
        f"openai:{MODEL}",
        tools=[tool(each) for each in TOOLS],
        system_prompt=INSTRUCTIONS,
        middleware=[GovernorMiddleware(governor)],
        checkpointer=GovernorSaver(governor),
    )


async def main(question: str, agent: str) -> None:
    """Start a run and say where it stands. ``requester`` would be your customer's or colleague's proved identity."""
    async with governor:
        run = await governor.run(agent, question)
    print(run.id, run.status, *(f"asks {', '.join(approval.people)}" for approval in run.approvals))
    if run.output:
        print(run.output)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--langchain"]
    if len(words) != 1:
        sys.exit('usage: python app.py [--langchain] "what the customer wants"')
    asyncio.run(main(words[0], "support-langchain" if "--langchain" in sys.argv else "support"))
