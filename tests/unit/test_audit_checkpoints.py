"""Signed checkpoints as bytes: what a signature covers, what a file may hold, how a row of them follows one another."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from governor_agents.audit import checkpoints
from governor_agents.audit.checkpoints import Checkpoint, Series, broken, from_document, public_key, to_document
from governor_agents.audit.trail import Head
from governor_agents.core.calls import freeze, thaw
from governor_agents.errors import ConfigError

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([at]) * 32) for at in (1, 2))
PUBLIC = (KEY.public_key(),)
HEADS = [Head("run", f"run_{at}", at + 1, f"{at:064x}", at + 1) for at in range(5)]


def make(heads: list[Head] = HEADS, **said: Any) -> Checkpoint:
    wanted: dict[str, Any] = {"number": 1, "tenant": "t", "at": 5.0, "previous": "", "full": False, "signing": KEY}
    return checkpoints.make(heads, **wanted | said)


def row(length: int) -> list[Checkpoint]:
    """Checkpoints that follow one another; each pins the same runs a little further."""
    made: list[Checkpoint] = []
    for number in range(1, length + 1):
        heads = [replace(head, seq=head.seq + number, head=f"{number:064x}", v=head.v + number) for head in HEADS]
        made.append(make(heads, number=number, previous=made[-1].digest if made else ""))
    return made


def printed(checkpoint: Checkpoint) -> dict[str, Any]:
    """The document as a reader's JSON library has it."""
    return json.loads(freeze(to_document(checkpoint)))


def test_a_checkpoint_survives_being_printed() -> None:
    """Also when somebody's editor lays the JSON out anew: what is signed is its canonical form."""
    made = make()
    text = json.dumps(to_document(made), indent=4, sort_keys=False).encode()
    assert from_document(text, "f") == made
    assert from_document(text, "f").heads == HEADS
    assert broken(made, PUBLIC, "t") == ""


def test_heads_are_laid_out_on_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement stays small however many runs there are: it names the pages by their hashes."""
    monkeypatch.setattr(checkpoints, "PAGE", 2)
    made = make()
    assert [len(thaw(page)) for page in made.pages] == [2, 2, 1]
    assert made.heads == HEADS and made.said["heads"] == 5
    assert broken(made, PUBLIC, "t") == ""
    for pages in (made.pages[:2], made.pages[::-1], (*made.pages, made.pages[0])):
        assert "another list of heads" in broken(replace(made, pages=pages), PUBLIC, "t")


@pytest.mark.parametrize("field", sorted(make().said))
def test_every_field_of_the_statement_is_signed(field: str) -> None:
    """Whatever is changed in it, the signature or the key no longer fits."""
    made = make()
    other = {int: 7, str: "x", float: 9.5, bool: True, list: ["x"]}[type(made.said[field])]
    changed = replace(made, statement=freeze({**made.said, field: other}))
    assert changed.said != made.said
    assert broken(changed, PUBLIC, "t")


def test_only_the_right_key_and_purpose_sign() -> None:
    """Another key, a signature over the bare bytes, one bit of it: all refused, each in words."""
    made = make()
    assert "not the one at hand" in broken(make(signing=OTHER), PUBLIC, "t")
    assert "another tenant, t" in broken(made, PUBLIC, "u")
    assert broken(made, PUBLIC, None) == ""
    for signature in (
        KEY.sign(made.statement),
        OTHER.sign(made.statement),
        b"",
        bytes([made.signature[0] ^ 1]) + made.signature[1:],
    ):
        assert "wrong signature" in broken(replace(made, signature=signature), PUBLIC, "t")
    with_heads = printed(made)
    with_heads["pages"][0][0][3] = "f" * 64
    assert "another list of heads" in broken(from_document(json.dumps(with_heads).encode(), "f"), PUBLIC, "t")


WRONG: list[tuple[str, Any]] = [
    ("number", "1"), ("number", None), ("number", 1.0), ("number", True), ("heads", "5"), ("heads", None),
    ("at", 5), ("at", "5"), ("tenant", None), ("tenant", 5), ("previous", None), ("key", ["x"]),
    ("pages", None), ("pages", {}), ("pages", [5]), ("pages", "x"), ("governor_agents_checkpoint", 2),
]  # fmt: skip
HOSTILE: list[Any] = [
    b"", b"[]", b"null", b"{}", b"\xff", b'{"statement":1}', b'{"statement":{},"signature":""}', b"[" * 100_000,
    b'{"statement":{"a":1,"a":2},"signature":"","pages":[]}',
    *({**printed(make()), "signature": signature} for signature in (None, 5, "%%%", ["x"])),
    *({**printed(make()), "pages": pages} for pages in (None, 5, [5], [[5]], [[["run"]]])),
    *({**printed(make()), "pages": [[["run", "r", seq, "h", 1]]]} for seq in ("1", True, 1.0, None)),
    *({**printed(make()), "statement": {**make().said, name: value}} for name, value in WRONG),
    *({**printed(make()), "statement": {key: value for key, value in make().said.items() if key != name}}
      for name in make().said if name != "full"),
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_anything_else_is_no_checkpoint(data: Any) -> None:
    """One error with the file's name, whatever it holds; nothing of it is believed or revived."""
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises(ConfigError, match=r"kept\.json is not a checkpoint"):
        from_document(text, "kept.json")


def test_a_row_of_checkpoints_that_follow_one_another_is_sound() -> None:
    """And pins each run wherever one of them says it stood."""
    series, made = Series(PUBLIC, "t"), row(4)
    for each in made:
        series.add(each)
    series.end(4, made[-1].digest)
    series.compare(made[1], "kept.json")
    assert series.findings == []
    assert [pin.source for pin in series.pins["run", "run_0"]] == [f"checkpoint {number}" for number in range(1, 5)]
    assert [pin.head.seq for pin in series.pins["run", "run_0"]] == [2, 3, 4, 5]


def test_no_head_takes_the_place_of_another() -> None:
    """A checkpoint that pins less (made from an older view, or after a row was put back) lets nothing be forgotten."""
    first = make(number=1)
    less = make([replace(HEADS[4], seq=1, v=1)], number=2, previous=first.digest)
    series = Series(PUBLIC, "t")
    series.add(first)
    series.add(less)
    assert series.findings == []
    assert [pin.head.seq for pin in series.pins["run", "run_4"]] == [5, 1]


def told(made: list[Checkpoint], number: int = 4, digest: str = "") -> list[str]:
    series = Series(PUBLIC, "t")
    for each in made:
        series.add(each)
    series.end(number, digest or row(4)[-1].digest)
    return [finding.means for finding in series.findings]


def test_a_gap_a_cut_and_a_replacement_in_the_row_are_found() -> None:
    """Each by its number, in words."""
    made = row(4)
    assert told(made) == []
    assert told([made[0], *made[2:]]) == ["checkpoint 3 comes next, but checkpoint 2 is missing"]
    assert told(made[1:]) == ["checkpoint 2 comes next, but checkpoint 1 is missing"]
    assert told(made[:3]) == ["checkpoint 4 is the last one by its record, but the last one found is 3"]
    other = make([], number=2, previous=made[0].digest)
    assert told([made[0], other, *made[2:]]) == ["checkpoint 3 does not follow the one before it"]
    forged = make([], number=4, previous=made[2].digest, signing=OTHER)
    assert "checkpoint 4 is signed with key" in told([*made[:3], forged])[0]


def test_a_store_is_held_against_what_was_published() -> None:
    """A row that was made anew with the signing key, or that ends earlier, is not the one that was published."""
    made = row(4)
    for held, words in (
        (made[:2], "an older store was put back"),
        ([make(), *made[1:]], "the checkpoints were made anew"),
    ):
        series = Series(PUBLIC, "t")
        for each in held:
            series.hear(each)
            series.number = each.number
        series.compare(made[0] if len(held) == 4 else made[3], "kept.json")
        assert words in series.findings[-1].means and "kept.json" in series.findings[-1].means


def test_an_unsound_checkpoint_pins_nothing() -> None:
    """Whoever forges one can neither accuse nor excuse a run."""
    series = Series(PUBLIC, "t")
    assert not series.hear(make(signing=OTHER))
    assert series.pins == {} and len(series.findings) == 1


def test_a_public_key_is_read_from_pem_or_hex() -> None:
    """As `keys list` prints it, or as other tools keep it; nothing else is taken for one."""
    key = KEY.public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for text in (pem, key.public_bytes_raw().hex().encode(), key.public_bytes_raw().hex().upper().encode() + b"\n"):
        assert public_key(text, "k").public_bytes_raw() == key.public_bytes_raw()
    rsa = generate_private_key(65537, 2048).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for bad in (b"", b"x" * 64, rsa, b64encode(key.public_bytes_raw()), pem[:-40]):
        with pytest.raises(ConfigError, match="k is not an Ed25519 public key"):
            public_key(bad, "k")
