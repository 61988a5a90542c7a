"""How the command line prints: laid out and coloured on a terminal, plain and unwrapped in a pipe, or as JSON.

Texts that come from records must have been through `visible`. Nothing is shortened to fit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

JSON_LIMIT = 100


def console() -> Console:
    """The console on stdout."""
    from rich.console import Console

    return Console(file=sys.stdout)


def say(text: str = "", style: str = "") -> None:
    """One line on stdout, left to the terminal to wrap."""
    if not sys.stdout.isatty():
        sys.stdout.write(text + "\n")
        return
    from rich.text import Text

    console().print(Text(text, style=style), soft_wrap=True)


def note(text: str) -> None:
    """One line on stderr, for people beside the output that scripts read."""
    sys.stderr.write(f"governor-agents: {text}\n")


def print_json(document: Any) -> None:
    """One JSON document, in ASCII: what is invisible or moves the cursor stands there as ``\\uXXXX``."""
    text = json.dumps(document, indent=2, ensure_ascii=True)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Labels and texts, one a line."""
    for label, text in facts:
        say(f"  {label + ':' if label else '':<14}{text}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table: columns fold on a narrow terminal; in a pipe each row is one line."""
    if not sys.stdout.isatty():
        widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
        for row in (head, *rows):
            sys.stdout.write(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
            )
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    screen = console()
    for at, title in enumerate(head):
        # The first column holds ids to be copied: it gives way last.
        longest = max((len(row[0]) for row in rows), default=0)
        table.add_column(title, overflow="fold", min_width=min(longest, screen.width // 2) if at == 0 else None)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    screen.print(table)
