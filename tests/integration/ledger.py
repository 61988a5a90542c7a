"""The only witness of effects."""

from pathlib import Path


class Ledger:
    """A file that outlives every process: one line for each time a tool ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []
