"""Signed checkpoints: where every chain stood, in a form that can be published and checked by anybody. Pure.

A checkpoint is a **statement** (canonical JSON, signed with Ed25519) and the **pages** of heads whose hashes stand in
it. Statements are numbered from 1, and each holds the hash of the one before it. An ordinary one holds the heads that
changed since; a full one all of them. Who keeps a statement outside of the store can show later that the store, with
all its checkpoints, is not the one that it was.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import unhexlify
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from governor_agents.audit.trail import Finding, Head, Pin
from governor_agents.core.calls import freeze, sha256, thaw
from governor_agents.errors import ArgumentsError, ConfigError, MissingExtra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FORMAT = "governor_agents_checkpoint"
PAGE = 10_000
"""Heads on a page: about 1.2 MB."""

_PURPOSE = b"governor-agents checkpoint\n"
"""Stands before what is signed, so that a signature means nothing else."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A statement, its signature, and the pages that it names, all as bytes."""

    statement: bytes
    signature: bytes
    pages: tuple[bytes, ...]

    @property
    def said(self) -> dict[str, Any]:
        """The statement as an object."""
        found: dict[str, Any] = thaw(self.statement)
        return found

    @property
    def number(self) -> int:
        """Its number, from 1."""
        return int(self.said["number"])

    @property
    def digest(self) -> str:
        """What the next checkpoint holds of it."""
        return sha256(self.statement)

    @property
    def heads(self) -> list[Head]:
        """What it pins."""
        return [Head(*row) for page in self.pages for row in thaw(page)]


def make(
    heads: Sequence[Head],
    *,
    number: int,
    tenant: str,
    at: float,
    previous: str,
    full: bool,
    signing: Ed25519PrivateKey,
) -> Checkpoint:
    """A new checkpoint of these heads."""
    rows = [[head.kind, head.id, head.seq, head.head, head.v] for head in heads]
    pages = tuple(freeze(rows[begin : begin + PAGE]) for begin in range(0, len(rows), PAGE))
    statement = freeze(
        {
            FORMAT: 1,
            "number": number,
            "tenant": tenant,
            "at": float(at),
            "previous": previous,
            "full": full,
            "heads": len(rows),
            "pages": [sha256(page) for page in pages],
            "key": key_id(signing.public_key()),
        }
    )
    return Checkpoint(statement, signing.sign(_PURPOSE + statement), pages)


def key_id(public: Ed25519PublicKey) -> str:
    """A short name of a public key."""
    return sha256(public.public_bytes_raw())[:16]


def public_key(data: bytes, name: str) -> Ed25519PublicKey:
    """The public key in a PEM text, or in 64 hex digits. Raises `ConfigError`, `MissingExtra`."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError:
        raise MissingExtra(
            "checkpoints need cryptography, which is not installed: pip install 'governor-agents[keys]'"
        ) from None
    try:
        hexed = re.fullmatch(rb"\s*([0-9a-fA-F]{64})\s*", data)
        key = Ed25519PublicKey.from_public_bytes(unhexlify(hexed[1])) if hexed else load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{name} is not an Ed25519 public key; `governor-agents keys list` prints it")
    return key


def to_document(checkpoint: Checkpoint, *, pages: bool = True) -> dict[str, Any]:
    """The form in which it is printed and published; without its ``pages``, the form in which the store lists it."""
    signature = b64encode(checkpoint.signature).decode()
    document: dict[str, Any] = {"statement": checkpoint.said, "signature": signature}
    return document | {"pages": [thaw(page) for page in checkpoint.pages]} if pages else document


def from_document(data: bytes, name: str, pages: tuple[bytes, ...] | None = None) -> Checkpoint:
    """A checkpoint from its printed form. Raises `ConfigError` for anything that is not one; trusts nothing of it."""
    try:
        document = thaw(data)
        statement, signature = document["statement"], b64decode(document["signature"], validate=True)
        listed = statement["pages"]
        rows = [freeze(page) for page in document.get("pages", [])] if pages is None else pages
        good = statement[FORMAT] == 1 and all(type(statement[field]) is int for field in ("number", "heads"))
        texts = (statement["tenant"], statement["previous"], statement["key"], *listed)
        good = good and type(listed) is list and all(type(text) is str for text in texts)
        found = Checkpoint(freeze(statement), signature, tuple(rows))
        good = good and type(statement["at"]) is float and _are_heads(found)
    except (ArgumentsError, KeyError, TypeError, ValueError, AttributeError):
        good = False
    if not good:
        raise ConfigError(f"{name} is not a checkpoint; `governor-agents audit checkpoint --out FILE` writes one")
    return found


def _are_heads(checkpoint: Checkpoint) -> bool:
    shape = (str, str, int, str, int)
    return all(tuple(map(type, (h.kind, h.id, h.seq, h.head, h.v))) == shape for h in checkpoint.heads)


def broken(checkpoint: Checkpoint, public: Sequence[Ed25519PublicKey], tenant: str | None) -> str:
    """Empty when one of these keys signed all of it for this tenant, else what is wrong with it, as words behind it."""
    from cryptography.exceptions import InvalidSignature

    said = checkpoint.said
    signer = next((key for key in public if key_id(key) == said["key"]), None)
    if signer is None:
        return f"is signed with key {said['key']}, which is not the one at hand"
    try:
        signer.verify(checkpoint.signature, _PURPOSE + checkpoint.statement)
    except InvalidSignature:
        return "has a wrong signature: it was changed, or is not ours"
    if tenant is not None and said["tenant"] != tenant:
        return f"belongs to another tenant, {said['tenant']}"
    if said["pages"] != [sha256(page) for page in checkpoint.pages]:
        return "has another list of heads than the one that was signed"
    return ""


class Series:
    """Checkpoints of one place, added oldest first: what is wrong with them, and what the sound ones pin.

    Every pin counts, not only the last one of a trail: who rewrites a trail and waits has the rewritten one pinned too.

    ``public`` are the keys that may have signed, ``tenant`` whose they must be (None: anybody's); ``source`` names the
    place in words that stand before "checkpoint 7".
    """

    def __init__(self, public: Sequence[Ed25519PublicKey], tenant: str | None, source: str = "") -> None:
        self._public = public
        self._tenant = tenant
        self._source = source
        self.findings: list[Finding] = []
        self.pins: dict[tuple[str, str], list[Pin]] = {}
        self.digests: dict[int, str] = {}
        self.number = 0

    def add(self, checkpoint: Checkpoint) -> None:
        """Take one in: of a store, whose checkpoints follow one another without a gap."""
        said = checkpoint.said
        number, expected = checkpoint.number, self.number + 1
        if number != expected:
            self._lost(number, f"comes next, but checkpoint {expected} is missing")
        elif said["previous"] != self.digests.get(self.number, ""):
            self._lost(number, "does not follow the one before it")
        self.number = number
        self.hear(checkpoint)

    def hear(self, checkpoint: Checkpoint) -> bool:
        """Take one in by itself, such as a published one; False when it proves nothing and pins nothing."""
        if why := broken(checkpoint, self._public, self._tenant):
            self._lost(checkpoint.number, why)
            return False
        self.digests[checkpoint.number] = checkpoint.digest
        name = f"{self._source}checkpoint {checkpoint.number}"
        for head in checkpoint.heads:
            known = self.pins.setdefault(head.name, [])
            if not known or known[-1].head != head:
                known.append(Pin(head, name))
        return True

    def end(self, number: int, digest: str) -> None:
        """Compare with what their record says of the last one."""
        if number != self.number or digest != self.digests.get(number, ""):
            self._lost(number, f"is the last one by its record, but the last one found is {self.number}")

    def compare(self, published: Checkpoint, name: str) -> None:
        """Compare with a sound published one, of which this place must have the same."""
        number = published.number
        if number > self.number:
            self._lost(
                number, f"is published in {name}, but the store ends at {self.number}: an older store was put back"
            )
        elif self.digests.get(number) != published.digest:
            self._lost(number, f"is not the one published in {name}: the checkpoints were made anew")

    def unreadable(self, why: str) -> None:
        """Hear of one that cannot be read."""
        self.number += 1
        self._lost(self.number, f"cannot be read: {why}")

    def _lost(self, number: int, means: str) -> None:
        told = f"{self._source}checkpoint {number} {means}"
        self.findings.append(Finding("checkpoint", "checkpoint", str(number), 0, told))
