"""What the demo prints for people."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from governor_agents.core.urls import shown


def command(url: str, people: str = "") -> str:
    """The command line as it can be called from here, on the demo's store and with its people file."""
    beside = Path(sys.executable).with_name("governor-agents")
    name = "governor-agents" if shutil.which("governor-agents") or not beside.exists() else str(beside)
    store = url if shown(url) == url else '"$GOVERNOR_STORE"'
    return f"{f'GOVERNOR_PEOPLE={people} ' if people else ''}{name} --store {store}"


class Say:
    """Prints for people; nothing with ``--json``."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def line(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def title(self, framework: str) -> None:
        """A rule with the framework's name."""
        if not self._quiet:
            from rich.console import Console

            Console().rule(f"[bold]{framework}[/bold]", align="left")

    def boxed(self, title: str, text: str) -> None:
        """A card or a mail, as it is, behind a bar on its left."""
        self.line(f"    +-- {title}")
        for line in text.rstrip("\n").split("\n"):
            self.line(f"    | {line}".rstrip())
        self.line("    +--")

    def pictures(self, files: Iterable[Path]) -> None:
        """Where the pictures are."""
        self.line("What people were shown, as pictures:")
        for file in files:
            self.line(f"  {file}")

    def request(self, url: str, run: str) -> None:
        """The request, as everybody who is asked sees it."""
        if not self._quiet:
            from governor_agents.demo.show import show_request

            show_request(url, run)

    def timeline(self, url: str, run: str) -> None:
        """Who asked, what exactly, who decided, what ran."""
        if not self._quiet:
            from governor_agents.demo.show import show_timeline

            show_timeline(url, run)

    def next_steps(self, url: str, runs: list[str]) -> None:
        """Where to look next."""
        self.line("\nLook on (the demo keeps its store until you remove it):")
        self.line(f"  {command(url)} runs list")
        for run in runs[:1]:
            self.line(f"  {command(url)} runs timeline {run}")
        self.line('  the policy: governor_agents/demo/governor.yaml; your own agent: README.md, "Govern your agent"')
