"""The words around tool calls: what the model is told, marks on edited calls, results as the record keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command

from governor_agents.adapters.langchain.values import Values
from governor_agents.core.calls import Json, freeze
from governor_agents.core.records import CallState
from governor_agents.errors import (
    CallCancelled,
    CallDenied,
    CallExpired,
    CallFailed,
    CallRejected,
    GovernorError,
)

EDITED = "governor_agents"
"""The key in a tool message's ``additional_kwargs`` that says with which arguments the call ran."""

SUPERSEDED = "This call did not run: a new message came before it was approved."

_VALUES = Values()


@dataclass(frozen=True, slots=True)
class Site:
    """A tool call where it was met. ``at`` is its place in the model's message; ``notes`` whether the model is told of
    edits by the middleware (else the message says so itself)."""

    name: str
    args: dict[str, Any] = field(repr=False)
    call_id: str
    tool: BaseTool | None
    at: int = 0
    notes: bool = True


def dump(value: Any) -> bytes:
    """A tool's value for the record; what has no form in it becomes text."""
    return _VALUES.dumps(value, "result", lenient=True).encode("utf-8", "replace")


def load(data: bytes) -> Any:
    """A tool's value from the record."""
    return _VALUES.loads(data)


_NOT_RUN: dict[CallState, tuple[str, type[GovernorError]]] = {
    CallState.DENIED: ("a policy denies it", CallDenied),
    CallState.REJECTED: ("a person rejected it", CallRejected),
    CallState.EXPIRED: ("nobody approved it in time", CallExpired),
    CallState.CANCELLED: ("it was cancelled", CallCancelled),
    CallState.SUPERSEDED: ("it was superseded", CallCancelled),
}


def told(site: Site, text: str, state: CallState | None) -> Any:
    """What the model hears in the place of a result. A caller who gave no call id gets the answer, or an exception."""
    good = state in (CallState.ANSWERED, CallState.SUCCEEDED)
    kind: type[GovernorError] = CallFailed
    if state in _NOT_RUN:
        why, kind = _NOT_RUN[state]
        text = f"This call did not run: {why}" + (f": {text}" if text and text != str(state) else "") + "."
    if site.call_id or site.notes:
        return ToolMessage(text, name=site.name, tool_call_id=site.call_id, status="success" if good else "error")
    if good:
        return text
    raise kind(text)


def mark_edited(value: Any, call_id: str, args: Json, *, in_text: bool) -> Any:
    """Say on the tool message that a person changed the arguments, so that the model does not ask for the rest again.

    The tool's own content stays as it is, unless the mark must stand ``in_text`` because nobody else tells the model.
    """
    if isinstance(value, Command) and isinstance(value.update, dict):
        update = dict(value.update)
        update["messages"] = mark_edited(update.get("messages", []), call_id, args, in_text=in_text)
        return replace(value, update=update)
    if isinstance(value, list):
        return [mark_edited(item, call_id, args, in_text=in_text) for item in value]
    if not isinstance(value, ToolMessage) or value.tool_call_id != call_id:
        return value
    marked = value.model_copy(update={"additional_kwargs": value.additional_kwargs | {EDITED: {"ran_with": args}}})
    return with_note(marked) if in_text else marked


def with_note(message: ToolMessage) -> ToolMessage:
    """The message as the model is to read it: with a note when a person changed the arguments of its call."""
    edited = message.additional_kwargs.get(EDITED)
    if not isinstance(edited, dict) or "ran_with" not in edited:
        return message
    ran_with = freeze(edited["ran_with"]).decode()
    note = f"[A person changed the arguments of this call before it ran. It ran with {ran_with}; do not repeat it.]"
    content = message.content
    if isinstance(content, str):
        return message.model_copy(update={"content": f"{content}\n\n{note}" if content else note})
    return message.model_copy(update={"content": [*content, {"type": "text", "text": note}]})


def informed(messages: list[AnyMessage]) -> list[AnyMessage]:
    """The messages with notes on edited calls, and an answer for each call that was left without one."""
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    told: list[AnyMessage] = []
    for at, message in enumerate(messages):
        told.append(with_note(message) if isinstance(message, ToolMessage) else message)
        if isinstance(message, AIMessage) and at + 1 < len(messages):
            told += [
                ToolMessage(SUPERSEDED, name=call["name"], tool_call_id=call["id"] or "", status="error")
                for call in message.tool_calls
                if call["id"] not in answered
            ]
    same = len(told) == len(messages) and all(new is old for new, old in zip(told, messages, strict=True))
    return messages if same else told


def place_of(call_id: str, messages: list[Any]) -> int:
    """The call's place in the model's last message."""
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return next((at for at, call in enumerate(message.tool_calls) if call["id"] == call_id), 0)
    return 0


def unanswered(messages: Sequence[Any]) -> list[ToolCall]:
    """The calls of the model's last message that have no answer."""
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    last = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
    return [call for call in last.tool_calls if call["id"] not in answered] if last else []
