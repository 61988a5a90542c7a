"""What a MongoDB URL says to us. Everything else in it is the driver's."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri, split_options

from governor_agents.core.urls import shown as without_passwords
from governor_agents.errors import ConfigError

SCHEMES: Final = ("mongodb", "mongodb+srv")
DATABASE: Final = "governor"
PREFIX: Final = "ga"
WTIMEOUT: Final = 10_000
"""Milliseconds after which a majority that does not confirm makes a write doubtful, where the URL does not say."""

_QUOTED: Final = "write : / ? # @ and % in a user name or password as %3A %2F %3F %23 %40 and %25"
_OURS: Final = ("collection", "unsafe", "j")
_PREFIX: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_NOT_IN_DATABASE: Final = re.compile(r'[/\\. "$*<>:|?\0]')


@dataclass(frozen=True, slots=True)
class Place:
    """What a MongoDB URL says.

    ``url`` opens the store again and may hold a password; ``shown`` names the place in messages and holds none.
    ``driver`` is the URL without our own options. ``concern`` is the write concern that the URL asks for, as far as it
    is weaker than ours. ``given`` are the names of the driver's options, in lower case.
    """

    url: str = field(repr=False)
    shown: str
    driver: str = field(repr=False)
    database: str = DATABASE
    prefix: str = PREFIX
    unsafe: bool = False
    lines: tuple[str, ...] = ()
    concern: tuple[int | str, bool] = ("majority", True)
    wtimeout: int = WTIMEOUT
    given: frozenset[str] = frozenset()

    @classmethod
    def of(cls, url: str) -> Place:
        """Read a URL. Raises `ConfigError`, in which no password stands.

        ``mongodb://[user:password@]host[:port][,host…][/database][?options]``, or ``mongodb+srv://``. The database is
        ``governor`` when the path names none. Options of our own: ``collection``, with which the names of the
        collections begin (``ga``), and ``unsafe=allow`` to open a store whose settings could lose acknowledged
        decisions. (``j`` is read too: drivers call it ``journal``.) All others go to the driver as they are.
        """
        scheme, _, rest = url.partition("://")
        location, question, query = rest.partition("?")
        authority, _, path = location.rpartition("/") if "/" in location else (location, "", "")
        shown = without_passwords(url).partition("?")[0]
        if scheme not in SCHEMES or not authority.rpartition("@")[2]:
            raise ConfigError(f"{shown}: write mongodb://[user:password@]host[:port]/database, or mongodb+srv://…")
        if "/" in authority or "@" in path + query or "@" in authority.rpartition("@")[0]:
            raise ConfigError(f"{shown}: {_QUOTED}")
        options = parse_qsl(query.replace(";", "&"), keep_blank_values=True)
        ours = {name: value for name, value in options if name in _OURS}
        theirs = [part for part in re.split("[&;]", query) if part.partition("=")[0] not in _OURS and part]
        driver = f"{scheme}://{location}{'/' if theirs and '/' not in location else ''}"
        place = cls(
            url=url,
            shown=shown,
            driver=driver + (question + "&".join(theirs) if theirs else ""),
            database=unquote(path) or DATABASE,
            prefix=ours.get("collection", PREFIX),
            unsafe=_allowed(shown, ours.get("unsafe", "")),
            lines=tuple(_lines(options)),
            concern=_concern(options),
            wtimeout=_wtimeout(shown, options),
            given=frozenset(name.lower() for name, _ in options),
        )
        _refuse(place)
        return place


def _allowed(shown: str, text: str) -> bool:
    if text not in ("", "allow"):
        raise ConfigError(f"{shown}: write unsafe=allow, or leave it out")
    return text == "allow"


def _wtimeout(shown: str, options: list[tuple[str, str]]) -> int:
    found = {name.lower(): value for name, value in options}
    text = found.get("wtimeoutms", found.get("wtimeout", str(WTIMEOUT)))
    if not text.isdecimal() or not 0 < int(text) <= 3_600_000:
        raise ConfigError(f"{shown}: wtimeoutMS is a number of milliseconds, at most an hour")
    return int(text)


def _refuse(place: Place) -> None:
    if _NOT_IN_DATABASE.search(place.database) or len(place.database.encode()) > 63:
        raise ConfigError(f"{place.shown}: a database of MongoDB cannot have this name; write letters, digits, - and _")
    if not _PREFIX.fullmatch(place.prefix) or place.prefix.startswith("system."):
        raise ConfigError(
            f"{place.shown}: collection={place.prefix!r} begins no name of a collection; write letters, digits, _"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the driver gives them again when it connects
        _refuse_options(place)
        if place.driver.startswith("mongodb+srv://"):
            return  # what stands behind it is asked of the DNS, when the store is opened
        try:
            parse_uri(place.driver)
        except (PyMongoError, ValueError) as error:
            # Not its own words, nor as the cause: some of them repeat the URL.
            mend = _QUOTED if "RFC 3986" in str(error) else "write mongodb://[user:password@]host[:port]/database"
            raise ConfigError(f"{place.shown}: the driver cannot read this URL; {mend}") from None


def _refuse_options(place: Place) -> None:
    """One by one, since the driver does not say which one it means. A mistyped ``tls`` must not be ignored."""
    for option in filter(None, place.driver.partition("?")[2].split("&")):
        try:
            split_options(option, True, False)
        except (PyMongoError, ValueError):
            name = option.partition("=")[0]
            raise ConfigError(
                f"{place.shown}: the driver does not know the option {name}, or not this value of it; correct it"
            ) from None


def _lines(options: list[tuple[str, str]]) -> list[str]:
    found = {name.lower(): value for name, value in options}
    lines = []
    if found.get("w") in ("0", "1"):
        lines.append(
            f"w={found['w']} forgets what was answered when a primary fails; write w=majority, or leave it out"
        )
    if found.get("j", found.get("journal", "")).lower() == "false":
        lines.append("j=false forgets what was answered when a server is killed; write j=true, or leave it out")
    if (where := found.get("readpreference", "primary")).lower() != "primary":
        lines.append(f"readPreference={where} shows old records; write readPreference=primary, or leave it out")
    if (level := found.get("readconcernlevel", "majority").lower()) in ("local", "available"):
        lines.append(
            f"readConcernLevel={level} shows what may be taken back; write readConcernLevel=majority, or leave it out"
        )
    return lines


def _concern(options: list[tuple[str, str]]) -> tuple[int | str, bool]:
    found = {name.lower(): value for name, value in options}
    weak = found.get("w") in ("0", "1")
    return (1 if weak else "majority"), found.get("j", found.get("journal", "")).lower() != "false"
