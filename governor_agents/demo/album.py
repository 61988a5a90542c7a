"""Pictures of what people were shown: a page of HTML for each, and a PNG where there is a Chromium."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from governor_agents.demo import pictures
from governor_agents.demo.channel import Shown
from governor_agents.demo.saying import Say


class Album:
    """Draws beside the demo, so that nothing waits for a browser. Used by ``with``; its end waits for every picture."""

    def __init__(self, folder: Path, prefix: str, say: Say) -> None:
        self._folder = folder
        self._prefix = prefix
        self._say = say
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="pictures")
        self._drawing: list[Future[list[Path]]] = []

    def __enter__(self) -> Album:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=error is None, cancel_futures=True)

    def add(self, name: str, shown: Shown, *, wait: bool = False) -> None:
        """Show it as text, and begin its picture; ``wait`` for that where somebody is to look at it first."""
        self._say.boxed(shown.title, shown.text)
        file = self._folder / f"{self._prefix}-{name}.html"
        drawing = self._pool.submit(pictures.draw, shown.html, file)
        self._drawing.append(drawing)
        if wait:
            self._say.line(f"    as a picture: {drawing.result()[-1]}")

    def files(self) -> list[Path]:
        """Every file there is, once all are drawn."""
        return [file for drawing in self._drawing for file in drawing.result()]
