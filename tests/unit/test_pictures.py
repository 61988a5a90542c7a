"""The pictures of the documentation: each can be drawn anew, is there, and is shown somewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from governor_agents.demo.pictures import browser
from tests.pictures import mail, slack

SCENES = slack.SCENES | mail.SCENES
ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.pictures", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)


@pytest.mark.parametrize("name", sorted(SCENES))
def test_picture_is_there_and_shown(name: str) -> None:
    """What the package renders can be drawn; the file is a PNG of a sensible size; a page of the docs shows it."""
    assert SCENES[name]().startswith("<!doctype html>")
    data = (PICTURES / f"{name}.png").read_bytes()
    assert data.startswith(b"\x89PNG") and 5_000 < len(data) < 400_000
    assert any(f"pictures/{name}.png" in page.read_text("utf-8") for page in ROOT.glob("docs/*.md"))


@pytest.mark.timeout(240)
def test_command_draws_a_picture(tmp_path: Path) -> None:
    """In a real browser, of the size of what is on it."""
    assert browser(), "pictures need a Chromium: apt install chromium, or playwright install chromium"
    done = run(str(tmp_path), "slack-card")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "slack-card.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_picture_is_named(tmp_path: Path) -> None:
    """One line, exit code 2."""
    done = run(str(tmp_path), "slack-cart")
    assert done.returncode == 2
    assert done.stderr.startswith("there is no picture 'slack-cart'; there are ") and done.stderr.count("\n") == 1


def test_the_browser_that_playwright_installed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    assert browser() == ""
    for version in ("chromium-1181", "chromium-1194"):
        (tmp_path / version / "chrome-linux").mkdir(parents=True)
        (tmp_path / version / "chrome-linux" / "chrome").touch()
    assert browser() == str(tmp_path / "chromium-1194" / "chrome-linux" / "chrome")
