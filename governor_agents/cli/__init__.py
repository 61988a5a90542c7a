"""The command line, ``governor-agents``. One file per command group.

Exit codes: 0 done; 1 a finding of a command that looks for one; 2 it could not be done as asked: wrong usage, bad
input, an unknown id, a decision that does not count, a store that cannot be used. Then one line on stderr says why.
130 after Ctrl-C.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """The console script. Ends the process with the command's exit code."""
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        line = f"the command line needs {' and '.join(missing)}: pip install 'governor-agents[cli]'"
        sys.stderr.write(f"governor-agents: {line}\n")
        sys.exit(2)
    from governor_agents.cli.app import run

    sys.exit(run(sys.argv[1:]))
