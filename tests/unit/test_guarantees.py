"""docs/guarantees.md: every promise names a test, and every test that it names is there."""

import ast
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "guarantees.md").read_text()
PROMISES = TEXT.partition("## Running")[2].partition("## Under which settings")[0]
ITEMS = re.findall(r"^- (.+?)(?=^- |^#|\Z)", PROMISES, re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[shown\]\((\S+) \"(\w+)\"\)")


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item[:40])
def test_a_promise_names_a_test_that_is_there(item: str) -> None:
    """A sentence without a test is a claim, and a link to a test that is gone is one too."""
    links = LINK.findall(item)
    assert links, item
    for path, name in links:
        tree = ast.parse((DOCS / path).read_text())
        found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in found, f"{path} has no {name}"


def test_the_promises_are_all_there() -> None:
    """Fewer than these would mean that the document was not read as it is written."""
    assert len(ITEMS) >= 25 and "## What is not promised" in TEXT
