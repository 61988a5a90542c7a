"""Slack's signature: what Slack signed is let in, whatever else comes is not, and nothing raises."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Mapping
from urllib.parse import urlencode

import pytest
from slack_sdk.signature import Clock, SignatureVerifier

from governor_agents.errors import ConfigError
from governor_agents.handlers.slack.signature import SIGNATURE, TIMESTAMP, WINDOW, SigningSecrets

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
AT = 1531420618
BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SIGNED = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
"""The example of Slack's own documentation."""


class At(Clock):
    """A clock for slack-sdk's verifier that stands still."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now


def headers(timestamp: str, signature: str) -> dict[str, str]:
    return {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": signature}


def sign(secret: str, timestamp: str, body: bytes) -> str:
    base = b"v0:" + timestamp.encode("utf-8", "surrogatepass") + b":" + body
    return "v0=" + hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()


def test_the_example_of_slacks_documentation_is_let_in() -> None:
    """The known vector, and the same with one digit of its secret, time, body or signature changed."""
    secrets = SigningSecrets([SECRET])
    assert secrets.vouch(headers(str(AT), SIGNED), BODY, AT)
    assert not SigningSecrets([SECRET[:-1] + "6"]).vouch(headers(str(AT), SIGNED), BODY, AT)
    assert not secrets.vouch(headers(str(AT + 1), SIGNED), BODY, AT)
    assert not secrets.vouch(headers(str(AT), SIGNED), BODY + b"0", AT)
    assert not secrets.vouch(headers(str(AT), SIGNED[:-1] + "4"), BODY, AT)


@pytest.mark.parametrize(
    "late, good", [(0, True), (300, True), (-300, True), (301, False), (-301, False), (10**9, False)]
)
def test_five_minutes_are_let_in_and_a_second_more_is_not(late: int, good: bool) -> None:
    """The time that Slack signed may differ by 300 s from ours, not by 301; a verifier without the check would not say so."""
    assert SigningSecrets([SECRET]).vouch(headers(str(AT), SIGNED), BODY, AT + late) is good
    assert _without_time(headers(str(AT), SIGNED), BODY)


def _without_time(given: Mapping[str, str], body: bytes) -> bool:
    """A seeded fault: a verifier that does not look at the time."""
    return hmac.compare_digest(sign(SECRET, given["X-Slack-Request-Timestamp"], body), given["X-Slack-Signature"])


def test_two_secrets_count_while_one_is_replaced() -> None:
    """Both are let in, a third is not; more than two, none and an empty one are refused."""
    secrets = SigningSecrets.of("new, old")
    for name in ("new", "old"):
        assert secrets.vouch(headers("100", sign(name, "100", b"{}")), b"{}", 100)
    assert not secrets.vouch(headers("100", sign("other", "100", b"{}")), b"{}", 100)
    assert not SigningSecrets.of("new").vouch(headers("100", sign("old", "100", b"{}")), b"{}", 100)
    for wrong in ("", "a,", "a,b,c"):
        with pytest.raises(ConfigError, match="SLACK_SIGNING_SECRET"):
            SigningSecrets.of(wrong)


def test_no_text_of_it_shows_a_secret() -> None:
    """Neither its repr nor its errors hold one."""
    assert "hush" not in repr(SigningSecrets.of("hush,hush2"))
    with pytest.raises(ConfigError) as raised:
        SigningSecrets.of("hush,hush,hush")
    assert "hush" not in str(raised.value)


def test_a_header_that_comes_twice_is_no_signature() -> None:
    """Two spellings of one header are two headers; which of them was meant is not guessed."""
    twice = {**headers(str(AT), SIGNED), "x-slack-signature": SIGNED}
    assert not SigningSecrets([SECRET]).vouch(twice, BODY, AT)


def valid(rng: random.Random) -> tuple[str, str, bytes, float]:
    """A secret, a time as Slack writes it, a body, and a now within five minutes."""
    secret = f"{rng.getrandbits(128):032x}"
    text = "".join(
        chr(rng.choice((rng.randrange(32, 127), rng.randrange(160, 0x2000), 0x1F600))) for _ in range(rng.randrange(80))
    )
    body = rng.choice((urlencode({"payload": text}), text, "")).encode()
    at = rng.randrange(1, 4 * 10**9)
    return secret, str(at), body, at + rng.uniform(-WINDOW, WINDOW)


def test_it_equals_the_verifier_of_slack_sdk_on_what_slack_signs() -> None:
    """On ten thousand valid pairs, and for each of them on one second past the window, both say the same."""
    rng = random.Random(25)
    agreed = 0
    for _ in range(10_000):
        secret, timestamp, body, now = valid(rng)
        signature = sign(secret, timestamp, body)
        for moment in (now, int(timestamp) + WINDOW + 1):
            theirs = SignatureVerifier(secret, At(moment)).is_valid(body, timestamp, signature)
            agreed += SigningSecrets([secret]).vouch(headers(timestamp, signature), body, moment) is theirs
    assert agreed == 20_000


HOSTILE = (
    "",
    "0",
    "-1",
    "+1",
    " 1",
    "1_0",
    "1.5",
    "1e3",
    "٣",
    "nan",
    "9" * 5000,
    "\x00",
    "\ud800",
    "v0=",
    "v1=" + "0" * 64,
)


def mutated(rng: random.Random, timestamp: str, signature: str, body: bytes) -> tuple[dict[str, str], bytes]:
    """One change of the header, the body, the time or the encoding that leaves nothing as it was signed."""
    match rng.randrange(10):
        case 0:
            body += bytes([rng.randrange(256)])
        case 1:
            at = rng.randrange(len(body) + 1)
            body = body[:at] + b"\xff\xfe" + body[at:]
        case 2:
            body = body[:-1] if body else b"{}"
        case 3:
            at = rng.randrange(3, len(signature))
            signature = signature[:at] + chr(ord(signature[at]) ^ 1) + signature[at + 1 :]
        case 4:
            signature = rng.choice(
                (signature[3:], signature[:-1], signature + "0", "v1" + signature[2:], signature + "é")
            )
        case 5:
            signature = signature.upper() if signature.upper() != signature else ""
        case 6:
            timestamp = str(int(timestamp) + rng.choice((-1, 1)))
        case 7:
            timestamp = rng.choice((*HOSTILE, "0" + timestamp, timestamp + " ", timestamp + "\n", "+" + timestamp))
        case 8:
            signature = rng.choice((*HOSTILE, "\udcff", signature[:30] + "\x00" + signature[31:]))
        case _:
            found = headers(timestamp, signature)
            found.pop(rng.choice(list(found)))
            return found, body
    return headers(timestamp, signature), body


def count_accepted(vouch: object, count: int) -> int:
    rng = random.Random(2025)
    accepted = 0
    for _ in range(count):
        secret, timestamp, body, now = valid(rng)
        given, other = mutated(rng, timestamp, sign(secret, timestamp, body), body)
        accepted += vouch(secret, given, other, now)  # type: ignore[operator]
    return accepted


def test_no_mutation_is_let_in_and_none_raises() -> None:
    """Fifty thousand changed headers, bodies, times and encodings: none is accepted, none raises."""
    assert (
        count_accepted(lambda secret, given, body, now: SigningSecrets([secret]).vouch(given, body, now), 50_000) == 0
    )


def test_the_mutations_find_a_verifier_that_is_wrong() -> None:
    """Seeded faults: one that reads the body as text, one that ignores case, one that strips the time, each let some in."""

    def lenient(secret: str, given: Mapping[str, str], body: bytes, now: float) -> bool:
        timestamp, signature = given.get("X-Slack-Request-Timestamp", "0"), given.get("X-Slack-Signature", "")
        text = body.decode("utf-8", "ignore").encode()
        return sign(secret, timestamp.strip(), text) == signature.lower()

    assert count_accepted(lenient, 2_000) > 100


def test_slack_sdks_own_verifier_raises_on_such_requests() -> None:
    """Why this one is our own: theirs raises on a time that is no number, on other letters and on other bytes."""
    theirs = SignatureVerifier(SECRET, At(AT))
    for timestamp, signature, body in ((f"{AT}x", SIGNED, BODY), (str(AT), "é", BODY), (str(AT), SIGNED, b"\xff")):
        with pytest.raises((ValueError, TypeError)):
            theirs.is_valid(body, timestamp, signature)
        assert not SigningSecrets([SECRET]).vouch(headers(timestamp, signature), body, AT)


def test_header_names_are_as_slack_writes_them() -> None:
    """The names that are looked for are those that Slack sends, in lower case."""
    assert {name.lower() for name in headers("", "")} == {TIMESTAMP, SIGNATURE}
