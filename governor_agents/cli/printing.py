"""How the command line prints: laid out and coloured on a terminal, plain and unwrapped in a pipe, or as JSON.

Texts that come from records must have been through `visible`. Nothing is shortened to fit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


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
    """One line on stderr that names the program: an error, or a warning."""
    sys.stderr.write(f"governor-agents: {text}\n")


def hint(text: str) -> None:
    """One line for people, on stderr so that it never mixes with what scripts read."""
    sys.stderr.write(f"{text}\n")


def left_out(why: str) -> None:
    """Something that cannot be read and is not in what is printed; ``why`` need not have been through `visible`."""
    from governor_agents.handlers.visible import visible

    note(f"not readable, left out: {visible(why)}")


def print_json(document: Any) -> None:
    """One JSON document, in ASCII: what is invisible or moves the cursor stands there as ``\\uXXXX``."""
    text = json.dumps(document, indent=2, ensure_ascii=True)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Labels and texts, one a line."""
    for label, text in facts:
        say(f"  {label + ':' if label else '':<14}{text}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, one line for each row; block after block on a terminal where that has no room."""
    if not sys.stdout.isatty():
        widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
        for row in (head, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            sys.stdout.write("  ".join(cells).rstrip() + "\n")
        return
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    screen = console()
    if sum(max(cell_len(row[at]) for row in (head, *rows)) + 3 for at in range(len(head))) > screen.width:
        for row in rows:
            say(row[0], "bold")
            print_facts(zip((title.lower() for title in head[1:]), row[1:], strict=True))
        return
    table = Table(*head, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    screen.print(table)


@contextmanager
def counting() -> Iterator[Callable[[str], Callable[[int], None]]]:
    """Shows on a terminal how far a long command is.

    Tell it what is counted (``records written``), as often as that changes, and count with what it gives.
    """
    if not sys.stderr.isatty():
        yield lambda what: lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task("", total=None)

        def stage(what: str) -> Callable[[int], None]:
            progress.update(task, description=what, completed=0)
            return lambda count: progress.update(task, completed=count)

        yield stage
