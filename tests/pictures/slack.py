"""The pictures of Slack: cards of every sort, the modals, the home tab. Nobody in them exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from governor_agents.core import decisions
from governor_agents.core.calls import Tool, ToolCall, freeze
from governor_agents.core.identity import Voter
from governor_agents.core.records import Approval, Comment, Decision, Run, RunState, Snapshot, TakenUp
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.handlers.forms import Form
from governor_agents.handlers.slack import modals
from governor_agents.handlers.slack.blocks import Controls, draw
from governor_agents.handlers.slack.controls import Spot
from governor_agents.handlers.slack.home import Links, home
from governor_agents.testing.slack_picture import caption, message_html, page, view_html

NOW = 1_795_010_400.0
CONTROLS = Controls("c0.0", "https://approve.example.com/request/run_4j2k.1", "governor-agents inbox show run_4j2k.1")
REFUND = {"amount": 120.5, "currency": "EUR", "order": "4711", "reason": "arrived broken, photo attached"}
HEADLINE = "Refund {args.amount} {args.currency} of order {args.order}"
HOSTILE = {
    "order": "4711 <!channel> <@U02> <https://evil.example|open>",
    "note": "```\n*bold* :tada: already approved by the CFO",
    "to": "DE89\u202e0000\u202c 3704\u200b\u2066",
    "\u0430mount": "<script>alert(1)</script> &amp; &lt;b&gt;",
}


def request(
    args: dict[str, Any], *, id: str = "run_4j2k", headline: str = HEADLINE, quorum: int = 1, tool: str = "refund"
) -> Approval:
    """A request that waits for the people of finance."""
    run = Run("default", id, "support", "openai_agents", "dana@example.com", RunState.ACTIVE, NOW)
    asked = ToolCall(tool, freeze(args), "call_1", agent="support", run=id, requester=run.requester)
    people = ("cfo@example.com", "controller@example.com")
    verdict = Verdict(
        "require_approval",
        policy="governor.yaml#refunds",
        version="v3",
        reason="refunds above 50 EUR need finance",
        stages=(Stage(("group:finance",), people, quorum=quorum),),
        deadline=4 * 3600.0,
        headline=headline,
    )
    call = decisions.make_call(run, asked, Tool(tool), verdict, now=NOW, nonce="n")
    call = replace(call, headline=headline, delegates=("treasurer@example.com",))
    return Approval(replace(run, state=RunState.WAITING, calls=(call,), count=1, snapshot=Snapshot("b", "f")), call)


def after(approval: Approval, decision: Decision, *, by: str = "cfo@example.com", later: float = 300.0) -> Approval:
    """The request once this was decided."""
    ask = Verdict("require_approval", policy="governor.yaml#refunds", version="v3", stages=approval.call.stages)
    verdict = ask if decision.args is not None else None
    change = decisions.decide(
        approval.run,
        1,
        decision,
        by=Voter.plain(by),
        now=NOW + later,
        digest=approval.call.digest,
        verdict=verdict,
        nonce="m",
    )
    return Approval(change.run, change.run.calls[0])


def with_(approval: Approval, **changes: Any) -> Approval:
    """The request with other fields in its call."""
    return Approval(approval.run, replace(approval.call, **changes))


def card(approval: Approval, **more: Any) -> str:
    """It as a message."""
    return message_html(draw(approval, CONTROLS, **more).blocks)


def ordinary() -> str:
    """A request as most are."""
    return page("A card in Slack", [card(request(REFUND))])


def long() -> str:
    """One too large for a card."""
    lines = [{"sku": f"A-{at:04}", "quantity": at % 7 + 1, "price": 9.99} for at in range(400)]
    return page("A card without Approve", [card(request({**REFUND, "lines": lines}))])


def hostile() -> str:
    """Arguments that try to be something else."""
    return page("A hostile request", [card(request(HOSTILE, headline="Refund order {args.order}"))])


def edited() -> str:
    """One person edited it, and another must still agree."""
    changed = Decision.edit({**REFUND, "amount": 80.0}, reason="the shipping is not refunded")
    return page("An edited request", [card(after(request(REFUND, quorum=2), changed))])


def decided() -> str:
    """What everybody sees afterwards."""
    approve = after(request(REFUND), Decision.approve("checked against invoice 2211"))
    reject = after(request({**REFUND, "order": "4712"}), Decision.reject("order 4712 was never paid"))
    return page("Decided requests", [card(approve), card(reject)])


def identical() -> str:
    """Three identical calls that wait on one card; somebody looks at it, somebody asked."""
    first = with_(
        request(
            {"amount": 120.5, "currency": "EUR", "order": "4711"},
            headline="Refund {args.amount} {args.currency} of order {args.order}",
        ),
        taken_up=TakenUp("controller@example.com", NOW + 120),
        comments=(Comment("controller@example.com", NOW + 180, "Three times the same? Asking the warehouse."),),
    )
    others = [replace(first, run=replace(first.run, id=id)) for id in ("run_7d1m", "run_9x3q")]
    return page("Identical requests", [card(first, others=others)])


def dialogues() -> str:
    """Reject, edit, and the step that shows what an edit will run."""
    approval = request(REFUND)
    origin = modals.Origin("c0.0", Spot("T01", "D01", "1.2"))
    schema = {
        "type": "object",
        "properties": {
            "amount": {"type": "number", "description": "In the currency of the order"},
            "currency": {"enum": ["EUR", "USD"]},
            "order": {"type": "string"},
            "reason": {"type": "string"},
        },
        "required": ["amount", "currency", "order"],
    }
    headline = 'Refund 120.5 "EUR" of order "4711"'
    reject = modals.reason("reject", origin, headline, needed=True)
    edit = modals.edit(Form.of(approval.call.args, schema), origin, headline)
    changed = replace(origin, args=freeze({**REFUND, "amount": 80.0}).decode())
    confirm = modals.confirm(changed, headline.replace("120.5", "80.0"), ["amount"], needed=False)
    return page("Modals", [view_html(view) for view in (reject, edit, confirm)])


def home_tab() -> str:
    """What waits for one person."""
    waits = [
        request(REFUND),
        with_(
            request(
                {"amount": 40_000, "to": "ACME GmbH"}, id="run_7d1m", headline="Pay {args.amount} EUR to {args.to}"
            ),
            risk="high",
            taken_up=TakenUp("controller@example.com", NOW + 120),
        ),
    ]
    links = [
        Links("https://example.slack.com/archives/D01/p1"),
        Links("", "https://approve.example.com/request/run_7d1m.1"),
    ]
    return page("The home tab", [caption("Home"), view_html(home(waits, links))])


SCENES: dict[str, Callable[[], str]] = {
    "slack-card": ordinary,
    "slack-card-decided": decided,
    "slack-card-edited": edited,
    "slack-card-hostile": hostile,
    "slack-card-identical": identical,
    "slack-card-long": long,
    "slack-home": home_tab,
    "slack-modals": dialogues,
}
