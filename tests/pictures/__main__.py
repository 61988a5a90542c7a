"""Draw the pictures of the documentation: ``make pictures``, or ``python -m tests.pictures [FOLDER] [NAME ...]``.

Each is made of what the package itself renders, for requests that stand in this folder, and drawn by Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from governor_agents.demo.pictures import browser, draw
from tests.pictures import mail, pages, slack

SCENES = slack.SCENES | mail.SCENES | pages.SCENES
ROOT = Path(__file__).resolve().parents[2]


def main(words: list[str]) -> int:
    """Draw them; 2 where that is not possible."""
    folder = Path(words[0]) if words else ROOT / "docs" / "pictures"
    names = words[1:] or sorted(SCENES)
    if unknown := [name for name in names if name not in SCENES]:
        print(f"there is no picture {unknown[0]!r}; there are {', '.join(sorted(SCENES))}", file=sys.stderr)
        return 2
    if not browser():
        print("pictures need a Chromium: apt install chromium, or playwright install chromium", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            files = draw(SCENES[name](), Path(place) / f"{name}.html")
            if len(files) < 2:
                print(f"{name} was not drawn: the browser gave nothing", file=sys.stderr)
                return 2
            (folder / f"{name}.png").write_bytes(files[1].read_bytes())
            print(folder / f"{name}.png")
    return 0


sys.exit(main(sys.argv[1:]))
