"""The intercepted tool call, frozen as bytes, and the digests made of it.

Arguments are frozen **once**, as canonical JSON: object keys sorted by code point, no white space, UTF-8, integers and
floats kept apart (``1`` and ``1.0`` are different bytes), no NaN, no duplicate keys, no lone surrogates. Whatever is
shown, hashed, stored or run is made from these bytes, never from the caller's live objects.

For objects of strings and integers this form equals RFC 8785 (JCS); the digest envelope is such an object.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from governor_agents.errors import ArgumentsError

MAX_DEPTH = 64
"""Arguments nested deeper than this are refused."""

Retry = Literal["none", "idempotent", "reconcilable"]
"""What may be done about a call whose worker died while it ran: nothing, run it again, or ask what happened."""

Risk = Literal["low", "normal", "high"]
"""How much is at stake, as the tool's declaration says; what is high is never decided in bulk."""

IN_FLIGHT = 60.0
"""Seconds for which a request of a tool may be under way, at most, where nothing else is declared."""

Json = Any

CLOSED: Any = {"extra": "forbid"}
"""How stored classes are read: a key that no field has is refused. Written back, the record would have lost it."""


def _refuse(path: str, why: str) -> ArgumentsError:
    return ArgumentsError(f"arguments are not plain JSON: {path or 'the value'} {why}")


def _check(value: Json, path: str, depth: int) -> None:
    if value is None or value is True or value is False:
        return
    kind = type(value)
    if depth > MAX_DEPTH:
        raise _refuse(path[:80], f"is nested deeper than {MAX_DEPTH} levels")
    if kind is str:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _refuse(path, "holds a lone surrogate") from None
    elif kind is float:
        if not math.isfinite(value):
            raise _refuse(path, "is not a finite number")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise _refuse(path, f"has the key {key!r}, which is a {type(key).__name__}; keys must be strings")
            _check(key, f"key {key!r}", depth)
            _check(item, f"{path}.{key}" if path else key, depth + 1)
    elif kind is list:
        for at, item in enumerate(value):
            _check(item, f"{path}[{at}]", depth + 1)
    elif kind is not int:
        raise _refuse(path, f"is a {kind.__name__}; use strings, numbers, booleans, null, lists and objects")


def freeze(value: Json) -> bytes:
    """The canonical JSON bytes of a plain JSON value.

    Raises `ArgumentsError` for anything that is not exactly JSON (tuples, other classes, NaN, non-string keys ...):
    such values have no single byte form, so what was shown could differ from what runs.
    """
    _check(value, "", 0)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise ArgumentsError(f"arguments are not plain JSON: {error}") from None
    return text.encode("utf-8")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, item in pairs:
        if key in found:
            raise ArgumentsError(f"arguments are not plain JSON: the key {key!r} stands twice")
        found[key] = item
    return found


def _no_constant(name: str) -> Json:
    raise ArgumentsError(f"arguments are not plain JSON: {name} is not a JSON number")


def thaw(data: bytes | str) -> Json:
    """Parse JSON strictly: UTF-8 alone, no duplicate keys, no NaN. Raises `ArgumentsError`."""
    try:
        text = data if isinstance(data, str) else data.decode()
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArgumentsError(f"arguments are not plain JSON: {error}") from None


def freeze_text(text: str | bytes) -> bytes:
    """Canonical bytes of JSON text as a model wrote it. Raises `ArgumentsError`."""
    return freeze(thaw(text))


def sha256(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Operand:
    """A file that an argument names, as it was when the call was frozen.

    ``name`` is the argument's, ``size`` is in bytes.
    """

    __pydantic_config__ = CLOSED

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Tool:
    """What is known of a tool: its annotations and the hash of its parameter schema.

    ``read_only`` tools change nothing and skip the journal; ``effect`` is a free word for conditions (``money``);
    ``retry`` says what may be done after a crash inside the tool; ``idempotency_ttl`` is for how many seconds the
    other side remembers an idempotency key; ``in_flight`` for how many a request may still take effect after the
    process that sent it died. ``operands`` names arguments whose value is a path, or a list of paths: those files are
    bound into every approval. ``risk`` is how much is at stake. ``known`` is False for a tool that nobody annotated.
    """

    name: str
    read_only: bool = False
    effect: str = ""
    retry: Retry = "none"
    idempotency_ttl: float = 86_400.0
    in_flight: float = IN_FLIGHT
    schema_sha256: str = ""
    known: bool = True
    operands: tuple[str, ...] = ()
    risk: Risk = "normal"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call as intercepted: frozen arguments, the files they name, and everything that identifies it."""

    tool: str
    args: bytes = field(repr=False)
    call_id: str
    agent: str = ""
    run: str = ""
    requester: str = ""
    conversation: str = ""
    tenant: str = "default"
    generation: int = 0
    schema_sha256: str = ""
    operands: tuple[Operand, ...] = ()

    @classmethod
    def of(cls, tool: str, arguments: Mapping[str, Json], call_id: str = "", **rest: Any) -> Self:
        """A call from live arguments, frozen here. Raises `ArgumentsError`."""
        return cls(tool=tool, args=freeze(dict(arguments)), call_id=call_id, **rest)

    @property
    def arguments(self) -> dict[str, Json]:
        """A fresh copy of the arguments, parsed from the frozen bytes."""
        parsed = thaw(self.args)
        if not isinstance(parsed, dict):
            raise ArgumentsError("arguments are not a JSON object")
        return parsed

    @property
    def args_sha256(self) -> str:
        """Hex SHA-256 of the frozen bytes."""
        return sha256(self.args)

    @property
    def fingerprint(self) -> str:
        """Equal for identical requests: same tenant, agent, requester, tool and arguments."""
        parts = [self.tenant, self.agent, self.requester, self.tool, self.args_sha256]
        return sha256(freeze(parts))

    def with_args(self, args: bytes) -> Self:
        """The same call with other frozen arguments."""
        return replace(self, args=args)
