"""What docs/backup.md shows is what happens: every command, in its order, with what it prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Shop
from tests.integration.cli.test_cli_store import asked

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "backup.md").read_text(encoding="utf-8")


def commands() -> list[tuple[str, str]]:
    """Each command of the page and what stands below it."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.M | re.S)
    parts = [part.partition("\n") for block in blocks for part in re.split(r"^\$ ", block, flags=re.M)[1:]]
    return [(command, printed) for command, _, printed in parts]


def printed_by(shop: Shop, command: str) -> str:
    """What a command prints, one space for many."""
    told = shop(*shlex.split(command)[1:])
    assert told.code == 0, (command, told)
    return re.sub(r" +", " ", told.out + told.err)


def shows(shown: str, printed: str) -> bool:
    """True when the page shows this; ``...`` is anything."""
    wanted = re.escape(re.sub(r" +", " ", shown)).replace(r"\.\.\.", ".*?")
    return re.fullmatch(wanted, printed, re.S) is not None


@pytest.fixture
def used(shop: Shop) -> Shop:
    """A shop in whose store one call is approved and one waits."""
    asked("sqlite:///governor.db", 1, approved=True)
    asked("sqlite:///governor.db", 1)
    return shop


def test_every_command_does_what_is_shown(used: Shop) -> None:
    """In the order of the page, on one store."""
    assert len(commands()) == 8
    for command, shown in commands():
        printed = printed_by(used, command)
        assert shows(shown, printed), f"{command}\n{printed}\n{shown}"


def test_another_text_would_be_noticed(used: Shop) -> None:
    """The control."""
    command, shown = commands()[0]
    assert not shows(shown.replace("2 runs", "3 runs"), printed_by(used, command))


def test_links_lead_somewhere() -> None:
    """Every relative link is a file of the repository, and every heading that is named is there."""
    links = re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", PAGE)
    assert links
    for file, heading in links:
        text = (ROOT / "docs" / file).read_text(encoding="utf-8") if file else PAGE
        headings = {re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-") for line in text.splitlines()}
        assert not heading or f"-{heading}" in {f"-{each.lstrip('-')}" for each in headings}, (file, heading)


@pytest.mark.parametrize("command", re.findall(r"`(?:governor-agents )?(store \w+)[^`]*`", PAGE))
def test_commands_in_the_text_are_there(shop: Shop, command: str) -> None:
    """What the sentences name can be typed."""
    assert shop(*command.split(), "--help").code == 0
