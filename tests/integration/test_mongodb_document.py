"""docs/mongodb.md is right: its Python runs, its options and defaults are those of the code."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from governor_agents.core.ports import INDEX_FIELDS
from governor_agents.stores.mongodb import documents, home, place, schema, store
from tests.mongodb import somewhere

DOCUMENT = (Path(__file__).parents[2] / "docs" / "mongodb.md").read_text(encoding="utf-8")
POLICY = "version: 1\napprovals: {approvers: ['local:alice']}\n"


def snippets() -> list[str]:
    """The Python of the document."""
    return re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but for the address of the server."""
    (tmp_path / "governor.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    assert len(snippets()) == 2
    with somewhere() as there:
        for snippet in snippets():
            here: dict[str, Any] = {}
            code = snippet.replace("mongodb://localhost/governor", there.url).replace("mongodb://localhost", there.url)
            exec(compile(code, "docs/mongodb.md", "exec"), here)
            if "main" in here:
                asyncio.run(here["main"]())
            else:
                assert here["governor"].inbox_sync() == []
                here["governor"].close_sync()


@pytest.mark.parametrize(
    ("says", "is_so"),
    [
        ("are 5 seconds", store.DEFAULTS["serverSelectionTimeoutMS"] == store.DEFAULTS["connectTimeoutMS"] == 5_000),
        ("`socketTimeoutMS` 30", store.DEFAULTS["socketTimeoutMS"] == 30_000),
        ("`wtimeoutMS` is 10 seconds", place.WTIMEOUT == 10_000),
        ("after 30\nseconds", home.PATIENCE == 30),
        ("after seven days", schema.KEPT_GONE == 7 * 24 * 3600),
        ("Every 16 versions", documents.TIDIED == 16),
        ("over 1 MB", documents.LARGE == 1_000_000),
        ("by each of six index fields", len(INDEX_FIELDS) == 6),
        ("`governor` where there is none", place.DATABASE == "governor"),
        ("`ga`", place.PREFIX == "ga"),
    ],
)
def test_the_numbers_are_those_of_the_code(says: str, is_so: bool) -> None:
    """What is changed in the code is changed in the document."""
    assert says in DOCUMENT and is_so
