"""What the driver's errors mean, in one line, with the mend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from governor_agents.errors import StoreError, StoreUnavailable

_MEANINGS: Final[Mapping[int, str]] = {
    13: "the user may not do this; give it the role readWrite on this database (docs/mongodb.md)",
    18: "the server refuses user or password; correct them in the URL (authSource names the database they stand in)",
    11: "the server knows no such user; correct the URL (authSource names the database it stands in)",
    8000: "the server refuses user or password; correct them in the URL",
    20: "the server cannot do this here; a replica set can",
    50: "the server took too long",
    123: "the server is no member of a replica set, though the URL says so; correct replicaSet",
    262: "the server took too long",
    14031: "the server has no room left; free some on its disk",
}
_AGAIN: Final = frozenset({
    6, 7, 24, 43, 50, 63, 64, 79, 89, 91, 100, 112, 133, 150, 189, 202, 234, 237, 262, 290, 317, 358, 384,
    9001, 10058, 10107, 11600, 11602, 13388, 13435, 13436, 14031,
})  # fmt: skip
"""Codes of a server that fails over, shuts down, is short of something or gave up waiting: a later try may do."""

_REFUSED: Final = frozenset({11, 13, 18, 123, 8000})
"""Codes of a refusal that somebody mends at the server while a worker goes on trying."""


@contextmanager
def translated(shown: str) -> Iterator[None]:
    """Turn the driver's errors into ours. ``shown`` is the place, without a password."""
    try:
        yield
    except (PyMongoError, BSONError) as error:
        raise failure(shown, error) from error
    except RuntimeError as error:
        if "event loop" not in str(error):
            raise
        raise StoreError(
            f"{shown}: the client that was passed lives on another event loop; make the store there"
        ) from error


def failure(shown: str, error: Exception) -> StoreError:
    """The error of ours that says what this one of the driver's means."""
    if isinstance(error, NotPrimaryError):
        return StoreUnavailable(
            f"{shown}: the server is not the primary (any more); replicaSet=NAME in the URL finds it"
        )
    if isinstance(error, ServerSelectionTimeoutError):
        return StoreUnavailable(f"{shown}: {_selection(str(error))}")
    if isinstance(error, NetworkTimeout):
        return StoreUnavailable(f"{shown}: the server did not answer in time")
    if isinstance(error, ConnectionFailure):
        return StoreUnavailable(f"{shown}: the connection broke ({_short(str(error))})")
    if isinstance(error, (WTimeoutError, WriteConcernError)):
        return StoreUnavailable(f"{shown}: a majority did not confirm the write in time; it may stand or not")
    if isinstance(error, ExecutionTimeout):
        return StoreUnavailable(f"{shown}: the server took too long")
    if isinstance(error, DocumentTooLarge):
        return StoreError(f"{shown}: the index fields or names of a record are too large for one document")
    if isinstance(error, OperationFailure):
        return _operation(shown, error)
    if isinstance(error, ConfigurationError):
        return StoreUnavailable(f"{shown}: {_configuration(str(error))}")
    if isinstance(error, InvalidOperation):
        return StoreError(f"{shown}: the client is closed or belongs to somebody else ({_short(str(error))})")
    if isinstance(error, BSONError):
        return StoreError(f"{shown}: cannot be written or read as BSON ({_short(str(error))})")
    return StoreError(f"{shown}: {_short(str(error))}")


def _operation(shown: str, error: OperationFailure) -> StoreError:
    code = error.code
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        if details.get("writeConcernErrors"):
            return StoreUnavailable(f"{shown}: a majority did not confirm the write in time; it may stand or not")
        code = next((each.get("code") for each in details.get("writeErrors", ())), code)
    said = _short(str((error.details or {}).get("errmsg") or error))
    if "journaling" in said:
        return StoreUnavailable(
            f"{shown}: the server keeps no journal, so a crash forgets decisions; start it with one"
        )
    text = f"{shown}: {_MEANINGS.get(code or 0, 'the server refused')} (MongoDB {code}: {said})"
    retried = error.has_error_label("RetryableWriteError") or error.has_error_label("TransientTransactionError")
    return StoreUnavailable(text) if retried or code in _AGAIN | _REFUSED else StoreError(text)


def _selection(said: str) -> str:
    """The driver lists all it knows of all servers; the first reason is what helps."""
    reason = _short(re.split(r"(?: \(configured timeouts|, Timeout: )", said)[0])
    if "SSL" in said or "certificate" in said.lower():
        return (
            f"no server answers under TLS as asked for ({reason}); correct tls and tlsCAFile in the URL, or the server"
        )
    if "closed" in reason.lower():
        return f"the server ends connections at once ({reason}); does it want tls=true in the URL?"
    if "No replica set members" in said or "replica set" in reason:
        return f"no primary of this replica set answers ({reason}); correct replicaSet, or look at the servers"
    if "No servers found yet" in said:
        return "nothing answers there in the way asked for; correct host, port and tls in the URL, or start the server"
    return f"no server answers ({reason}); start it, or correct the URL"


def _configuration(said: str) -> str:
    if "wire version" in said:
        return "the server is older than MongoDB 5.0; upgrade it"
    if "DNS" in said or "resolv" in said or "SRV" in said:
        return f"the DNS does not name the servers ({_short(said)}); correct the name in the mongodb+srv URL"
    return f"the driver cannot work so ({_short(said)}); correct the URL"


def _short(said: str) -> str:
    line = " ".join(said.split())
    line = re.sub(r",? full error: .*| \(configured timeouts.*", "", line)
    return line if len(line) <= 200 else line[:199] + "…"
