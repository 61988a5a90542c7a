"""The Lua scripts: each write is one of them, and so one atomic unit and one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from governor_agents.core.ports import OPS_KEPT
from governor_agents.stores.redis.keys import FIELDS, MARK
from governor_agents.stores.redis.wire import Command, Reply


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the digest under which a server that has seen it knows it."""

    code: str
    digest: str

    def known(self, keys: Sequence[bytes], values: Sequence[Any]) -> Command:
        """The command that runs it on a server that has seen it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *values)

    def whole(self, keys: Sequence[bytes], values: Sequence[Any]) -> Command:
        """The command that runs it on any."""
        return ("EVAL", self.code, len(keys), *keys, *values)


def not_known(reply: Reply) -> bool:
    """True when the server has not seen the script, or has forgotten it since it was restarted."""
    return isinstance(reply, Exception) and (type(reply).__name__ == "NoScriptError" or "NOSCRIPT" in str(reply))


def _read(name: str) -> Script:
    here = files("governor_agents.stores.redis")
    names = ", ".join(f"'{field}'" for field in FIELDS)
    constants = f"local fields = {{{names}}}\nlocal ops_length = {MARK * OPS_KEPT}\n"
    code = constants + "".join((here / f"{each}.lua").read_text("utf-8") for each in ("common", name))
    return Script(code, sha1(code.encode(), usedforsecurity=False).hexdigest())


WRITE: Final = _read("write")
DELETE: Final = _read("delete")
ADD_BELOW: Final = _read("add_below")
