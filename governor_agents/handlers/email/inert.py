r"""Text of a request as a mail may hold it: readers of mail guess at links, and must find none in it.

Everything has been through `visible` before. What a reader would take for the beginning of an address is written out
as the same kind of escape, so that `parse_visible` still gives back the exact text: ``https:\u{002F}/evil.example``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from markupsafe import Markup

_LINKLIKE: Final = re.compile(
    r"(?<=:)/(?=/)|(?<=\bwww)\.|(?<=\bmailto):|(?<=\btel):|(?<=\bsms):|(?<=\bcallto):|(?<=\bjavascript):|(?<=\bdata):",
    re.IGNORECASE | re.ASCII,
)
_PIECE: Final = re.compile(r"[^,;:/@.}\])=&?_-]{0,15}(?:[,;:/@.}\])=&?_-]|.)", re.DOTALL)
_KEPT_SPACE: Final = re.compile(r"(?<= ) |^ | $")


def inert(text: str) -> str:
    """A visible text in which nothing looks like the beginning of a link."""
    return _LINKLIKE.sub(lambda found: f"\\u{{{ord(found[0]):04X}}}", text)


def as_html(text: str) -> Markup:
    """The text for HTML: escaped, its spaces kept where styles are not, and with places to break a line.

    The break behind each dot, slash and at sign also takes names of hosts apart for those who look for links.
    """
    spaced = _KEPT_SPACE.sub("\N{NO-BREAK SPACE}", inert(text))
    return Markup("<wbr>").join(_pieces(spaced))  # which escapes each piece


def address_as_html(url: str) -> Markup:
    """A link of ours to be read and copied, with the same places to break its line."""
    return Markup("<wbr>").join(_pieces(url))


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces between which a line may break: never before a mark that belongs to the letter before."""
    piece = ""
    for found in _PIECE.finditer(text):
        if piece and not unicodedata.category(found[0][0]).startswith("M"):
            yield piece
            piece = ""
        piece += found[0]
    if piece:
        yield piece
