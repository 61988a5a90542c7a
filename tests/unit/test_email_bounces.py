"""Reports of mails that came back: what is read of them, and that nothing else is taken for one."""

from pathlib import Path
from random import Random

import pytest

from governor_agents.handlers.email import bounces
from governor_agents.handlers.email.bounces import Bounce, read
from governor_agents.handlers.email.mime import card_of, message_id

FIXTURE = (Path(__file__).parents[1] / "fixtures" / "bounce.eml").read_bytes()
ID = "<cabc.0123456789abcdef01234567@example.com>"


def test_a_report_names_address_and_mail() -> None:
    """As a real server writes it: the address, the status, and the Message-ID of the mail inside."""
    assert read(FIXTURE) == Bounce("cfo@example.com", "5.1.1", ID, failed=True)
    assert card_of(ID) == "cabc"


def test_a_report_with_headers_alone_is_enough() -> None:
    """Many servers return the headers of the mail, not the mail."""
    only = FIXTURE.replace(b"message/rfc822", b"text/rfc822-headers")
    assert read(only) == read(FIXTURE)


def test_a_delay_is_no_failure() -> None:
    """The server goes on trying: nothing is to be done."""
    found = read(FIXTURE.replace(b"Action: failed", b"Action: delayed").replace(b"5.1.1", b"4.4.7"))
    assert found == Bounce("cfo@example.com", "4.4.7", ID, failed=False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"multipart/report", b"multipart/mixed"),
        (b"message/delivery-status", b"text/plain"),
        (b"Final-Recipient: rfc822; cfo@example.com", b"Final-Recipient: rfc822; not an address"),
        (b"Message-ID: " + ID.encode(), b"X-Other: 1"),
        (ID.encode(), b"<cabc." + b"0" * 1_000 + b"@example.com>"),
        (FIXTURE, b""),
        (FIXTURE, b"\xff\xfe\x00" * 100),
        (FIXTURE, b"Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\n" * 50),
    ],
)
def test_what_is_no_report_is_read_as_none(old: bytes, new: bytes) -> None:
    """Control for the reading: each of these takes away what makes it a report about one of our mails."""
    assert old in FIXTURE
    assert read(FIXTURE.replace(old, new)) is None


def test_a_report_beyond_the_limit_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's mail is parsed whatever its size."""
    monkeypatch.setattr(bounces, "LARGEST", len(FIXTURE) - 1)
    assert read(FIXTURE) is None


REPORT = b"Content-Type: multipart/report; boundary=a\n\n--a\n"


@pytest.mark.parametrize(
    "raw",
    [
        REPORT + b"Content-Type: multipart/mixed; boundary=a\n\n--a\n" * 15_000,
        b"".join(b"Content-Type: multipart/report; boundary=b%d\n\n--b%d\n" % (at, at) for at in range(3_000)),
        REPORT + b"Content-Type: message/rfc822\n\n" * 25_000,
        b"Content-Type: multipart/report; " + b'x="a";' * 150_000 + b"boundary=a\n\n--a\n",
        b"Content-Type: multipart/report;\r\n " + b'x="a";\r\n ' * 90_000 + b"boundary=a\n\n--a\n",
    ],
)
def test_no_mail_keeps_the_reading_busy(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested, in very many parts, or with endless headers: the library would take minutes, or run out of stack."""
    opened = 0
    library = bounces.message_from_bytes

    def counting(data: bytes) -> object:
        nonlocal opened
        opened += 1
        return library(data)

    monkeypatch.setattr(bounces, "message_from_bytes", counting)
    assert len(raw) <= bounces.LARGEST and read(raw) is None
    assert opened == 0
    assert read(FIXTURE) is not None and opened == 1, "control: what is none of these is opened"


def test_no_mail_makes_the_reading_fail() -> None:
    """Anybody can write to the sender's address: hundreds of damaged reports are read as something or nothing."""
    random = Random(7)
    for _ in range(600):
        damaged = bytearray(FIXTURE)
        for _ in range(random.randrange(1, 12)):
            at = random.randrange(len(damaged))
            damaged[at : at + random.randrange(4)] = random.randbytes(random.randrange(4))
        found = read(bytes(damaged))
        assert found is None or isinstance(found, Bounce)


def test_a_message_id_is_the_same_for_the_same_parts() -> None:
    """And another for any other; it names its card, and no other text does."""
    first = message_id("cabc", "example.com", "a", "b")
    assert first == message_id("cabc", "example.com", "a", "b")
    others = {message_id("cabc", "example.com", *parts) for parts in (("ab",), ("a", "b", ""), ("b", "a"), ())}
    assert len(others | {first}) == 5
    assert card_of(first) == "cabc"
    for strange in ("", "<>", "<@x>", "<cabc>", "<c-b.1@x>", "<../x.1@y>", "nothing"):
        assert card_of(strange) == ""
