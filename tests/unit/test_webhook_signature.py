"""The signature of webhooks: what is accepted, what is not, and that nothing a request holds raises anything else."""

import hashlib
import hmac
import json
import random

import pytest

from governor_agents.errors import SignatureInvalid
from governor_agents.handlers.webhook import received
from governor_agents.handlers.webhook.signature import TOLERANCE, sign

OLD, NEW = "an old secret of more than 32 characters", "a new secret of more than 32 characters"
BODY = json.dumps({"id": "evt_1", "approval": "run_1.1"}).encode()
NOW = 1_700_000_000.0


def refused(body: bytes, header: str | None, *secrets: str, now: float = NOW) -> bool:
    """True when it is refused as it must be; anything but `SignatureInvalid` is raised."""
    try:
        received(body, header, secrets or (OLD,), now=now)
    except SignatureInvalid:
        return True
    return False


def test_the_signature_is_what_the_document_says() -> None:
    """HMAC-SHA256 over time, dot and body, in hexadecimal: anybody can check it with their own ten lines."""
    mac = hmac.new(OLD.encode(), b"1700000000." + BODY, hashlib.sha256).hexdigest()
    assert sign(BODY, [OLD], NOW) == f"t=1700000000,v1={mac}"
    assert received(BODY, f"t=1700000000,v1={mac}", [OLD], now=NOW)["id"] == "evt_1"


@pytest.mark.parametrize("signs", [(OLD,), (NEW,), (NEW, OLD)])
def test_two_secrets_are_good_while_one_is_being_changed(signs: tuple[str, ...]) -> None:
    """Whichever side changes first, every request in between is accepted; by a third secret none is."""
    header = sign(BODY, signs, NOW)
    assert not refused(BODY, header, OLD, NEW)
    assert refused(BODY, header, "a third secret of more than 32 characters")
    assert refused(BODY, header, "") and refused(BODY, sign(BODY, [""], NOW), "")


@pytest.mark.parametrize(
    ("away", "good"), [(0, True), (TOLERANCE, True), (-TOLERANCE, True), (301, False), (-301, False)]
)
def test_the_time_bounds_how_long_a_request_can_be_sent_again(away: float, good: bool) -> None:
    """Five minutes to both sides, and not a second more."""
    assert refused(BODY, sign(BODY, [OLD], NOW), now=NOW + away) is not good


def test_no_change_of_body_or_header_is_accepted() -> None:
    """10,000 requests with one byte changed, moved or lost: none accepted, none raises anything else."""
    chance = random.Random(6)
    header = sign(BODY, [OLD], NOW)
    for _ in range(10_000):
        text, body = bytearray(header.encode()), bytearray(BODY)
        part = chance.choice((text, body))
        at = chance.randrange(len(part))
        change = chance.randrange(3)
        if change == 0:
            part[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            del part[at]
        else:
            part.insert(at, chance.randrange(256))
        changed = (bytes(body), text.decode("latin-1"))
        assert changed == (BODY, header) or refused(*changed)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "t=1700000000",
        "v1=" + "0" * 64,
        "t=,v1=" + "0" * 64,
        "t=" + "9" * 5000 + ",v1=" + "0" * 64,
        "t=١٧٠٠٠٠٠٠٠٠,v1=" + "0" * 64,
        "t=1700000000,v1=" + "é" * 64,
        "t=1700000000,v1=" + "A" * 64,
        "t=1700000000,t=1700000000,v1=" + "0" * 64,
        "t=1e9,v1=" + "0" * 64,
        "t=-1,v1=" + "0" * 64,
        "," * 3000,
    ],
)
def test_hostile_headers_are_refused_and_raise_nothing_else(header: str | None) -> None:
    """What is no header of ours is refused like a wrong one."""
    assert refused(BODY, header)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_a_signed_body_that_is_no_object_is_refused(body: bytes) -> None:
    """A secret proves who sent it, not that it is fit to read."""
    assert refused(body, sign(body, [OLD], NOW))
