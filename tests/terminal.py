"""Programs at a terminal of their own."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

BEGIN = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
"""


def _speaks(child: int, again: str) -> bool:
    """True once there is something to read. An interrupt may fall between a prompt and its read: it is pressed again."""
    for _ in range(60):
        if select.select([child], [], [], 2)[0]:
            return True
        os.write(child, again.encode())
    return False


def at_a_terminal(program: str, said: Iterable[tuple[str, str]], **environment: str) -> tuple[int, str]:
    """Run Python there and answer each prompt; its exit code, and everything that was shown."""
    child, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + program],
        start_new_session=True,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **environment},
        cwd=Path(__file__).resolve().parents[1],
    )
    os.close(terminal)
    shown = again = ""
    for prompt, answer in [*said, ("", "")]:
        while not prompt or not shown.endswith(prompt):
            assert _speaks(child, again), f"silent for two minutes after {shown[-500:]!r}"
            try:
                piece = os.read(child, 65536)
            except OSError:
                piece = b""
            if not piece:
                break
            shown += piece.decode("utf-8", "replace")
        os.write(child, answer.encode())
        shown += "\0"
        again = answer if answer == "\x03" else ""
    code = process.wait(timeout=120)
    os.close(child)
    return code, shown
