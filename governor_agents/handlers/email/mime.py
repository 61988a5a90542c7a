"""A letter as a mail: its two parts, its thread, and headers that keep machines from answering.

A mail's Message-ID is made from the card, the person and what it tells. So a mail that is sent again, since nobody
knows whether it was sent before, is the same mail to whoever reads it; and a report that it bounced names its card.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from hashlib import sha256
from typing import Final

from governor_agents.core.calls import freeze
from governor_agents.errors import DeliveryFailed
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

    Nobody's words can add a header: line ends have been made visible, encoded words are written out (the library would
    decode them, and write what it finds), and a mail with other headers than ours is not sent. Raises `DeliveryFailed`.
    """
    made = EmailMessage(policy=SMTP)
    domain = envelope.sender.rpartition("@")[2]
    made["From"] = Address(addr_spec=envelope.sender)
    made["To"] = Address(addr_spec=envelope.to)
    made["Subject"] = _plain(letter.subject)
    made["Date"] = formatdate(usegmt=True)
    made["Message-ID"] = envelope.message_id
    if envelope.root and envelope.root != envelope.message_id:
        made["In-Reply-To"] = envelope.root
        made["References"] = envelope.root
    made["Auto-Submitted"] = "auto-generated"
    made["X-Auto-Response-Suppress"] = "All"
    made["List-Id"] = f"Approvals <governor-agents.{domain}>"
    if approval:
        made["X-Governor-Approval"] = _plain(approval)
        made["X-Governor-Digest"] = digest
    made.set_content(letter.text, cte="quoted-printable")
    made.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    try:
        raw = made.as_bytes()
    except MessageError:  # a newer library finds it by itself
        raw = b""
    if _names(raw) != [name.encode() for name in made.keys()]:  # noqa: SIM118
        raise DeliveryFailed("a mail would have had headers that are not ours; it was not sent")
    return raw


def _plain(text: str) -> str:
    """A visible text that no header holds an encoded word of."""
    return text.replace("=?", "=\\u{003F}")


def _names(raw: bytes) -> list[bytes]:
    """The names of a mail's headers, as a server reads them."""
    head, _, _ = raw.partition(b"\r\n\r\n")
    return [line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
