"""``runs timeline``: the audit trail of a run, as text, JSON, a diagram or a page."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from io import StringIO
from typing import TYPE_CHECKING, Annotated, Any

import typer

from governor_agents.cli.opening import AsJson, Place, StoreUrl, Tenant
from governor_agents.cli.printing import console, print_json
from governor_agents.cli.runs import Id
from governor_agents.core.records import Call
from governor_agents.handlers.timeline import Line, tell, to_mermaid, to_table, to_text
from governor_agents.handlers.visible import visible

if TYPE_CHECKING:
    from governor_agents.governor import Governor

WIDTH = 160
"""Columns of the exported pages; cells fold, so nothing is lost."""


class Format(StrEnum):
    """What `runs timeline` can print."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"
    HTML = "html"


def timeline(
    ctx: typer.Context,
    id: Id,
    format: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TEXT,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Tell a run step by step: who asked, what exactly, who decided, what ran."""

    async def work(governor: Governor) -> tuple[list[dict[str, Any]], tuple[Call, ...]]:
        return await governor.timeline(id), await governor.calls(id)

    events, calls = Place.of(ctx, store, tenant).run(work)
    if as_json:
        print_json(events)
        return
    lines = tell(events, calls)
    title = f"run {visible(id)}"
    if format is Format.MERMAID:
        sys.stdout.write(to_mermaid(lines))
    elif format is not Format.TEXT:
        sys.stdout.write(_page(lines, title, format))
    elif sys.stdout.isatty():
        console().print(to_table(lines, title))
    else:
        sys.stdout.write(to_text(lines))


def _page(lines: list[Line], title: str, format: Format) -> str:
    from rich.console import Console

    recorder = Console(file=StringIO(), record=True, width=WIDTH, force_terminal=True, color_system="truecolor")
    recorder.print(to_table(lines))
    if format is Format.HTML:
        return recorder.export_html(inline_styles=True)
    # rich names fonts on the network; a picture of an audit trail loads nothing.
    return re.sub(r"@font-face \{.*?\}", "", recorder.export_svg(title=title), flags=re.DOTALL)
