"""Secret texts that stand for one thing, once: links in mails, sessions of the pages.

Random, not signed: what was decided elsewhere, or revoked, must stop working at once, which a signed text that carries
its own meaning cannot. Only the SHA-256 of the text is stored, as the id of its record.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256

from pydantic import TypeAdapter, ValidationError

from governor_agents.core.channels import Token
from governor_agents.core.ports import Record
from governor_agents.errors import NotFound, SnapshotError, StoreUnavailable, TokenExpired, TokenUsed
from governor_agents.runs import Runs, sent

_TOKEN: TypeAdapter[Token] = TypeAdapter(Token)

KEPT = 7 * 86_400.0
"""Seconds after its time for which a token's record stays, so that late visitors are told why."""

MAX_TRIES = 100

UNKNOWN = "this link is unknown"


def _id(text: str) -> str:
    return sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


class Tokens:
    """The tokens of one tenant. Its coroutines run on the governor loop."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def issue(
        self,
        purpose: str,
        person: str,
        subject: str,
        *,
        within: float,
        digest: str = "",
        not_after: float | None = None,
        holder: str = "",
    ) -> str:
        """See `core.channels.Tokens`."""
        text = secrets.token_urlsafe(32)
        until = await self._runs.now() + within
        until = until if not_after is None else min(until, not_after)
        body = _TOKEN.dump_json(Token(purpose, person, subject, until, digest, holder=holder))
        row = Record("token", self._runs.tenant, _id(text), body, due=until + KEPT)
        await sent(partial(self._runs.store.insert, row, op=secrets.token_hex(8)))
        return text

    async def look(self, text: str, purpose: str) -> Token:
        """See `core.channels.Tokens`."""
        return (await self._look(text, purpose))[1]

    async def _look(self, text: str, purpose: str) -> tuple[Record, Token]:
        record = await self._runs.store.load("token", self._runs.tenant, _id(text))
        token = None if record is None else _read(record)
        if record is None or token is None or token.purpose != purpose:
            raise NotFound(UNKNOWN)
        if token.until <= await self._runs.now():
            raise TokenExpired
        return record, token

    async def use(self, text: str, purpose: str, answer: str) -> Token:
        """See `core.channels.Tokens`."""

        def step(token: Token) -> Token:
            if token.answer and token.answer != answer:
                raise TokenUsed
            return replace(token, answer=answer)

        return await self._change(text, purpose, step)

    async def release(self, text: str, purpose: str, answer: str) -> None:
        """See `core.channels.Tokens`."""
        await self._change(text, purpose, lambda token: replace(token, answer="") if token.answer == answer else token)

    async def mistake(self, text: str, purpose: str, most: int) -> Token:
        """See `core.channels.Tokens`."""

        def step(token: Token) -> Token:
            asked = token.asked + 1
            return replace(token, asked=asked, answer=token.answer or ("(too many mistakes)" if asked >= most else ""))

        return await self._change(text, purpose, step)

    async def revoke(self, text: str) -> None:
        """See `core.channels.Tokens`."""
        record = await self._runs.store.load("token", self._runs.tenant, _id(text))
        delete = partial(self._runs.store.delete, "token", self._runs.tenant, _id(text))
        while record is not None and not await sent(partial(delete, record.v)):
            record = await self._runs.store.load("token", self._runs.tenant, _id(text))

    async def _change(self, text: str, purpose: str, step: Callable[[Token], Token]) -> Token:
        op = secrets.token_hex(8)
        for _ in range(MAX_TRIES):
            record, token = await self._look(text, purpose)
            changed = step(token)
            if changed == token:
                return token
            fresh = Record("token", record.tenant, record.id, _TOKEN.dump_json(changed), due=record.due, v=record.v)
            if (await sent(partial(self._runs.store.swap, fresh, op=op))).won:
                return changed
        raise StoreUnavailable(f"a token changed {MAX_TRIES} times while one write was tried; try again")


def _read(record: Record) -> Token:
    try:
        return _TOKEN.validate_json(record.body)
    except ValidationError as error:
        raise SnapshotError(f"a token is not readable: {error.errors()[0]['msg']}") from None
