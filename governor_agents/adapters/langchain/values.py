"""LangChain and LangGraph values as JSON, and back: a closed list of types, nothing is imported or called by name.

A value that is not plain JSON becomes an object with one key, ``{"!": [KIND, ...]}``. A user's object that has the key
``!`` itself is written as a list of pairs under such a mark, so data can never be taken for a mark. ``{"lc": 1, ...}``
and ``{"__type__": ...}`` are data like any other.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any
from uuid import UUID

import langgraph.types as graph_types
from langchain_core import messages as lc
from langgraph.checkpoint.serde import types as serde_types
from langgraph.types import Command, Interrupt, Overwrite, Send
from pydantic import BaseModel

from governor_agents.core.calls import Json
from governor_agents.errors import ConfigError, SnapshotError

MARK = "!"

MESSAGES: dict[str, type[lc.BaseMessage]] = {
    cls.__name__: cls
    for cls in (
        lc.AIMessage,
        lc.AIMessageChunk,
        lc.ChatMessage,
        lc.ChatMessageChunk,
        lc.FunctionMessage,
        lc.FunctionMessageChunk,
        lc.HumanMessage,
        lc.HumanMessageChunk,
        lc.RemoveMessage,
        lc.SystemMessage,
        lc.SystemMessageChunk,
        lc.ToolMessage,
        lc.ToolMessageChunk,
    )
}
"""Every message class that is stored, by its name."""

_DELTA: Any = getattr(serde_types, "_DeltaSnapshot", None)  # langgraph-checkpoint 4.1 and later
_TIMEOUT: Any = getattr(graph_types, "TimeoutPolicy", None)


class StoredError(Exception):
    """An exception of a node, as text: exceptions are never stored as objects."""


class _Unknown(Exception):
    """A value that cannot be stored; the way to it is filled in on the way out."""

    def __init__(self, value: object, why: str = "") -> None:
        kind = type(value)
        self.what = why or f"a {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")
        self.way: list[str] = []


class Values:
    """Turns values into JSON text and back. ``types`` are further classes that may be stored, known by their name:
    pydantic models, dataclasses and enums.
    """

    def __init__(self, types: Iterable[type] = ()) -> None:
        self._types: dict[str, type] = {}
        for cls in types:
            if not (dataclasses.is_dataclass(cls) or issubclass(cls, (BaseModel, Enum))):
                raise ConfigError(f"{cls.__qualname__} is no pydantic model, dataclass or enum; it cannot be stored")
            if self._types.setdefault(cls.__qualname__, cls) is not cls:
                raise ConfigError(f"two types are called {cls.__qualname__}; stored values are known by that name")

    def dumps(self, value: Any, what: str = "value", *, lenient: bool = False) -> str:
        """JSON text. Raises `SnapshotError` that names type and place; ``lenient`` stores such a value as text."""
        try:
            return text(self._plain(value, lenient))
        except _Unknown as unknown:
            way = what + "".join(reversed(unknown.way))
            raise SnapshotError(
                f"{way} is {unknown.what}, which is not stored: keep plain data and messages in the graph's state, "
                "or name a pydantic model, dataclass or enum in GovernorSaver(governor, types=[...])"
            ) from None
        except (RecursionError, ValueError) as error:
            raise SnapshotError(f"{what} cannot be stored: {error}") from None

    def load(self, plain: Json) -> Any:
        """The value of parsed JSON. Raises `SnapshotError` for anything that `dumps` does not write."""
        try:
            return self._value(plain)
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
            told = " ".join(str(error).split())[:300]  # pydantic tells a story
            raise SnapshotError(f"a stored value is not readable: {type(error).__name__}: {told}") from None

    def loads(self, stored: str | bytes) -> Any:
        """The value of JSON text. Raises `SnapshotError`."""
        return self.load(parse(stored))

    # -- to JSON ----------------------------------------------------------------------------------------------------

    def _plain(self, value: Any, lenient: bool) -> Json:
        kind = type(value)
        if value is None or kind is bool or kind is int or kind is str:
            return value
        if kind is float:
            return value if math.isfinite(value) else {MARK: ["float", repr(value)]}
        if kind is list:
            return self._items(value, lenient)
        if kind is dict:
            return self._mapping(value, lenient)
        simple = _SIMPLE.get(kind)
        if simple is not None:
            return {MARK: [simple[0], simple[1](value)]}
        return self._object(value, kind, lenient)

    def _object(self, value: Any, kind: type, lenient: bool) -> Json:
        if kind in _COLLECTIONS:
            return {MARK: [_COLLECTIONS[kind], self._items(value, lenient)]}
        if MESSAGES.get(kind.__name__) is kind:
            return {MARK: ["message", kind.__name__, self._mapping(_fields(value), lenient)]}
        if kind in _PARTS:
            name, parts, _ = _PARTS[kind]
            return {MARK: [name, *(self._part(value, part, lenient) for part in parts)]}
        if self._types.get(kind.__qualname__) is kind:
            return self._registered(value, kind, lenient)
        if isinstance(value, BaseException):
            return {MARK: ["error", kind.__name__, str(value)]}
        if isinstance(value, str) and not isinstance(value, Enum):
            return str(value)
        if isinstance(value, dict):
            return self._mapping(value, lenient)
        if isinstance(value, list):
            return self._items(value, lenient)
        if lenient:
            return str(value)
        raise _Unknown(value)

    def _part(self, value: Any, part: str, lenient: bool) -> Json:
        try:
            return self._plain(getattr(value, part), lenient)
        except _Unknown as unknown:
            unknown.way.append(f".{part}")
            raise

    def _items(self, values: Iterable[Any], lenient: bool) -> Json:
        plain: list[Json] = []
        for value in values:
            try:
                plain.append(self._plain(value, lenient))
            except _Unknown as unknown:
                unknown.way.append(f"[{len(plain)}]")
                raise
        return plain

    def _mapping(self, values: Mapping[Any, Any], lenient: bool) -> Json:
        plain: dict[str, Json] = {}
        ordinary = MARK not in values
        for key, value in values.items():
            ordinary = ordinary and type(key) is str
            try:
                plain[key] = self._plain(value, lenient)
            except _Unknown as unknown:
                unknown.way.append(f"[{key!r}]")
                raise
        if ordinary:
            return plain
        return {MARK: ["dict", [[self._plain(key, lenient), item] for key, item in plain.items()]]}

    def _registered(self, value: Any, kind: type, lenient: bool) -> Json:
        if isinstance(value, Enum):
            return {MARK: ["enum", kind.__qualname__, self._plain(value.value, lenient)]}
        if isinstance(value, BaseModel):
            fields = {name: getattr(value, name) for name in type(value).model_fields} | (value.model_extra or {})
        else:
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return {MARK: ["type", kind.__qualname__, self._mapping(fields, lenient)]}

    # -- from JSON --------------------------------------------------------------------------------------------------

    def _value(self, plain: Json) -> Any:
        kind = type(plain)
        if kind is list:
            return [self._value(item) for item in plain]
        if kind is not dict:
            return plain
        if MARK not in plain:
            return {key: self._value(item) for key, item in plain.items()}
        marked = plain[MARK]
        if len(plain) != 1 or type(marked) is not list or not marked or type(marked[0]) is not str:
            raise ValueError("a mark that is none")
        return self._marked(marked[0], marked[1:])

    def _marked(self, name: str, rest: list[Json]) -> Any:
        if name in _READ:
            return _READ[name](*rest)
        if name in _COLLECT:
            return _COLLECT[name](self._value(rest[0]))
        if name in _MAKE:
            return _MAKE[name](*(self._value(item) for item in rest))
        if name == "dict":
            return {self._value(key): self._value(item) for key, item in rest[0]}
        if name == "message" and rest[0] in MESSAGES:
            return MESSAGES[rest[0]](**self._value(rest[1]))
        if name in ("enum", "type") and rest[0] in self._types:
            return _revive(self._types[rest[0]], self._value(rest[1]))
        raise ValueError(f"unknown kind {name!r} {rest[:1]!r}")


class Serde:
    """The serializer's interface, for code that asks a saver for one."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """JSON of the closed list of types."""
        return "governor-json", self._values.dumps(obj).encode("utf-8", "surrogatepass")

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value; anything that ``dumps_typed`` did not write is refused."""
        if data[0] != "governor-json":
            raise SnapshotError(f"a stored value is of the kind {data[0]!r}, which is not read")
        return self._values.loads(data[1])


def _revive(kind: type, value: Any) -> Any:
    if issubclass(kind, Enum):
        return kind(value)
    return kind.model_validate(value) if issubclass(kind, BaseModel) else kind(**value)


def _fields(message: lc.BaseMessage) -> dict[str, Any]:
    """What is set on a message: its fields that do not hold their default, and its extra ones."""
    held = message.__dict__
    fields = {name: held[name] for name, default in _defaults(type(message)) if held.get(name) != default}
    return fields | (message.model_extra or {})


@cache
def _defaults(kind: type[lc.BaseMessage]) -> tuple[tuple[str, Any], ...]:
    """The fields of a message class that are stored, each with the value that goes without saying."""
    gone = {"type", "content"} if kind is lc.RemoveMessage else {"type"}
    fields = ((name, field) for name, field in kind.model_fields.items() if name not in gone)
    return tuple(
        (name, None if name == "content" else field.get_default(call_default_factory=True)) for name, field in fields
    )


def text(plain: Json) -> str:
    """Plain JSON data as text."""
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse(stored: str | bytes) -> Json:
    """JSON that `Values.dumps` wrote, as plain data. Raises `SnapshotError`."""
    try:
        return json.loads(stored if isinstance(stored, str) else stored.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"a stored value is not readable: {error}") from None


def _make_send(node: str, arg: Any, timeout: Any = None) -> Send:
    return Send(node, arg) if timeout is None else Send(node, arg, timeout=timeout)


def _make_interrupt(value: Any, id: str, response_schema: Any = None) -> Interrupt:
    return Interrupt(value, id, response_schema=response_schema)


def _make_command(graph: Any, update: Any, resume: Any, goto: Any) -> Command[Any]:
    return Command(graph=graph, update=update, resume=resume, goto=goto)


def _make_error(kind: str, told: str) -> StoredError:
    return StoredError(f"{kind}: {told}")


_SIMPLE: dict[type, tuple[str, Callable[[Any], Json]]] = {
    bytes: ("bytes", lambda value: value.hex()),
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    UUID: ("uuid", str),
    Decimal: ("decimal", str),
}
_READ: dict[str, Callable[..., Any]] = {
    "float": float,
    "bytes": bytes.fromhex,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "uuid": UUID,
    "decimal": Decimal,
    "error": _make_error,
}
_COLLECTIONS: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset", deque: "deque"}
_COLLECT: dict[str, Callable[[list[Any]], Any]] = {name: kind for kind, name in _COLLECTIONS.items()}
_PARTS: dict[type, tuple[str, tuple[str, ...], Callable[..., Any]]] = {
    Send: ("send", ("node", "arg", "timeout"), _make_send),
    Interrupt: ("interrupt", ("value", "id", "response_schema"), _make_interrupt),
    Command: ("command", ("graph", "update", "resume", "goto"), _make_command),
    Overwrite: ("overwrite", ("value",), Overwrite),
}
if _DELTA is not None:
    _PARTS[_DELTA] = ("delta", ("value",), _DELTA)
if _TIMEOUT is not None:
    _PARTS[_TIMEOUT] = ("timeout", ("run_timeout", "idle_timeout", "refresh_on"), _TIMEOUT)
_MAKE: dict[str, Callable[..., Any]] = {name: make for name, _, make in _PARTS.values()}
