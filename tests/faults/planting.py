"""Words that are planted, and where they turn up: in any of the ways in which a text may be written down."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

ALPHABET = string.ascii_letters + string.digits


class Plants:
    """Makes secrets, each by what it is: ``args 3`` is the third one among arguments."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.words: dict[str, str] = {}

    def __call__(self, what: str) -> str:
        """A new one."""
        word = "".join(self._random.choice(ALPHABET) for _ in range(20))
        self.words[f"{what} {len(self.words)}"] = word
        return word

    def many(self, what: str) -> list[str]:
        """Five new ones."""
        return [self(what) for _ in range(5)]

    def person(self, what: str) -> str:
        """A new one that can name a person."""
        return f"{self(what)}@example.com"


def written(word: str) -> Iterator[bytes]:
    """The word as it stands in files: plain, in JSON's escapes, base64 at any place, hex, UTF-16, percent signs."""
    plain = word.encode()
    yield plain
    yield plain[::-1]
    yield "".join(f"\\u{ord(each):04x}" for each in word).encode()
    for skipped in range(3):
        whole = base64.b64encode(b"\0" * skipped + plain)
        # What the letters beside it have no part in.
        yield whole[4 if skipped else 0 : len(whole) - 4]
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    yield word.encode("utf-16-le")
    yield word.encode("utf-16-be")
    yield "".join(f"%{each:02X}" for each in plain).encode()
    if (quoted := quote(word)) != word:
        yield quoted.encode()


GRAM = 8
"""Bytes of a pattern that are looked up; every pattern is at least twice as long."""


def found(plants: Plants, texts: Iterable[bytes]) -> set[str]:
    """Which of them stand in the texts, in any way of writing.

    Thousands of patterns in megabytes: so the texts are looked at every few bytes, where no pattern can be missed, and
    what is there is looked up among the pieces of all patterns.
    """
    patterns = {way: what for what, word in plants.words.items() for way in written(word)}
    pieces: dict[bytes, set[bytes]] = {}
    for way in patterns:
        for at in range(len(way) - GRAM + 1):
            pieces.setdefault(way[at : at + GRAM], set()).add(way)
    stride = min(map(len, patterns)) - GRAM + 1
    return {
        patterns[way]
        for text in texts
        for at in range(0, len(text), stride)
        for way in pieces.get(text[at : at + GRAM], ())
        if way in text[max(0, at - len(way)) : at + len(way)]
    }


def files(folder: Path) -> Iterator[bytes]:
    """Everything in a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.read_bytes()
