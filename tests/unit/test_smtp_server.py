"""The SMTP server that other tests rest on does what it says: TLS, login, and each of its switches."""

import asyncio
import smtplib
import ssl
from email.message import EmailMessage

import aiosmtplib
import pytest

from governor_agents.testing.smtp_server import Mode, SmtpServer, authority


def mail(to: str = "cfo@example.com") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "approvals@example.com", to, "hello"
    made.set_content("good morning\n")
    return made


async def send(server: SmtpServer, *to: str, user: str = "", password: str = "", timeout: float = 30.0) -> None:
    trusted = ssl.create_default_context(cafile=authority()[0])
    async with aiosmtplib.SMTP(
        hostname="127.0.0.1",
        port=server.port,
        use_tls=server.mode == "tls",
        start_tls=server.mode == "starttls",
        tls_context=None if server.mode == "plain" else trusted,
        username=user or None,
        password=password or None,
        timeout=timeout,
    ) as client:
        for address in to or ("cfo@example.com",):
            await client.send_message(mail(address))


@pytest.mark.parametrize("mode", ["starttls", "tls", "plain"])
async def test_a_mail_arrives_by_each_way(mode: Mode) -> None:
    """Over STARTTLS, TLS and neither, with a login; and the server knows which it was."""
    with SmtpServer(mode, {"governor": "secret"}) as server:
        await send(server, user="governor", password="secret")
        [got] = server.wait(1)
    assert got.recipients == ("cfo@example.com",) and got.user == "governor"
    assert got.secure is (mode != "plain")
    assert got.text() == "good morning\n"


async def test_nobody_mails_without_the_right_login() -> None:
    """A wrong password is 535, none at all is refused, and a client that does not know the authority goes away."""
    with SmtpServer(users={"governor": "secret"}) as server:
        with pytest.raises(aiosmtplib.SMTPAuthenticationError) as wrong:
            await send(server, user="governor", password="guessed")
        assert wrong.value.code == 535
        with pytest.raises(aiosmtplib.SMTPResponseException) as none:
            await send(server)
        assert none.value.code == 530
        with smtplib.SMTP("127.0.0.1", server.port) as client, pytest.raises(ssl.SSLCertVerificationError):
            client.starttls(context=ssl.create_default_context())
        assert not server.mails


async def test_each_switch_does_what_it_says() -> None:
    """Every trouble is met by the client as the error that it stands for, and is over when it is switched off."""
    with SmtpServer() as server:
        server.trouble = "busy"
        with pytest.raises(aiosmtplib.SMTPResponseException) as busy:
            await send(server)
        server.trouble = "full"
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as full:
            await send(server)
        server.trouble = "refuses"
        with pytest.raises(aiosmtplib.SMTPDataError) as refused:
            await send(server)
        assert (busy.value.code, full.value.recipients[0].code, refused.value.code) == (451, 452, 554)
        for trouble in ("hangs", "hangs-at-data"):
            server.trouble = trouble
            with pytest.raises(asyncio.TimeoutError):
                await send(server, timeout=0.5)
        server.trouble = "resets"
        with pytest.raises((ConnectionError, aiosmtplib.SMTPException)):
            await send(server)
        assert not server.mails
        server.trouble = "forgets"
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await send(server)
        assert len(server.wait(1)) == 1
        server.trouble = ""
        server.down()
        with pytest.raises(aiosmtplib.SMTPConnectError):
            await send(server)
        server.up()
        server.replies["nobody@example.com"] = "550 5.1.1 no such user"
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
            await send(server, "cfo@example.com", "nobody@example.com")
        assert len(server.wait(2)) == 2 and len(server.to("cfo@example.com")) == 2
