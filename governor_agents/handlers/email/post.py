"""Sessions with the SMTP server: connect, log in, hand over mails one by one.

A server's answer about one mail is returned; trouble with the session is raised. Nothing that is said here quotes the
password or a mail.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiosmtplib

from governor_agents.errors import ChannelUnusable, DeliveryFailed
from governor_agents.handlers.email.settings import VARIABLE, SmtpSettings
from governor_agents.handlers.visible import visible

_NOT_OFFERED = (aiosmtplib.SMTPException, aiosmtplib.SMTPNotSupported)
_TROUBLE = (aiosmtplib.SMTPException, OSError, asyncio.TimeoutError)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said to one mail."""

    code: int
    words: str = ""

    @property
    def taken(self) -> bool:
        """The server has it, and will deliver it or report that it could not."""
        return 200 <= self.code < 300

    @property
    def final(self) -> bool:
        """It will say the same if it is asked again."""
        return self.code >= 500


class Session:
    """An open session."""

    def __init__(self, client: aiosmtplib.SMTP, settings: SmtpSettings) -> None:
        self._client = client
        self._settings = settings

    async def send(self, to: str, mail: bytes) -> Reply:
        """Hand over one mail to one recipient. Raises `DeliveryFailed` when the session is over."""
        try:
            async with asyncio.timeout(4 * self._settings.timeout):
                await self._client.sendmail(self._settings.sender, [to], mail)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return self._reply(error.recipients[0])
        except aiosmtplib.SMTPSenderRefused as error:
            raise DeliveryFailed(_no_mail(self._settings, error)) from None
        except aiosmtplib.SMTPResponseException as error:
            return self._reply(error)
        except _TROUBLE as error:
            raise _failed(self._settings, error) from None
        return Reply(250)

    def _reply(self, error: aiosmtplib.SMTPResponseException) -> Reply:
        if error.code == 421:  # it closes the connection
            raise DeliveryFailed(f"{self._settings.where} does not take mails now: {_said(self._settings, error)}")
        return Reply(error.code, _said(self._settings, error))

    async def ask(self) -> None:
        """See whether the server takes mails from this sender; sends none. Raises `aiosmtplib.SMTPException`."""
        await self._client.mail(self._settings.sender)
        await self._client.rset()


@asynccontextmanager
async def session(settings: SmtpSettings) -> AsyncIterator[Session]:
    """A session, logged in. Raises `DeliveryFailed`."""
    client = _client(settings)
    try:
        async with asyncio.timeout(4 * settings.timeout):
            await client.connect()
    except _TROUBLE as error:
        client.close()
        raise _failed(settings, error) from None
    try:
        yield Session(client, settings)
    finally:
        await _part(client)


async def try_out(settings: SmtpSettings) -> None:
    """Connect, log in, ask whether the sender may send. Raises `ChannelUnusable`; `DeliveryFailed` if it may pass."""
    client = _client(settings)
    try:
        async with asyncio.timeout(4 * settings.timeout):
            await client.connect()
            await Session(client, settings).ask()
    except _TROUBLE as error:
        if (why := _unusable(settings, error)) is not None:
            raise ChannelUnusable(f"email: {why}") from None
        raise _failed(settings, error) from None
    finally:
        await _part(client)


def _client(settings: SmtpSettings) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(
        hostname=settings.host,
        port=settings.port,
        username=settings.user or None,
        password=settings.password or None,
        local_hostname=settings.domain,
        timeout=settings.timeout,
        use_tls=settings.security == "tls",
        start_tls=settings.security == "starttls",
        tls_context=None if settings.security == "none" else _trust(settings),
    )


def _trust(settings: SmtpSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca or None)
    except OSError as error:
        what = error.strerror or "not a certificate"
        raise ChannelUnusable(f"email: the file that {VARIABLE} names as ca cannot be read: {what}") from None


async def _part(client: aiosmtplib.SMTP) -> None:
    """Say goodbye where that still works."""
    try:
        async with asyncio.timeout(5):
            if client.is_connected:
                await client.quit()
    except _TROUBLE:
        return  # what was taken is taken
    finally:
        client.close()


def _unusable(settings: SmtpSettings, error: BaseException) -> str | None:
    """Why these settings will not work however often they are tried; None for what may pass by itself."""
    causes = (error, error.__cause__, error.__context__)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return f"the certificate of {settings.where} cannot be verified; name its authority with ca=FILE in {VARIABLE}"
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return f"{settings.where} does not speak TLS so; smtp+starttls:// is for port 587, smtps:// for port 465"
    if isinstance(error, aiosmtplib.SMTPAuthenticationError) and error.code >= 500:
        return f"{settings.where} refuses the login: {_said(settings, error)}; check user and password in {VARIABLE}"
    if isinstance(error, aiosmtplib.SMTPException) and type(error) in _NOT_OFFERED:
        return f"{settings.where} does not offer what {VARIABLE} asks for: {visible(error.message)[:200]}"
    if isinstance(error, aiosmtplib.SMTPResponseException) and error.code >= 500:
        return _no_mail(settings, error)
    return None


def _failed(settings: SmtpSettings, error: BaseException) -> DeliveryFailed:
    if (why := _unusable(settings, error)) is not None:
        return DeliveryFailed(why)
    if isinstance(error, TimeoutError):
        return DeliveryFailed(f"{settings.where} did not answer within {settings.timeout:g} s")
    said = _said(settings, error) if isinstance(error, aiosmtplib.SMTPResponseException) else visible(str(error))[:200]
    return DeliveryFailed(f"{settings.where} cannot be used now: {said or type(error).__name__}")


def _no_mail(settings: SmtpSettings, error: aiosmtplib.SMTPResponseException) -> str:
    return f"{settings.where} takes no mail from {settings.sender}: {_said(settings, error)}"


def _said(settings: SmtpSettings, error: aiosmtplib.SMTPResponseException) -> str:
    """A server's answer on one line, without our login should the server have repeated it."""
    words = " ".join(str(error.message).split())
    for secret in filter(None, (settings.password, settings.user)):
        words = words.replace(secret, "***").replace(b64encode(secret.encode()).decode(), "***")
    return f"{error.code} {visible(words)[:200]}"
