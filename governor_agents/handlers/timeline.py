"""The audit trail of a run, told for people: who asked, what exactly, who decided, what ran.

`tell` joins the events with the calls they speak of. `to_text` and `to_mermaid` need no library, `to_table` needs rich.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from governor_agents.core.calls import freeze
from governor_agents.core.records import Call
from governor_agents.handlers.message import visible, visible_json, when

if TYPE_CHECKING:
    from rich.table import Table

_NAME = re.compile(r"[^A-Za-z0-9 _.,/()=@+-]")
_SAID = re.compile(r"""[^A-Za-z0-9 _.,/()=@+:"'{}\[\]-]""")
"""What Mermaid could take for its own syntax: in a name, and in what is said after a colon."""

_ARROWS = {
    "asked": "A->>G",
    "allowed": "A->>G",
    "denied": "A->>G",
    "executing": "G->>T",
    "succeeded": "T-->>G",
    "failed": "T-->>G",
}
_TOLD = frozenset({"seq", "at", "what", "run", "n", "tool", "by", "prev", "mac"})
_OF_RUNS = {"answered": "what its models answered is kept, for a replay after a crash"}
_WORDS = {
    "asked": "needs a decision",
    "asked_again": "needs a new decision: the policy demands more now",
    "denied": "denied by policy",
    "allowed": "allowed by policy",
    "voted": "a vote; more are needed",
    "answered": "answered in the tool's place",
    "executing": "starts to run",
    "retry": "its worker died; will be tried again",
    "reconciling": "its worker died; a probe asks what happened",
    "unknown": "in doubt: it may have happened",
    "succeeded": "ran",
    "quarantined": "from an old copy of the store: a person must speak on it anew",
    "escalated": "nobody answered: the next stage is asked",
    "resolved": "an operator settled the doubt",
    "late_exception": "failed late; that proves nothing",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One event, in visible text. ``call`` is ``#n tool`` or empty, ``args`` the canonical JSON that it is about."""

    seq: int
    at: str
    what: str
    words: str
    by: str
    call: str
    args: str
    details: tuple[str, ...]


def tell(events: Iterable[Mapping[str, Any]], calls: Sequence[Call] = ()) -> list[Line]:
    """The events in order, each with the arguments that it is about."""
    by_number = {call.n: call for call in calls}
    return [_line(event, by_number.get(event.get("n", 0))) for event in events]


def _line(event: Mapping[str, Any], call: Call | None) -> Line:
    what = str(event["what"])
    kind, _, name = what.partition(".")
    tool, n = event.get("tool", ""), event.get("n")
    details = tuple(f"{visible(key)}: {_value(value)}" for key, value in event.items() if key not in _TOLD)
    return Line(
        seq=int(event["seq"]),
        at=when(float(event["at"])),
        what=visible(what),
        words=_words(kind, name),
        by=visible(str(event.get("by", ""))),
        call="" if n is None else visible(f"#{n} {tool or (call.tool if call else '')}".rstrip()),
        args="" if call is None else _spoken_of(name, event, call),
        details=details,
    )


def _words(kind: str, name: str) -> str:
    if kind == "notice":
        return f"notice {visible(name)}"
    known = _OF_RUNS.get(name) if kind == "run" else None
    return known or _WORDS.get(name) or visible(name.replace("_", " "))


def _value(value: Any) -> str:
    return visible(value if isinstance(value, str) else freeze(value).decode())


def _spoken_of(name: str, event: Mapping[str, Any], call: Call) -> str:
    """The bytes this event is about: what the model asked for, or, when the digest says so, what stands now."""
    if name in ("asked", "allowed", "denied"):
        asked = call.asked_args if call.asked_args is not None else call.args
        return visible_json(asked.decode("utf-8", "backslashreplace"))
    if name in ("edited", "executing", "approved") and event.get("digest") == call.digest:
        return visible_json(call.args.decode("utf-8", "backslashreplace"))
    return ""


def to_text(lines: Sequence[Line]) -> str:
    """One block per event, nothing shortened."""
    out = []
    for line in lines:
        head = (f"{line.seq:>3}  {line.at}  {line.what:<20}", line.call, line.by and f"by {line.by}")
        out.append("  ".join(filter(None, head)).rstrip())
        if line.args:
            out.append(f"       arguments: {line.args}")
        if line.details:
            out.append("       " + "; ".join(line.details))
    return "\n".join(out) + "\n"


TECHNICAL = (
    "args_sha256",
    "attempt",
    "call_id",
    "code",
    "digest",
    "fence",
    "generation",
    "late",
    "snapshot",
    "version",
)
"""Details that a first look can do without."""


def to_table(lines: Sequence[Line], title: str = "", *, brief: bool = False) -> Table:
    """The same as a rich table, readable from 60 columns on. Cells fold; nothing is cut off.

    ``brief`` leaves out the `TECHNICAL` details, never an argument, a name or a reason.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("time (UTC)", no_wrap=True, style="dim")
    table.add_column("what happened", overflow="fold")
    for line in lines:
        told = Text(f"{line.call} " if line.call else f"{line.what.partition('.')[0]} ")
        told.append(line.words, style=_style(line.what))
        told.append(f" by {line.by}" if line.by else "")
        told.append(f"\n{line.args}" if line.args else "", style="bold")
        details = [text for text in line.details if not (brief and text.partition(":")[0] in TECHNICAL)]
        told.append("\n" + "; ".join(details) if details else "", style="dim")
        table.add_row(Text(line.at.removesuffix(" UTC")), told)
    return table


def _style(what: str) -> str:
    name = what.partition(".")[2]
    if name in ("asked", "asked_again", "waiting"):
        return "yellow"
    if name in ("approved", "succeeded", "completed"):
        return "green"
    return "red" if name in ("rejected", "denied", "failed", "expired", "unknown", "blocked", "dead") else ""


def to_mermaid(lines: Sequence[Line]) -> str:
    """A sequence diagram: agent, governor, tools and the people who spoke."""
    people: dict[str, str] = {}
    for line in lines:
        if line.what.startswith("call.") and line.by:
            people.setdefault(line.by, f"P{len(people) + 1}")
    roles = [("A", "agent"), ("G", "governor"), *((short, who) for who, short in people.items()), ("T", "tools")]
    head = [f"    participant {short} as {_mermaid(name, _NAME)}" for short, name in roles]
    return "\n".join(["sequenceDiagram", *head, *(f"    {_step(line, people)}" for line in lines)]) + "\n"


def _step(line: Line, people: Mapping[str, str]) -> str:
    kind, _, name = line.what.partition(".")
    said = _mermaid(" ".join(filter(None, (line.call or kind, line.words, line.args))), _SAID)
    if kind == "call" and line.by:
        return f"{people[line.by]}->>G: {said}"
    if kind == "call" and name in _ARROWS:
        return f"{_ARROWS[name]}: {said}"
    return f"Note over G: {said}" + (_mermaid(f" by {line.by}", _SAID) if line.by else "")


def _mermaid(text: str, unsafe: re.Pattern[str]) -> str:
    """Mermaid has its own entities: a number sign, the code point, a semicolon."""
    return unsafe.sub(lambda found: f"#{ord(found[0])};", text)
