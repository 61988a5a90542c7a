"""What errors of Redis mean to us: one clear line each, in the terms of the contract."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Final

from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as TimedOut

from governor_agents.errors import StoreError, StoreUnavailable
from governor_agents.stores.redis.place import Place

_ANSWERS: Final[tuple[tuple[str, str], ...]] = (
    ("WRONGPASS", "the user or password is not the server's; mend it in the URL"),
    ("Authentication required", "the server asks for a password; write it into the URL, redis://:PASSWORD@HOST"),
    ("already authenticated", "the server asks for a password; write it into the URL, redis://:PASSWORD@HOST"),
    ("invalid password", "the user or password is not the server's; mend it in the URL"),
    ("without any password configured", "the server knows no password, and the URL has one; leave it out"),
    ("READONLY", "this server is a read-only replica; name the master, or wait until the failover is over"),
    ("LOADING", "the server has started and is still reading its file"),
    ("CLUSTERDOWN", "the cluster is not whole: a part of its slots has no server"),
    ("MASTERDOWN", "this replica has no master"),
    ("TRYAGAIN", "the cluster is moving these keys from one server to another"),
    ("CROSSSLOT", "the cluster does not take the hash tags of our keys; it is none, or a proxy stands before it"),
    ("OOM", "the server's memory is full (maxmemory); give it more"),
    ("MISCONF", "the server cannot write its file; look at its log and its disk"),
    ("NOREPLICAS", "the server has fewer replicas than its own min-replicas-to-write asks for"),
    ("UNKILLABLE", "the server is busy with a script"),
    ("BUSY", "the server is busy with a script"),
    ("cluster support disabled", "the server is no node of a cluster; begin the URL with redis"),
    ("unknown command 'SENTINEL'", "what answers there is no Sentinel"),
    ("DB index is out of range", "the server has no such database"),
    ("max number of clients", "the server has as many clients as it takes (maxclients)"),
)
"""A part of what a server says, and what that means. Each may be mended there while we wait."""


def failure(error: BaseException, place: Place) -> StoreError:
    """Our error for one of redis-py or of a socket."""
    said, shown = _said(error), place.shown
    for words, meaning in _ANSWERS:
        if words in said:
            return StoreUnavailable(f"{shown}: {meaning}")
    if "NOPERM" in said:
        return StoreUnavailable(f"{shown}: the user lacks a permission ({said}); docs/redis.md lists what is needed")
    if isinstance(error, AuthenticationError):
        return StoreUnavailable(f"{shown}: the user or password is not the server's; mend it in the URL")
    if "WRONGTYPE" in said:
        return StoreError(f"{shown}: something else lies under a key of ours; give it, or us, another namespace")
    if isinstance(error, TimedOut | TimeoutError | asyncio.TimeoutError):
        may = "; if it has no TLS, begin the URL with redis" if place.tls else ""
        return StoreUnavailable(f"{shown}: the server did not answer within {place.timeout:g} s{may}")
    if isinstance(error, NotConnected | OSError):
        return StoreUnavailable(f"{shown}: {_lost(error, said, place)}")
    return StoreError(f"{shown}: the server says {said!r}")


def forbidden(reply: object) -> bool:
    """True when the server does not let us run scripts at all."""
    said = _said(reply) if isinstance(reply, ResponseError) else ""
    return "NOPERM" in said or "unknown command" in said or "not allowed" in said


def _said(error: object) -> str:
    """The server's words, without the arguments that it repeats: they may be anybody's data."""
    first = str(error).partition("\n")[0].strip()
    first = re.split(r",? with args beginning|: `", first)[0]
    return f"{_code(error)}{first}"[:200]


def _code(error: object) -> str:
    """redis-py cuts off the code of the answers for which it has a class."""
    name = type(error).__name__
    codes = {
        "BusyLoadingError": "LOADING ",
        "ReadOnlyError": "READONLY ",
        "ClusterDownError": "CLUSTERDOWN ",
        "MasterDownError": "MASTERDOWN ",
        "TryAgainError": "TRYAGAIN ",
        "AskError": "TRYAGAIN ",
        "MovedError": "TRYAGAIN ",
        "NoPermissionError": "NOPERM ",
        "OutOfMemoryError": "OOM ",
        "ClusterCrossSlotError": "CROSSSLOT ",
    }
    return codes.get(name, "")


def _lost(error: BaseException, said: str, place: Place) -> str:
    chain = [error, error.__cause__, error.__context__]
    words = " ".join(str(each) for each in chain if each is not None)
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in chain) or "CERTIFICATE_VERIFY_FAILED" in words:
        return "the server's certificate is not to be trusted; name its authority with ssl_ca_certs=FILE"
    if any(isinstance(each, ssl.SSLError) for each in chain) or "SSL" in words or "WRONG_VERSION_NUMBER" in words:
        return "the server does not speak TLS as asked for; begin the URL with redis:// if it has none"
    if "refused" in words or "Connect call failed" in words:
        return "cannot be reached: nothing listens there"
    if "No such file" in words:
        return "cannot be reached: there is no such socket"
    if "Name or service not known" in words or "nodename nor servname" in words or "name resolution" in words:
        return "cannot be reached: no such host"
    may = "" if place.tls or place.socket else "; if the server wants TLS, begin the URL with rediss"
    return f"the connection is lost ({said or type(error).__name__}){may}"


KNOWN: Final = (RedisError, OSError, TimeoutError, asyncio.TimeoutError)
"""What connections raise."""
