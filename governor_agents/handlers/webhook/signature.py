"""The signature of a webhook: ``GOVERNOR-Signature: t=1700000000,v1=HEX``.

``v1`` is HMAC-SHA256 under the shared secret over the time in decimal digits, a dot, and the body as it was sent. While
a secret is being changed there is one ``v1`` for each; a receiver accepts any that it knows.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Sequence
from typing import Any

from governor_agents.errors import SignatureInvalid

HEADER = "GOVERNOR-Signature"

TOLERANCE = 300
"""Seconds by which the time of a signature may differ from the receiver's clock."""

MIN_SECRET = 32
"""The fewest characters of a secret."""

_LONGEST = 2_000
_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{64}", re.ASCII)


def sign(body: bytes, secrets: Sequence[str], at: float) -> str:
    """The value of the header for a body sent at ``at``, epoch seconds."""
    stamp = str(int(at))
    return ",".join([f"t={stamp}", *(f"v1={_mac(stamp, body, secret)}" for secret in secrets)])


def _mac(stamp: str, body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def received(body: bytes, header: str | None, secrets: Sequence[str], *, now: float | None = None) -> dict[str, Any]:
    """What a webhook says, once it is proved that it comes from who knows a secret, and is not old.

    ``body`` is the request's body as bytes, before anything has read it; ``header`` the value of `HEADER`. ``secrets``
    are all that are good now, two while one is being changed. The same event may come more than once: go by its ``id``.
    Raises `SignatureInvalid`, and nothing else, whatever the request holds.
    """
    stamp, macs = _parts(header or "")
    at = time.time() if now is None else now
    if abs(at - int(stamp)) > TOLERANCE:
        raise SignatureInvalid("the signature's time is more than five minutes away from this clock")
    good = [hmac.compare_digest(mac, _mac(stamp, body, secret)) for secret in secrets if secret for mac in macs]
    if not any(good):
        raise SignatureInvalid
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise SignatureInvalid("the body is no JSON object")
    return said


def _parts(header: str) -> tuple[str, list[str]]:
    fields = [field.partition("=") for field in header.split(",")] if len(header) <= _LONGEST else []
    times = [value for name, _, value in fields if name == "t"]
    macs = [value for name, _, value in fields if name == "v1"]
    whole = all(name for name, _, _ in fields)  # names of later versions are passed over
    good = whole and len(times) == 1 and _TIME.fullmatch(times[0]) and macs and all(map(_MAC.fullmatch, macs))
    if not good:
        raise SignatureInvalid("the signature header is missing, or is none")
    return times[0], macs
