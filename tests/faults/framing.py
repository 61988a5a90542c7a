"""Just enough of two wire protocols to tell requests from one another and to find the reply that belongs to each."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

import bson


@dataclass(frozen=True, slots=True)
class Message:
    """One request or reply, as it went over the wire. ``id`` pairs them; None for a reply that nobody asked for."""

    raw: bytes
    id: int | None
    name: str = ""


class Framing(Protocol):
    """The two directions of one connection, cut into messages. Bytes of an unfinished message are kept."""

    def requests(self, data: bytes) -> list[Message]: ...

    def replies(self, data: bytes) -> list[Message]: ...


class Resp:
    """Redis, RESP2 and RESP3: the n-th reply answers the n-th request. A connection that subscribes is passed through."""

    def __init__(self) -> None:
        self._asked, self._told = b"", b""
        self._requests, self._replies = 0, 0
        self._through = False

    def requests(self, data: bytes) -> list[Message]:
        self._asked += data
        found, at = [], 0
        while not self._through and (end := _end(self._asked, at)) is not None:
            self._requests += 1
            raw = self._asked[at:end]
            name = raw.split(b"\r\n", 3)[2].decode().upper()
            self._through = name.endswith("SUBSCRIBE")
            found.append(Message(raw, self._requests, name))
            at = end
        self._asked = self._asked[at:]
        if self._through and self._asked:
            found.append(Message(self._asked, None))
            self._asked = b""
        return found

    def replies(self, data: bytes) -> list[Message]:
        if self._through:
            return [Message(data, None)]
        self._told += data
        found, at = [], 0
        while (end := _end(self._told, at)) is not None:
            push = self._told[at : at + 1] == b">"
            self._replies += not push
            found.append(Message(self._told[at:end], None if push else self._replies))
            at = end
        self._told = self._told[at:]
        return found


def _end(data: bytes, at: int) -> int | None:
    """Where the value that begins here ends; None when its end has not come yet."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return None
    kind, after = data[at : at + 1], line + 2
    if kind in b"$=!":
        length = int(data[at + 1 : line])
        end = after + length + 2 if length >= 0 else after
        return end if end <= len(data) else None
    if kind not in b"*%~>|":
        return after
    values = max(0, int(data[at + 1 : line])) * (2 if kind in b"%|" else 1) + (kind == b"|")
    place: int | None = after
    for _ in range(values):
        place = _end(data, place) if place is not None and place < len(data) else None
    return place


class Mongo:
    """MongoDB's wire protocol: a reply names the request that it answers. A request is called as its command is."""

    def __init__(self) -> None:
        self._asked, self._told = b"", b""

    def requests(self, data: bytes) -> list[Message]:
        whole, self._asked = _documents(self._asked + data)
        return [Message(raw, _header(raw)[1], _command(raw)) for raw in whole]

    def replies(self, data: bytes) -> list[Message]:
        whole, self._told = _documents(self._told + data)
        return [Message(raw, _header(raw)[2]) for raw in whole]


_OP_MSG = 2013


def _header(raw: bytes) -> tuple[int, int, int, int]:
    """Length, request id, id of the request that is answered, kind."""
    return struct.unpack_from("<iiii", raw)


def _documents(data: bytes) -> tuple[list[bytes], bytes]:
    found, at = [], 0
    while len(data) - at >= 16 and len(data) - at >= (length := _header(data[at:])[0]):
        found.append(data[at : at + length])
        at += length
    return found, data[at:]


def _command(raw: bytes) -> str:
    """The name of an OP_MSG's command: the first key of its body."""
    if _header(raw)[3] != _OP_MSG or raw[20] != 0:
        return ""
    (length,) = struct.unpack_from("<i", raw, 21)
    return next(iter(bson.decode(raw[21 : 21 + length])))
