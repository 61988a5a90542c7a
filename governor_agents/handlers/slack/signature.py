"""Is a request from Slack? Its signature, over the raw bytes, before anything is parsed.

slack-sdk has a verifier too. It raises on a timestamp that is no number, on a signature that is not ASCII and on a body
that is not UTF-8; this one answers False to whatever is not a signature, and knows two secrets while one is replaced.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from governor_agents.errors import ConfigError

WINDOW = 300
"""Seconds by which the time that Slack wrote may differ from ours, in either direction."""

TIMESTAMP = "x-slack-request-timestamp"
SIGNATURE = "x-slack-signature"

_SECONDS = re.compile(r"[0-9]{1,12}")


class SigningSecrets:
    """The signing secrets of a Slack app: one, or two while one is being replaced. Shows nothing of them.

    Raises `ConfigError` for none, for an empty one, and for more than two.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        if not 1 <= len(secrets) <= 2 or not all(secret.strip() for secret in secrets):
            raise ConfigError(
                f"{len(secrets)} signing secrets were given, or an empty one; give one, or two while rotating"
                " (SLACK_SIGNING_SECRET=NEW,OLD)"
            )
        self._secrets = tuple(secret.strip().encode("utf-8", "surrogateescape") for secret in secrets)

    @classmethod
    def of(cls, text: str) -> SigningSecrets:
        """From one text, the secrets with a comma between them. Raises `ConfigError`."""
        return cls(text.split(","))

    def __repr__(self) -> str:
        return f"SigningSecrets({len(self._secrets)})"

    def vouch(self, headers: Mapping[str, str], body: bytes, now: float) -> bool:
        """True when one of the secrets signed this body within `WINDOW` seconds of ``now``. Raises nothing.

        Names of headers are compared in lower case; a header that comes twice is no signature.
        """
        found = {
            name: [text for key, text in headers.items() if key.lower() == name] for name in (TIMESTAMP, SIGNATURE)
        }
        if any(len(texts) != 1 for texts in found.values()):
            return False
        return self._vouch(found[TIMESTAMP][0], found[SIGNATURE][0], body, now)

    def _vouch(self, timestamp: str, signature: str, body: bytes, now: float) -> bool:
        if not _SECONDS.fullmatch(timestamp) or abs(now - int(timestamp)) > WINDOW:
            return False
        given = signature.encode("utf-8", "surrogatepass")
        base = b"v0:" + timestamp.encode("ascii") + b":" + body
        signed = [b"v0=" + hmac.digest(secret, base, hashlib.sha256).hex().encode() for secret in self._secrets]
        return sum(hmac.compare_digest(each, given) for each in signed) > 0  # no short cut: each takes its time
