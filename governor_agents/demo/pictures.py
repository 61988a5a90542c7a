"""A page as a picture: HTML always, and PNG where there is a Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""Names under which a Chromium may be installed."""

WIDTH = 760
TALLEST = 16_000
PATIENCE = 60.0
"""Seconds for the browser. A picture that takes longer is given up: it shows what happened, and decides nothing."""

_MEASURED = re.compile(r'data-tall="(\d+)"')
_MEASURE = (
    "<script>addEventListener('load', () => { document.body.dataset.tall ="
    " Math.ceil(document.body.getBoundingClientRect().bottom + 16) })</script>"
)


def browser() -> str:
    """The path of a Chromium: the system's, else the one that playwright installed; empty when there is none."""
    found = next((found for name in BROWSERS if (found := shutil.which(name))), "")
    return found or next(iter(sorted(map(str, _installed()), reverse=True)), "")


def _installed() -> Iterator[Path]:
    """What ``playwright install chromium`` leaves behind, on Linux and on a Mac."""
    place = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    for folder in (place, Path.home() / "Library" / "Caches" / "ms-playwright"):
        yield from folder.glob("chromium-*/chrome-linux*/chrome")
        yield from folder.glob("chromium-*/chrome-mac*/*.app/Contents/MacOS/*")


def draw(html: str, file: Path) -> list[Path]:
    """Write the page to ``file`` (``.html``), and beside it a ``.png`` of all of it; the files that are there now."""
    file.write_text(html, encoding="utf-8")
    picture = file.with_suffix(".png")
    with tempfile.TemporaryDirectory(prefix="governor-agents-browser-") as profile:
        measured = file.with_suffix(".measured.html")
        measured.write_text(html.replace("</body>", f"{_MEASURE}</body>"), encoding="utf-8")
        try:
            told = _chromium(profile, "--dump-dom", f"--window-size={WIDTH},600", measured.as_uri())
            found = _MEASURED.search(told)
            if found:
                tall = min(TALLEST, int(found[1]))
                _chromium(profile, f"--screenshot={picture}", f"--window-size={WIDTH},{tall}", file.as_uri())
        finally:
            measured.unlink()
    return [file, picture] if picture.exists() else [file]


def _chromium(profile: str, *words: str) -> str:
    """What the browser printed; empty when there is none, or it failed."""
    path = browser()
    if not path:
        return ""
    command = [path, "--headless", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}", *words]
    if os.geteuid() == 0:  # its sandbox does not work for root
        command.insert(1, "--no-sandbox")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
