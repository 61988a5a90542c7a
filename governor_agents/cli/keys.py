"""``keys``: the key file that seals what is stored: which keys there are, and one more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from governor_agents.cli.opening import AsJson, there
from governor_agents.cli.printing import hint, print_json, print_table, say
from governor_agents.errors import ConfigError
from governor_agents.handlers.message import visible, when

if TYPE_CHECKING:
    from governor_agents.keys import Keys

app: typer.Typer = typer.Typer(help="The keys that seal what is stored.", no_args_is_help=True)

KeyFile = Annotated[str | None, typer.Option("--file", metavar="PATH", help="The key file: default $GOVERNOR_KEYS.")]


@app.command("list")
def list_(file: KeyFile = None, as_json: AsJson = False) -> None:
    """List the sealing keys, by id: the newest one seals, all of them open. No key is shown."""
    from governor_agents.audit.checkpoints import key_id
    from governor_agents.keys import Keys

    keys = Keys.from_file(_path(file))
    last = keys.sealing[-1]
    if as_json:
        ring = [{"id": key.id, "created": key.created, "seals": key == last} for key in keys.sealing]
        print_json({"sealing": ring, "verify": _verify(keys), "verify_id": key_id(keys.signing.public_key())})
        return
    rows = [(key.id, when(key.created), "seals and opens" if key == last else "opens") for key in keys.sealing]
    print_table(("ID", "CREATED", "USE"), rows)
    say(f"checkpoints are verified with {_verify(keys)}, which they name {key_id(keys.signing.public_key())}")


@app.command()
def rotate(file: KeyFile = None) -> None:
    """Add a sealing key, which seals from now on; make the key file when there is none."""
    from governor_agents.keys import Keys

    path = _path(file)
    fresh = not there(path)
    keys = Keys.create(path) if fresh else Keys.rotate(path)
    say(f"{visible(str(path))}: key {keys.sealing[-1].id} seals from now on")
    if fresh:
        hint("keep a copy of this file in a safe place: without it nothing that is sealed can be read")
    else:
        hint("processes that run seal with the older key until they are restarted; they can open the new one's seals")


def _path(file: str | None) -> Path:
    named = file or os.environ.get("GOVERNOR_KEYS")
    if not named:
        raise ConfigError("no key file is named: --file PATH, or GOVERNOR_KEYS in the environment")
    return Path(named)


def _verify(keys: Keys) -> str:
    """The public half of the signing key, in hex: whoever has it can verify, and not sign."""
    return keys.signing.public_key().public_bytes_raw().hex()
