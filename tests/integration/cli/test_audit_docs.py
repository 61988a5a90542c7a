"""What the documentation shows of the audit is what happens: every command, in its order, with what it prints."""

import re
import shlex
from pathlib import Path

import pytest

from governor_agents.keys import Keys

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "keys-and-audit.md").read_text(encoding="utf-8").partition("## The audit trail")[2]


def commands() -> list[tuple[str, str]]:
    """Each command of the audit's part and what stands below it."""
    blocks = re.findall(r"^```console\n(.*?)^```", TEXT, re.M | re.S)
    parts = [part.partition("\n") for block in blocks for part in re.split(r"^\$ ", block, flags=re.M)[1:]]
    return [(command, printed) for command, _, printed in parts]


def test_every_command_does_what_is_shown(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    Keys.create("keys.json")
    monkeypatch.setenv("GOVERNOR_KEYS", "keys.json")
    for _ in range(2):
        assert shop("inbox", "approve", shop.ask()).code == 0
    assert len(commands()) >= 10
    for command, printed in commands():
        line, _, file = command.partition(" > ")
        told = shop(*shlex.split(line)[1:])
        assert told.code == 0, (command, told)
        assert printed in ("", told.out), (command, told)
        if file:
            Path(file).write_text(told.out)
    assert Path("trail.csv").exists()


def test_links_lead_somewhere() -> None:
    """Every relative link is a file of the repository."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", TEXT)
    assert links and [link for link in links if not (ROOT / "docs" / link).exists()] == []
