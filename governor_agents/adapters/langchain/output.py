"""What a graph gave back, as plain JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from governor_agents.core.calls import Json


def answer(values: Any) -> Json:
    """The content of the last message; with a structured response, both; else all values of the graph."""
    if not isinstance(values, Mapping):
        return plain(values)
    structured = values.get("structured_response")
    messages = values.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, BaseMessage):
        return plain({key: value for key, value in values.items() if not str(key).startswith(("__", "branch:"))})
    if structured is None:
        return plain(last.content)
    return {"content": plain(last.content), "structured_response": plain(structured)}


def plain(value: Any) -> Json:
    """Plain JSON; what has no form in JSON becomes text."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, BaseMessage):
        return {"type": value.type, "content": plain(value.content)}
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="python"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return plain(str(value))
