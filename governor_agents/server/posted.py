"""Reading a form: where it was sent from, whether it is one of ours, what its fields say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import Request

from governor_agents.server.refusal import forged, malformed, too_large
from governor_agents.server.settings import Settings
from governor_agents.server.words import same

MAX_FIELDS = 2_000

SHORT = 16_384
"""Bytes of a form in which nobody writes more than a line: to read megabytes of escapes takes most of a second, and
such a form may come from anybody.
"""

FORM_TYPE = "application/x-www-form-urlencoded"


class Form(Mapping[str, str]):
    """The fields of a form, each given once. What was not sent reads as an empty text with ``get``."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> str:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def text(self, name: str) -> str:
        """A field with line breaks as one character each: browsers send two."""
        return self._fields.get(name, "").replace("\r\n", "\n").replace("\r", "\n")

    def prove(self, token: str) -> None:
        """Raise `Refused` unless the form carries this token, which only a page of ours could give it."""
        if not same(self._fields.get("form", ""), token):
            raise forged("no_form_token")


def from_our_pages(headers: Headers, settings: Settings) -> bool:
    """True when a browser says that the form was on a page of this server.

    Our pages send no referrer, and with that policy browsers give ``null`` as the origin of a form; then the
    ``Sec-Fetch-Site`` header, which no page can set, must say that it is the same.
    """
    origins, site = headers.getlist("origin"), headers.get("sec-fetch-site", "")
    if len(origins) > 1 or site not in ("", "same-origin"):
        return False
    origin = origins[0].lower() if origins else "null"
    return origin == settings.origin or (origin == "null" and site == "same-origin")


async def read_form(request: Request, settings: Settings, *, most: int | None = None) -> Form:
    """The form of a request, of ``most`` bytes where it is to be short. Raises `Refused`: forged, or malformed."""
    if not from_our_pages(request.headers, settings):
        raise forged("foreign_origin")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise malformed(f"A form is sent as {FORM_TYPE}.")
    body = await request.body()
    if most is not None and len(body) > most:
        raise too_large(most)
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:  # UnicodeDecodeError is one
        raise malformed("The form cannot be read.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise malformed("The form has a field twice.")
    if any("\0" in name for name in fields):
        raise malformed("The form cannot be read.")
    return Form(fields)
