"""The lifecycle page of the documentation, drawn from the tables: ``python -m tests.model.diagram > docs/lifecycle.md``."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from governor_agents.core.lifecycle import CALLS, RUNS
from governor_agents.core.records import CallState, RunState

HEAD = """\
# The lifecycle

Drawn from the two tables in `governor_agents/core/lifecycle.py` (`python -m tests.model.diagram`; a test compares them). An
event takes a call, or a run, only along an arrow; everything else is refused with `IllegalTransition` and leaves the record
as it was. `python -m tests.model` walks every state that the transition functions can reach.
"""


def page() -> str:
    """The whole page."""
    return f"{HEAD}\n## A call\n\n{_drawn(CALLS, CallState)}\n## A run\n\n{_drawn(RUNS, RunState)}"


def _drawn(table: Mapping, states: type) -> str:  # type: ignore[type-arg]
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), targets in table.items():
        for to in sorted(targets, key=list(states).index):
            arrows.setdefault((str(state or "[*]"), str(to)), []).append(str(event))
    left = {state for state, _ in table}
    lines = [f"    {state} --> {to}: {', '.join(events)}" for (state, to), events in arrows.items()]
    lines += [f"    {state} --> [*]" for state in states if state not in left]
    return "\n".join(("```mermaid", "stateDiagram-v2", *lines, "```", ""))


if __name__ == "__main__":
    sys.stdout.write(page())
