"""The keys of one installation: what seals stored bytes, names people without naming them, chains and signs the audit.

One file, JSON, mode 0600, holds it all::

    {"governor_agents_keys": 1,
     "root": "<32 bytes, base64>",
     "sealing": [{"id": "5f0c9a1e", "created": 1790000000, "key": "<32 bytes, base64>"}, ...]}

**The root does not rotate.** From it come, by HKDF-SHA256 and each under a label of its own, the secrets that must
stay the same for as long as the data lives: those of names and blob ids (they are looked up again), of the audit chain
and its signatures (they are verified again), and of idempotency keys (the other side knows them).

**Sealing keys rotate.** The newest one seals, all of them open; a sealed text says which one it needs. An old one may
be taken out of the file when nothing is sealed under it any more. A process that meets a key id which it does not know
looks at the file again.

**How many messages.** AES-256-GCM with random 96-bit nonces stays safe up to 2**32 messages per key (NIST SP 800-38D).
A gated call seals about twenty: rotate before a key has served a hundred million calls.

Nothing here shows a key: not ``repr``, not an error, not a copy.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
import shlex
import stat
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from governor_agents.core.calls import freeze, thaw
from governor_agents.core.codec import SEALED
from governor_agents.errors import ArgumentsError, KeyFileError, MissingExtra, SealBroken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT: Final = "governor_agents_keys"
SIZE: Final = 32
LARGEST: Final = 2**20
"""Bytes; a key file is never longer."""

_ID: Final = 8
_NONCE: Final = 12
_HEAD: Final = len(SEALED) + _ID + _NONCE


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A key of the ring, without its bytes. ``created`` is epoch seconds."""

    id: str
    created: float


@dataclass(frozen=True, slots=True, repr=False)
class _Ring:
    """What a key file says, ready for use."""

    listed: tuple[SealingKey, ...]
    ciphers: Mapping[str, AESGCM]
    mark: tuple[int, ...] = ()


class Keys:
    """Seals and opens, names, and holds the secrets of audit and idempotency. Make one with `from_file` or `generate`.

    ``audit`` is the 32-byte key of the audit chain, ``signing`` the Ed25519 key of its checkpoints, ``idempotency`` the
    32-byte secret of idempotency keys.
    """

    def __init__(self, document: Mapping[str, Any], *, path: Path | None = None, mark: tuple[int, ...] = ()) -> None:
        derive = _deriver(_secret(document.get("root"), "root"))
        self.path: Path | None = path
        self.audit: bytes = derive("audit")
        self.idempotency: bytes = derive("idempotency")
        self.signing: Ed25519PrivateKey = _signing(derive("signing"))
        self._names = derive("names")
        self._ring = _ring(document, mark)
        self._lock = threading.Lock()

    @classmethod
    def generate(cls) -> Keys:
        """Fresh keys that live in memory only."""
        return cls(_fresh())

    @classmethod
    def create(cls, path: str | Path) -> Keys:
        """A new key file with one sealing key. Raises `KeyFileError` when there is one already."""
        path = Path(path)
        with _alone(path):
            if path.exists():
                raise KeyFileError(f"{path}: there is a key file already; `governor-agents keys rotate` adds to it")
            _write(path, _fresh())
        return cls.from_file(path)

    @classmethod
    def from_file(cls, path: str | Path) -> Keys:
        """The keys of a file.

        Raises `KeyFileError` when it cannot be used, or be read by anybody but its owner; `MissingExtra` without
        the library ``cryptography``.
        """
        path = Path(path)
        document, mark = _read(path)
        try:
            return cls(document, path=path, mark=mark)
        except ValueError as error:
            raise KeyFileError(f"{path}: {error}") from None

    @classmethod
    def rotate(cls, path: str | Path) -> Keys:
        """Add a sealing key, the newest from now on. The file is replaced in one step; raises like `from_file`."""
        path = Path(os.path.realpath(path))  # a link goes on leading to the file
        with _alone(path):
            cls.from_file(path)  # never make more of a file that is not whole
            document, _ = _read(path)
            _write(path, {**document, "sealing": [*document["sealing"], _sealing_key()]})
        return cls.from_file(path)

    @property
    def sealing(self) -> tuple[SealingKey, ...]:
        """The ring, oldest first; the last one seals."""
        return self._ring.listed

    def seal(self, plain: bytes, aad: bytes) -> bytes:
        """The bytes sealed under the newest key and bound to ``aad``."""
        ring = self._ring
        id = ring.listed[-1].id
        head = SEALED + id.encode()
        nonce = os.urandom(_NONCE)
        return head + nonce + ring.ciphers[id].encrypt(nonce, plain, head + aad)

    def open(self, data: bytes, aad: bytes) -> bytes:
        """What was sealed. Raises `SealBroken`: not sealed, sealed by other keys, changed, or in another's place."""
        from cryptography.exceptions import InvalidTag

        if not data.startswith(SEALED) or len(data) < _HEAD:
            raise SealBroken("it is not sealed, and keys are set: it was not written under these keys")
        head, nonce = data[: len(SEALED) + _ID], data[len(SEALED) + _ID : _HEAD]
        cipher = self._cipher(head[len(SEALED) :].decode("ascii", "replace"))
        try:
            return cipher.decrypt(nonce, data[_HEAD:], head + aad)
        except InvalidTag:
            raise SealBroken(
                "the seal is broken: its bytes, or what stands beside them, were changed, or the key is another one"
            ) from None

    def name(self, text: str) -> str:
        """A name that says nothing of the text to whoever lacks the keys: 40 hex digits, the same for the same text."""
        return hmac.digest(self._names, text.encode(), "sha256")[:20].hex()

    def __repr__(self) -> str:
        return f"Keys(sealing={[key.id for key in self.sealing]})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are not copied or serialised; read them from their file")

    def _cipher(self, id: str) -> AESGCM:
        if id not in self._ring.ciphers and self.path is not None:
            self._reload(self.path)
        found = self._ring.ciphers.get(id)
        if found is None:
            shown = id if id.isascii() and id.isalnum() else "?"
            raise SealBroken(f"it is sealed under key {shown}, which is not among the keys that are set")
        return found

    def _reload(self, path: Path) -> None:
        """Read the file again if it has changed: somebody may have rotated."""
        with self._lock:
            try:
                if _read(path)[1] == self._ring.mark:
                    return
                fresh = Keys.from_file(path)
            except KeyFileError as error:
                raise SealBroken(f"it is sealed under a key that is not known, and {error}") from None
            if not hmac.compare_digest(fresh._names, self._names):
                raise SealBroken(f"{path} holds another root than when this process started; restore it, or restart")
            self._ring = fresh._ring


def chosen(keys: Keys | str | Path | None = None) -> Keys | None:
    """These keys, or those of this file, else of the file that ``$GOVERNOR_KEYS`` names; None without any."""
    given = keys or os.environ.get("GOVERNOR_KEYS") or None
    return Keys.from_file(given) if isinstance(given, str | Path) else given


def _deriver(root: bytes) -> Callable[[str], bytes]:
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ModuleNotFoundError:
        raise MissingExtra(
            "keys need cryptography, which is not installed: pip install 'governor-agents[keys]'"
        ) from None

    def derive(label: str) -> bytes:
        return HKDF(SHA256(), SIZE, salt=None, info=b"governor-agents/1/" + label.encode()).derive(root)

    return derive


def _signing(secret: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(secret)


def _fresh() -> dict[str, Any]:
    return {FORMAT: 1, "root": b64encode(secrets.token_bytes(SIZE)).decode(), "sealing": [_sealing_key()]}


def _sealing_key() -> dict[str, Any]:
    key = b64encode(secrets.token_bytes(SIZE)).decode()
    return {"id": secrets.token_hex(_ID // 2), "created": int(time.time()), "key": key}


def _ring(document: Mapping[str, Any], mark: tuple[int, ...]) -> _Ring:
    """The ring of a document. Raises `ValueError`, which never quotes the document."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    entries = document.get("sealing")
    if not isinstance(entries, list) or not entries:
        raise ValueError("there is no sealing key in it")
    listed, ciphers = [], {}
    for at, entry in enumerate(entries):
        entry = entry if isinstance(entry, dict) else {}
        id, created = entry.get("id"), entry.get("created")
        if not isinstance(id, str) or len(id) != _ID or not id.isascii() or not id.isalnum() or id in ciphers:
            raise ValueError(f"sealing[{at}].id is not {_ID} letters and digits of its own")
        if not isinstance(created, int | float):
            raise ValueError(f"sealing[{at}].created is not a time")
        listed.append(SealingKey(id, float(created)))
        ciphers[id] = AESGCM(_secret(entry.get("key"), f"sealing[{at}].key"))
    return _Ring(tuple(listed), ciphers, mark)


def _secret(text: object, where: str) -> bytes:
    try:
        secret = b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        secret = b""
    if len(secret) != SIZE:
        raise ValueError(f"{where} is not {SIZE} bytes in base64")
    return secret


def _read(path: Path) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The document of a key file, and what tells this state of the file from another."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        mend = "put it back from its copy, or, for a new store, make one"
        make = f"governor-agents keys rotate --file {shlex.quote(str(path))}"
        raise KeyFileError(f"{path}: there is no such key file; {mend}: {make}") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(f"{path}: is not a file")
        if found.st_mode & 0o077:
            raise KeyFileError(f"{path}: others can read it or write to it: chmod 600 {shlex.quote(str(path))}")
        with os.fdopen(file, "rb", closefd=False) as opened:
            text = opened.read(LARGEST + 1)
    finally:
        os.close(file)
    document = _parse(text)
    if document is None:
        raise KeyFileError(f"{path}: is not a key file of governor-agents; restore it from a backup")
    if document[FORMAT] != 1:
        raise KeyFileError(f"{path}: was written by a newer version of governor-agents; upgrade this one")
    return document, (found.st_ino, found.st_mtime_ns, found.st_size)


def _parse(text: bytes) -> dict[str, Any] | None:
    """The document, None for anything else. No error leaves here: it might quote the file."""
    if len(text) > LARGEST:
        return None
    try:
        document = thaw(text)
    except ArgumentsError:
        return None
    return document if isinstance(document, dict) and type(document.get(FORMAT)) is int else None


def _write(path: Path, document: Mapping[str, Any]) -> None:
    """Replace the file in one step that survives a power cut: the old one or the new one, never a part."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(freeze(dict(document)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise KeyFileError(f"{path}: cannot be written: {error.strerror}") from None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One writer of the file at a time: of two that rotate at once, neither may lose the other's key."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
