"""Somebody who opens the link of a mail, reads the page, fills in its form and sends it, as a browser would."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

from governor_agents.core.calls import Json, freeze, thaw
from governor_agents.core.records import Decision
from governor_agents.errors import GovernorError

WAIT = 60.0
"""Seconds for an answer."""


@dataclass
class Form:
    """A form of a page: what its fields hold, their names by label, and the word that a person is to type."""

    fields: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    word: str = ""


class Page(HTMLParser):
    """The forms of a page, and what it says aloud."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.told = ""
        self._text: list[str] | None = None
        self._for = ""
        self._area = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a form, a field, or a text that is looked for."""
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form())
        elif tag == "input" and self.forms and given.get("type") != "radio":
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "textarea" and self.forms:
            self._area, self._text = given["name"], []
        elif tag == "label":
            self._for = given.get("for", "")
        elif (tag == "code" and self._for) or given.get("class") == "word" or given.get("role") in ("status", "alert"):
            self._text = []

    def handle_endtag(self, tag: str) -> None:
        """End a text that was looked for."""
        if tag == "label":
            self._for = ""
        if self._text is None or tag not in ("code", "strong", "p", "textarea"):
            return
        text, self._text = "".join(self._text), None
        if tag == "textarea":
            self.forms[-1].fields[self._area] = text.removeprefix("\n")
        elif tag == "code":
            self.forms[-1].labels[text] = self._for
        elif tag == "strong":
            self.forms[-1].word = text
        else:
            self.told = self.told or text

    def handle_data(self, data: str) -> None:
        """Keep the text that is looked for."""
        if self._text is not None:
            self._text.append(data)


def answer(link: str, decision: Decision) -> str:
    """Decide by the link of a mail; what the page says then. Raises `GovernorError` when it does not count."""
    page = Page(_fetch(link))
    what = "edit" if decision.kind == "edit" else "decide"
    form = next((form for form in page.forms if form.fields.get("do") == what), None)
    if form is None:
        raise GovernorError(f"the page of the mail's link has no form that decides: {page.told or 'it is answered'}")
    sent = form.fields | {"word": form.word, "reason": decision.reason}
    if decision.kind == "edit":
        sent |= {form.labels[label]: text for label, text in typed(decision).items()}
    else:
        sent |= {"decision": decision.kind, "answer": decision.answer or ""}
    told = Page(_fetch(link, sent)).told
    if not told.startswith("Your "):
        raise GovernorError(f"the page did not take the decision: {told}")
    return told


def typed(decision: Decision) -> dict[str, str]:
    """What a person types into the fields of an edit, by their labels: one field for each argument."""
    args: Json = thaw(decision.args or b"{}")
    return {key: value if isinstance(value, str) else freeze(value).decode() for key, value in args.items()}


def _fetch(url: str, form: dict[str, str] | None = None) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise GovernorError("the link of the mail leads to no page")
    headers = {"Origin": f"{parts.scheme}://{parts.netloc}", "Sec-Fetch-Site": "same-origin"} if form else {}
    data = urlencode(form).encode() if form else None
    request = urllib.request.Request(url, data, headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as answered:  # noqa: S310
            return str(answered.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode("utf-8", "replace")
    except OSError as error:
        raise GovernorError(f"the page of the mail's link cannot be opened: {error}") from None
