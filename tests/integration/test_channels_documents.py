"""docs/channels.md and docs/webhooks.md are right: their files load, their code runs, their numbers are those of the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from governor_agents.cards import MAX_ALIKE
from governor_agents.core import telling
from governor_agents.handlers.webhook import HEADER
from governor_agents.handlers.webhook.settings import from_file
from governor_agents.handlers.webhook.signature import MIN_SECRET, TOLERANCE, sign
from governor_agents.policies import PolicySet
from governor_agents.worker import channels, delivery, load
from tests.contract import test_handler_kit_controls as controls
from tests.webhook_server import WebhookServer

ROOT = Path(__file__).resolve().parents[2]
CHANNELS = (ROOT / "docs" / "channels.md").read_text(encoding="utf-8")
WEBHOOKS = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")

BOARD = """
class Board:
    def __init__(self):
        self._notes, self.away = {}, False
    def login(self): return True
    def notes(self): return list(self._notes.values())
    def _check(self):
        if self.away: raise ConnectionError("away")
    def find(self, op):
        self._check()
        return op if op in self._notes else ""
    def post(self, op):
        self._notes[op] = ("", False)
        return op
    def edit(self, ref, text, buttons):
        self._check()
        self._notes[ref] = (text, buttons)
"""


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S)


def test_the_policies_load() -> None:
    """Each channel is taken as it is written."""
    [one], [two] = blocks(CHANNELS, "yaml"), blocks(WEBHOOKS, "yaml")
    policies = PolicySet.from_text(one, name="governor.yaml")
    assert policies.keeping.asks == 30
    PolicySet.from_text(two, name="governor.yaml")


def test_the_handler_of_the_page_passes_the_kit(tmp_path: Path) -> None:
    """Both snippets as they stand, in files named as they say, around a board of twenty lines."""
    handler, test = blocks(CHANNELS, "python")
    for text, name in ((handler, "board.py"), (test, "test_board.py"), (BOARD, "fake_board.py")):
        assert name == "fake_board.py" or text.startswith(f"# {name}\n")
        (tmp_path / name).write_text(text)
    code = [line for line in handler.splitlines() if line.strip() and not line.startswith(("#", "from", "import"))]
    assert len(code) <= 40
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_board.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and " skipped" not in done.stdout, done.stdout


def test_the_file_of_webhooks_is_read(tmp_path: Path) -> None:
    """As it stands."""
    [text] = blocks(WEBHOOKS, "json")
    file = tmp_path / "webhooks.json"
    file.write_text(text)
    file.chmod(0o600)
    assert list(from_file(file)) == ["orders"]


def test_the_receiver_of_the_page_receives(capsys: pytest.CaptureFixture[str]) -> None:
    """What is signed once, twice as well; and nothing that is not."""
    [code] = blocks(WEBHOOKS, "python")
    here: dict[str, Any] = {}
    exec(code, here)
    event = {"id": "e", "type": "approval.asked", "approval": "run_1.1", "state": "pending", "arguments": {"a": 1}}
    body = json.dumps(event).encode()
    header = {HEADER: sign(body, here["SECRETS"], time.time())}
    assert [here["receive"](body, header) for _ in range(2)] == [204, 204]
    assert here["receive"](body + b" ", header) == here["receive"](body, {}) == 401
    assert capsys.readouterr().out == "approval.asked run_1.1 pending {'a': 1}\n"


async def test_every_field_that_is_sent_is_named() -> None:
    """And no other."""
    from tests.three_channels import ask, governed

    with WebhookServer() as server:
        governor = governed("memory://", {})
        handler = server.handler()
        await handler.start(governor.desk)
        await handler.notify(await governor.approval(await ask(governor, 1)), "orders")
        await governor.close()
        table = re.findall(r"^\| (`.*?) \|", WEBHOOKS, re.M)
        named = {name for row in table for name in re.findall(r"`(\w+)`", row)}
        assert set(server.posts[0].said) == {*named, "version"}


@pytest.mark.parametrize(
    ("page", "says", "is_so"),
    [
        (CHANNELS, "given up after 20 seconds", delivery.DELIVER == 20),
        (CHANNELS, "Eight deliveries per handler", delivery.ROOM == 8),
        (
            CHANNELS,
            "after 5 seconds, doubled up to 10 minutes",
            (delivery.RETRY_NOTICE, delivery.MAX_NOTICE_DELAY) == (5, 600),
        ),
        (CHANNELS, "an hour at most", telling.MAX_RETRY_AFTER == 3600),
        (CHANNELS, "after 10 seconds up to 5 minutes", (channels.FIRST, channels.MOST) == (10, 300)),
        (CHANNELS, "up to 50 of them", MAX_ALIKE == 50),
        (CHANNELS, "within ten minutes", load.WINDOW == 600),
        (
            CHANNELS,
            "twenty-one handlers with one fault each",
            len([1 for each in controls.CATCHERS.values() if each]) >= 20,
        ),
        (WEBHOOKS, "32 characters or more", MIN_SECRET == 32),
        (WEBHOOKS, "five minutes old", TOLERANCE == 300),
    ],
)
def test_the_numbers_are_those_of_the_code(page: str, says: str, is_so: bool) -> None:
    """Each number stands on the page and in the code."""
    assert says in " ".join(page.split()) and is_so
