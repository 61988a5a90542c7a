"""The key file: who may read it, how it is made and rotated, and that it shows nothing of itself."""

import copy
import json
import logging
import os
import pickle
import stat
import subprocess
import sys
import threading
import traceback
from base64 import b64decode
from pathlib import Path

import pytest

from governor_agents.core.codec import SEALED
from governor_agents.errors import KeyFileError, MissingExtra, SealBroken
from governor_agents.keys import Keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Keys.create(tmp_path / "keys.json")
    return tmp_path / "keys.json"


def secrets_of(path: Path) -> list[bytes]:
    document = json.loads(path.read_text())
    texts = [document["root"], *(entry["key"] for entry in document["sealing"])]
    return [text.encode() for text in texts] + [b64decode(text) for text in texts]


def test_what_is_sealed_opens_again(path: Path) -> None:
    """Also by another process that reads the same file; two seals of one text differ."""
    keys = Keys.from_file(path)
    one, two = keys.seal(b"text", b"place"), keys.seal(b"text", b"place")
    assert one != two and b"text" not in one and one.startswith(SEALED)
    assert Keys.from_file(path).open(one, b"place") == keys.open(two, b"place") == b"text"


def test_each_changed_byte_is_refused() -> None:
    """Of header, key id, nonce, text or tag."""
    keys = Keys.generate()
    sealed = keys.seal(b"text", b"place")
    for at in range(len(sealed)):
        broken = bytearray(sealed)
        broken[at] ^= 1
        with pytest.raises(SealBroken):
            keys.open(bytes(broken), b"place")
    for end in range(len(sealed)):
        with pytest.raises(SealBroken):
            keys.open(sealed[:end], b"place")


@pytest.mark.parametrize("data", [b"", b"text", SEALED, b'{"schema":1,"run":{}}'])
def test_what_is_not_sealed_is_refused(data: bytes) -> None:
    """Text in clear is never taken for opened text."""
    with pytest.raises(SealBroken, match="not sealed"):
        Keys.generate().open(data, b"")


def test_another_place_or_another_key_is_refused() -> None:
    """The associated data is part of the seal, and keys of another installation open nothing."""
    keys = Keys.generate()
    sealed = keys.seal(b"text", b"place")
    with pytest.raises(SealBroken, match="seal is broken"):
        keys.open(sealed, b"other place")
    with pytest.raises(SealBroken, match="not among the keys"):
        Keys.generate().open(sealed, b"place")


def test_a_key_id_of_another_ring_is_bound(path: Path) -> None:
    """The id in the header is authenticated: the same key under another name does not open."""
    sealed = Keys.from_file(path).seal(b"text", b"")
    document = json.loads(path.read_text())
    document["sealing"][0]["id"] = "renamed1"
    path.write_text(json.dumps(document))
    with pytest.raises(SealBroken):
        Keys.from_file(path).open(SEALED + b"renamed1" + sealed[len(SEALED) + 8 :], b"")


def test_rotation_keeps_what_must_stay(path: Path) -> None:
    """A new key seals; the old one still opens; names, chain, signatures and idempotency stay the same."""
    before = Keys.from_file(path)
    sealed = before.seal(b"text", b"")
    after = Keys.rotate(path)
    assert len(after.sealing) == 2 and after.sealing[0] == before.sealing[0]
    assert after.open(sealed, b"") == b"text"
    assert after.seal(b"text", b"")[: len(SEALED) + 8] == SEALED + after.sealing[1].id.encode()
    assert (after.name("x"), after.audit, after.idempotency) == (before.name("x"), before.audit, before.idempotency)
    assert after.signing.public_key() == before.signing.public_key()


def test_secrets_of_different_use_differ(path: Path) -> None:
    """No secret does two jobs."""
    keys = Keys.from_file(path)
    uses = {keys.audit, keys.idempotency, keys.signing.private_bytes_raw(), keys._names, *secrets_of(path)}
    assert len(uses) == 4 + len(secrets_of(path))


def test_a_running_process_learns_of_a_rotation(path: Path) -> None:
    """What another process sealed under a newer key opens without a restart."""
    running = Keys.from_file(path)
    sealed = Keys.rotate(path).seal(b"text", b"")
    assert running.open(sealed, b"") == b"text"
    assert len(running.sealing) == 2


def test_another_root_is_not_taken_over(path: Path, tmp_path: Path) -> None:
    """A file that was replaced by another installation's is refused, not merged."""
    running = Keys.from_file(path)
    other = Keys.create(tmp_path / "other.json")
    os.replace(tmp_path / "other.json", path)
    with pytest.raises(SealBroken, match="another root"):
        running.open(other.seal(b"text", b""), b"")


def test_rotations_at_once_lose_no_key(path: Path) -> None:
    """Each of ten writers adds its key; none overwrites another's."""
    threads = [threading.Thread(target=Keys.rotate, args=[path]) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Keys.from_file(path).sealing) == 11
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_the_file_is_its_owners_alone(path: Path) -> None:
    """It is made with mode 0600, whatever the umask, and keeps it."""
    before = os.umask(0)
    try:
        Keys.rotate(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601, 0o777])
def test_a_file_others_may_touch_is_refused(path: Path, mode: int) -> None:
    """The line gives the command that mends it."""
    path.chmod(mode)
    for use in (Keys.from_file, Keys.rotate):
        with pytest.raises(KeyFileError, match=f"chmod 600 {path}"):
            use(path)


def test_create_replaces_nothing(path: Path) -> None:
    """A second creation would lock everybody out of what is sealed."""
    text = path.read_bytes()
    with pytest.raises(KeyFileError, match="already"):
        Keys.create(path)
    assert path.read_bytes() == text


DOCUMENTS = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"governor_agents_keys":1}',
    b'{"governor_agents_keys":true,"root":"","sealing":[]}',
    b'{"governor_agents_keys":"1","root":"","sealing":[]}',
    b'{"governor_agents_keys":2,"root":"","sealing":[]}',
    b'{"governor_agents_keys":1,"root":"AAAA","sealing":[]}',
    b'{"governor_agents_keys":1,"root":5,"sealing":[]}',
    b'{"governor_agents_keys":1,"root":"%s","sealing":[]}' % (b"A" * 43 + b"="),
    b'{"governor_agents_keys":1,"root":"%s","sealing":{}}' % (b"A" * 43 + b"="),
    b'{"governor_agents_keys":1,"root":"%s","sealing":[7]}' % (b"A" * 43 + b"="),
    b'{"governor_agents_keys":1,"root":"%s","sealing":[{"id":"12345678","created":"x","key":""}]}' % (b"A" * 43 + b"="),
    b'{"governor_agents_keys":1,"root":"%s","sealing":[{"id":"12345678","created":1,"key":"AA"}]}' % (b"A" * 43 + b"="),
    b'{"governor_agents_keys":1,"governor_agents_keys":1}',
    b'{"governor_agents_keys":%s}' % (b"9" * 5000),
    b"[" * 100_000,
    b" " * (2**20 + 1),
]


@pytest.mark.parametrize("number", range(len(DOCUMENTS)))
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, number: int) -> None:
    """With one line that names the file, and the file is left as it is."""
    path = tmp_path / "keys.json"
    path.write_bytes(DOCUMENTS[number])
    path.chmod(0o600)
    for use in (Keys.from_file, Keys.rotate):
        with pytest.raises(KeyFileError) as caught:
            use(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == DOCUMENTS[number]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder, a pipe (which would be waited for)."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe").chmod(0o600)
    for path, why in [(tmp_path / "none", "no such"), (tmp_path, "not a file"), (tmp_path / "pipe", "not a file")]:
        with pytest.raises(KeyFileError, match=why):
            Keys.from_file(path)
    with pytest.raises(KeyFileError, match="cannot be written"):
        Keys.create(tmp_path / "nowhere" / "keys.json")


def test_nothing_shows_a_key(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not repr, str, a log line, an error with its traceback, nor a copy or a pickle."""
    keys = Keys.rotate(path)
    hidden = [*secrets_of(path), keys.audit, keys.idempotency, keys.signing.private_bytes_raw()]
    shown = [repr(keys), str(keys), f"{keys}", repr(keys._ring), repr(keys.sealing)]
    caplog.set_level(logging.DEBUG)
    logging.getLogger("test").warning("%r %s", keys, keys)
    shown.append(caplog.text)
    path.write_text(path.read_text()[:-20])
    for use in (
        lambda: keys.open(b"x", b""),
        lambda: keys.open(keys.seal(b"", b"a"), b"b"),
        lambda: Keys.from_file(path),
    ):
        try:
            use()
        except Exception as error:
            shown += [
                repr(error),
                "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format()),
            ]
    for text in shown:
        for secret in hidden:
            assert secret.hex() not in text and repr(secret)[2:-1] not in text
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="not copied"):
            duplicate(keys)


def test_names_are_stable_and_say_nothing() -> None:
    """Equal for equal text under the same keys, different otherwise."""
    keys, others = Keys.generate(), Keys.generate()
    assert keys.name("alice@example.com") == keys.name("alice@example.com") != keys.name("bob@example.com")
    assert keys.name("alice@example.com") != others.name("alice@example.com")
    assert "alice" not in keys.name("alice@example.com")


def test_a_link_leads_to_the_file_after_a_rotation(path: Path) -> None:
    """The file is replaced, not the link."""
    link = path.with_name("link.json")
    link.symlink_to(path)
    assert len(Keys.rotate(link).sealing) == 2
    assert link.is_symlink() and len(Keys.from_file(path).sealing) == 2


def test_without_the_library_the_extra_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys need it; nothing else does."""
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for use in (Keys.generate, lambda: Keys.from_file(path)):
        with pytest.raises(MissingExtra, match=r"governor-agents\[keys\]"):
            use()


def test_without_keys_the_library_is_not_loaded() -> None:
    """A governor that has none works where it is not installed."""
    code = "import sys; sys.modules['cryptography'] = None; from governor_agents import Governor; "
    code += "g = Governor(store='memory://'); assert g.list_runs_sync() == []; g.close_sync()"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
