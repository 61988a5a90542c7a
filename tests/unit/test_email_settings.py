"""The SMTP server's URL: what it may say, what is refused with the mend, and that nothing repeats the password."""

import logging

import pytest

from governor_agents import plugins
from governor_agents.errors import ChannelUnusable, ConfigError
from governor_agents.handlers.email import EmailHandler, SmtpSettings
from governor_agents.handlers.email.settings import is_address

FROM = "?from=approvals@example.com"
SECRET = "s3cr3t-w0rd"

GOOD = [
    ("smtp+starttls://u:p@h.example" + FROM, SmtpSettings("h.example", 587, "starttls", "approvals@example.com", "u", "p")),
    ("smtps://h.example" + FROM, SmtpSettings("h.example", 465, "tls", "approvals@example.com")),
    ("smtp://127.0.0.1:2525" + FROM, SmtpSettings("127.0.0.1", 2525, "none", "approvals@example.com")),
    ("smtp://[::1]" + FROM, SmtpSettings("::1", 25, "none", "approvals@example.com")),
    ("smtp://h.example" + FROM + "&plain=allow", SmtpSettings("h.example", 25, "none", "approvals@example.com")),
    (
        "smtps://a%40b.c:p%2F%23%3A%3F@h.example:1465/" + FROM + "&ca=/etc/ca.pem&timeout=2.5",
        SmtpSettings("h.example", 1465, "tls", "approvals@example.com", "a@b.c", "p/#:?", "/etc/ca.pem", 2.5),
    ),
]  # fmt: skip

BAD = [
    ("", "must begin with smtp+starttls://, smtps://, smtp://"),
    (f"http://u:{SECRET}@h.example" + FROM, "must begin with"),
    (f"smtps://u:{SECRET}@h.example:99999" + FROM, "must begin with"),
    (f"smtps://u:{SECRET}#x@h.example" + FROM, "must begin with"),
    (f"smtps://u:{SECRET}@/" + FROM, "cannot be read; write #"),
    (f"smtps://u:{SECRET}@h.example/inbox" + FROM, "cannot be read; write #"),
    (f"smtps://u:1/{SECRET}@h.example" + FROM, "cannot be read; write #"),
    (f"smtps://u?x:{SECRET}@h.example" + FROM, "has an option that is none of ca, from, plain, timeout"),
    (f"smtps://u:{SECRET}@h.example", "must say from=ADDRESS"),
    (f"smtps://u:{SECRET}@h.example?from=a%0d%0aBcc:b@example.com", "must say from=ADDRESS"),
    (f"smtps://u:{SECRET}@h.example" + FROM + f"&password={SECRET}", "has an option that is none of"),
    (f"smtps://u:{SECRET}@h.example" + FROM + "&timeout=never", "a number of seconds from 0.1 to 600"),
    (f"smtp://u:{SECRET}@h.example" + FROM, "would send to h.example in clear"),
    (f"smtp://u:{SECRET}@10.0.0.1" + FROM, "would send to 10.0.0.1 in clear"),
    (f"smtps://u@h.example{FROM}&ca={SECRET}", "names a user without a password"),
    (f"smtps://:{SECRET}@h.example" + FROM, "names a user without a password"),
]


@pytest.mark.parametrize(("url", "expected"), GOOD, ids=[url.split("@")[-1][:40] for url, _ in GOOD])
def test_a_url_says_everything(url: str, expected: SmtpSettings) -> None:
    """Scheme, login, port and options, each read once, quoted where it must be."""
    assert SmtpSettings.of(url) == expected


@pytest.mark.parametrize(("url", "said"), BAD, ids=range(len(BAD)))
def test_a_wrong_url_is_refused_in_one_line_without_its_password(url: str, said: str) -> None:
    """The line names the variable and the mend, and nothing of the login, wherever in the URL that stands."""
    with pytest.raises(ChannelUnusable) as refused:
        SmtpSettings.of(url)
    text = str(refused.value)
    assert said in text and text.startswith("GOVERNOR_SMTP_URL ") and "\n" not in text
    assert SECRET not in text and SECRET not in repr(refused.value)
    assert isinstance(refused.value, ConfigError)


def test_nothing_shows_the_login(caplog: pytest.LogCaptureFixture) -> None:
    """Neither settings nor handler repeat user or password, whatever prints them."""
    url = f"smtps://mailer-{SECRET}:{SECRET}@h.example{FROM}"
    settings, handler = SmtpSettings.of(url), EmailHandler(url)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("%r %s %r", settings, settings, vars(handler))
    assert settings.password == SECRET
    assert SECRET not in repr(settings) + str(settings) + repr(handler) + caplog.text


def test_a_handler_made_by_name_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``email`` in a policy needs nothing but the variable; without it one line says so."""
    monkeypatch.delenv("GOVERNOR_SMTP_URL", raising=False)
    with pytest.raises(ChannelUnusable, match="email: set GOVERNOR_SMTP_URL, such as smtp"):
        plugins.make_handler("email")
    monkeypatch.setenv("GOVERNOR_SMTP_URL", "smtps://h.example" + FROM)
    made = plugins.make_handler("email")
    assert isinstance(made, EmailHandler) and made.settings.where == "h.example:465"


ADDRESSES = [
    "a@b",
    "first.last+tag@example.com",
    "o'brien@example.co.uk",
    "x_{y}~@a-b.example",
    "A" * 64 + "@example.com",
]
NO_ADDRESSES = [
    "",
    "a",
    "@b",
    "a@",
    "a@b@c",
    "a b@c",
    "a@b\n",
    "a@b\r\nBcc: x@y",
    "a@b,c@d",
    "<a@b>",
    '"a b"@c',
    "a..b@c",
    ".a@b",
    "a.@b",
    "a@-b",
    "a@b..c",
    "a@[127.0.0.1]",
    "ä@example.com",
    "a@exämple.com",
    "a@b\u202e",
    "a@b;c",
    "=?utf-8?q?=0D=0ABcc=3A?=@example.com",
    "A" * 65 + "@example.com",
    "a@" + "b" * 64,
    "a@" + "b." * 130 + "c",
]


def test_only_plain_addresses_are_mailed() -> None:
    """What could mean two recipients, or another header, is no address."""
    assert [text for text in ADDRESSES if not is_address(text)] == []
    assert [text for text in NO_ADDRESSES if is_address(text)] == []
