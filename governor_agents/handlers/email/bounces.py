"""What a mail server reports of a mail that it could not deliver (RFC 3464), as far as a request needs it.

A report is an ordinary mail, which anybody can write. So it is believed of an address only where it names the
Message-ID of a mail that went to that address; see `EmailHandler.bounced`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import MessageError
from email.message import Message

from governor_agents.handlers.email.settings import is_address

LARGEST = 1_000_000
"""Bytes of a report beyond which it is not read; with a copy of our largest mail it has half of that."""

PARTS, LONGEST = 50, 1_000
"""Parts that a report has, and bytes of what it says of the kind of one: the library takes minutes for very many, or
for a very long one.
"""

_KIND = re.compile(rb"^content-type:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Bounce:
    """One address that a mail did not reach. ``status`` is as in ``5.1.1``, ``message_id`` that of the mail.

    ``failed`` is False while the server goes on trying.
    """

    address: str
    status: str
    message_id: str
    failed: bool


def read(raw: bytes) -> Bounce | None:
    """The report in a mail; None when it is none, or does not say which mail and address it is about."""
    if len(raw) > LARGEST or _is_heavy(raw):
        return None
    try:
        mail = message_from_bytes(raw)  # its policy leaves headers as they are; the newer one takes each apart
        if mail.get_content_type() != "multipart/report":
            return None
        return _read(mail)
    except (MessageError, ValueError, LookupError, AttributeError, TypeError, RecursionError):  # whatever a mail holds
        return None


def _is_heavy(raw: bytes) -> bool:
    """True for what no report is, and takes long to be read."""
    kinds = [len(found[0]) for found in _KIND.finditer(re.sub(rb"\r\n?", b"\n", raw))]
    return len(kinds) > PARTS or max(kinds, default=0) > LONGEST


def _read(mail: Message) -> Bounce | None:
    about = next((fields for fields in _recipients(mail) if fields["Final-Recipient"]), None)
    message_id = _original(mail)
    if about is None or not 0 < len(message_id) <= LONGEST:
        return None
    address = str(about["Original-Recipient"] or about["Final-Recipient"]).partition(";")[2].strip()
    action = str(about["Action"] or "").strip().lower()
    status = str(about["Status"] or "").strip()[:20]
    return Bounce(address, status, message_id, action == "failed") if is_address(address) else None


def _recipients(mail: Message) -> Iterator[Message]:
    for part in mail.walk():
        if part.get_content_type() == "message/delivery-status":
            blocks = part.get_payload()
            yield from (block for block in blocks if isinstance(block, Message)) if isinstance(blocks, list) else ()


def _original(mail: Message) -> str:
    """The Message-ID of the mail that came back: of the copy in the report, whole or its headers alone."""
    for part in mail.walk():
        if part.get_content_type() == "message/rfc822":
            inner = part.get_payload(0)
            return str(inner["Message-ID"] or "").strip() if isinstance(inner, Message) else ""
        if part.get_content_type() == "text/rfc822-headers":
            copied = part.get_payload(decode=True)
            headers = message_from_bytes(copied if isinstance(copied, bytes) else b"")
            return str(headers["Message-ID"] or "").strip()
    return ""
