"""A letter as a mail: its two parts, its thread, and headers that keep machines from answering.

A mail's Message-ID is made from the card, the person and what it tells. So a mail that is sent again, since nobody
knows whether it was sent before, is the same mail to whoever reads it; and a report that it bounced names its card.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from hashlib import sha256
from typing import Final

from governor_agents.core.calls import freeze
from governor_agents.handlers.email.letter import Letter

_ID: Final = 24


def message_id(card: str, domain: str, *parts: str) -> str:
    """``<CARD.HASH@DOMAIN>``: the same for the same parts."""
    return f"<{card}.{sha256(freeze([card, *parts])).hexdigest()[:_ID]}@{domain}>"


def card_of(message_id: str) -> str:
    """The card that a Message-ID of ours names, empty when it is not one of ours."""
    card, dot, rest = message_id.strip().removeprefix("<").partition(".")
    return card if dot and rest and card.isascii() and card.isalnum() else ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """From whom and to whom a mail goes, its Message-ID, and the one that its thread began with (empty: this one)."""

    sender: str
    to: str
    message_id: str
    root: str = ""


def mail(letter: Letter, envelope: Envelope, approval: str = "", digest: str = "") -> bytes:
    """The mail as it goes over the wire. ``approval`` and ``digest`` say what it is about, and are visible.

    Nobody's words can add a header: line ends have been made visible, and the policy refuses those that are left.
    """
    made = EmailMessage(policy=SMTP)
    domain = envelope.sender.rpartition("@")[2]
    made["From"] = Address(addr_spec=envelope.sender)
    made["To"] = Address(addr_spec=envelope.to)
    made["Subject"] = letter.subject
    made["Date"] = formatdate(usegmt=True)
    made["Message-ID"] = envelope.message_id
    if envelope.root and envelope.root != envelope.message_id:
        made["In-Reply-To"] = envelope.root
        made["References"] = envelope.root
    made["Auto-Submitted"] = "auto-generated"
    made["X-Auto-Response-Suppress"] = "All"
    made["List-Id"] = f"Approvals <governor-agents.{domain}>"
    if approval:
        made["X-Governor-Approval"] = approval
        made["X-Governor-Digest"] = digest
    made.set_content(letter.text, cte="quoted-printable")
    made.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    return made.as_bytes()
