"""Tool outputs and final outputs as JSON, such that the model hears the same from the record as from the tool."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace
from typing import Any

from agents import FunctionTool, ItemHelpers
from pydantic import BaseModel, TypeAdapter, ValidationError

from governor_agents.core.calls import Json, freeze, thaw
from governor_agents.core.records import CallState
from governor_agents.errors import ArgumentsError, SnapshotError

_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def _is_json(value: object) -> bool:
    try:
        freeze(value)
    except ArgumentsError:
        return False
    return True


def _text(value: Json) -> bytes:
    """JSON that keeps the order of keys: the model is shown ``str(value)``."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8, but an escape
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _told(value: Any) -> Json:
    """What the SDK makes of a value for the model, in a form that it makes the same of again."""
    call: Any = SimpleNamespace(call_id="")
    told = ItemHelpers.tool_call_output_item(call, value)["output"]
    if isinstance(told, str):
        return told
    items = value if isinstance(value, list | tuple) else [value]
    return [item.model_dump(mode="json", exclude_none=True) if isinstance(item, BaseModel) else item for item in items]


def dump(tool: FunctionTool, value: Any) -> bytes:
    """A tool's value as bytes for the record; what is not plain JSON as the text the model sees. Never raises."""
    typed: TypeAdapter[Any] | None = getattr(tool, "_output_type_adapter", None)
    try:
        if typed is not None and not isinstance(value, str):
            return _text(typed.dump_python(value, mode="json", by_alias=True))
        if isinstance(value, str) or _is_json(value):
            return _text(value)
        return _text(_told(value))
    except Exception as error:  # the tool has run: there must be a record
        return _text(f"a {type(value).__name__} that cannot be written down ({type(error).__name__})")


def load(tool: FunctionTool, data: bytes) -> Any:
    """The recorded value, in the form that makes the SDK tell the model the same again. Raises `SnapshotError`."""
    value = thaw(data)
    typed: TypeAdapter[Any] | None = getattr(tool, "_output_type_adapter", None)
    try:
        return value if typed is None or isinstance(value, str) else typed.validate_python(value)
    except ValidationError as error:
        count = error.error_count()
        raise SnapshotError(f"a recorded result of {tool.name} is not of its type: {count} errors") from None


def plain(value: Any) -> Json:
    """An agent's final output as plain JSON; what has no JSON form as its text. Never raises."""
    if _is_json(value):
        return value
    with contextlib.suppress(Exception):
        written = _ANY.dump_python(value, mode="json")
        if _is_json(written):
            return written
    try:
        text = str(value)
    except Exception:
        text = f"a {type(value).__name__} that cannot be written down"
    return text.encode("utf-8", "replace").decode()


def words(state: CallState | None, text: str) -> str:
    """What the model is told of a call that did not give a value."""
    match state:
        case CallState.DENIED:
            return f"Not run: {text if text.startswith('denied by policy') else f'denied by policy: {text}'}"
        case CallState.REJECTED:
            return f"Not run: a person rejected this call{f': {text}' if text else ''}"
        case CallState.EXPIRED | CallState.CANCELLED | CallState.SUPERSEDED:
            return f"Not run: {text or state}"
        case _:
            return text
