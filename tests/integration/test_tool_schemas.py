"""The schema of a tool that people are asked about is kept with the pause, for whoever makes a form of it elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from governor_agents import Governor, schemas
from tests.integration import langchain_app, openai_agents_app

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("framework", ["openai-agents", "langchain"])
async def test_a_process_that_never_saw_the_tool_has_its_schema(tmp_path: Path, framework: str) -> None:
    """Names, types and what is required are there behind the desk of a governor without agents."""
    store = f"sqlite:///{tmp_path}/governor.db"
    if framework == "langchain":
        ledger = langchain_app.Ledger(tmp_path / "ledger")
        asked = langchain_app.App(store, ledger, [[("pay", {"amount": 50})]]).governor
        wanted = {"amount": "integer", "to": "string"}
    else:
        asked, _ = openai_agents_app.make_app(store, tmp_path / "ledger")
        wanted = {"order": "string", "amount": "number"}
    async with asked:
        run = await asked.run(next(iter(asked.agents)), "go")
    (approval,) = run.approvals
    async with Governor(store=store) as elsewhere:
        schema = await elsewhere.desk.tool_schema(approval)
        assert {name: field["type"] for name, field in schema["properties"].items()} == wanted
        assert await elsewhere.runs.blob(run.id, approval.call.schema_sha256)


def test_a_schema_that_no_form_could_be_made_of_is_not_kept() -> None:
    """Its hash is the same as ever; its bytes would only be dead weight in each record."""
    large = b'{"x":"' + b"y" * schemas.MAX_BYTES + b'"}'
    assert schemas.note(large) not in schemas._known
    assert schemas.note(b'{"type":"object"}') in schemas._known
