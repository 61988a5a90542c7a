"""What a mail server reports of a mail that it could not deliver (RFC 3464), as far as a request needs it.

A report is an ordinary mail, which anybody can write. So it is believed of an address only where it names the
Message-ID of a mail that went to that address; see `EmailHandler.bounced`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage, Message

from governor_agents.handlers.email.settings import is_address

LARGEST = 10_000_000
"""Bytes of a report beyond which it is not read."""


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
    if len(raw) > LARGEST:
        return None
    try:
        mail = message_from_bytes(raw, _class=EmailMessage, policy=policy.default)
        if mail.get_content_type() != "multipart/report":
            return None
        return _read(mail)
    except (MessageError, ValueError, LookupError, AttributeError, TypeError):  # whatever a mail may hold
        return None


def _read(mail: EmailMessage) -> Bounce | None:
    about = next((fields for fields in _recipients(mail) if fields["Final-Recipient"]), None)
    message_id = _original(mail)
    if about is None or not message_id:
        return None
    address = str(about["Original-Recipient"] or about["Final-Recipient"]).partition(";")[2].strip()
    action = str(about["Action"] or "").strip().lower()
    status = str(about["Status"] or "").strip()[:20]
    return Bounce(address, status, message_id, action == "failed") if is_address(address) else None


def _recipients(mail: EmailMessage) -> Iterator[Message]:
    for part in mail.walk():
        if part.get_content_type() == "message/delivery-status":
            blocks = part.get_payload()
            yield from (block for block in blocks if isinstance(block, Message)) if isinstance(blocks, list) else ()


def _original(mail: EmailMessage) -> str:
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
