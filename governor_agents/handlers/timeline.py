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
from governor_agents.handlers.message import visible, when

if TYPE_CHECKING:
    from rich.table import Table

_PLAIN = re.compile(r"[^A-Za-z0-9 _.,/()=@+-]")
_TOLD = frozenset({"seq", "at", "what", "run", "n", "tool", "by", "prev"})
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
    _, _, name = what.partition(".")
    tool, n = event.get("tool", ""), event.get("n")
    details = tuple(f"{visible(key)}: {_value(value)}" for key, value in event.items() if key not in _TOLD)
    return Line(
        seq=int(event["seq"]),
        at=when(float(event["at"])),
        what=visible(what),
        words=_WORDS.get(name, visible(name.replace("_", " "))),
        by=visible(str(event.get("by", ""))),
        call="" if n is None else visible(f"#{n} {tool or (call.tool if call else '')}".rstrip()),
        args="" if call is None else _spoken_of(name, event, call),
        details=details,
    )


def _value(value: Any) -> str:
    return visible(value if isinstance(value, str) else freeze(value).decode())


def _spoken_of(name: str, event: Mapping[str, Any], call: Call) -> str:
    """The bytes this event is about: what the model asked for, or, when the digest says so, what stands now."""
    if name in ("asked", "allowed", "denied"):
        asked = call.asked_args if call.asked_args is not None else call.args
        return visible(asked.decode("utf-8", "backslashreplace"))
    if name in ("edited", "executing", "approved") and event.get("digest") == call.digest:
        return visible(call.args.decode("utf-8", "backslashreplace"))
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


def to_table(lines: Sequence[Line], title: str = "") -> Table:
    """The same as a rich table. Cells fold; nothing is cut off."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("time", no_wrap=True, style="dim")
    table.add_column("event", overflow="fold", min_width=10)
    table.add_column("call", overflow="fold", min_width=6)
    table.add_column("by", overflow="fold", min_width=8)
    table.add_column("what exactly", overflow="fold", ratio=1)
    for line in lines:
        exactly = Text(line.args)
        if line.details:
            exactly.append(("\n" if line.args else "") + "; ".join(line.details), style="dim")
        style = _style(line.what)
        table.add_row(Text(line.at), Text(line.words, style=style), Text(line.call), Text(line.by), exactly)
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
    steps = []
    for line in lines:
        if line.what.startswith("call.") and line.by and line.by not in people:
            people[line.by] = f"P{len(people) + 1}"
        steps.append(_step(line, people))
    roles = [("A", "agent"), ("G", "governor"), *((short, who) for who, short in people.items()), ("T", "tools")]
    head = ["sequenceDiagram", *(f"    participant {short} as {_mermaid(name)}" for short, name in roles)]
    return "\n".join([*head, *(f"    {step}" for step in steps)]) + "\n"


def _step(line: Line, people: Mapping[str, str]) -> str:
    _, _, name = line.what.partition(".")
    said = " ".join(filter(None, (line.call, line.words, line.args)))
    if line.what.startswith("call."):
        arrow = "A->>G" if name in ("asked", "allowed", "denied") else ""
        arrow = arrow or {"executing": "G->>T", "succeeded": "T-->>G", "failed": "T-->>G"}.get(name, "")
        arrow = f"{people[line.by]}->>G" if line.by else arrow
        if arrow:
            return f"{arrow}: {_mermaid(said)}"
    by = f" by {line.by}" if line.by else ""
    subject = "run " if line.what.startswith("run.") else "notice " if line.what.startswith("notice.") else ""
    return f"Note over G: {_mermaid(f'{subject}{said}{by}')}"


def _mermaid(text: str) -> str:
    """Mermaid has its own entities: a number sign, the code point, a semicolon. All but the plainest text goes so."""
    return _PLAIN.sub(lambda found: f"#{ord(found[0])};", text)
