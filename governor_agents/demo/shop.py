"""The demo's world: a shop with two tools, a ledger that counts what really ran, and what the scripted model says.

The model is scripted as a pure function of what it has seen, so any process can continue the conversation, and every
tool call gets a fresh id, as with a real provider.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from governor_agents.core.records import Decision
from governor_agents.handlers.terminal import local_person

QUESTION = "Customer says order 4711 arrived broken. Please refund it."
GATED = "refund"
EDITED = {"order": "4711", "amount": 60.0}
ASKED = {"order": "4711", "amount": 120.0}
REASON = {"approve": "photo checked", "reject": "no photo of the damage", "edit": "half is enough"}


def me() -> str:
    """Whoever runs the demo, as the command line knows them."""
    return local_person()


def policy() -> str:
    """The policy file, with the person who runs the demo in it, and the channel of ``$GOVERNOR_DEMO_CHANNEL``."""
    text = (files("governor_agents.demo") / "governor.yaml").read_text(encoding="utf-8")
    channel = os.environ.get("GOVERNOR_DEMO_CHANNEL") or "terminal"
    return text.replace("[terminal]", f"[{channel}]").replace("local:you", json.dumps(me()))


def decision(how: str) -> Decision:
    """What is decided when the demo decides by itself."""
    if how == "edit":
        return Decision.edit(EDITED, REASON[how])
    return Decision.reject(REASON[how]) if how == "reject" else Decision.approve(REASON[how])


def ledger() -> Path:
    """Where the tools note that they ran: a file of its own, so that the store is not its own witness."""
    return Path(os.environ["GOVERNOR_DEMO_LEDGER"])


def note(tool: str, **arguments: Any) -> None:
    """One line, on disk before the tool returns."""
    with ledger().open("a", encoding="utf-8") as file:
        file.write(json.dumps({"tool": tool, "arguments": arguments, "pid": os.getpid()}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def noted() -> list[dict[str, Any]]:
    """Every tool run so far."""
    path = ledger()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def lookup_order(order: str) -> str:
    """Look an order up."""
    return f"order {order}: one lamp, 120.00, delivered"


def refund(order: str, amount: float) -> str:
    """Pay money back to the customer of an order."""
    note(GATED, order=order, amount=amount)
    return f"refunded {amount:.2f} for order {order}"


@dataclass(frozen=True, slots=True)
class Says:
    """What the model says next: a tool call under a fresh id, or words."""

    text: str = ""
    tool: str = ""
    arguments: str = ""
    call_id: str = ""


def next_words(tool_outputs: list[str]) -> Says:
    """The model: look the order up, ask for the refund, then report what came of it."""
    if not tool_outputs:
        return _call("lookup_order", {"order": "4711"})
    if len(tool_outputs) == 1:
        return _call(GATED, ASKED)
    return Says(text=f"About order 4711: {tool_outputs[-1]}")


def _call(tool: str, arguments: dict[str, Any]) -> Says:
    return Says(tool=tool, arguments=json.dumps(arguments), call_id=f"call_{uuid.uuid4().hex[:12]}")
