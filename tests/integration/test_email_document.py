"""What `docs/email.md` shows is what happens: every snippet runs, every picture is there, every URL is read."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from governor_agents import Governor
from governor_agents.handlers.email import EmailHandler, SmtpSettings, handler, letter
from governor_agents.testing.smtp_server import SmtpServer
from tests.integration.test_email_threads import bounce
from tests.mailing import CFO, mailing

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "email.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
APP = """
from governor_agents import Governor
governor = Governor.from_file("governor.yaml")
"""


def test_each_url_is_read() -> None:
    """The URLs of the table and of the set-up, each for what it says."""
    rows = re.findall(r"^\| `(smtp\S+)` \| (.*) \|$", PAGE, re.M)
    assert len(rows) == 4
    for url, means in rows:
        found = SmtpSettings.of(url.replace("ADDRESS", "approvals@example.com"))
        assert found.security == ("starttls" if "STARTTLS" in means else "tls" if "TLS" in means else "none")
    [example] = re.findall(r"GOVERNOR_SMTP_URL='(\S+)'", PAGE)
    assert SmtpSettings.of(example).password == "password"


async def test_the_policy_and_the_own_handler_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy file asks by e-mail, and the snippet's governor has the handler that it was given."""
    [policy] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
    (tmp_path / "governor.yaml").write_text(policy)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(PYTHON[0], names)
    governor = names["governor"]
    assert isinstance(governor, Governor) and governor.handler("email") is names["channel"]
    assert isinstance(names["channel"], EmailHandler) and governor.desk.public_url == "https://approvals.example.com"
    await governor.close()


def test_every_picture_is_there() -> None:
    """And shows what it is said to."""
    shown = re.findall(r"\]\((pictures/\S+\.png)\)", PAGE)
    assert len(shown) == 5 and all((ROOT / "docs" / picture).is_file() for picture in shown)


def test_the_numbers_are_those_of_the_code() -> None:
    """Limits that the page names."""
    assert f"at most {letter.MOST:,}" in PAGE.replace("\n", " ")
    assert handler.LINK_LIVES == 24 * 3600 and "24 hours" in PAGE
    assert handler.RESENT == 2 and "at most twice" in PAGE


@pytest.mark.timeout(240)
async def test_a_bounce_goes_through_the_script(tmp_path: Path) -> None:
    """The script of the page, run as a mail server runs it: the report flags the address and mails it again."""
    store = f"sqlite:///{tmp_path / 'governor.db'}"
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "bounced.py").write_text(PYTHON[1])
    (tmp_path / "governor.yaml").write_text("version: 1\nrules: []\n")
    with SmtpServer() as server:
        async with mailing(server, store=store) as post:
            approval = await post.asked()
            await post.notify(approval)
            for raw, said, mails in (
                (b"Subject: hello\r\n\r\nhello", "not about a mail of ours", 1),
                (bounce(server.mails[0]), f"{CFO} was not reached: 5.1.1", 2),
            ):
                done = await asyncio.to_thread(
                    subprocess.run,
                    [sys.executable, "bounced.py"],
                    input=raw,
                    capture_output=True,
                    cwd=tmp_path,
                    env={
                        **os.environ,
                        "GOVERNOR_SMTP_URL": server.url(),
                        "GOVERNOR_STORE": store,
                        "GOVERNOR_PUBLIC_URL": "https://approvals.example.com",
                        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                    },
                    check=False,
                )
                assert (done.returncode, done.stdout.decode().strip()) == (0, said), done.stderr.decode()
                assert len(server.mails) == mails
            assert [line["what"] for line in await post.refused()] == ["refused.bounced"]
