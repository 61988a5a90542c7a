"""What Slack sends, read within limits: a form with one JSON text, or a JSON text, checked before anything is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from governor_agents.core.calls import Json, thaw
from governor_agents.errors import ArgumentsError

MAX_BODY = 512 * 1024
"""Bytes of a request. The largest that Slack sends holds a modal, which has room for 250 KB."""

MAX_DEPTH = 40

Payload = Mapping[str, Any]


class Refused(Exception):
    """A request that does not count: an HTTP status, a stable code, and one line for whoever asked (or nothing)."""

    def __init__(self, status: int, code: str, text: str = "", *, noted: bool = False) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.text = text
        self.noted = noted


def malformed(why: str) -> Refused:
    """What is not what Slack would send; ``why`` is for programmers and holds no word of the request."""
    return Refused(422, "malformed", why)


def parse(content_type: str, body: bytes) -> Payload:
    """The payload of a request, whose signature was checked. Raises `Refused` (422)."""
    if content_type.partition(";")[0].strip().lower() == "application/json":
        return _object(body)
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=8
        )
    except ValueError:
        raise malformed("the body is no form") from None
    texts = [text for name, text in pairs if name == "payload"]
    if len(texts) != 1:
        raise malformed("a form has one payload")
    return _object(texts[0])


def _object(text: bytes | str) -> Payload:
    try:
        found = thaw(text)
    except ArgumentsError:
        raise malformed("the payload is no JSON of its own: not UTF-8, not JSON, or a key stands twice") from None
    if not isinstance(found, dict) or _deeper(found, MAX_DEPTH):
        raise malformed("the payload is no object, or nested too deep")
    return found


def _deeper(value: Json, than: int) -> bool:
    level = [value]
    for _ in range(than):
        level = [item for each in level if isinstance(each, dict | list) for item in _items(each)]
        if not level:
            return False
    return True


def _items(value: Json) -> list[Json]:
    return list(value.values()) if isinstance(value, dict) else value


def text_at(payload: Json, *path: str | int) -> str:
    """The text at this path, empty when there is none."""
    found = at(payload, *path)
    return found if isinstance(found, str) else ""


def at(payload: Json, *path: str | int) -> Json:
    """What stands at this path, None when there is nothing."""
    for key in path:
        if isinstance(payload, dict) and isinstance(key, str):
            payload = payload.get(key)
        elif isinstance(payload, list) and isinstance(key, int) and -len(payload) <= key < len(payload):
            payload = payload[key]
        else:
            return None
    return payload


@dataclass(frozen=True, slots=True)
class Answer:
    """What Slack is answered: a status, a JSON body (None for an empty one), and what is left to do after it was sent.

    ``refused`` is the code of the reason when the request did not count.
    """

    status: int = 200
    body: Json = None
    after: Callable[[], Any] | None = None
    refused: str = ""
