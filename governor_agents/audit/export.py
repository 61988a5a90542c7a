"""Trails as files: JSON Lines, each line an event byte for byte, which can be verified; CSV for spreadsheets.

An exported trail is checked without the store: places and links of its events, their MACs when the audit key is at
hand, and what checkpoints pin. It cannot show how far a trail went after the last checkpoint.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from governor_agents.audit import chain, verify
from governor_agents.audit.checkpoints import Series
from governor_agents.audit.log import Published, Report
from governor_agents.audit.reading import REMOVED
from governor_agents.audit.removals import Account
from governor_agents.audit.trail import NAMED, Pin, Trail
from governor_agents.core.calls import freeze, sha256
from governor_agents.core.ports import StoredEvent
from governor_agents.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MEND = "`governor-agents audit export --out FILE` makes one"

COLUMNS = ("trail", "seq", "at", "what", "n", "tool", "by", "details", "prev", "mac", "sha256")
_OWN = frozenset({*NAMED.values(), *COLUMNS})


def to_jsonl(events: Iterable[StoredEvent]) -> str:
    """The events, one a line, byte for byte. (One that was damaged so that it breaks a line is joined again.)"""
    return "".join(event.body.decode("utf-8", "backslashreplace").replace("\n", " ") + "\n" for event in events)


def csv_head() -> str:
    """The first line of a CSV file."""
    return _csv(COLUMNS)


def to_csv(id: str, events: Iterable[StoredEvent]) -> str:
    """The events of one trail as CSV lines; texts that a spreadsheet would take for a formula begin with ``'``."""
    return "".join(_csv([_cell(value) for value in _row(id, event)]) for event in events)


def _row(id: str, event: StoredEvent) -> list[Any]:
    line = chain.parse(event.body) or {"seq": event.seq, "what": "(not readable)"}
    details = {name: value for name, value in line.items() if name not in _OWN}
    known = line | {"trail": id, "details": freeze(details).decode(), "sha256": sha256(event.body)}
    return [known.get(name, "") for name in COLUMNS]


def _cell(value: Any) -> str:
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _csv(row: Sequence[str]) -> str:
    out = StringIO()
    csv.writer(out, lineterminator="\n").writerow(row)
    return out.getvalue()


def verify_export(
    lines: Iterable[bytes],
    published: Sequence[Published],
    public: Sequence[Ed25519PublicKey],
    *,
    key: bytes | None = None,
    tenant: str | None = None,
    run: str = "",
    file: str = "this",
) -> Report:
    """Check an export (all of it, or one ``run``) by itself and against published checkpoints; ``file`` is its name.

    Raises `ConfigError` when it holds nothing that looks like an event.
    """
    report, pins = Report(), dict[tuple[str, str], list[Pin]]()
    for each in published:
        series = Series(public, tenant, f"{each.name}: ")
        report.checkpoints += series.hear(each.checkpoint)
        report.findings += series.findings
        for name, more in series.pins.items():
            if not run or name == ("run", run):
                pins.setdefault(name, []).extend(more)
    account = Account(key)
    for kind, id, events in _trails(lines, file):
        if kind == "audit" and id.startswith(REMOVED):
            account.hear(id, events)
        if run and (kind, id) != ("run", run):
            continue
        _check(report, Trail(kind, id, None, events, pins.pop((kind, id), [])), key)
    for kind, id in sorted(pins):
        gone = Trail(kind, id, None, [], pins[kind, id])
        if account.explains(id, verify.check(gone, key), gone.pins):
            report.removed += 1
        else:
            _check(report, gone, key)
    return report


def _check(report: Report, trail: Trail, key: bytes | None) -> None:
    report.findings += verify.check(trail, key)
    report.trails += 1
    report.events += len(trail.events)
    report.unkeyed += bool(trail.events) and "mac" not in (chain.parse(trail.events[-1].body) or {"mac": ""})


def _trails(lines: Iterable[bytes], file: str) -> Iterator[tuple[str, str, list[StoredEvent]]]:
    """The trails of an export, which stand in it one after the other."""
    name, events = ("", ""), list[StoredEvent]()
    for raw in lines:
        body = raw.rstrip(b"\r\n")
        line = chain.parse(body)
        # A line that names no trail stands where the last one stood.
        own = next(((kind, str(line[field])) for kind, field in NAMED.items() if line and field in line), name)
        if not own[0]:
            raise ConfigError(f"{file} is no export of an audit trail; {MEND}")
        if own != name:
            if events:
                yield (*name, events)
                events = []
            name = own
        seq = line.get("seq") if line is not None else None
        expected = events[-1].seq + 1 if events else 1
        events.append(StoredEvent(seq if type(seq) is int else expected, body))
    if events:
        yield (*name, events)
