"""Randomness, in one place: ids of runs and nonces of approvals."""

from __future__ import annotations

import secrets
from base64 import b32encode


def nonce() -> str:
    """128 random bits, as 26 letters and digits."""
    return b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def run_id() -> str:
    """A fresh run id: ``run_`` and 20 letters and digits (100 random bits)."""
    return "run_" + nonce()[:20]
