"""The format of export files: what is written comes back, and what was not written so is refused by its line."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor_agents.backup import reading
from governor_agents.backup.entries import Entry
from governor_agents.backup.files import new_file, whole_file, write
from governor_agents.backup.lines import PART, Tally, line_of, lines_of
from governor_agents.backup.reading import ExportRefused, read
from governor_agents.core.ports import INDEX_FIELDS, KINDS, Blob, Record, StoredEvent
from governor_agents.errors import ConfigError, StoreTooNew

texts = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable())
data = st.binary(max_size=40)


@st.composite
def made_entries(draw: st.DrawFn) -> list[Entry]:
    """Entries of every kind, with odd names, times and contents."""
    keys = draw(st.sets(st.tuples(st.sampled_from(sorted(KINDS)), texts, texts), max_size=6))
    return [
        Entry(
            Record(
                *key,
                draw(data),
                draw(st.dictionaries(st.sampled_from(sorted(INDEX_FIELDS)), st.text(max_size=5))),
                draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
                draw(st.integers(1, 2**53)),
            ),
            tuple(Blob(id, draw(data)) for id in sorted(draw(st.sets(texts, max_size=3)))),
            tuple(StoredEvent(seq, draw(data)) for seq in range(1, draw(st.integers(1, 4)))),
        )
        for key in sorted(keys)
    ]


def exported(entries: list[Entry]) -> bytes:
    """The file that holds these entries."""
    tally, lines = Tally(), [line_of({reading.FORMAT: 1, "made": 1.0, "version": "0"})]
    for entry in entries:
        tally.add(entry)
        lines += lines_of(entry)
    return b"".join([*lines, line_of({"end": tally.document()})])


ONE = Entry(
    Record("run", "t", "r", b"body", {"state": "ready"}, 5.0, 3), (Blob("b", b"blob"),), (StoredEvent(1, b"e"),)
)
TWO = Entry(Record("run", "t", "s", b"", {}, None, 1))
FILE = exported([ONE, TWO])


@given(made_entries())
def test_what_is_written_comes_back(entries: list[Entry]) -> None:
    """Every entry, byte for byte, with versions, times and index; and the digest is that of the entries."""
    tally, whole = Tally(), Tally()
    assert list(read(BytesIO(exported(entries)), "file", tally)) == entries
    for entry in entries:
        whole.add(entry)
    assert tally.document() == whole.document() and tally.bytes == whole.bytes


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 5])
def test_long_content_goes_on_in_lines_of_its_own(size: int) -> None:
    """No line is longer than a part, so a reader may refuse long ones."""
    content = bytes(range(256)) * (size // 256 + 1)
    entry = Entry(Record("run", "t", "r", content[:size], v=1), (Blob("b", content[:size]),))
    made = exported([entry])
    assert max(map(len, made.splitlines())) < reading.MAX_LINE
    assert list(read(BytesIO(made), "file")) == [entry]


def change(line: int, **fields: Any) -> Callable[[bytes], bytes]:
    """Write other values into one line of the file."""

    def made(file: bytes) -> bytes:
        lines = file.splitlines(keepends=True)
        lines[line - 1] = line_of(json.loads(lines[line - 1]) | fields)
        return b"".join(lines)

    return made


def put(line: int, raw: bytes) -> Callable[[bytes], bytes]:
    """Put other bytes into the place of one line."""
    return lambda file: b"".join(
        [*file.splitlines(keepends=True)[: line - 1], raw, *file.splitlines(keepends=True)[line:]]
    )


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], int, str]] = {
    "nothing": (lambda file: b"", 1, "ends before its last line"),
    "something else": (lambda file: b"hello\n", 1, "not JSON as an export writes it"),
    "another JSON": (lambda file: b'{"a":1}\n', 1, "no export of a store"),
    "a list": (lambda file: b"[]\n", 1, "not a JSON object"),
    "a version that is no number": (change(1, governor_agents_store=True), 1, "no export of a store"),
    "a foreign kind": (change(2, at=["gift", "t", "r"]), 2, "'gift' is not a kind of record"),
    "a name too few": (change(2, at=["run", "t"]), 2, "named by kind, tenant and id"),
    "an empty id": (change(2, at=["run", "t", ""]), 2, "named by kind, tenant and id"),
    "half a character": (change(2, at=["run", "t", "\ud800"]), 2, "named by kind, tenant and id"),
    "an id that is a number": (change(2, at=["run", "t", 5]), 2, "named by kind, tenant and id"),
    "version zero": (change(2, v=0), 2, "a version counts from 1"),
    "a version beyond measure": (change(2, v=2**60), 2, "a version counts from 1"),
    "a version that is true": (change(2, v=True), 2, "a version counts from 1"),
    "a due that is a text": (change(2, due="soon"), 2, "due is a time or null"),
    "a due that is a whole number": (change(2, due=5), 2, "due is a time or null"),
    "a due that never comes": (put(2, b'{"due":1e999}\n'), 2, "not in the form"),
    "a due that is no number": (put(2, b'{"due":NaN}\n'), 2, "NaN is no number"),
    "an unknown index field": (change(2, index={"colour": "red"}), 2, "index holds texts"),
    "an index value that is a number": (change(2, index={"state": 5}), 2, "index holds texts"),
    "a field more": (change(2, more=1), 2, "not the first line of a record"),
    "a key twice": (put(2, b'{"at":[],"at":[]}\n'), 2, "a key stands in it twice"),
    "spaces": (lambda file: file.replace(b'"v":3', b'"v": 3'), 2, "not in the form"),
    "deep nesting": (put(2, b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"\n"), 2, "nested too deeply"),
    "a huge number": (put(2, b'{"a":' + b"9" * 5000 + b"}\n"), 2, "not JSON"),
    "a huge line": (put(2, b'{"a":"' + b"x" * reading.MAX_LINE + b'"}\n'), 2, "longer than 4194304 bytes"),
    "no UTF-8": (put(2, b'{"a":"\xff"}\n'), 2, "not JSON"),
    "content that is no base64": (change(2, data="??"), 2, "not base64"),
    "content that is a number": (change(2, data=5), 2, "not as long as it says"),
    "content cut short": (change(2, data=b64encode(b"bo").decode()), 2, "not as long as it says"),
    "content of a gigabyte": (change(2, size=2**40), 2, "has at most"),
    "content that does not go on": (change(2, size=PART + 4, data=b64encode(b"x" * PART).decode()), 3, "goes on here"),
    "counts that are no counts": (change(2, events=-1), 2, "no counts"),
    "more blobs than there are": (change(2, blobs=2), 4, "not the blob"),
    "a missing blob": (put(3, b""), 3, "not the blob"),
    "a missing event": (put(4, b""), 4, "not the event"),
    "event zero": (change(4, event=0), 4, "events of a record are not in order"),
    "the same record twice": (lambda file: exported([ONE, ONE]), 5, "there twice, or out of order"),
    "records out of order": (lambda file: exported([TWO, ONE]), 3, "there twice, or out of order"),
    "another byte in a body": (change(2, data=b64encode(b"bodi").decode()), 6, "counts or the digest"),
    "a record taken out": (put(5, b""), 5, "counts or the digest"),
    "a record put in": (put(6, b"".join([*lines_of(Entry(Record("run", "t", "u", b"", v=1)))])), 7, "cut off"),
    "a count in the last line": (change(6, end={"records": 1}), 6, "counts or the digest"),
    "cut off before the last line": (put(6, b""), 6, "cut off"),
    "cut off in the last line": (lambda file: file[:-1], 6, "cut off"),
    "something behind the end": (lambda file: file + b"\n", 7, "follows the last line"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_no_export_writes_is_refused_by_its_line(case: str) -> None:
    """One line of text that names the file, the line, and what is wrong with it."""
    spoil, line, why = HOSTILE[case]
    with pytest.raises(ExportRefused) as refused:
        list(read(BytesIO(spoil(FILE)), "gifts.jsonl"))
    said = str(refused.value)
    assert said.startswith(f"gifts.jsonl, line {line}: ") and why in said and "\n" not in said


def test_a_newer_format_is_refused() -> None:
    """A file of a later version is not guessed at."""
    with pytest.raises(StoreTooNew, match=r"line 1: format 2, this version reads up to 1; upgrade"):
        list(read(BytesIO(change(1, governor_agents_store=2)(FILE)), "file"))


def test_the_file_as_it_was_is_taken() -> None:
    """The control of all that is refused: without a change the same file is read."""
    assert list(read(BytesIO(FILE), "file")) == [ONE, TWO]


async def written(name: str, entries: list[Entry]) -> Tally:
    """Write a file of these entries."""

    async def all_of() -> Any:
        for entry in entries:
            yield entry

    with new_file(name) as file:
        return await write(all_of(), file, 1.0, lambda count: None)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
async def test_a_file_is_for_its_owner_and_never_written_over(tmp_path: Path, name: str) -> None:
    """Mode 0600; packed by its name; an existing one is refused and stays."""
    path = tmp_path / name
    tally = await written(str(path), [ONE, TWO])
    assert path.stat().st_mode & 0o777 == 0o600
    raw = path.read_bytes()
    assert raw.startswith(b"\x1f\x8b") is name.endswith(".gz")
    with whole_file(str(path)) as export:
        assert [entry async for entry in export.entries()] == [ONE, TWO]
        assert export.tally.document() == tally.document()
    with pytest.raises(ConfigError, match="exists already; name a new file"):
        await written(str(path), [ONE])
    assert path.read_bytes() == raw


async def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    """Half an export is no export."""
    huge = Entry(Record("run", "t", "r", bytes(10), v=1))
    path = tmp_path / "a.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("governor_agents.backup.files.MAX_ENTRY", 5)
        with pytest.raises(ConfigError, match="run r of tenant t has more than 5 bytes"):
            await written(str(path), [huge])
    assert not path.exists()


@pytest.mark.parametrize("spoil", [lambda raw: raw[: len(raw) // 2], lambda raw: raw[:-6] + b"\0" * 6])
def test_a_packed_file_that_is_damaged_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """Cut off, or with another checksum: one line, whatever the library calls it."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(spoil(gzip.compress(FILE)))
    with pytest.raises(ExportRefused, match=r"line \d+: .*(damaged|follows)"), whole_file(str(path)):
        pass


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The mend is to name another."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"), whole_file(str(tmp_path / "none")):
        pass
