"""Bytes that somebody hopes we load: payloads, what watches while they are loaded, and what may come out."""

import json
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MARKER = "hostile_module_4711"
"""A module of this name is what payloads want imported; nobody has it."""

DEEP = 10_000
LARGE = 50 * 2**20
PLACE = "\u0001place\u0001"


class _Reduced:
    def __reduce__(self) -> Any:
        return (__import__, (MARKER,))


def _lc(kind: str, id: list[str], **kwargs: Any) -> str:
    return json.dumps({"lc": 1, "type": kind, "id": id, "kwargs": kwargs})


VALUES: dict[str, str] = {
    # constructors by name
    "lc constructor": _lc("constructor", ["langchain_core", "messages", "HumanMessage"], content="x"),
    "lc constructor of a foreign module": _lc("constructor", [MARKER, "Evil"], command="id"),
    "lc secret": json.dumps({"lc": 1, "type": "secret", "id": ["PATH"]}),
    "lc not implemented": _lc("not_implemented", ["builtins", "eval"]),
    "lc in a mark": json.dumps({"!": ["message", "HumanMessage", {"content": "x", "lc": 2, "type": "constructor"}]}),
    "__type__": json.dumps({"__type__": "pathlib.Path", "value": "/etc/passwd"}),
    "__class__": json.dumps({"__class__": f"{MARKER}.Evil", "__init__": {"a": 1}}),
    "__reduce__": json.dumps({"__reduce__": [f"{MARKER}.run", ["id"]]}),
    "__module__": json.dumps({"__module__": MARKER, "__name__": "run"}),
    "py/object": json.dumps({"py/object": f"{MARKER}.Evil", "py/reduce": [{"py/function": "os.system"}, ["id"]]}),
    "$type": json.dumps({"$type": f"{MARKER}.Evil, {MARKER}", "x": 1}),
    "@type": json.dumps({"@type": f"{MARKER}.Evil"}),
    "__import__": json.dumps(f"__import__('{MARKER}')"),
    "__proto__": json.dumps({"__proto__": {"admin": True}, "constructor": {"prototype": {}}}),
    "template": json.dumps("{{ ''.__class__.__mro__[1].__subclasses__() }} ${7*7} {0.__globals__}"),
    "msgpack ext as a list": json.dumps(["ExtType", 5, "hostile"]),
    # marks of our own form
    "unknown mark": json.dumps({"!": ["object", f"{MARKER}.Evil", {}]}),
    "mark of a type": json.dumps({"!": ["type", f"{MARKER}.Evil", {"a": 1}]}),
    "mark of an enum": json.dumps({"!": ["enum", "RunState", "queued"]}),
    "mark of a message class": json.dumps({"!": ["message", "BaseMessage", {"content": "x"}]}),
    "mark of a message with a mark": json.dumps({"!": ["message", {"!": ["tuple", []]}, {}]}),
    "mark of a message with strange fields": json.dumps({"!": ["message", "AIMessage", {"tool_calls": 7}]}),
    "mark with two keys": json.dumps({"!": ["tuple", []], "x": 1}),
    "mark without a list": json.dumps({"!": "tuple"}),
    "empty mark": json.dumps({"!": []}),
    "mark of a set of lists": json.dumps({"!": ["set", [[1], [2]]]}),
    "mark of a dict by lists": json.dumps({"!": ["dict", [[[1], 2]]]}),
    "mark of a decimal": json.dumps({"!": ["decimal", "1e999999999"]}),
    "mark of a date": json.dumps({"!": ["datetime", "9999999-01-01"]}),
    "mark of a timedelta": json.dumps({"!": ["timedelta", [1e308, 1e308, 0]]}),
    "mark of bytes": json.dumps({"!": ["bytes", "zz"]}),
    "mark of an error": json.dumps({"!": ["error", "SystemExit", "x"]}),
    "mark of a command": json.dumps({"!": ["command", None, {"!": ["send", "x", None]}, None, "__end__"]}),
    # numbers
    "5,000 digits": "9" * 5000,
    "5,000 digits, negative": "-" + "9" * 5000,
    "5,000 decimals": "0." + "1" * 5000,
    "huge exponent": "1e400",
    "tiny exponent": "1e-400",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "more than 64 bits": str(2**64),
    "negative": "-1",
    "minus zero": "-0.0",
    # texts
    "lone surrogate": '"\\ud800"',
    "lone surrogate as a key": '{"\\udfff": 1}',
    "null character": '"\\u0000"',
    "right to left": '"\\u202eevil"',
    "empty text": '""',
    "a text of a path": '"../../../../etc/passwd"',
    # shapes
    "null": "null",
    "true": "true",
    "false": "false",
    "zero": "0",
    "fraction": "0.5",
    "empty list": "[]",
    "empty object": "{}",
    "list of null": "[null]",
    "list of lists": "[[], [[]]]",
    "object of objects": '{"a": {"b": {"c": {}}}}',
    "duplicate keys": '{"a": 1, "a": 2}',
    "duplicate keys, escaped": '{"a": 1, "\\u0061": 2}',
    "nested lists": "[" * DEEP + "]" * DEEP,
    "nested objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "nested marks": '{"!": ["tuple", [' * DEEP + "]]}" * DEEP,
    "huge list": "[" + "0," * 100_000 + "0]",
    "huge object": "{" + ",".join(f'"k{at}":0' for at in range(50_000)) + "}",
}
"""JSON values (some only nearly so), to stand alone or in the place of any field of a document."""

BYTES: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n\t ",
    "one byte": b"{",
    "not UTF-8": b"\xff\xfe{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-8 with a mark": b"\xef\xbb\xbf{}",
    "encoded surrogate": b'"\xed\xa0\x80"',
    "two documents": b"{} {}",
    "a comment": b"// x\n{}",
    "trailing comma": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "pickle": pickle.dumps(_Reduced()),
    "pickle, protocol 0": pickle.dumps(_Reduced(), protocol=0),
    "msgpack ext": b"\xc7\x05\x05hostx",
    "msgpack ext 0": b"\xd6\x00" + MARKER.encode()[:4],
    "marshal": b"\xe3\x00\x00\x00\x00\x00\x00\x00",
    "yaml tag": f"!!python/object/apply:{MARKER}.run ['id']\n".encode(),
    "yaml tag in a mapping": f"version: 1\nrules: !!python/object/new:{MARKER}.Evil {{}}\n".encode(),
    "yaml tag of a module": f"version: !!python/module:{MARKER}\n".encode(),
    "yaml alias bomb": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + at, 98 + at, b",".join([b"*%c" % (97 + at)] * 9)) for at in range(12)),
    "yaml loop": b"version: 1\nrules: &a [*a]\n",
    "yaml merge": b"<<: {version: 1}\n",
    "sealed without a key": b"ga-sealed-1:00000000" + b"x" * 64,
    "refused by its store": b"ga-sealed-1:!\xff\x00because",
    "zip": b"PK\x03\x04" + b"\x00" * 64,
    "gzip": b"\x1f\x8b\x08" + b"\x00" * 64,
    "ELF": b"\x7fELF" + b"\x00" * 64,
    "50 MB of text": b'"' + b"x" * LARGE + b'"',
    "5 MB of white space": b" " * (LARGE // 10) + b"1",
    "5 MB of brackets": b"[" * (LARGE // 10),
}
"""Bytes that are no document at all."""


def places(document: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every value inside a document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, item in items:
        yield (*way, key)
        yield from places(item, (*way, key))


def put(document: Any, way: tuple[Any, ...], raw: str) -> bytes:
    """The document's JSON with this text, JSON or not, in the place of one value."""
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = PLACE
    return json.dumps(copy, separators=(",", ":")).replace(json.dumps(PLACE), raw).encode("utf-8", "surrogatepass")


def broken(document: Any) -> Iterator[tuple[str, bytes]]:
    """The document cut off, and with fields more, fewer, or twice."""
    text = json.dumps(document, separators=(",", ":")).encode()
    for at in range(0, len(text), max(1, len(text) // 40)):
        yield f"cut off at {at}", text[:at]
    for way in places(document):
        if isinstance(way[-1], str):
            copy = json.loads(text)
            inner = copy
            for key in way[:-1]:
                inner = inner[key]
            del inner[way[-1]]
            yield f"without {way}", json.dumps(copy, separators=(",", ":")).encode()
            inner[f"{way[-1]}_unknown"] = 1
            yield f"an unknown field beside {way}", json.dumps(copy, separators=(",", ":")).encode()


class Watch:
    """What code does that nothing here may do while it reads: import, compile, execute, start, connect."""

    FORBIDDEN = (
        "import",
        "compile",
        "exec",
        "os.system",
        "os.exec",
        "subprocess.Popen",
        "socket.connect",
        "pickle.find_class",
    )

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._on and event in self.FORBIDDEN:
            self.seen.append(f"{event} {str(arguments[:1])[:200]}")

    @contextmanager
    def on(self) -> Iterator[None]:
        """Listen inside the block."""
        self._on = True
        try:
            yield
        finally:
            self._on = False


def kinds(value: Any, look: Callable[[Any], bool], most: int = 100_000) -> set[str]:
    """The classes of everything reachable from a value for which ``look`` says no."""
    found: set[str] = set()
    waiting, known = [value], set[int]()
    while waiting and len(known) < most:
        each = waiting.pop()
        if id(each) in known:
            continue
        known.add(id(each))
        if not look(each):
            found.add(f"{type(each).__module__}.{type(each).__qualname__}")
        if isinstance(each, dict):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += each
        elif hasattr(each, "__dict__") and not isinstance(each, type):
            waiting += vars(each).values()
        elif hasattr(type(each), "__slots__"):
            waiting += [getattr(each, name) for name in type(each).__slots__ if hasattr(each, name)]
    return found
