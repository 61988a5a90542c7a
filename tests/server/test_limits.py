"""[30] The limits of the pages hold over processes, to one request."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import CFO
from tests.server.limited import ADDRESS, PERSON, office_at

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
EACH = 28


async def test_four_processes_share_one_limit(tmp_path: Path) -> None:
    """Four processes at once: of all requests of an address, and of all forms of a person, exactly the limit gets in."""
    url = f"sqlite:///{tmp_path}/governor.db"
    office = office_at(url)
    asked = await office.ask()
    paths = [await office.link(asked, CFO) for _ in range(4)]
    await office.governor.close()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    servers = [
        subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "tests.server.limited", url, path, str(EACH)], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
        )
        for path in paths
    ]  # fmt: skip
    let_in = [tuple(map(int, server.communicate()[0].split())) for server in servers]
    assert [server.returncode for server in servers] == [0] * 4
    assert sum(each[0] for each in let_in) == ADDRESS < 4 * EACH
    assert sum(each[1] for each in let_in) == PERSON < 4 * EACH
    assert all(each[0] < ADDRESS for each in let_in), "control: each of them alone would have let in fewer than all"
