"""Files that arguments name, hashed: what people approve is then the content, and not only the path.

A tool declares which of its arguments are paths (``operands: [path]``): a text, or a list of texts, relative ones from
the directory of the process. Each file is hashed when the call is frozen, shown to people, bound into the digest, and
hashed again right before the intent: another content, or none, and the call is not run. Regular files only, symbolic
links are followed, all files of a call together up to `MAX_BYTES`. The tool opens the file by itself, a moment
later: whoever can change it in that moment can still change what is read.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator

from governor_agents.core.calls import Json, Operand, Tool, ToolCall
from governor_agents.core.records import evolve
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import ArgumentsError, OperandError

MAX_BYTES = 268_435_456
"""The files of one call may have this many bytes together."""

_CHUNK = 1_048_576
_GONE = Operand("", -1, "")
"""Stands for files that cannot be hashed now; equal to nothing that was ever approved."""


def bound(call: ToolCall, tool: Tool, verdict: Verdict) -> tuple[ToolCall, Verdict]:
    """The call with the files it names, and what is said of it: denied when one of them cannot be hashed."""
    if verdict.outcome == "deny" or not (tool.operands or call.operands):
        return call, verdict
    try:
        return evolve(call, operands=hashed(call, tool)), verdict
    except (OperandError, ArgumentsError) as error:
        return call, Verdict("deny", verdict.policy, verdict.version, "operand_unreadable", str(error))


def standing(call: ToolCall, tool: Tool) -> tuple[Operand, ...]:
    """The files a stored call names, as they are now. Never raises, and never gives for a loss what was approved."""
    if not (tool.operands or call.operands):
        return ()
    try:
        return hashed(call, tool)
    except (OperandError, ArgumentsError):
        return (_GONE,)


def hashed(call: ToolCall, tool: Tool) -> tuple[Operand, ...]:
    """Every file that the arguments name: those the tool declares, and those the call was bound to before.

    Raises `OperandError`, `ArgumentsError`.
    """
    arguments, left = call.arguments, MAX_BYTES
    found: list[Operand] = []
    for name in dict.fromkeys((*tool.operands, *(file.name for file in call.operands))):
        for path in paths(name, arguments):
            file = _hash(name, path, left)
            left -= file.size
            found.append(file)
    return tuple(found)


def changed(before: ToolCall, after: ToolCall) -> tuple[str, ...]:
    """The files that both calls name and that have another content in the second: each as argument and path."""
    old = dict(_bound_to(before))
    return tuple(f"{name} = {path}" for (name, path), file in _bound_to(after) if old.get((name, path), file) != file)


def _bound_to(call: ToolCall) -> Iterator[tuple[tuple[str, str], Operand]]:
    """Argument and path of each file that a call was bound to."""
    arguments = call.arguments if call.operands else {}
    for name in dict.fromkeys(file.name for file in call.operands):
        files = (file for file in call.operands if file.name == name)
        yield from (((name, path), file) for path, file in zip(paths(name, arguments), files, strict=False))


def paths(name: str, arguments: dict[str, Json]) -> Iterator[str]:
    """The paths under an argument. Raises `OperandError` when it is missing or not made of texts."""
    given = arguments.get(name)
    for path in given if isinstance(given, list) else [given]:
        if not isinstance(path, str) or not path or "\0" in path:
            what = "is missing" if name not in arguments else "is not a path"
            raise OperandError(f"the argument {name!r} must name a file, and {what}")
        yield path


def _hash(name: str, path: str, left: int) -> Operand:
    digest, size = hashlib.sha256(), 0
    try:
        # Not blocking: opening a pipe would wait for its other end.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise OperandError(f"{name}: {path} is not a regular file")
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if size > left:
                    raise OperandError(f"{name}: {path} and the files before it have more than {MAX_BYTES} bytes")
            after = os.fstat(file.fileno())
    except (OSError, ValueError) as error:
        raise OperandError(f"{name}: {path}: {getattr(error, 'strerror', None) or error}") from None
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise OperandError(f"{name}: {path} changed while it was read")
    return Operand(name, size, digest.hexdigest())
