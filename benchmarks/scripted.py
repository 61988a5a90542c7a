"""The agent of the benchmarks: one gated call, then words. Real loops of the frameworks, only the model is scripted."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextvars import ContextVar

from governor_agents import Approval, Governor, PolicySet
from governor_agents.core.ports import Store

ALICE = "local:alice"
QUESTION = "Order 4711 arrived broken, refund it."
ASKED = {"order": "4711", "amount": 120.0}
WORDS = "It is refunded."
POLICY = f"""\
version: 1
approvals: {{approvers: [{ALICE}], channels: [quiet], deadline: 1h}}
tools: {{refund: {{effect: money}}}}
rules: [{{name: refunds, tool: refund, then: require_approval}}]
"""

around: ContextVar[Callable[[str], None]] = ContextVar("around", default=lambda step: None)
"""Called by the tool when it begins and when it is done."""


class QuietHandler:
    """An approval channel that delivers at once, to nobody."""

    name = "quiet"

    async def start(self, desk: object) -> None: ...

    async def close(self) -> None: ...

    async def notify(self, approval: Approval, to: str = "") -> str:
        return ""

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        return None


def refund(order: str, amount: float) -> str:
    """Pay money back to the customer of an order."""
    around.get()("intent")
    around.get()("result")
    return f"refunded {amount:.2f} for order {order}"


def fresh_id(prefix: str) -> str:
    """A call id as no provider gives it twice."""
    return f"{prefix}_{uuid.uuid4().hex[:24]}"


def make_governor(store: str | Store) -> Governor:
    """A governor that asks people about refunds."""
    return Governor(PolicySet.from_text(POLICY), store=store, handlers={"quiet": QuietHandler()}, secret=b"bench")
