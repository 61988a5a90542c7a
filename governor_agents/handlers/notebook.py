"""Requests and runs as HTML, for notebooks: self-contained, every argument in full, no script, nothing loaded.

`show` gives an object that a notebook displays; outside of one it prints as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from governor_agents.core.records import Approval, Run, approval_id
from governor_agents.handlers.message import Message, outcome, to_text, visible, visible_json, when
from governor_agents.handlers.words import explain

_CARD = "border:1px solid #8886;border-radius:6px;padding:.8em 1em;margin:.5em 0;max-width:60em"
_CODE = "font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate"
_LABEL = f"text-align:left;vertical-align:top;padding:0 1em 0 0;opacity:.8;font-weight:normal;max-width:24em;{_CODE}"
_CELL = f"text-align:left;vertical-align:top;padding:0;{_CODE}"


def approval_html(approval: Approval) -> str:
    """A request as a card."""
    message = Message.of(approval)
    parts = [_heading(message.headline), _table(message.facts())]
    if message.arguments:
        parts += [_caption("arguments"), _table((line.path or "(all)", line.value) for line in message.arguments)]
    parts += [_caption("arguments as canonical JSON"), _code(message.args)]
    if message.asked_args:
        parts += [_caption("edited by a person"), *(_code(str(line)) for line in message.rewritten)]
        parts += [_caption("what the agent had asked for"), _code(message.asked_args)]
    return _card(parts)


def run_html(run: Run) -> str:
    """A run as a card: its state in words, its calls, and a card for each request that waits."""
    why = explain(run, run.updated)
    facts = [("run", visible(run.id)), ("state", f"{run.status}: {why.because}"), ("agent", visible(run.agent))]
    facts += [("requester", visible(run.requester)), ("started", when(run.created))]
    facts += [("", detail) for detail in why.details]
    if run.output_json:
        facts.append(("output", visible_json(run.output_json)))
    parts = [_heading(visible(f"{run.agent or 'function'}: {run.status}")), _table(facts)]
    calls = [
        (f"{visible(approval_id(run.id, call.n))} {visible(call.tool)}", f"{_args(call.args)}\n{outcome(call)}")
        for call in run.calls
    ]
    if calls:
        parts += [_caption("calls"), _table(calls)]
    parts += [approval_html(approval) for approval in run.approvals]
    return _card(parts)


def _args(args: bytes) -> str:
    return visible_json(args.decode("utf-8", "backslashreplace"))


def _card(parts: Iterable[str]) -> str:
    return f'<div dir="ltr" style="{_CARD}">{"".join(parts)}</div>'


def _heading(text: str) -> str:
    return f'<div style="font-weight:bold;margin-bottom:.4em;{_CODE}">{escape(text)}</div>'


def _caption(text: str) -> str:
    return f'<div style="margin-top:.7em;opacity:.7">{escape(text)}</div>'


def _code(text: str) -> str:
    return f'<div style="{_CODE}">{escape(text)}</div>'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = (
        f'<tr style="background:none"><th scope="row" style="{_LABEL}">{escape(label)}</th>'
        f'<td style="{_CELL}">{escape(text)}</td></tr>'
        for label, text in rows
    )
    return f'<table style="border-collapse:collapse">{"".join(cells)}</table>'


class Card:
    """Something a notebook displays: HTML there, text elsewhere."""

    def __init__(self, html: str, text: str) -> None:
        self._html = html
        self._text = text

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


def show(what: Run | Approval) -> Card:
    """A run or an approval for display: leave it as the last line of a cell."""
    if isinstance(what, Approval):
        return Card(approval_html(what), to_text(Message.of(what)))
    why = explain(what, what.updated)
    head = f"run {visible(what.id)} is {what.status}: {why.because}\n"
    return Card(run_html(what), head + "\n".join(to_text(Message.of(approval)) for approval in what.approvals))
