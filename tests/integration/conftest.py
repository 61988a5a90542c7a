"""What most tests here begin with: an empty store, and a witness of what really happens."""

from pathlib import Path

import pytest

from tests.integration.ledger import Ledger
from tests.stores import STORES


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a store in which nothing is yet."""
    return f"sqlite:///{tmp_path}/governor.db"


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same on each of the stores that the suites run on."""
    return STORES[request.param](tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Where the tools of a test write what they do."""
    return Ledger(tmp_path / "ledger")
