"""Conditions of rules: CEL expressions over a call, compiled once, bounded, and closed when in doubt.

An expression sees ``call.args``, ``call.tool``, ``call.agent``, ``call.requester`` (in its one form, see `person_id`),
``call.conversation``, ``call.tenant`` and ``tool.read_only``, ``tool.effect``, ``tool.retry``, ``tool.risk``. Names
that are not there are refused when the expression is compiled.

What the engine decides: integers and floats compare and equal across kinds (``50 <= 50.0``; an integer beyond 2^53 is
rounded for that), but do not add (``x + 1`` fails for a float; write ``double(x) + 1.0``). Values of different types
are unequal without an error (``"50" == 50`` is false), ordering them is an error. ``has(call.args.x)`` is true for
null. ``&&`` and ``||`` let a side decide that needs no error. ``size`` of a text counts UTF-8 bytes. Regular
expressions take linear time.

What is closed here: integers from 2^63 up (the engine would round them to floats), missing keys, results that are not
booleans, arguments that are too large or would make the expression take longer than `MAX_MICROSECONDS`. The engine
has no limit of time of its own, so the time is estimated before it starts.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from governor_agents.core.calls import MAX_DEPTH, Json, Tool, ToolCall
from governor_agents.core.ports import Directory
from governor_agents.errors import ConfigError
from governor_agents.policies.expressions import Shape, Size, inspect, tokens
from governor_agents.policies.values import expression, one_line, person_id

if TYPE_CHECKING:
    import cel

MAX_EXPRESSION = 2_000
"""Longest expression, in characters."""

MAX_ARGS = 1_048_576
"""Most bytes of arguments that a condition looks at."""

MAX_VALUES = 20_000
"""Most values and keys, counted through all lists and objects, that a condition looks at."""

MAX_MICROSECONDS = 500_000.0
"""Longest time that a condition may take by estimate; what it takes is mostly a tenth of that."""

_MAX_INT = 2**63 - 1
"""The engine's largest integer; the smallest is left out too, since negating it wraps around."""


class ConditionFailed(Exception):
    """A condition could not be decided; the message says why, in one line."""


@functools.cache
def _engine() -> Any:
    """The engine's extension module. Its package imports a whole terminal interface (0.5 s), which we do not need."""
    if "cel" not in sys.modules:
        package = importlib.util.find_spec("cel")
        places = package.submodule_search_locations if package else None
        found = importlib.machinery.PathFinder.find_spec("cel.cel", places)
        if found is not None and found.loader is not None:
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
            # Whoever imports the package later gets this same module; an extension is not to be loaded twice.
            return sys.modules.setdefault("cel.cel", module)
    return importlib.import_module("cel")


class _Measure:
    """Walks arguments once: refuses what the engine would get wrong, counts what its run time depends on."""

    __slots__ = ("longest", "values")

    def __init__(self) -> None:
        self.values = self.longest = 0

    def walk(self, value: Json, depth: int = 0) -> None:
        self.values += 1
        if isinstance(value, (dict, list)):
            self._walk_all(value, depth)
        elif isinstance(value, int) and not -_MAX_INT <= value <= _MAX_INT:
            raise ConditionFailed("the arguments hold an integer beyond 64 bits, which cannot be compared exactly")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ConditionFailed("the arguments hold a number that is not finite")

    def _walk_all(self, value: dict[str, Json] | list[Json], depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise ConditionFailed(f"the arguments are nested deeper than {MAX_DEPTH} levels")
        self.longest = max(self.longest, len(value))
        items = value
        if isinstance(value, dict):
            self.values += len(value)
            items = list(value.values())
        if self.values + len(items) > MAX_VALUES:
            raise ConditionFailed(f"the arguments hold more than {MAX_VALUES} values")
        for item in items:
            self.walk(item, depth + 1)


def _arguments(call: ToolCall) -> tuple[dict[str, Json], Size]:
    """The arguments with their size. Raises `ConditionFailed` when conditions cannot look at them."""
    if len(call.args) > MAX_ARGS:
        raise ConditionFailed(f"the arguments are longer than {MAX_ARGS} bytes")
    args = call.arguments
    measure = _Measure()
    measure.walk(args)
    return args, Size(measure.values, len(call.args), measure.longest)


class Facts:
    """What conditions see of one call, converted when a condition needs it and shared by those that read the same."""

    __slots__ = ("_directory", "_seen", "call", "tool")

    def __init__(self, call: ToolCall, tool: Tool, directory: Directory | None = None) -> None:
        self.call = call
        self.tool = tool
        self._directory = directory
        self._seen: dict[frozenset[str], tuple[cel.Context, Size]] = {}

    def asked_by(self, fits: Callable[[str], object]) -> bool:
        """Whether whoever asked has a name that fits: the one given, or another that the directory knows.

        Raises `DirectoryUnreadable`.
        """
        given = person_id(self.call.requester)
        if fits(given) or self._directory is None:
            return bool(fits(given))
        person = self._directory.person(given)
        return person is not None and any(map(fits, person.names))

    def view(self, reads: frozenset[str]) -> tuple[cel.Context, Size]:
        """The engine's view of what a condition reads, and its size. Raises `ConditionFailed`."""
        found = self._seen.get(reads)
        if found is None:
            found = self._seen[reads] = self._convert(reads)
        return found

    def _convert(self, reads: frozenset[str]) -> tuple[cel.Context, Size]:
        size = Size()
        variables: dict[str, dict[str, Json]] = {"call": {}, "tool": {}}
        for read in reads:
            whole, _, member = read.partition(".")
            if read == "call.args":
                variables[whole][member], size = _arguments(self.call)
            elif read == "call.requester":
                variables[whole][member] = person_id(self.call.requester)
            else:
                variables[whole][member] = getattr(self.call if whole == "call" else self.tool, member)
        return _engine().Context(variables=variables), size


def _compile(source: str) -> tuple[cel.Program, Shape]:
    if len(source) > MAX_EXPRESSION:
        raise ConfigError(f"a condition has at most {MAX_EXPRESSION} characters")
    try:
        program = _engine().compile(source)
        references = program.references()
    except ImportError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ConfigError(f"not a valid CEL expression: {_syntax(str(error), source)}") from None
    return program, inspect(source, references["variables"], references["functions"])


_MENDS = {"and": "&&", "or": "||", "not": "!", "=": "==", "True": "true", "False": "false", "None": "null"}
"""What people write who think of another language."""


def _syntax(message: str, source: str) -> str:
    """The engine's first complaint: where, and what it met. Its later ones mostly follow from the first."""
    if "ERROR: <input>:" not in message:
        return one_line(message)
    place, _, what = message.split("ERROR: <input>:", 1)[1].split("\n", 1)[0].partition(": ")
    line, _, column = place.partition(":")
    what = what.removeprefix("Syntax error: ").split(" expecting ")[0]
    at = f"column {column}" if line == "1" else f"line {line}, column {column} of it"
    wrong = next((word for word in tokens(source) if word in _MENDS), None)
    mend = f"write {_MENDS[wrong]} for {wrong}" if wrong else "write for example call.args.amount <= 50"
    return one_line(f"{what} at {at}; {mend}")


def _why(error: BaseException) -> str:
    """One line on an error of the engine."""
    if isinstance(error, KeyError):
        return one_line(f"there is no key {error}")
    return one_line(str(error).split(". ", 1)[0] or type(error).__name__)


@functools.lru_cache(maxsize=1_024)
def compiled(text: str) -> Condition:
    """The condition of this text, compiled once. Raises `ConfigError`."""
    return Condition(text)


class Condition:
    """A compiled CEL expression. Raises `ConfigError` when the text cannot be one.

    Immutable and usable from any thread.
    """

    __slots__ = ("_program", "_shape", "text")

    def __init__(self, text: str) -> None:
        self.text = expression(text)
        self._program, self._shape = _compile(text)

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"

    def holds(self, facts: Facts) -> bool:
        """Whether the condition is true of the call. Raises `ConditionFailed` and nothing else."""
        try:
            context, size = facts.view(self._shape.reads)
            if self._shape.microseconds(size) > MAX_MICROSECONDS:
                raise ConditionFailed("the arguments are too large for this condition")
            result = self._program.execute(context)
        except ConditionFailed:
            raise
        except BaseException as error:
            # A panic of the engine is a BaseException, and it too must not let a call through.
            if isinstance(error, KeyboardInterrupt):
                raise
            raise ConditionFailed(_why(error)) from None
        if result is True or result is False:
            return bool(result)
        raise ConditionFailed(f"the result is a {type(result).__name__}, not true or false")
