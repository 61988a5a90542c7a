"""Sealed stores by URL, for the store kit and the other processes in it; ``GOVERNOR_KEYS`` names their key file."""

import os
from typing import Any

from governor_agents.keys import Keys
from governor_agents.stores import open_store
from governor_agents.stores.sealed import SealedStore


def open_sealed(url: str, **options: Any) -> SealedStore:
    """The store behind the URL, sealed."""
    return SealedStore(open_store(url, **options), Keys.from_file(os.environ["GOVERNOR_KEYS"]))
