"""The quickstart notebook: readable as it is committed, and true when it is executed."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

# The notebook is executed once for all tests that look at it, so they run in one worker.
pytestmark = [pytest.mark.xdist_group("notebook"), pytest.mark.timeout(300)]

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "quickstart.ipynb"


def test_it_is_committed_without_outputs() -> None:
    """A reader sees what the author wrote, and a diff shows what changed."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown", "it begins with words"
    assert kinds.count("markdown") >= 5, "every step is explained"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outputs of the executed notebook, by the first line of their cell."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = str(tmp_path_factory.mktemp("notebook"))
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": where}}).execute()
    return {cell.source.splitlines()[0]: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def outputs(executed: dict[str, Any], first: str) -> list[Any]:
    """The outputs of the one cell that begins like this."""
    [found] = [found for line, found in executed.items() if line.startswith(first)]
    return list(found)


def result(executed: dict[str, Any], first: str, kind: str = "text/plain") -> str:
    """The value that the cell shows."""
    [shown] = [output.data[kind] for output in outputs(executed, first) if output.output_type == "execute_result"]
    return str(shown)


def test_the_run_waits_and_is_decided_and_finished(executed: dict[str, Any]) -> None:
    """Started in one cell, decided in the next but one, finished in the one after; the tool ran once, in the last."""
    assert result(executed, "run = await governor.run") == "'waiting'"
    assert result(executed, "run = await governor.decide") == "'ready'"
    assert "completed" in result(executed, "run = await governor.resume", "text/html")
    printed = {line: [out.text for out in outs if out.output_type == "stream"] for line, outs in executed.items()}
    said = {line: texts for line, texts in printed.items() if texts}
    assert said == {"run = await governor.resume(run.id)": ["paying 120.00 back for order 4711\n"]}


def test_the_request_is_shown_as_html_with_every_argument(executed: dict[str, Any]) -> None:
    """Names, values, and the canonical bytes; nothing that loads or runs anything."""
    html = result(executed, "approval = run.approvals[0]", "text/html")
    rows = dict(re.findall(r"<th[^>]*>([^<]*)</th><td[^>]*>([^<]*)</td>", html))
    assert (rows["order"], rows["amount"]) == ("&quot;4711&quot;", "120.0")
    assert "{&quot;amount&quot;:120.0,&quot;order&quot;:&quot;4711&quot;}" in html
    assert not re.search(r"<script|<img|<link|https?://|\son\w+=", html)
    assert "refund" in result(executed, "approval = run.approvals[0]"), "and as text where there is no HTML"


def test_the_timeline_names_everybody(executed: dict[str, Any]) -> None:
    """Asked, approved by the person, executed, done."""
    trail = result(executed, "[(event[")
    steps = ["run.started", "call.asked", "call.approved", "run.claimed", "call.executing", "call.succeeded"]
    at = [trail.index(f"'{step}'") for step in [*steps, "run.completed"]]
    assert at == sorted(at)
    assert "('call.approved', 'refund', 'local:you')" in trail


def test_sync_calls_work_although_a_loop_runs(executed: dict[str, Any]) -> None:
    """The blocking twins in a notebook's cell: rejected, so told and not paid."""
    assert "it was refunded already" in result(executed, "run = governor.run_sync")
    assert outputs(executed, "governor.close_sync()") == []
